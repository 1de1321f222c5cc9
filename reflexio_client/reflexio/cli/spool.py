"""The command `python -m reflexio.spool status|flush|dead|revive|export`."""

import argparse
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from google.protobuf.message import DecodeError

from reflexio import checks
from reflexio.cli.spool_export import exported
from reflexio.cli.spool_flush import flush
from reflexio.errors import ReflexioError
from reflexio.spool import reader
from reflexio.spool.database import NewerVersionError
from reflexio.spool.folder import check_folder, default_folder, spool_paths
from reflexio.spool.revive import revive
from reflexio.terminal import OutputError, complain, finish, say, shown

_UNREADABLE = (OSError, sqlite3.Error, NewerVersionError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A spool file that cannot be read, and why."""

    path: Path
    error: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 all well, 1 something is left or unreadable, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        folder = checks.folder("--dir", options.dir) if options.dir else default_folder()
        check_folder(folder)
    except (OSError, ReflexioError) as error:
        complain(f"there is no folder of spool files: {error}; give --dir or set REFLEXIO_SPOOL_DIR")
        return 2
    try:
        code = int(options.run(folder, options))
        finish()
        return code
    except OutputError as error:
        if str(error):
            complain(f"the output cannot be written: {error}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reflexio.spool",
        description="Publishes and deletes that do not wait lie in spool files on this machine until the server has "
        "acknowledged them. This shows what lies there, delivers what ended processes have left, and shows what was "
        "refused.",
    )
    parser.add_argument("--dir", help="folder of the spool files; default: REFLEXIO_SPOOL_DIR, else the platform's")
    commands = parser.add_subparsers(dest="command", required=True, metavar="status|flush|dead|revive|export")
    status = commands.add_parser("status", help="list the spool files: how much waits, since when, and who owns it")
    status.set_defaults(run=_status)
    flush = commands.add_parser(
        "flush",
        help="deliver what ended processes have left",
        description="Delivers the spool files without a living owner that belong to the account of REFLEXIO_API_KEY, "
        "each to the server it was meant for. What a living process owns, that process delivers.",
    )
    flush.add_argument("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="give up after; default 60")
    flush.add_argument(
        "--root-certificates",
        metavar="FILE",
        help="PEM of the authorities to trust with https; default: REFLEXIO_CA_CERT",
    )
    flush.add_argument(
        "--to",
        metavar="URL",
        help="send it to this address instead, where the server is now; it is asked first whether it has the account",
    )
    flush.add_argument("--from", dest="source", metavar="URL", help="with --to: only what was meant for this address")
    flush.add_argument("--yes", action="store_true", help="with --to: do not ask whether it is the same server")
    flush.set_defaults(run=_flush)
    dead = commands.add_parser("dead", help="list the requests that the server refused for good, and why")
    dead.set_defaults(run=_dead)
    revive_ = commands.add_parser(
        "revive",
        help="let refused requests wait again",
        description="Lets what was refused wait again: the client at work, the next start or `flush` delivers it. "
        "A delete is revived by its id only, for it takes what is there when it arrives.",
    )
    revive_.add_argument("ids", nargs="*", metavar="ID", help="of the requests; default: all refused publishes")
    revive_.set_defaults(run=_revive)
    export = commands.add_parser(
        "export",
        help="write what waits as JSON lines",
        description="Writes each request that waits as a line to standard output: a dict as publish_many takes it, "
        'or, of a delete, its request under the name of the method: {"delete_user": …}. Nothing is removed.',
    )
    export.add_argument("--dead", action="store_true", help="write what was refused instead of what waits")
    export.set_defaults(run=_export)
    return parser


def _status(folder: Path, _options: argparse.Namespace) -> int:
    code = 0
    found = _overviews(folder)
    for one in found:
        if isinstance(one, Unreadable):
            code = 1
            say(shown(one.path.name))
            say(f"  cannot be read: {shown(one.error)}")
            continue
        owner = f"process {one.pid} delivers it" if one.owned else "orphan: the next start or `flush` delivers it"
        age = f", the oldest {_age(one.oldest)} old" if one.rows else ""
        say(shown(one.path.name))
        among = f", {one.deletes:,} of them deletes" if one.deletes else ""
        say(f"  {one.rows:,} waiting ({one.size:,} bytes{among}{age}), {one.dead:,} refused")
        owner = owner if one.rows or one.owned else "nobody needs it any more"
        say(f"  account {shown(one.tag)} at {shown(one.address)}; {owner}")
    if not found:
        say(f"nothing waits in {shown(str(folder))}")
    return code


def _flush(folder: Path, options: argparse.Namespace) -> int:
    found = _overviews(folder)
    code = flush(folder, options, [one for one in found if isinstance(one, reader.Overview)])
    for one in _overviews(folder):  # what is damaged shows when it is read
        if isinstance(one, Unreadable):
            code = max(code, 1)
            complain(f"{one.path} is left where it is, for it cannot be read: {one.error}")
    return code


def _dead(folder: Path, _options: argparse.Namespace) -> int:
    number = code = 0
    for path in spool_paths(folder):
        try:
            for one in reader.dead(path):
                number += 1
                when = datetime.fromtimestamp(one.refused_at / 1e6).isoformat(" ", "seconds")
                place = f" {one.field}:" if one.field else ""
                user = f"user {one.user_id}" if one.user_id else "any user"
                say(shown(f"{when}  {one.request_id}  {user}  {one.reason}:{place} {one.message}"))
        except _UNREADABLE as error:
            code = 1
            complain(f"{path} cannot be read: {error}")
    if not number:
        say(f"nothing was refused in {shown(str(folder))}")
    return code


def _revive(folder: Path, options: argparse.Namespace) -> int:
    revived: list[str] = []
    code = 0
    for path in spool_paths(folder):
        try:
            revived += revive(path, options.ids)
        except _UNREADABLE as error:
            code = 1
            complain(f"{path} cannot be changed: {error}")
    for missing in sorted(set(options.ids) - set(revived)):
        code = 1
        complain(f"{missing} is not among what was refused")
    say(f"{len(revived):,} requests wait again in {shown(str(folder))}")
    return code


def _export(folder: Path, options: argparse.Namespace) -> int:
    code = 0
    for path in spool_paths(folder):
        try:
            for method, payload in _requests(path, refused=options.dead):
                try:
                    line = exported(method, payload)
                except (DecodeError, ValueError) as error:
                    code = 1
                    complain(f"a request in {path} cannot be read: {error}")
                else:
                    say(line)
        except _UNREADABLE as error:
            code = 1
            complain(f"{path} cannot be read: {error}")
    return code


def _requests(path: Path, *, refused: bool) -> Iterator[tuple[str, bytes]]:
    return ((one.method, one.payload) for one in reader.dead(path)) if refused else reader.waiting(path)


def _overviews(folder: Path) -> list[reader.Overview | Unreadable]:
    """Each file, or why it cannot be read."""
    found: list[reader.Overview | Unreadable] = []
    for path in spool_paths(folder):
        try:
            found.append(reader.overview(path))
        except _UNREADABLE as error:
            found.append(Unreadable(path, str(error)))
    return found


def _seconds(text: str) -> float:
    try:
        return checks.seconds("it", float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _age(microseconds: int) -> str:
    seconds = max(0, int(time.time() - microseconds / 1e6))
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} seconds"
