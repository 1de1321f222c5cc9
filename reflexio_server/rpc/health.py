"""grpc.health.v1: whether the server serves, asked once or watched.

grpc's own servicer keeps each name that was ever watched, and a watcher that does not read holds up the others.
"""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from reflexio_server.errors import NotFound, TooManyWatchers
from reflexio_server.rpc.peer import address_of
from reflexio_server.rpc.strangers import Strangers
from reflexio_server.rpc.validation import check_health

THREADS, MOST_WAITING = 32, 16
"""Health has threads of its own, so that it answers while all workers are busy; how many may wait for their client."""
MOST_WATCHERS, MOST_WATCHERS_PER_ADDRESS = 4000, 1000
"""A watcher holds no thread; it takes about 10 KiB. Each connection of a client that balances has one."""


@dataclass(slots=True, eq=False)
class _Watcher:
    service: str
    address: str
    context: grpc.ServicerContext
    send: Any  # with a response: sends it, which takes until the client has room for it; with None: ends the call
    told: int | None = None
    is_told: bool = False  # by a thread, now


class Health(health_pb2_grpc.HealthServicer):
    """Tells the status of the services that were `set`; names of others are answered and not kept.

    `waiting` bounds the threads that wait for a watcher to read.
    """

    def __init__(self, threads: ThreadPoolExecutor, waiting: Strangers) -> None:
        self._threads = threads
        self._waiting = waiting
        self._statuses: dict[str, Any] = {}
        self._watchers: dict[grpc.ServicerContext, _Watcher] = {}
        self._per_address: Counter[str] = Counter()
        self._closed = False
        self._lock = threading.Lock()

    def set(self, service: str, status: int) -> None:
        """Let this be the status of a service, "" for the whole server, and have its watchers told."""
        with self._lock:
            self._statuses[service] = status
            watchers = [one for one in self._watchers.values() if one.service == service]
        for watcher in watchers:
            self._threads.submit(self._tell, watcher)

    def close(self) -> None:
        """End every watch, so that none holds up the end of the server."""
        with self._lock:
            self._closed = True
            watchers = list(self._watchers.values())
        for watcher in watchers:
            self._end(watcher)

    def Check(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext) -> pb.HealthCheckResponse:
        """The status of a service. Raises NotFound when there is none of this name."""
        check_health(request)
        status = self._statuses.get(request.service)
        if status is None:
            raise NotFound("service")
        return pb.HealthCheckResponse(status=status)

    def List(self, request: Any, context: grpc.ServicerContext) -> Any:
        messages: Any = pb  # whose stubs do not know those of List yet
        with self._lock:
            statuses = {name: pb.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        return messages.HealthListResponse(statuses=statuses)

    def Watch(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext, send: Any = None) -> None:
        """The status of a service, and each change of it, until the caller goes or the server ends.

        Raises TooManyWatchers: a client that balances would take any other refusal for a server that does not serve.
        """
        check_health(request)
        watcher = _Watcher(request.service, address_of(context), context, send)
        with self._lock:
            crowded = self._per_address[watcher.address] >= MOST_WATCHERS_PER_ADDRESS
            if crowded or len(self._watchers) >= MOST_WATCHERS:
                raise TooManyWatchers
            self._watchers[context] = watcher
            self._per_address[watcher.address] += 1
        if not context.add_callback(lambda: self._forget(watcher)):
            self._forget(watcher)
        self._tell(watcher)
        if self._closed:
            self._end(watcher)

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def _tell(self, watcher: _Watcher) -> None:
        """Send the status until it is the one that was sent last; one thread at a time does this for a watcher."""
        while True:
            with self._lock:
                status = self._statuses.get(watcher.service, pb.HealthCheckResponse.SERVICE_UNKNOWN)
                if watcher.is_told or watcher.told == status or watcher.context not in self._watchers:
                    return
                watcher.is_told, watcher.told = True, status
            self._waiting.begin(watcher.context)
            try:
                watcher.send(pb.HealthCheckResponse(status=status))
            finally:
                self._waiting.end(watcher.context)
                watcher.is_told = False

    def _end(self, watcher: _Watcher) -> None:
        if watcher.is_told:  # and does not read
            watcher.context.cancel()
        elif watcher.context.is_active():
            watcher.context.set_code(grpc.StatusCode.UNAVAILABLE)
            watcher.context.set_details("the server is shutting down")
            watcher.send(None)

    def _forget(self, watcher: _Watcher) -> None:
        """On grpc's serving thread, when the call is over."""
        with self._lock:
            if self._watchers.pop(watcher.context, None) is not None:
                self._per_address[watcher.address] -= 1
                if not self._per_address[watcher.address]:
                    del self._per_address[watcher.address]
