"""Mutated requests to every RPC: only foreseen codes, nothing of the server's inside, and it goes on as before."""

import random
import re
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tools.contract import NEVER_STORED, RPCS, Named, call_raw, right_request
from tools.faults.caller import Caller
from tools.faults.fleet import EMAIL, Fleet, Server
from tools.faults.mutations import mutated, mutated_metadata
from tools.faults.raw_http2 import converse
from tools.faults.row import Row, Run
from tools.server_process import PASSWORD

REQUESTS, SHORT_REQUESTS = 20_000, 2_000
RSS_GROWTH_MB = 128
_CALLERS, _RAW_CALLERS = 6, 2
_RAW_SHARE = 50  # to so many requests one connection that speaks no proper gRPC
_KEPT, _PASSING = "kept-{}", "passing-{}"  # users that no request erases, and users that may go
_USERS = 20
_LOGIN_WEIGHT = 0.25  # a login costs the server some 30 ms of Argon2
_NAMED = 10  # of what is wrong, so many are told
FORESEEN = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
INSIDE = re.compile(
    rb"Traceback|\.py\b|File \"|[A-Za-z]Error\b|Exception\b|sqlite|sqlalchemy|psycopg|postgres|"
    rb"reflexio_server|object at 0x|SELECT |" + tempfile.gettempdir().encode()
)
"""What would show that the text of an exception got out."""
_LOGGED = re.compile(r"\b(ERROR|CRITICAL)\b|Traceback|unforeseen|\[libprotobuf")


@dataclass(slots=True)
class Stock:
    """What the mutated requests name, and what must still be there in the end."""

    kept: list[Named] = field(default_factory=list)
    passing: list[Named] = field(default_factory=list)
    tokens: dict[str, list[str]] = field(default_factory=dict)
    before: list[bytes] = field(default_factory=list)


def _kept(caller: Caller) -> list[bytes]:
    """Everything of the users that nothing erases."""
    pages = [caller.get(user_id=_KEPT.format(user), page_size=1000, include_images=True) for user in range(_USERS)]
    return [page.SerializeToString(deterministic=True) for page in pages]


def _stock_up(caller: Caller) -> Stock:
    stock = Stock()
    for form, names in ((_KEPT, stock.kept), (_PASSING, stock.passing)):
        for number in range(_USERS):
            for turn in range(5):
                thread = f"{form.format(number)} thread {turn % 2}"
                named = Named(form.format(number), f"{form.format(number)} {turn}", thread)
                request = right_request("InteractionService.PublishInteractions", named)
                answer = caller.interactions.PublishInteractions(request, **caller.options)
                names.append(
                    Named(
                        *(named.user_id, named.request_id, thread, answer.interaction_ids[1]),
                        picture_id=answer.interaction_ids[0],
                        email=EMAIL if turn else "nobody@example.com",
                        password=PASSWORD if turn > 1 else "never right",
                    )
                )
    for _ in range(2):
        caller.auth.Login(auth_pb.LoginRequest(email=EMAIL, password=PASSWORD), timeout=60)
    service = "reflexio.v1.InteractionService."
    stock.tokens = {
        service + "GetInteractions": [
            caller.interactions.GetInteractions(_narrow(named), **caller.options).next_page_token
            for named in stock.kept[::5]
        ],
        service + "GetRequests": [
            caller.interactions.GetRequests(
                pb.GetRequestsRequest(user_id=named.user_id, page_size=1), **caller.options
            ).next_page_token
            for named in stock.kept[::5]
        ],
        "reflexio.v1.AuthService.ListApiKeys": [
            caller.auth.ListApiKeys(auth_pb.ListApiKeysRequest(page_size=1), **caller.options).next_page_token
        ],
    }
    assert all(all(tokens) for tokens in stock.tokens.values()), "a listing has no second page"
    stock.before = _kept(caller)
    return stock


