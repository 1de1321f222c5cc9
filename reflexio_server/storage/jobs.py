"""What the owner of the data directory is asked to do with the index. Writing functions need a write transaction."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from reflexio_server.storage.tables import jobs

KINDS = ("rebuild", "verify")
_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """A job: `account_id` None means every account's; `state` is waiting, running, done or failed.

    `done` and `total` count vectors; `result` says for a person what came of it.
    """

    job_id: int
    kind: str
    account_id: int | None
    state: str
    done: int
    total: int
    result: str


_columns = (jobs.c.id, jobs.c.kind, jobs.c.account_id, jobs.c.state, jobs.c.done, jobs.c.total, jobs.c.result)


def ask(conn: Connection, kind: str, account_id: int | None, now: int) -> int:
    """Ask for a job; its number. Those that ended more than a day ago are forgotten."""
    conn.execute(delete(jobs).where(jobs.c.state.in_(("done", "failed")), jobs.c.asked_at < now - _DAY))
    row = {"kind": kind, "account_id": account_id, "state": "waiting", "result": "", "asked_at": now}
    return int(conn.execute(insert(jobs).values(row).returning(jobs.c.id)).scalar_one())


def find(conn: Connection, job_id: int) -> Job:
    return Job(*conn.execute(select(*_columns).where(jobs.c.id == job_id)).one())


def next_waiting(conn: Connection) -> Job | None:
    row = conn.execute(select(*_columns).where(jobs.c.state == "waiting").order_by(jobs.c.id).limit(1)).one_or_none()
    return None if row is None else Job(*row)


def note_progress(conn: Connection, job_id: int, done: int, total: int) -> None:
    conn.execute(update(jobs).where(jobs.c.id == job_id).values(state="running", done=done, total=total))


def end(conn: Connection, job_id: int, state: str, result: str) -> None:
    conn.execute(update(jobs).where(jobs.c.id == job_id).values(state=state, result=result))


def give_up(conn: Connection, reason: str, *, waiting: bool = False) -> None:
    """Say of jobs that were begun and not ended that they failed; with `waiting` also of those not begun."""
    states = ("running", "waiting") if waiting else ("running",)
    conn.execute(update(jobs).where(jobs.c.state.in_(states)).values(state="failed", result=reason))
