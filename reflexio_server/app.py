"""Wires the server: what answers calls, and behind it what backstage.py has."""

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from reflexio.v1 import auth_service_pb2, auth_service_pb2_grpc, interaction_service_pb2, interaction_service_pb2_grpc
from reflexio_server.backstage import Backstage
from reflexio_server.config import Settings
from reflexio_server.core.accounts import Accounts
from reflexio_server.core.candidates import Finder
from reflexio_server.core.embedding import VectorMaker
from reflexio_server.core.erasing import Eraser
from reflexio_server.core.following import Follower
from reflexio_server.core.listing import Lister
from reflexio_server.core.logins import Logins
from reflexio_server.core.publishing import Publisher
from reflexio_server.core.searching import Searcher
from reflexio_server.core.shared_tries import SharedTries
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.index.embedder import Embedder
from reflexio_server.metrics import Metrics
from reflexio_server.process import before_serving, before_threads
from reflexio_server.rpc.admission import Entrance, Gate
from reflexio_server.rpc.budget import Messages
from reflexio_server.rpc.decode import Decode
from reflexio_server.rpc.health import MOST_WAITING, THREADS, Health
from reflexio_server.rpc.interceptors import chain
from reflexio_server.rpc.services import AuthService, InteractionService
from reflexio_server.rpc.shares import LimitCalls, Shares
from reflexio_server.rpc.strangers import Strangers
from reflexio_server.rpc.validation import Limits
from reflexio_server.rpc.watchdog import Watchdog
from reflexio_server.storage.database import Database
from reflexio_server.term import Term
from reflexio_server.tracing import start_tracing
from reflexio_server.transport import Transport, is_loopback

WORKERS_KEPT_BACK = 16  # from streams, for unary calls
_LINGER_SECONDS, _QUIET_SECONDS = 1.0, 0.1  # at the end, for telling callers to come again
INDEX_HEALTH = "reflexio.v1.Index"
"""The name by which health tells of the threads behind the calls; the server as a whole serves without them."""
_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
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
            metrics = None if settings.metrics_port is None else Metrics()
            self.backstage = Backstage(settings, metrics, self._tell_of_threads)
            opened.callback(self.backstage.stop)
            self._watchdog = Watchdog(settings.stream_idle_seconds)
            opened.callback(self._watchdog.thread.end)
            self.backstage.others.append(self._watchdog.thread)
            health_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="health")
            opened.callback(health_threads.shutdown, wait=False)
            waiting_for_health = Strangers(self._watchdog, MOST_WAITING)
            self._health = Health(health_threads, waiting_for_health)
            self._gate = Gate(self._draining)
            entrance = Entrance(_shares(settings))
            opened.callback(entrance.close)
            tracing = start_tracing()
            if tracing:
                opened.callback(tracing.close)
            observers = [observer.calls for observer in (metrics, tracing) if observer]
            self._server, self.address = self._listen(observers, entrance, waiting_for_health)
            self.metrics_address = self.backstage.open_metrics()
            self._opened = opened.pop_all()

    @property
    def database(self) -> Database:
        return self.backstage.database

    @property
    def embedder(self) -> Embedder:
        return self.backstage.embedder

    @property
    def cache(self) -> VectorCache:
        return self.backstage.cache

    @property
    def vector_maker(self) -> VectorMaker:
        return self.backstage.vector_maker

    @property
    def term(self) -> Term:
        return self.backstage.term

    @property
    def follower(self) -> Follower:
        return self.backstage.term.follower

    def start(self) -> None:
        """Begin to serve, and to index what an earlier run left."""
        before_serving()
        self.backstage.start()
        self._server.start()
        self._set_health(_SERVING, "", *_SERVICES)
        self.database.on_damage = lambda: self._set_health(_NOT_SERVING, "", *_SERVICES, INDEX_HEALTH)
        if self.database.is_damaged:
            self.database.on_damage()
        self.backstage.watch.start()

    def stop(self) -> None:
        """Take no more calls, let those in flight finish within the grace, then close everything in order."""
        self.backstage.watch.stop()
        self._set_health(_NOT_SERVING, "", *_SERVICES, INDEX_HEALTH)
        self._draining.set()
        self.backstage.leading.resign()
        deadline = time.monotonic() + self._settings.grace_seconds
        self._gate.wait_until_quiet(_QUIET_SECONDS, min(_LINGER_SECONDS, self._settings.grace_seconds))
        self._health.close()
        self._server.stop(max(0.0, deadline - time.monotonic())).wait()
        self._opened.close()

    def counts(self) -> tuple[int, int]:
        return self.backstage.counts()

    def _listen(
        self, observers: Sequence[grpc.ServerInterceptor], entrance: Entrance, waiting_for_health: Strangers
    ) -> tuple[grpc.Server, str]:
        settings = self._settings
        shares = _shares(settings)
        behind = self.backstage
        bounds = settings.login_tries, settings.login_tries_per_address
        shared = SharedTries(behind.writer, *bounds) if behind.database.is_shared else None
        logins = Logins(*bounds, shared=shared)
        self.accounts = accounts = Accounts(behind.database, behind.writer, logins)
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
        finder = Finder(behind.cache, behind.index, behind.embedders)
        searcher = Searcher(behind.database, behind.vector_maker, finder, settings.freshness_seconds)
        interaction_service_pb2_grpc.add_InteractionServiceServicer_to_server(
            InteractionService(
                Publisher(behind.writer, behind.vector_maker),
                searcher,
                Lister(behind.database),
                Eraser(behind.database, behind.writer, behind.erased, self._draining),
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

    def _tell_of_threads(self, well: bool) -> None:
        self._set_health(_SERVING if well else _NOT_SERVING, INDEX_HEALTH)

    def _set_health(self, status: int, *services: str) -> None:
        for service in services:
            self._health.set(service, status)


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
