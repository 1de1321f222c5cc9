"""The life of a server, or of a worker: start, ready, drain, stop."""

import logging
import os
import signal
import socket
import stat
import threading
from urllib.parse import urlsplit

from reflexio import __version__
from reflexio.supervised import Supervised, say
from reflexio_server import logs
from reflexio_server.app import App
from reflexio_server.backstage import Backstage
from reflexio_server.config import Settings, service_variables
from reflexio_server.cores import keep_python_on
from reflexio_server.metrics import Metrics
from reflexio_server.process import before_serving, before_threads, once_serving
from reflexio_server.transport import is_loopback

logger = logging.getLogger(__name__)

_wakers: list[socket.socket] = []


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; the second of them exits at once. Raises what App raises."""
    _set_up(settings)
    stop = threading.Event()
    app = App(settings)
    _listen_for_signals(stop)
    app.start()
    once_serving()
    accounts, interactions = app.counts()
    logger.info(
        "reflexio %s listening on %s://%s/, data in %s, model %s, %d accounts, %d interactions",
        __version__,
        app.transport.scheme,
        app.address,
        settings.data_dir if settings.database is None else app.database.name,
        app.embedder.model_id,
        accounts,
        interactions,
    )
    if settings.data_dir.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        logger.warning("others on this machine can change what is in %s: chmod go-w it", settings.data_dir)
    if app.transport.exposed:
        logger.warning("others can reach %s, and everything is sent in clear text", app.address)
    if settings.database is not None and not settings.chroma_url:
        logger.info(
            "the index is in the data folder: without --chroma-url other servers on this database cannot ask it"
        )
    if settings.chroma_url:
        logger.info("searches of whole accounts ask the Chroma server %s", settings.chroma_url)
        _warn_of_clear_text(settings.chroma_url)
    _tell_of_metrics(settings, app.metrics_address)
    if not accounts:
        logger.info("there is no account yet: make one with `reflexio-server accounts create EMAIL`")
    stop.wait()
    logger.info("stopping: calls in flight have %g s to finish", settings.grace_seconds)
    app.stop()
    logger.info("stopped")


def work(settings: Settings) -> None:
    """Do what is behind the calls until SIGTERM or SIGINT, and take none. Raises what Backstage raises."""
    _set_up(settings)
    stop = threading.Event()
    before_threads()
    metrics = None if settings.metrics_port is None else Metrics()
    # An index in its own folder could be asked by nobody.
    backstage = Backstage(settings, metrics, lambda _well: None, may_lead=settings.chroma_url is not None)
    try:
        metrics_address = backstage.open_metrics()
    except BaseException:
        backstage.stop()
        raise
    _listen_for_signals(stop)
    before_serving()
    backstage.start()
    backstage.watch.start()
    once_serving()
    logger.info("reflexio %s works on %s, model %s", __version__, backstage.database.name, backstage.embedder.model_id)
    if settings.chroma_url:
        _warn_of_clear_text(settings.chroma_url)
    else:
        logger.info("it does not lead: that needs --chroma-url")
    _tell_of_metrics(settings, metrics_address)
    stop.wait()
    logger.info("stopping")
    backstage.watch.stop()
    backstage.stop()
    logger.info("stopped")


def _set_up(settings: Settings) -> None:
    logs.set_up(settings.log_level, settings.log_format)
    for name in service_variables():
        logger.warning("ignored the variable %s: it tells of a Service of Kubernetes, not of a setting", name)
    if settings.python_core is not None:  # before there are threads
        keep_python_on(settings.python_core)
        logger.info("Python's threads keep to core %d", settings.python_core)


def _warn_of_clear_text(chroma_url: str) -> None:
    parts = urlsplit(chroma_url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        logger.warning("vectors, and the token if there is one, are sent to %s in clear text", chroma_url)


def _tell_of_metrics(settings: Settings, address: str | None) -> None:
    if address:
        logger.info("metrics on http://%s/metrics", address)
        if not is_loopback(settings.metrics_host):
            logger.warning("others can read the metrics on %s, without a login", address)


def _listen_for_signals(stop: threading.Event) -> None:
    """Set `stop` at the first SIGTERM or SIGINT, and end the process at the second; SIGHUP changes nothing.

    Python runs handlers in the main thread, and a signal that the system gives to another thread does not wake that
    from its waiting. So their numbers are written to a socket at once, and a thread reads them there.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)

    def listen() -> None:
        while True:
            number = reader.recv(1)[0]
            if number not in (signal.SIGTERM, signal.SIGINT):
                if number == signal.SIGHUP:
                    say(logger.info, "nothing to do for SIGHUP: changed certificates are used by themselves")
                continue
            if stop.is_set():
                os._exit(128 + number)
            stop.set()

    Supervised("signals", listen, logger).start()
    _wakers.append(writer)  # else it would be closed with the last name for it
