"""What ends the work of a supervised thread is noticed, and the work begins again."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from reflexio.supervised import Supervised, say

_log = logging.getLogger("reflexio.test")
END_SECONDS = 10.0


class PanicError(BaseException):
    """As pyo3's PanicException, which is no Exception either."""


@pytest.mark.parametrize("ending", [ValueError, SystemExit, asyncio.CancelledError, KeyboardInterrupt, PanicError])
def test_work_goes_on_after_whatever_ended_it(ending: type[BaseException], caplog: Any) -> None:
    rounds, went_on = [], threading.Event()

    def work() -> None:
        rounds.append(1)
        if len(rounds) < 3:
            raise ending("a fault")
        assert thread.last_failure == f"{ending.__name__}: a fault"
        thread.well()
        went_on.set()

    thread = Supervised("example", work, _log, first_pause=0.01)
    thread.start()
    assert went_on.wait(END_SECONDS)
    assert thread.end(END_SECONDS)
    assert (thread.failures, thread.last_failure) == (2, "")
    assert caplog.text.count("the thread example failed") == 2


def test_no_log_line_can_end_it() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("I/O operation on closed file.")

    logger = logging.Logger("broken")
    logger.addHandler(Broken())
    went_on = threading.Event()

    def work() -> None:
        if not thread.failures:
            raise RuntimeError
        went_on.set()

    thread = Supervised("example", work, logger, first_pause=0.01)
    thread.start()
    assert went_on.wait(END_SECONDS)
    say(logger.warning, "nobody hears %s", "this")


def test_a_line_names_who_says_it(caplog: pytest.LogCaptureFixture) -> None:
    say(_log.warning, "one %s", "way")
    say(_log.log, logging.WARNING, "another")
    try:
        raise ValueError
    except ValueError:
        say(_log.exception, "a third")
    assert [(record.getMessage(), record.filename) for record in caplog.records] == [
        (text, "test_supervised.py") for text in ("one way", "another", "a third")
    ]


def test_end_stops_the_pause_and_can_be_called_from_the_work() -> None:
    def fail() -> None:
        raise RuntimeError

    pausing = Supervised("pausing", fail, _log, first_pause=3600.0)
    pausing.start()
    assert pausing.end(END_SECONDS)

    ended: list[bool] = []
    own = Supervised("own", lambda: ended.append(own.is_this() and own.end()), _log)
    own.start()
    own.end(END_SECONDS)
    assert ended == [True]
    assert Supervised("never", fail, _log).end()
