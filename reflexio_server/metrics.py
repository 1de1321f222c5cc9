"""What Prometheus can read of a server. docs/operations.md lists every metric; a test keeps it so.

A scrape reads numbers that are kept anyway: it asks no database and waits for nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, disable_created_metrics, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from reflexio import __version__
from reflexio.supervised import Supervised
from reflexio_server.core.embedding import VectorMaker
from reflexio_server.core.index_access import IndexAccess
from reflexio_server.core.index_lag import IndexLag
from reflexio_server.core.leading import Leads
from reflexio_server.core.picture_reading import PictureReading
from reflexio_server.core.stored import Stored
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.rpc.call_metrics import CountCalls
from reflexio_server.storage.writer import Writer

_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 10)
_COMMIT_WRITES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one server, in a registry of their own.

    Attributes:
        calls: the interceptor that counts calls.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which hardly anything reads
        self._registry = CollectorRegistry()
        self.calls = CountCalls(self._registry)
        self._commit_seconds = Histogram(
            "reflexio_commit_duration_seconds",
            "Time of a commit, from the begin of its transaction until it is on disk.",
            buckets=_COMMIT_SECONDS,
            registry=self._registry,
        )
        self._commit_writes = Histogram(
            "reflexio_commit_writes", "Writes in a commit.", buckets=_COMMIT_WRITES, registry=self._registry
        )
        ProcessCollector(registry=self._registry)

    def committed(self, seconds: float, writes: int) -> None:
        self._commit_seconds.observe(seconds)
        self._commit_writes.observe(writes)

    def read(self, parts: "Parts") -> None:
        self._registry.register(parts)

    def serve(self, host: str, port: int) -> int:
        """Answer scrapes until `close`; the port, when 0 was given a free one. Raises OSError."""
        self._http, self._thread = start_http_server(port, host, self._registry)
        return self._http.server_port

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@dataclass(frozen=True, eq=False)
class Parts(Collector):
    """What of a server is asked at each scrape."""

    writer: Writer
    vector_maker: VectorMaker
    index: IndexAccess
    leading: Leads
    cache: VectorCache
    lag: IndexLag
    stored: Stored
    threads: Callable[[], Sequence[Supervised]]
    pictures: PictureReading | None

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("reflexio_build", "The version that runs.", {"version": __version__})
        yield _gauge("reflexio_write_queue_depth", "Writes that wait for their turn.", self.writer.waiting)
        yield _gauge(
            "reflexio_index_waiting_interactions",
            "Interactions that wait for their vectors, counted every few seconds.",
            self.lag.waiting,
        )
        yield _gauge(
            "reflexio_index_waiting_vectors",
            "Vectors that are not in Chroma yet, counted every few seconds.",
            self.lag.not_in_chroma,
        )
        yield _gauge("reflexio_index_open", "1 while Chroma can be asked, else 0.", self.index.is_open)
        yield _gauge(
            "reflexio_leader",
            "1 while this process leads: it takes care of the index, and of what was erased.",
            self.leading.term is not None,
        )
        yield _counter(
            "reflexio_embedding_failures", "Texts that could not be embedded in three tries.", self.vector_maker.failed
        )
        yield _counter("reflexio_vector_cache_hits", "Searches that found their user's vectors.", self.cache.hits)
        yield _counter(
            "reflexio_vector_cache_misses", "Searches that read their user's vectors from disk.", self.cache.misses
        )
        read, unreadable = (self.pictures.read, self.pictures.unreadable) if self.pictures else (0, 0)
        yield _counter("reflexio_pictures_read", "Pictures whose text was read.", read)
        yield _counter("reflexio_pictures_unreadable", "Pictures that cannot be read.", unreadable)
        totals, disk = self.stored.totals, self.stored.disk
        for name, text, value in (
            ("accounts", "Accounts.", totals.accounts if totals else None),
            ("users", "Users of all accounts.", totals.users if totals else None),
            ("interactions", "Stored interactions.", totals.interactions if totals else None),
            ("images", "Stored pictures, each once for its account.", totals.images if totals else None),
            ("database_bytes", "The database's file.", disk.database if disk else None),
            ("database_log_bytes", "The database's write-ahead log.", disk.log if disk else None),
            ("index_bytes", "The folder of Chroma.", disk.index if disk else None),
            ("disk_free_bytes", "What is free where the data lies.", disk.free if disk else None),
        ):
            yield _gauge(f"reflexio_{name}", text, value)
        failures = CounterMetricFamily(
            "reflexio_thread_failures",
            "Times that a thread's work ended by a failure and began anew.",
            labels=["thread"],
        )
        for thread in self.threads():
            failures.add_metric([thread.name], thread.failures)
        yield failures
        yield _gauge("reflexio_vector_cache_bytes", "What the vector cache holds.", self.cache.bytes_held)


def _gauge(name: str, text: str, value: float | None) -> Metric:
    return GaugeMetricFamily(name, text, value)  # None: not known yet, no sample


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value)
