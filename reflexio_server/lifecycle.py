"""A server's life: start, ready, drain, stop."""

import logging
import os
import signal
import threading
from importlib.metadata import version
from types import FrameType

from reflexio_server.app import App, is_loopback
from reflexio_server.config import Settings

logger = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; the second of them exits at once. Raises what App raises."""
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    app = App(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    app.start()
    accounts, interactions = app.counts()
    logger.info(
        "reflexio %s listening on %s, data in %s, model %s, %d accounts, %d interactions",
        version("reflexio"),
        app.address,
        settings.data_dir,
        app.embedder.model_id,
        accounts,
        interactions,
    )
    if not is_loopback(settings.host):
        logger.warning("others can reach %s, and everything is sent in clear text", app.address)
    if not accounts:
        logger.info("there is no account yet: make one with `reflexio-server accounts create EMAIL`")
    stop.wait()
    logger.info("stopping: calls in flight have %g s to finish", settings.grace_seconds)
    app.stop()
    logger.info("stopped")
