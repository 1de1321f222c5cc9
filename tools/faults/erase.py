"""Publishes and erases while the server is killed: what was acknowledged is there, what was erased is nowhere."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tools.faults.caller import Caller
from tools.faults.fleet import EMAIL, QUICK_EMBEDDER, Flapper, Fleet, Server
from tools.faults.row import Row, Run
from tools.faults.stores import command

SECONDS, KILLS, ERASED = 30.0, 4, 60
SHORT_SECONDS, SHORT_KILLS, SHORT_ERASED = 5.0, 2, 20
_LONGEST = 90.0
_LONGER = 8  # a loaded machine may take so many times as long to reach the quotas
_WRITERS = 4
_GIVE_UP_SECONDS = 60.0  # of a call that is tried again and again, and of what is overwritten in the background
_BUSY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
_BESIDE = 2  # servers, where several share a store
_ASKED = 20  # canaries that searches look for
_NAMED = 5
_SAID = "I said {} to them"


@dataclass(slots=True)
class Stored:
    """A request as it was acknowledged; `left` is what was not erased of it, each id with its canary."""

    request: pb.PublishInteractionsRequest
    left: dict[str, str]
    erased: bool = False


@dataclass(slots=True)
class Writer:
    """Publishes and erases in users of its own, one call after another, each until it is acknowledged."""

    number: int
    server: Server
    source: random.Random
    over: threading.Event
    stored: dict[str, Stored] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    """Canaries of what was erased."""
    gone_ids: list[str] = field(default_factory=list)
    erases: int = 0
    wrong: list[str] = field(default_factory=list)
    _users: int = 0

    def run(self) -> None:
        caller = self.server.caller()
        try:
            while not self.over.is_set():
                if self.source.random() < 0.6 or not self._alive():
                    self._publish(caller)
                else:
                    self._erase(caller)
        except Exception as error:
            self.wrong.append(f"writer {self.number}: {error}")
        finally:
            caller.channel.close()

    def _alive(self) -> list[Stored]:
        return [one for one in self.stored.values() if not one.erased]

    def _publish(self, caller: Caller) -> None:
        request_id = f"{self.number} {len(self.stored)}"
        words = [f"zq{self.source.randbytes(6).hex()}" for _ in range(self.source.choice((1, 2, 5)))]
        request = pb.PublishInteractionsRequest(
            user_id=f"user {self.number} {self._users}",
            request_group=f"thread {self.source.randrange(3)}",
            request_id=request_id,
            interactions=[noun.InteractionData(content=_SAID.format(word), image=word.encode()) for word in words],
        )
        answer, _ = self._until_done(lambda: caller.interactions.PublishInteractions(request, **_once(caller)))
        self.stored[request_id] = Stored(request, dict(zip(answer.interaction_ids, words, strict=True)))

    def _erase(self, caller: Caller) -> None:
        """By one of the four calls; when it was tried before, NOT_FOUND means that it was done then."""
        one = self.source.choice(self._alive())
        user, group = one.request.user_id, one.request.request_group
        stub = caller.interactions
        match self.source.choice(("interaction", "interaction", "request", "request", "group", "user")):
            case "interaction":
                interaction_id = self.source.choice(list(one.left))
                self._acknowledged(
                    stub.DeleteInteraction, pb.DeleteInteractionRequest(interaction_id=interaction_id), caller
                )
                self._forget(one, [interaction_id])
            case "request":
                request = pb.DeleteRequestRequest(request_id=one.request.request_id)
                self._acknowledged(stub.DeleteRequest, request, caller)
                self._forget(one, list(one.left))
            case "group":
                self._acknowledged(
                    stub.DeleteRequestGroup, pb.DeleteRequestGroupRequest(user_id=user, request_group=group), caller
                )
                for other in self._alive():
                    if (other.request.user_id, other.request.request_group) == (user, group):
                        self._forget(other, list(other.left))
            case "user":
                self._acknowledged(stub.DeleteUser, pb.DeleteUserRequest(user_id=user), caller)
                self._users += 1
                for other in self._alive():
                    if other.request.user_id == user:
                        self._forget(other, list(other.left))

    def _acknowledged(self, call: Any, request: Any, caller: Caller) -> None:
        answer, tries = self._until_done(lambda: call(request, **_once(caller)))
        if answer is None and tries == 1:
            raise RuntimeError(f"{request} was not there")
        self.erases += 1

    def _forget(self, one: Stored, ids: Iterable[str]) -> None:
        for interaction_id in ids:
            self.gone.append(one.left.pop(interaction_id))
            self.gone_ids.append(interaction_id)
        one.erased = not one.left

    def _until_done(self, call: Callable[[], Any]) -> tuple[Any, int]:
        """The answer, None when it is NOT_FOUND, and how often it was tried."""
        deadline, tries = time.monotonic() + _GIVE_UP_SECONDS, 0
        while True:
            tries += 1
            try:
                return call(), tries
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return None, tries
                if error.code() not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def _once(caller: Caller) -> dict[str, Any]:
    """Options of a call that fails when the server goes, instead of waiting for the next one."""
    return caller.options | {"wait_for_ready": False}


def run(run: Run) -> Row:
    """On PostgreSQL by three servers, of which one is killed; each is asked for what the others erased."""
    seconds, kills, quota = (SHORT_SECONDS, SHORT_KILLS, SHORT_ERASED) if run.short else (SECONDS, KILLS, ERASED)
    over = threading.Event()
    with Fleet() as fleet:
        servers = _servers(run, fleet)
        server = servers[0]
        writers = [
            Writer(n, servers[n % len(servers)], random.Random(run.chosen.random()), over) for n in range(_WRITERS)
        ]
        threads = [threading.Thread(target=writer.run, daemon=True) for writer in writers]
        began = time.monotonic()
        with Flapper(server, run.chosen, longest_up=3.0, longest_down=0.2, longest_idle=1.0) as flapper:
            for thread in threads:
                thread.start()
            while (passed := time.monotonic() - began) < min(_LONGER * seconds, _LONGEST) and not any(
                one.wrong for one in writers
            ):
                flapper.check()
                if passed > seconds and server.kills >= kills and sum(len(one.gone) for one in writers) >= quota:
                    break
                time.sleep(0.05)
        over.set()
        for thread in threads:
            thread.join(2 * _GIVE_UP_SECONDS)
        row = Row("erase", {}, [wrong for writer in writers for wrong in writer.wrong])
        row.at_least("server_kills", server.kills, kills)
        row.at_least("erased", sum(len(one.gone) for one in writers), quota)
        row.figures |= {
            "published": sum(len(one.stored) for one in writers),
            "erases": sum(one.erases for one in writers),
        }
        callers = [one.caller() for one in servers]
        _judge(row, writers, callers, "")
        _rebuild(server)
        _judge(row, writers, callers, "_after_rebuild")
        _retry_late(row, writers, callers[-1])
        for caller in callers:
            caller.channel.close()
        if run.cluster is None:  # PostgreSQL overwrites what was deleted in its own time
            _look_on_disk(row, writers, server.store.data_dir)
    return row


def _servers(run: Run, fleet: Fleet) -> list[Server]:
    servers = [Server(fleet, run.store(), arguments=() if run.cluster is None else QUICK_EMBEDDER)]
    for number in range(_BESIDE if run.cluster else 0):
        beside = servers[0].store.beside(f"beside-{number}")
        servers.append(Server(fleet, beside, arguments=QUICK_EMBEDDER, api_key=servers[0].api_key))
    for server in servers:
        server.start()
    return servers


def _judge(row: Row, writers: list[Writer], callers: list[Caller], when: str) -> None:
    """What is read and found, beside what was acknowledged."""
    found = {item.interaction_id: item.content for caller in callers for item in caller.everything()}
    expected = {
        interaction_id: _SAID.format(word)
        for writer in writers
        for one in writer.stored.values()
        for interaction_id, word in one.left.items()
    }
    lost = [one for one, content in expected.items() if found.get(one) != content]
    back = [one for writer in writers for one in writer.gone_ids if one in found]
    gone = {one for writer in writers for one in writer.gone_ids}
    hits = 0
    for caller, writer in itertools.product(callers, writers):
        for word in [*writer.gone[-_ASKED // _WRITERS :], "I said"]:
            for user in ({}, {"user_id": f"user {writer.number} {writer._users}"}):
                answer = caller.search(query=_SAID.format(word), top_k=100, **user)
                hits += sum(hit.interaction.interaction_id in gone for hit in answer.hits)
                hits += sum(word in hit.interaction.content for hit in answer.hits if word != "I said")
    row.failures += [f"lost{when}: {one}" for one in lost[:_NAMED]] + [f"back{when}: {one}" for one in back[:_NAMED]]
    row.exactly(f"lost{when}", len(lost), 0)
    row.exactly(f"more_than_published{when}", len(found.keys() - expected.keys()), 0)
    row.exactly(f"back{when}", len(back), 0)
    row.exactly(f"back_in_search{when}", hits, 0)


def _rebuild(server: Server) -> None:
    """Have the running server build its index anew, by the command."""
    command(server.store, "index", "rebuild", "--account", EMAIL)


def _retry_late(row: Row, writers: list[Writer], caller: Caller) -> None:
    """An erased request that is sent again is refused; one that was erased in part gives its first answer."""
    revived = 0
    for writer in writers:
        for one in writer.stored.values():
            try:
                answer = caller.interactions.PublishInteractions(one.request, **caller.options)
                revived += one.erased or not answer.replayed
            except grpc.RpcError as error:
                revived += not (one.erased and error.code() is grpc.StatusCode.ALREADY_EXISTS)
    row.exactly("revived_by_late_retry", revived, 0)


def _look_on_disk(row: Row, writers: list[Writer], data_dir: Path) -> None:
    """Of what was erased nothing is in a file in the end, and what was kept is, or nothing would be found there."""
    words = [word for writer in writers for word in writer.gone]
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    while (on_disk := _on_disk(data_dir, words)) and time.monotonic() < deadline:
        time.sleep(1)
    row.exactly("erased_on_disk", len(on_disk), 0)
    kept = [word for writer in writers for one in writer.stored.values() for word in one.left.values()]
    row.exactly("kept_not_on_disk", len(kept) - len(_on_disk(data_dir, kept)), 0)


def _on_disk(folder: Path, words: list[str]) -> list[str]:
    """Which of these stand in any file."""
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return [word for word in words if any(word.encode() in content for content in contents)]
