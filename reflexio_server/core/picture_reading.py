"""Reads what stands in pictures, behind publishing, so that they are found by it."""

import logging
import random
from collections import defaultdict
from collections.abc import Mapping

from reflexio.supervised import say
from reflexio_server.core.embedding import VectorMaker
from reflexio_server.core.looking import Looking
from reflexio_server.errors import DomainError
from reflexio_server.index.ocr import Reader, ReadingFailed
from reflexio_server.storage import interactions, pictures
from reflexio_server.storage.database import Database
from reflexio_server.storage.writer import Writer

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_AT_ONCE = 100  # interactions; those with the same picture are written together
_PAUSE_SECONDS = 10.0  # after what passes

_Picture = tuple[int, bytes, str | None]
"""Whose it is, which, and what stands in it, if it was read."""


class PictureReading(Looking):
    """Reads one picture after the other on a thread of its own, the newest first, also what was stored before.

    Which are left is in the database, so that it goes on after a restart. A picture is read once for each account that
    has it. Where several processes read, each takes them in an order of its own, and leaves out what another one read.

    Attributes:
        read: how many pictures were read.
        unreadable: how many could not be, for good.
    """

    def __init__(
        self, database: Database, writer: Writer, reader: Reader, vector_maker: VectorMaker, *, alone: bool = True
    ) -> None:
        """`alone`: no other process reads pictures of this store."""
        self._alone = alone
        self.read = self.unreadable = 0
        self._database = database
        self._writer = writer
        self._reader = reader
        self._vector_maker = vector_maker
        super().__init__("pictures", _LOOK_SECONDS)

    def stop(self) -> None:
        """End, also in the midst of a picture, which the next start reads."""
        self.thread.over.set()
        self._reader.close()
        self.thread.end()

    def _look(self) -> None:
        while not self.thread.over.is_set():
            with self._database.read() as conn:
                found = pictures.unread(conn, _AT_ONCE)
            together = defaultdict[_Picture, list[int]](list)
            for one in found:
                together[one.account_id, one.sha256, one.text].append(one.ref)
            for (account_id, sha256, text), refs in self._in_order(together):
                if self.thread.over.is_set() or not self._have_found(account_id, sha256, text, refs):
                    return
            if not found:
                return

    def _in_order(self, together: Mapping[_Picture, list[int]]) -> list[tuple[_Picture, list[int]]]:
        found = list(together.items())
        if not self._alone:
            random.shuffle(found)
        return found

    def _have_found(self, account_id: int, sha256: bytes, text: str | None, refs: list[int]) -> bool:
        """Have these interactions found by their picture; False when it is to be tried again later."""
        try:
            if text is None:
                text = self._text_of(account_id, sha256)
            done = self._writer.submit(lambda conn: pictures.let_be_found(conn, refs, text), [account_id]).result()
        except ReadingFailed as failed:
            if not self.thread.over.is_set():
                say(logger.warning, "reading pictures waits: %s", failed)
                self.thread.over.wait(_PAUSE_SECONDS)
            return False
        except DomainError:
            say(logger.warning, "reading pictures waits: writing is not possible now")
            self.thread.over.wait(_PAUSE_SECONDS)
            return False
        self._vector_maker.wake()
        return done > 0

    def _text_of(self, account_id: int, sha256: bytes) -> str:
        """What stands in a picture, kept beside it; empty when nothing can be read, or nobody has it any more."""
        with self._database.read() as conn:
            if (text := pictures.text_of(conn, account_id, sha256)) is not None:
                return text
            data = interactions.image_data(conn, account_id, sha256)
        found = self._reader.read(data)
        self.read, self.unreadable = self.read + (not found.problem), self.unreadable + bool(found.problem)
        if found.problem:
            say(logger.info, "a picture of %d bytes is not read: %s", len(data), found.problem)
        keep = self._reader.reader_id
        self._writer.submit(
            lambda conn: pictures.set_text(conn, account_id, sha256, found.text, keep), [account_id]
        ).result()
        return found.text
