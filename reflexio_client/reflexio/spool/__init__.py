"""The house of delivery: what was accepted lies in a SQLite file of this process until the server has it."""

from reflexio.spool.database import PUBLISH
from reflexio.spool.folder import MAX_BYTES, MAX_ITEMS, SpoolSettings
from reflexio.spool.outbox import Spool
from reflexio.spool.reading import Row
from reflexio.spool.sender import Sender

__all__ = ["MAX_BYTES", "MAX_ITEMS", "PUBLISH", "Row", "Sender", "Spool", "SpoolSettings"]
