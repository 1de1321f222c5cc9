"""What waits on this machine for another address of the account: said once, for a server may have moved."""

import logging
import sqlite3
from itertools import islice

from reflexio.spool.database import NewerVersionError
from reflexio.spool.folder import FileLock, SpoolSettings, spool_paths
from reflexio.spool.reader import overview

_LOOKED_AT = 16  # files; each is opened
_log = logging.getLogger("reflexio")
_said: set[tuple[str, str, str]] = set()


def say_what_waits_elsewhere(settings: SpoolSettings) -> None:
    """Warn, once in this process, of requests of this account that no living process delivers to another address."""
    key = str(settings.folder), settings.tag, settings.address
    if key in _said:
        return
    waiting: dict[str, int] = {}
    account = settings.prefix.partition("-")[2]
    others = (p for p in spool_paths(settings.folder) if not p.name.startswith(settings.prefix))
    for path in islice((p for p in others if p.name.partition("-")[2].startswith(account)), _LOOKED_AT):
        try:
            lock = FileLock.take(path)
            if lock is None:  # somebody delivers it; while that is a file it adopted, SQLite would wait for it
                continue
            lock.release(remove=False)
            found = overview(path)
        except (OSError, sqlite3.Error, NewerVersionError, ValueError):
            continue  # the command tells of it
        if found.rows and not found.owned and found.tag == settings.tag:
            waiting[found.address] = waiting.get(found.address, 0) + found.rows
    for address, rows in sorted(waiting.items()):
        _said.add(key)
        _log.warning(
            "%d requests of this account wait in %s for %s, not for %s: if the server has moved, "
            "`python -m reflexio.spool flush --to %s` sends them there",
            *(rows, settings.folder, address, settings.address, settings.address),
        )