def _narrow(named: Named) -> pb.GetInteractionsRequest:
    return pb.GetInteractionsRequest(user_id=named.user_id, page_size=1)


def _base(name: str, stock: Stock, source: random.Random) -> Any:
    """A right request, as it is before anything is changed in it."""
    erases = ".Delete" in name
    named = source.choice(stock.passing if erases or source.random() < 0.5 else stock.kept)
    message = right_request(name, named)
    if name in stock.tokens and source.random() < 0.5:
        number = source.randrange(len(stock.tokens[name]))
        if name.endswith("GetInteractions"):
            message = _narrow(stock.kept[::5][number])
        elif name.endswith("GetRequests"):
            message = pb.GetRequestsRequest(user_id=stock.kept[::5][number].user_id, page_size=1)
        message.page_token = stock.tokens[name][number]
    if ".Publish" in name and named in stock.kept:  # what is kept must not grow
        request = message.request if name.endswith("Stream") else message
        request.user_id, request.request_id = source.choice(stock.passing).user_id, f"new {source.randrange(500)}"
    return message


class Fuzzer:
    """Sends its share of the requests, and notes what is wrong."""

    def __init__(self, server: Server, stock: Stock, seed: str, folder: Path) -> None:
        self.codes: Counter[str] = Counter()
        self.rpcs: Counter[str] = Counter()
        self.unforeseen: list[str] = []
        self.leaks: list[str] = []
        self._server, self._stock, self._folder = server, stock, folder
        self._sent = 0
        self._source = random.Random(seed)
        self._seed = seed
        self._names = sorted(RPCS)
        self._weights = [_LOGIN_WEIGHT if name.endswith("Login") else 1.0 for name in self._names]

    def run(self, count: int) -> None:
        caller = self._server.caller()
        with caller.channel:
            for _ in range(count):
                self._send(caller)
                self._sent += 1

    def _send(self, caller: Caller) -> None:
        source = self._source
        (name,) = source.choices(self._names, self._weights)
        count = source.choice((1, 1, 3, 10)) if RPCS[name].client_streaming else 1
        raws = [mutated(_base(name, self._stock, source), source) for _ in range(count)]
        metadata = mutated_metadata(self._server.api_key, source)
        compression = grpc.Compression.Gzip if source.random() < 0.05 else None
        said = b""
        try:
            said = b"".join(call_raw(caller.channel, RPCS[name], raws, metadata, compression))
            code = grpc.StatusCode.OK
            said = b"" if name.endswith(("GetImage", "GetInteractions", "GetRequests", "SearchInteractions")) else said
        except grpc.RpcError as error:
            code = error.code()
            trailers: Any = error.trailing_metadata() or ()
            parts = [error.details() or "", *(value for _, value in trailers)]
            said = b"\n".join(part if isinstance(part, bytes) else part.encode() for part in parts)
        self.codes[code.name] += 1
        self.rpcs[name] += 1
        if code not in FORESEEN:
            self._note(self.unforeseen, name, f"{code.name} {said[:300]!r}", raws)
        if INSIDE.search(said):
            self._note(self.leaks, name, f"{said[:500]!r}", raws)

    def _note(self, where: list[str], name: str, what: str, raws: list[bytes]) -> None:
        file = self._folder / f"{self._seed.replace(' ', '-')}-{self._sent}.hex"
        file.write_text("\n".join(raw.hex() for raw in raws))
        where.append(f"{name}: {what}; sent {raws[0].hex()[:400]}{'…' if len(raws[0]) > 200 else ''} (all: {file})")


def _converse(server: Server, seed: str, count: int, leaks: list[str]) -> Counter[str]:
    """Connections that speak no proper gRPC, and the grpc-status in what came back."""
    source, found = random.Random(seed), Counter[str]()
    for _ in range(count):
        said = converse(server.address, server.api_key, source)
        status = re.search(rb"grpc-status[\x01\x02](\d{1,2})", said)
        found[f"grpc-status {status[1].decode()}" if status else "none" if said else "nothing said"] += 1
        if INSIDE.search(said):
            leaks.append(f"a connection: {said[:500]!r}")
    return found


