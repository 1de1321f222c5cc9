"""The server's log: lines of text or of JSON on standard error, each with the id of the call that it belongs to."""

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from typing import Any, TextIO

from reflexio_server.rpc.calls import call_id

logger = logging.getLogger(__name__)

_OWN_FIELDS = {*vars(logging.makeLogRecord({})), "message", "asctime"}
_NOISY = ("alembic", "httpcore", "httpx", "asyncio")  # at debug they tell of themselves alone


def set_up(level: str, form: str) -> None:
    """Log to standard error from this level on, as "text" or "json"; also what no thread caught, and warnings."""
    handler = _Lines(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if level == "debug":
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.INFO)
    for name in ("alembic", "httpcore", "httpx"):  # else a line for each request to a Chroma server
        logging.getLogger(name).setLevel(logging.WARNING)
    # grpc logs a metadata value that is not UTF-8 in full, at ERROR: it may be a key with a damaged character.
    logging.getLogger("grpc._cython.cygrpc").addFilter(
        lambda record: not str(record.msg).startswith("Invalid encoding")
    )
    logging.captureWarnings(True)
    threading.excepthook = _uncaught_in_thread
    sys.excepthook = lambda kind, error, _trace: logger.critical("uncaught %s", kind.__name__, exc_info=error)


class _Lines(logging.StreamHandler[TextIO]):
    """Lines on a stream that may be closed, or have no reader any more: what is lost then must end nobody's work."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing of it: it would be said on the same stream."""


def _uncaught_in_thread(failed: threading.ExceptHookArgs) -> None:
    if not issubclass(failed.exc_type, SystemExit):
        name = failed.thread.name if failed.thread else "?"
        logger.critical("uncaught %s in the thread %s", failed.exc_type.__name__, name, exc_info=failed.exc_value)


class TextFormatter(logging.Formatter):
    """A line as people read it, with its fields as name=value at the end; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        line += "".join(f" {name}={_plain(value)}" for name, value in fields_of(record).items())
        return line.replace("\r", "\\r").replace("\n", "\\n")


class JsonFormatter(logging.Formatter):
    """A line of JSON: time (UTC), level, logger, message, call_id within a call, the fields, exception if any."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= fields_of(record)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What belongs to a line beside its message: the id of the call at hand, and what was given as `extra`."""
    call = call_id()
    return ({"call_id": call} if call else {}) | extra_fields(record)


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}


def _plain(value: object) -> str:
    """A value as it is where that leaves the line clear, and else quoted."""
    text = str(value)
    return text if text.isprintable() and not set(text) & set(' "=') and text else json.dumps(text)
