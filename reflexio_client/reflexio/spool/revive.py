"""Letting the dead of a spool file wait again, for the command."""

import sqlite3
import time
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from reflexio.spool import reader
from reflexio.spool.database import PUBLISH
from reflexio.spool.file import SpoolFile
from reflexio.spool.folder import SpoolSettings


def revive(path: Path, request_ids: Collection[str]) -> list[str]:
    """Let the dead of these ids wait again, without ids all publishes; returns the ids.

    They go into a new file that nobody owns, which the client at work or the next start delivers. A delete is revived
    by its id only: it takes what is there when it arrives. Raises what `reader.dead` does.
    """

    def wanted(one: reader.Dead) -> bool:
        return one.request_id in request_ids if request_ids else one.method == PUBLISH

    chosen = [one for one in reader.dead(path) if wanted(one)]
    if not chosen:
        return []
    about = reader.overview(path)
    file = SpoolFile.create(SpoolSettings(path.parent, about.address, about.tag, "power"))
    now = time.time_ns() // 1000
    for number, one in enumerate(chosen):
        file.append(number + 1, one.request_id, one.user_id, one.payload, one.method, now + number)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5.0)) as connection:
        try:
            connection.executemany("DELETE FROM dead WHERE request_id = ?", [(one.request_id,) for one in chosen])
        except sqlite3.Error:
            file.acknowledge(range(1, len(chosen) + 1))  # else they would be there twice
            raise
        finally:
            file.close()
    return [one.request_id for one in chosen]
