"""The oracle outside the processes under test: what they accepted, what is stored, and what does not fit."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.v1 import interaction_service_pb2_grpc as pb_grpc
from tools.faults.caller import Caller
from tools.faults.fleet import Fleet, Server, end
from tools.faults.row import Row

_MOMENT = 2.0
_BACK_SECONDS = 60.0
_NAMED = 5  # of what is wrong, so many are named


def accepted(*files: Path) -> list[str]:
    """The ids that processes wrote right after publish_interaction returned; a last line cut off counts not."""
    ids: list[str] = []
    for file in files:
        ids += [line.decode() for line in file.read_bytes().split(b"\n")[:-1]] if file.exists() else []
    return ids


def stored(server: Server) -> dict[str, list[int]]:
    """The sequences of every stored request, by raw Get over the whole account."""
    found: dict[str, list[int]] = {}
    token = ""
    with grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.InteractionServiceStub(channel)
        while True:
            page: pb.GetInteractionsResponse = stub.GetInteractions(
                pb.GetInteractionsRequest(page_size=1000, page_token=token),
                metadata=(("authorization", f"Bearer {server.api_key}"),),
                timeout=60,
                wait_for_ready=True,
            )
            for item in page.interactions:
                found.setdefault(item.request_id, []).append(item.sequence)
            token = page.next_page_token
            if not token:
                return found


@dataclass(slots=True)
class Verdict:
    """Of the accepted ids: those that are not stored, and those stored more than once."""

    accepted: int
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)

    def report(self, row: Row) -> None:
        """Put what was found into a row."""
        row.failures += self.failures(row.name)
        row.figures["accepted"] = self.accepted
        row.exactly("lost", len(self.lost), 0)
        row.exactly("duplicated", len(self.duplicated), 0)

    def failures(self, where: str) -> list[str]:
        wrong = {"lost": self.lost, "duplicated": self.duplicated}
        return [
            f"{where}: {len(ids)} of {self.accepted} {what}, as {', '.join(ids[:_NAMED])}"
            for what, ids in wrong.items()
            if ids
        ]


def wait_until_read(caller: Caller) -> None:
    """Wait until a server, or a database that was away, answers reads again; closes the connection."""
    deadline = time.monotonic() + _BACK_SECONDS
    with caller.channel:
        while True:
            try:
                caller.get(page_size=1)
                return
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def judge(ids: Sequence[str], found: dict[str, list[int]]) -> Verdict:
    """Each accepted request has one interaction, so each id must be there exactly once.

    What was stored without being accepted (killed between the two) may be there, but not twice.
    """
    doubled = [one for one, sequences in found.items() if len(sequences) > 1]
    return Verdict(len(ids), [one for one in ids if one not in found], doubled)


@dataclass(slots=True)
class Start:
    """What a next start came to; `missed_by_flush` was delivered after flush() had returned, or never."""

    verdict: Verdict
    found: dict[str, list[int]]
    missed_by_flush: int


def next_start(
    fleet: Fleet, server: Server, spools: Sequence[Path], log: Path, ids: Sequence[str], seconds: float
) -> Start:
    """Start a fresh process on spool folders, let it flush, and judge.

    It has at most so many seconds, and only a moment when no spool is left: what is nowhere will not come any more.
    """
    wait_until_read(server.caller())
    deadline = time.monotonic() + seconds
    before = log.stat().st_size if log.exists() else 0
    process = fleet.start("adopter", str(seconds), *map(str, spools), log=log, environment=client_environment(server))
    try:
        while b"flushed" not in log.read_bytes()[before:] and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if process.poll() is not None:
            raise RuntimeError(f"the next start ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        flushed = time.monotonic()
        missed = None
        while True:
            began = time.monotonic()
            # Looked at before the rows: what is delivered while they are read is in neither.
            spooled = any(file for spool in spools for file in spool.glob("*.spool"))
            found = stored(server)
            verdict = judge(ids, found)
            missed = len(verdict.lost) if missed is None else missed
            over = deadline if spooled else flushed + _MOMENT
            if not verdict.lost or began > over:
                return Start(verdict, found, missed)
            time.sleep(0.5)
    finally:
        _let_go(process)


def _let_go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.close()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        end(process)


def client_environment(server: Server, spool: Path | None = None) -> dict[str, str]:
    """How a process under test finds its server and its spool folder."""
    environment = {"REFLEXIO_API_KEY": server.api_key, "REFLEXIO_API_URL": server.url, "PYTHONUNBUFFERED": "1"}
    return environment | ({"REFLEXIO_SPOOL_DIR": str(spool)} if spool else {})
