"""The process that has Chroma open: what ends it, what it outlives, and what its server is told."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from reflexio_server.ending import Ending, work_of
from reflexio_server.errors import Ended
from reflexio_server.index import chroma_process
from reflexio_server.index.chroma_process import ChromaFailed, ChromaProcess
from reflexio_server.index.nearest import Late, Stopped, Unavailable
from tests.server.index.filling import fill
from tests.wire import wait_until

ROOT = Path(__file__).parents[3]
NAME = "collection-1"


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def index(tmp_path: Path, stopping: threading.Event) -> Iterator[ChromaProcess]:
    process = ChromaProcess(tmp_path / "chroma/1", stopping.is_set)
    process.open()
    yield process
    process.close()
    assert not is_there(process.pid)


def is_there(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_it_answers_many_at_once_as_the_folder_itself_does(index: ChromaProcess) -> None:
    matrix = fill(index, NAME, range(1, 301))
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda place: index.query(NAME, matrix[place], 3)[0][0], range(300)))
        more = pool.submit(fill, index, "collection-2", range(1, 301))
        found += list(pool.map(lambda place: index.query(NAME, matrix[place], 3, 1)[0][0], range(300)))
        more.result()
    assert found == [*range(1, 301), *range(1, 301)]
    assert index.stamps("collection-2").tolist() == list(range(1, 301)), "also what was put in between queries"
    assert index.stamps(NAME).tolist() == list(range(1, 301))
    assert np.allclose(index.vectors(NAME, [7, 3]), matrix[[6, 2]])
    index.delete(NAME, [7])
    assert index.stamps(NAME).tolist() == [stamp for stamp in range(1, 301) if stamp != 7]
    assert sorted(index.names()) == [NAME, "collection-2"]
    index.drop({NAME})
    assert (index.names(), index.dropped) == (["collection-2"], {NAME})


def test_an_error_is_told_with_its_traceback_and_costs_itself_alone(index: ChromaProcess) -> None:
    with pytest.raises(ChromaFailed, match="NotFoundError") as failed:
        index.stamps("nothing-here")
    assert "get_collection" in failed.value.__notes__[0]
    assert index.names() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has prlimit")
def test_what_is_short_in_it_is_told_as_that(index: ChromaProcess) -> None:
    _, most = resource.prlimit(index.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(index.pid, resource.RLIMIT_NOFILE, (3, most))
    with pytest.raises(Unavailable, match=r"(?i)too many open files"):
        fill(index, NAME, range(1, 4))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_a_terminal_or_systemd_sends_to_all_does_not_end_it(index: ChromaProcess, number: int) -> None:
    """Its server closes it, in order, after the last search."""
    os.kill(index.pid, number)
    fill(index, NAME, range(1, 4))
    assert index.stamps(NAME).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("number", "raised", "told"),
    [(signal.SIGKILL, Unavailable, "was killed"), (signal.SIGSEGV, ChromaFailed, "with signal 11")],
)
def test_who_waits_is_told_when_it_dies(index: ChromaProcess, number: int, raised: type[Exception], told: str) -> None:
    os.kill(index.pid, signal.SIGSTOP)  # so that they wait
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(index.names) for _ in range(8)]
        wait_until(lambda: len(index._asked) == 8, "all to wait")
        os.kill(index.pid, number)
        os.kill(index.pid, signal.SIGCONT)
        for one in waiting:
            with pytest.raises(raised, match=told):
                one.result(30)
    with pytest.raises(raised, match=told):
        index.names()


def test_a_query_waits_no_longer_than_it_says_and_nothing_is_wrong_then(index: ChromaProcess) -> None:
    matrix = fill(index, NAME, range(1, 101))
    os.kill(index.pid, signal.SIGSTOP)
    with pytest.raises(Late):
        index.query(NAME, matrix[0], 1, timeout=0.1)
    os.kill(index.pid, signal.SIGCONT)
    assert index.query(NAME, matrix[4], 1)[0] == [5]


def test_a_query_whose_call_ends_waits_no_longer_and_nothing_is_wrong_then(index: ChromaProcess) -> None:
    matrix = fill(index, NAME, range(1, 101))
    call = Ending()

    def ask() -> object:
        with work_of(call):
            return index.query(NAME, matrix[0], 1)

    os.kill(index.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        wait_until(lambda: index._asked, "it to wait")
        call.come()
        with pytest.raises(Ended):
            asking.result(8)  # before it would be late
    os.kill(index.pid, signal.SIGCONT)
    assert index.query(NAME, matrix[4], 1)[0] == [5]


def test_a_process_that_hangs_is_ended(index: ChromaProcess) -> None:
    os.kill(index.pid, signal.SIGSTOP)
    with pytest.raises(Unavailable, match="did not answer names"):
        index._ask("names", limit=0.1)
    assert not is_there(index.pid)


def test_a_server_that_stops_does_not_wait_for_one_that_hangs(index: ChromaProcess, stopping: threading.Event) -> None:
    os.kill(index.pid, signal.SIGSTOP)
    stopping.set()
    with pytest.raises(Stopped):
        index.check([])
    assert not is_there(index.pid)


def test_it_is_noted_as_closed_only_when_it_was(tmp_path: Path) -> None:
    for killed in (False, True):
        index = ChromaProcess(tmp_path / "1", lambda: False)
        index.open()
        fill(index, NAME, range(1, 4))
        if killed:
            index.kill()
        index.close()
        index.note_closed({NAME: 3})
        assert (tmp_path / "1.closed").exists() is not killed


OPENS = """if True:
    import sys
    from pathlib import Path
    from reflexio_server.index.chroma_process import ChromaProcess
    index = ChromaProcess(Path(sys.argv[1]), lambda: False)
    index.open()
    print(index.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_it_dies_with_its_server(tmp_path: Path, stopped: bool) -> None:
    """Also in the midst of something that it would not wake up from."""
    if stopped and sys.platform != "linux":
        pytest.skip("only Linux ends it then")
    command = [sys.executable, "-c", OPENS, str(tmp_path / "1")]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    pid = int(server.stdout.readline())
    if stopped:
        os.kill(pid, signal.SIGSTOP)
    server.kill()
    server.communicate()
    wait_until(lambda: not is_there(pid), "its end", 20)


def test_the_next_one_waits_until_nobody_has_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "chroma"
    root.mkdir()
    held = os.open(root, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    index = ChromaProcess(root / "1", lambda: False)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(index.open)
        with pytest.raises(TimeoutError):
            opening.result(1.5)
        assert not (root / "1").exists()
        os.close(held)
        assert opening.result(60) is None
    index.close()


def test_one_that_cannot_start_is_no_damage_and_what_it_says_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "ImportError: libgcc_s.so.1: cannot open shared object file"
    monkeypatch.setattr(chroma_process, "command", lambda *_: [sys.executable, "-c", f"raise SystemExit({said!r})"])
    index = ChromaProcess(tmp_path / "1", lambda: False)
    with pytest.raises(Unavailable, match=f"its process ended: {said}"):
        index.open()
    index.close()
    assert f"Chroma's process says: {said}" in [record.getMessage() for record in caplog.records]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_it_goes_first_when_memory_is_used_up(index: ChromaProcess) -> None:
    own, its = (int(Path(f"/proc/{one}/oom_score_adj").read_text()) for one in ("self", index.pid))
    assert its == min(1000, own + 300)


def test_a_server_imports_nothing_of_chroma(tmp_path: Path, model_dir: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from tests.support import LocalServer
        from tests.wire import wait_until
        server = LocalServer(Path(sys.argv[1]), Path(sys.argv[2]))
        wait_until(lambda: server.app.follower.is_open, "the index")
        print([name for name in sys.modules if name.startswith("chromadb")])
        server.stop()
    """
    command = [sys.executable, "-c", code, str(tmp_path), str(model_dir)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
