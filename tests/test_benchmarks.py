"""What the benchmarks measure with: words that are in the store, whole process trees, gaps of a thread."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from reflexio.v1 import interaction_service_pb2 as pb
from tools.benchmarks import callers, filling, indexing, latencies, memory, nearest, search, starting
from tools.benchmarks.filling import Language, owners_of, sizes_of, users_of
from tools.benchmarks.ingest import messages
from tools.benchmarks.processes import computed_ms, cpu_s, memory_mb, threads_ns, tree

TREE = Path(__file__).parents[1]
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
CHILD = "held = bytearray(100_000_000); sum(range(20_000_000)); print('done', flush=True); input()"
FEW: dict[ModuleType, dict[str, float]] = {
    latencies: {"QUERIES": 5, "ACCOUNT_QUERIES": 5, "THREAD_REQUESTS": 50, "THREAD_PAGES": 2},
    callers: {"SECONDS": 0.5},
    indexing: {"FRESH": 3, "ROUNDS": 1, "TEXTS": 32, "STALL_TEXTS": 300},
    nearest: {"TIMES": 3},
    memory: {"ACCOUNTS": 3, "LARGE_CALLS": 4},
    starting: {"STARTS": 1},
}
FIGURES = {
    *("p50_ms", "p99_ms", "growth", "get_p50_ms", "search_per_s", "p99_ms_of_8", "busy_search_per_s", "busy_p99_ms"),
    *("account_p50_cpu_ms", "account_p90_cpu_ms", "index_per_s", "embed_per_s", "index_ratio"),
    *("stall_ms", "stall_elsewhere_ms", "thread_page_ms", "rss_600_accounts_mb", "peak_large_mb", "rss_mb"),
    *("start_cpu_s", "start_children_cpu_s", "fresh_ms", "rank_ms", "chroma_where_ms", "vs_chroma_where"),
}


@contextmanager
def started(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *arguments], stdin=pipe, stdout=pipe, text=True, cwd=TREE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_questions_have_words_of_the_store() -> None:
    texts = Language(30_000).turns(2_000)
    stored = {word for text in texts for word in text.split()}

    def share(language: Language) -> float:
        asked = [word for _ in range(200) for word in language.words(3)]
        return sum(word in stored for word in asked) / len(asked)

    assert share(Language(1)) > 0.8
    assert share(Language(1, vocabulary=1)) < 0.1


def test_users_have_their_sizes() -> None:
    for total in (30_000, 300_000):
        sizes = sizes_of(total)
        owners = owners_of(total, Language(total), sizes)
        assert len(owners) * 10 == total
        for size in sizes:
            assert all(owners.count(user) * 10 == size for user in users_of(size, sizes))


def test_a_child_counts() -> None:
    with started("-c", PARENT, CHILD) as process:
        assert process.stdout
        before = threads_ns([process.pid])
        assert process.stdout.readline() == "done\n"
        parent, child = tree(process.pid)
        assert parent == process.pid
        assert memory_mb(process.pid) > 95
        assert memory_mb(process.pid, "VmHWM") > 95
        own, children = cpu_s(process.pid)
        assert children > own
        spent = computed_ms(before, threads_ns([parent, child]))
        assert spent > children * 1000 / 2
        os.kill(child, signal.SIGKILL)
        process.wait(20)


def test_what_has_ended_counts_as_a_child_too() -> None:
    before = cpu_s(os.getpid())[1]
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    assert cpu_s(os.getpid())[1] - before > 0.1


def test_the_ticker_tells_how_long_it_did_not_run() -> None:
    with started("-m", "tools.benchmarks.ticker") as process:
        assert process.stdin
        assert process.stdout

        def longest() -> float:
            assert process.stdin
            assert process.stdout
            print(file=process.stdin, flush=True)
            return float(process.stdout.readline())

        longest()
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.2)  # for its next tick
        assert longest() >= 490
        assert longest() < 490


def test_packed_messages_hold_every_request_in_order() -> None:
    sent = [pb.PublishInteractionsRequest(request_id=str(number)) for number in range(250)]
    for in_one in (1, 100):
        found = []
        for message in messages(iter(sent), in_one):
            several = list(message.requests)
            assert len(several) <= in_one
            found += several or [message.request]
        assert [request.request_id for request in found] == [str(number) for number in range(250)]


@pytest.mark.timeout(900)
def test_every_part_gives_its_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module, few in FEW.items():
        for name, value in few.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setitem(filling.SIZES, 1_000, 1)
    monkeypatch.delitem(filling.SIZES, 10_000)
    small, large = 6_000, 6_500  # still too many to go without a collection
    figures = search.run((small, large), folder=tmp_path)
    assert set(figures) == FIGURES
    assert set(figures["p50_ms"][str(small)]) == {"100", "1000"}
    assert set(figures["search_per_s"]) == {"1", "8", "32"}
    assert set(figures["account_p90_cpu_ms"]) == {str(small), str(large)}
    assert 0 < figures["account_p50_cpu_ms"][str(large)] <= figures["account_p90_cpu_ms"][str(large)]
    assert min(figures["start_cpu_s"], figures["rss_mb"] / 100, figures["peak_large_mb"] / 100) > 0.2
    assert {folder.name for folder in tmp_path.iterdir()} == {str(small), str(large)}
    assert set(search.run((small,), ["absent"], tmp_path)) == {
        "absent_p50_ms",
        "absent_account_p50_cpu_ms",
        "absent_account_p90_cpu_ms",
    }
