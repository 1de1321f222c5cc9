"""Wires the parts together: the only place that knows them all."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from reflexio.v1 import auth_service_pb2, auth_service_pb2_grpc, interaction_service_pb2, interaction_service_pb2_grpc
from reflexio_server.config import OTHER_CONNECTIONS, Settings
from reflexio_server.core.accounts import Accounts
from reflexio_server.core.candidates import Finder
from reflexio_server.core.embedder_change import EmbedderChange
from reflexio_server.core.embedder_choice import choose
from reflexio_server.core.embedding import VectorMaker
from reflexio_server.core.erasing import Eraser
from reflexio_server.core.following import Follower
from reflexio_server.core.index_lag import IndexLag
from reflexio_server.core.listing import Lister
from reflexio_server.core.logins import Logins
from reflexio_server.core.merging import Merging
from reflexio_server.core.picture_reading import PictureReading
from reflexio_server.core.publishing import Publisher
from reflexio_server.core.renewal import Renewal
from reflexio_server.core.searching import Searcher
from reflexio_server.core.settling import Settler
from reflexio_server.core.shared_tries import SharedTries
from reflexio_server.core.stored import Stored
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.core.watching import Watch
from reflexio_server.engines import engine_of
from reflexio_server.index.chroma_folder import CHROMA_FOLDER
from reflexio_server.index.loading import load_by_id, load_embedder
from reflexio_server.index.ocr import Reader
from reflexio_server.metrics import Metrics, Parts
from reflexio_server.process import before_serving, before_threads
from reflexio_server.rpc.admission import Entrance, Gate
from reflexio_server.rpc.budget import Messages
from reflexio_server.rpc.decode import Decode
from reflexio_server.rpc.health import MOST_WAITING, THREADS, Health
from reflexio_server.rpc.interceptors import chain
from reflexio_server.rpc.lines import aside
from reflexio_server.rpc.services import AuthService, InteractionService
from reflexio_server.rpc.shares import LimitCalls, Shares
from reflexio_server.rpc.strangers import Strangers
from reflexio_server.rpc.validation import Limits
from reflexio_server.rpc.watchdog import Watchdog
from reflexio_server.storage.accounts import counts
from reflexio_server.storage.database import Database, own, to_migrate
from reflexio_server.storage.writer import Writer
from reflexio_server.tracing import start_tracing
from reflexio_server.transport import CannotListen, Transport, is_loopback, joined

logger = logging.getLogger(__name__)

WORKERS_KEPT_BACK = 16  # from streams, for unary calls
_LINGER_SECONDS, _QUIET_SECONDS = 1.0, 0.1  # at the end, for telling callers to come again
INDEX_HEALTH = "reflexio.v1.Index"
"""The name by which health tells of the threads behind the calls; the server as a whole serves without them."""
_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
_BACKGROUND_READERS = 7  # threads that read the database beside the workers
_PATIENCE_SECONDS = 5.0  # for the database of a server that was just killed
_SERVICES = (
    auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name,
    interaction_service_pb2.DESCRIPTOR.services_by_name["InteractionService"].full_name,
)
_HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class App:
    """A server on a data directory: it owns the directory from construction to `stop`.

    Raises DataDirectoryInUse, DatabaseUnusable, ModelMissing, OtherModel, TokenUnusable or transport.CannotListen; then
    nothing is left running.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._draining = threading.Event()
        self.transport = Transport(settings)
        before_threads()  # each of which may take an arena of the allocator's
        with contextlib.ExitStack() as opened:
            opened.enter_context(own(settings.data_dir))
            self.embedder = load_embedder(settings.embedder, settings.model_dir)
            readers = settings.workers + _BACKGROUND_READERS
            if settings.database is not None:
                readers = min(readers, settings.database_connections - OTHER_CONNECTIONS)
                if settings.migrate:
                    _migrate(settings.database)
            self.database = Database(
                settings.data_dir, owner=True, readers=readers, url=settings.database, patience=_PATIENCE_SECONDS
            )
            opened.callback(self.database.close)
            metrics = None if settings.metrics_port is None else Metrics()
            told = metrics.committed if metrics else None
            writer = Writer(self.database, settings.write_queue, told, self.database.lanes)
            opened.callback(writer.close)
            self.cache = VectorCache(settings.vector_cache_mb * 1024 * 1024)
            self._settler = Settler(self.database, writer, self.cache)
            opened.callback(self._settler.stop)
            self.embedders = choose(
                self.database, writer, self.embedder, lambda model_id: load_by_id(model_id, settings.model_dir)
            )
            engine = engine_of(settings)
            if settings.database is not None:  # which may have had another index meanwhile, or be an older copy
                engine.have_checked()
            self.follower = Follower(self.database, writer, engine)
            self.vector_maker = VectorMaker(self.database, writer, self.embedders, self.follower.follow, aside)
            self._change = EmbedderChange(self.database, writer, self.embedders, self.vector_maker, self.follower)
            self._renewal = Renewal(self.database, writer, self.embedders, self.vector_maker)
            self._merging = Merging(self.database, writer)
            self._picture_reading = self._open_picture_reading(writer)
            opened.callback(self.follower.stop)
            opened.callback(self.vector_maker.stop)
            opened.callback(self._change.thread.end)
            opened.callback(self._renewal.thread.end)
            opened.callback(self._merging.thread.end)
            if self._picture_reading:
                opened.callback(self._picture_reading.stop)
            self._watchdog = Watchdog(settings.stream_idle_seconds)
            opened.callback(self._watchdog.thread.end)
            health_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="health")
            opened.callback(health_threads.shutdown, wait=False)
            waiting_for_health = Strangers(self._watchdog, MOST_WAITING)
            self._health = Health(health_threads, waiting_for_health)
            self._watch = Watch(
                settings.data_dir,
                [
                    *writer.threads,
                    *(
                        part.thread
                        for part in (
                            self._settler,
                            self.follower,
                            self.vector_maker,
                            self._change,
                            self._renewal,
                            self._merging,
                            self._watchdog,
                        )
                    ),
                ],
                lambda well: self._set_health(_SERVING if well else _NOT_SERVING, INDEX_HEALTH),
            )
            if self._picture_reading:
                self._watch.threads.append(self._picture_reading.thread)
            opened.callback(self._watch.stop)
            self._gate = Gate(self._draining)
            entrance = Entrance(_shares(settings))
            opened.callback(entrance.close)
            tracing = start_tracing()
            if tracing:
                opened.callback(tracing.close)
            observers = [observer.calls for observer in (metrics, tracing) if observer]
            self._server, self.address = self._listen(writer, observers, entrance, waiting_for_health)
            self.metrics_address = self._open_metrics(metrics, writer, opened) if metrics else None
            self._opened = opened.pop_all()

    def start(self) -> None:
        """Begin to serve, and to index what an earlier run left."""
        before_serving()
        self.follower.start()
        self._settler.start()
        if self._settings.indexing:
            self.vector_maker.start()
            self._change.thread.start()
        self._renewal.thread.start()
        self._merging.thread.start()
        if self._picture_reading:
            self._picture_reading.thread.start()
        self._server.start()
        self._set_health(_SERVING, "", *_SERVICES)
        self.database.on_damage = lambda: self._set_health(_NOT_SERVING, "", *_SERVICES, INDEX_HEALTH)
        if self.database.is_damaged:
            self.database.on_damage()
        self._watch.start()

    def stop(self) -> None:
        """Take no more calls, let those in flight finish within the grace, then close everything in order."""
        self._watch.stop()
        self._set_health(_NOT_SERVING, "", *_SERVICES, INDEX_HEALTH)
        self._draining.set()
        deadline = time.monotonic() + self._settings.grace_seconds
        self._gate.wait_until_quiet(_QUIET_SECONDS, min(_LINGER_SECONDS, self._settings.grace_seconds))
        self._health.close()
        self._server.stop(max(0.0, deadline - time.monotonic())).wait()
        self._opened.close()

    def counts(self) -> tuple[int, int]:
        with self.database.read() as conn:
            return counts(conn)

    def _open_picture_reading(self, writer: Writer) -> PictureReading | None:
        if not self._settings.read_pictures:
            return None
        return PictureReading(self.database, writer, Reader(self._settings.model_dir), self.vector_maker)

    def _open_metrics(self, metrics: Metrics, writer: Writer, opened: contextlib.ExitStack) -> str:
        """Let the metrics be scraped until the stack is closed; the address."""
        lag = IndexLag(self.database)
        stored = Stored(self.database, self._settings.data_dir / CHROMA_FOLDER)
        for part in (lag, stored):
            part.thread.start()
            opened.callback(part.thread.end)
            self._watch.threads.append(part.thread)
        threads = self._watch.threads
        metrics.read(
            Parts(writer, self.vector_maker, self.follower, self.cache, lag, stored, threads, self._picture_reading)
        )
        host, port = self._settings.metrics_host, self._settings.metrics_port or 0
        try:
            port = metrics.serve(host, port)
        except OSError as error:
            raise CannotListen(f"cannot listen on {joined(host, port)} for --metrics-port: {error.strerror}") from None
        opened.callback(metrics.close)
        return joined(host, port)

    def _listen(
        self,
        writer: Writer,
        observers: Sequence[grpc.ServerInterceptor],
        entrance: Entrance,
        waiting_for_health: Strangers,
    ) -> tuple[grpc.Server, str]:
        settings = self._settings
        shares = _shares(settings)
        bounds = settings.login_tries, settings.login_tries_per_address
        logins = Logins(*bounds, shared=SharedTries(writer, *bounds) if self.database.is_shared else None)
        self.accounts = accounts = Accounts(self.database, writer, logins)
        server = grpc.server(
            ThreadPoolExecutor(1),  # each call brings its own, see Admit
            interceptors=chain(
                observers,
                entrance,
                self._gate,
                accounts,
                LimitCalls(shares, self._watchdog, self._draining),
                Decode(
                    self._watchdog,
                    Strangers(self._watchdog, shares.kept),
                    waiting_for_health,
                    Messages(settings.max_message_bytes),
                    settings.max_interactions,
                ),
            ),
            options=(
                *self.transport.options(),
                ("grpc.max_receive_message_length", settings.max_message_bytes),  # also of what is unpacked
            ),
        )
        limits = Limits(
            interactions=settings.max_interactions, content=settings.max_content_bytes, image=settings.max_image_bytes
        )
        finder = Finder(self.cache, self.follower, self.embedders)
        searcher = Searcher(self.database, self.vector_maker, finder, settings.freshness_seconds)
        interaction_service_pb2_grpc.add_InteractionServiceServicer_to_server(
            InteractionService(
                Publisher(writer, self.vector_maker),
                searcher,
                Lister(self.database),
                Eraser(self.database, writer, self.follower, self._settler, self._draining),
                limits,
                settings.stream_idle_seconds,
                self.transport.longest_stream_seconds,
                self._draining,
            ),
            server,
        )
        auth_service_pb2_grpc.add_AuthServiceServicer_to_server(AuthService(accounts, limits), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.reflection if settings.reflection is not None else is_loopback(settings.host):
            reflection.enable_server_reflection((*_SERVICES, _HEALTH_SERVICE, reflection.SERVICE_NAME), server)
        return server, self.transport.listen(server)

    def _set_health(self, status: int, *services: str) -> None:
        for service in services:
            self._health.set(service, status)


def _migrate(url: str) -> None:
    from reflexio_server.storage.migrating import migrate_in_steps  # Alembic takes a while to load

    with to_migrate(url) as store:
        migrate_in_steps(store, lambda step: logger.info("schema %s", step))


def _shares(settings: Settings) -> Shares:
    """Unless set, an account may take half of what there is; of the workers nearly all while others need none."""
    workers, streams = settings.workers, min(settings.max_streams, settings.workers - WORKERS_KEPT_BACK)
    kept = max(4, workers // 8)
    return Shares(
        workers=workers,
        kept=kept,
        account_calls=settings.account_calls or workers // 2,
        account_most=settings.account_calls or workers - kept,
        working=workers // 2,
        searching=min(workers // 2, 2 * ((os.cpu_count() or 1) + 1)),
        streams=streams,
        account_streams=min(streams, settings.account_streams or max(1, streams // 2)),
    )
