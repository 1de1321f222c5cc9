"""The durable outbox: publishes and deletes in a SQLite file of this process until the server has acknowledged them."""

from reflexio.spool.database import PUBLISH
from reflexio.spool.folder import SpoolSettings
from reflexio.spool.outbox import MAX_BYTES, MAX_ITEMS, Spool
from reflexio.spool.row import Row
from reflexio.spool.watch import Watch

__all__ = ["MAX_BYTES", "MAX_ITEMS", "PUBLISH", "Row", "Spool", "SpoolSettings", "Watch"]