def run(run: Run) -> Row:
    count = SHORT_REQUESTS if run.short else REQUESTS
    with Fleet() as fleet:
        server = Server(fleet, run.store(), arguments=())
        server.start()
        caller = server.caller()
        stock = _stock_up(caller)
        seed = str(run.chosen.getrandbits(32))
        fuzzers = [Fuzzer(server, stock, f"{seed} {number}", run.folder) for number in range(_CALLERS)]
        raw_leaks: list[str] = []
        settling = count // _CALLERS // 5  # memory is looked at when every path was gone once
        with ThreadPoolExecutor(_CALLERS + _RAW_CALLERS) as pool:
            list(pool.map(lambda fuzzer: fuzzer.run(settling), fuzzers))
            before = server.rss_mb()
            raw_each = count // _RAW_SHARE // _RAW_CALLERS
            raw = [
                pool.submit(_converse, server, f"{seed} raw {number}", raw_each, raw_leaks)
                for number in range(_RAW_CALLERS)
            ]
            for done in [pool.submit(fuzzer.run, count // _CALLERS - settling + 1) for fuzzer in fuzzers]:
                done.result()
            raw_codes = sum((one.result() for one in raw), Counter[str]())
        growth = server.rss_mb() - before
        wrong = _afterwards(caller, server, stock)
        caller.channel.close()
        logged = [line for line in server.log().splitlines() if _LOGGED.search(line)]
    unforeseen = [one for fuzzer in fuzzers for one in fuzzer.unforeseen]
    leaks = [one for fuzzer in fuzzers for one in fuzzer.leaks] + raw_leaks
    codes = sum((fuzzer.codes for fuzzer in fuzzers), Counter[str]())
    row = Row("wire-fuzz", {}, [*unforeseen[:_NAMED], *leaks[:_NAMED], *logged[:_NAMED], *wrong])
    row.at_least("requests", codes.total(), count)
    row.exactly("unforeseen_codes", len(unforeseen), 0)
    row.exactly("leaks", len(leaks), 0)
    row.exactly("logged_errors", len(logged), 0)
    row.exactly("wrong_afterwards", len(wrong), 0)
    row.at_most("rss_growth_mb", round(growth, 1), RSS_GROWTH_MB)
    row.figures |= {
        "rpcs": len(sum((fuzzer.rpcs for fuzzer in fuzzers), Counter[str]())),
        "raw_connections": raw_codes.total(),
        "codes": dict(codes.most_common()),
        "raw_codes": dict(raw_codes.most_common()),
    }
    row.exactly("rpcs_left_out", len(RPCS) - row.figures["rpcs"], 0)
    return row


def _afterwards(caller: Caller, server: Server, stock: Stock) -> list[str]:
    """The server is the same process, has what it had, and stores, reads and finds."""
    wrong = []
    if not server.alive():
        return ["the server has ended"]
    if _kept(caller) != stock.before:
        wrong.append("what no request named for erasing reads otherwise than before")
    text = "the walrus keeps a ledger"
    item = noun.InteractionData(content=text)
    answer = caller.publish("afterwards", item, wait_until=pb.WAIT_UNTIL_SEARCHABLE)
    read = caller.get(interaction_ids=[*answer.interaction_ids, NEVER_STORED])
    found = caller.search(user_id="afterwards", query="which animal does the books?")
    if [one.content for one in read.interactions] != [text] or list(read.missing_interaction_ids) != [NEVER_STORED]:
        wrong.append("what was published afterwards is not read")
    if not found.hits or found.hits[0].interaction.content != text or not answer.searchable:
        wrong.append("what was published afterwards is not found")
    return wrong
