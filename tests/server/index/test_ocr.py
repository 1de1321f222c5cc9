"""Reading pictures: what is found in screenshots, and what hostile ones cannot do."""

import errno
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from reflexio_server.index import child, ocr, ocr_child
from reflexio_server.index.embedder import ModelMissing
from reflexio_server.index.ocr import KILLS, Reader, ReadingFailed, ReadText
from reflexio_server.index.ocr_bounds import Bounds
from reflexio_server.index.ocr_characters import mended
from reflexio_server.index.ocr_files import DETECTOR
from tests.server.index.screenshots import SCREENS, Screen, saved
from tests.wire import wait_until
from tools.pictures import HOSTILE, MIB

SAID = "Payment refused"
FOUND, MEAN_CPU_SECONDS = 0.95, 1.0
MARGIN = 4  # other tests use the machine too
RSS_GROWTH = 64 * MIB
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells, and limits")


@pytest.fixture(scope="module")
def shared(ocr_dir: Path) -> Iterator[Reader]:
    """One for all tests that do it no harm."""
    reader = Reader(ocr_dir)
    yield reader
    reader.close()


@pytest.fixture
def start(ocr_dir: Path) -> Iterator[Callable[..., Reader]]:
    """Readers of the test's own, with its bounds."""
    readers: list[Reader] = []

    def make(**bounds: Any) -> Reader:
        readers.append(Reader(ocr_dir, Bounds(**bounds)))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


def small(said: str = SAID, ink: str = "#1a1a1a") -> Image.Image:
    screen = Screen(400, 80, ink=ink)
    screen.say(20, 24, said, 24)
    return screen.image


PNG = saved(small(), "PNG")
RGBA = Image.new("RGBA", (400, 80), (0, 0, 0, 0))
RGBA.paste((20, 20, 20, 255), mask=small().convert("L").point(lambda grey: 255 - grey))


def words(text: str) -> Counter[str]:
    """Runs of letters and digits; Chinese is written without gaps, so each of its characters counts."""
    return Counter(re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+", text))


def cpu_seconds(pid: int) -> float:
    if sys.platform != "linux":
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_there(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def pid_of(reader: Reader) -> int:
    assert reader.pid is not None
    return reader.pid


@pytest.fixture(scope="module")
def read_screen(shared: Reader) -> Callable[[str], tuple[Screen, ReadText, float]]:
    """A screenshot, what was read in it, and in how much processor time."""

    @cache
    def read(name: str) -> tuple[Screen, ReadText, float]:
        screen = SCREENS[name]()
        shared.read(PNG)  # so that the process is there
        before = cpu_seconds(pid_of(shared))
        found = shared.read(screen.png())
        return screen, found, cpu_seconds(pid_of(shared)) - before

    return read


@pytest.mark.parametrize("name", SCREENS)
def test_a_screenshot_is_read(name: str, read_screen: Any) -> None:
    screen, found, seconds = read_screen(name)
    expected = words(screen.text)
    missing = expected - words(found.text)
    print(f"{expected.total() - missing.total()} of {expected.total()} words in {seconds:.2f} s; not {dict(missing)}")
    assert found.problem == ""
    assert missing.total() <= 0.1 * expected.total()


def test_nearly_all_words_are_found_in_little_time(read_screen: Any) -> None:
    found = there = 0
    taken = []
    for name in SCREENS:
        try:
            screen, read, seconds = read_screen(name)
        except pytest.skip.Exception:  # its font is missing
            continue
        taken.append(seconds)
        there += words(screen.text).total()
        found += (words(screen.text) & words(read.text)).total()
    mean = sum(taken) / len(taken)
    print(f"{found} of {there} words ({found / there:.3f}), {mean:.2f} CPU seconds a picture, {max(taken):.2f} at most")
    assert found >= FOUND * there
    assert mean <= MARGIN * MEAN_CPU_SECONDS


def test_lines_stand_in_the_order_of_reading(read_screen: Any) -> None:
    _, table, _ = read_screen("table")
    assert table.text.splitlines()[:2] == [
        "Order Customer Status Amount Due date",
        "10482 Northwind Traders Shipped 1,240.50 2026-04-02",
    ]


def test_what_is_large_is_not_shrunk_as_a_whole(shared: Reader) -> None:
    page = Screen(1000, 6000)
    for line in range(1, 100):
        page.say(20, 20 + 58 * line, f"line {line} of a long page")
    assert lines_of(shared.read(page.png()).text) == lines_of(page.text)
    screens = Screen(3840, 1080)
    for column in range(8):
        screens.say(60 + 470 * column, 500, f"window number {column + 11} of two screens")
    assert lines_of(shared.read(screens.png()).text) == lines_of(" ".join(screens.lines))
    large = Screen(3840, 2160)
    for row in range(9):
        large.say(300 + 170 * row, 60 + 240 * row, f"a line across several parts, namely number {row + 11}")
    assert lines_of(shared.read(large.png()).text) == lines_of(large.text)


def lines_of(text: str) -> list[str]:
    """Without gaps, some of which are not seen."""
    return text.replace(" ", "").splitlines()


FORMS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved(small(), "JPEG"),
    "webp": lambda: saved(small(), "WEBP"),
    "webp without loss": lambda: saved(small(), "WEBP", lossless=True),
    "gif": lambda: saved(small(), "GIF"),
    "gif of two frames": lambda: saved(small(), "GIF", save_all=True, append_images=[small("Another frame")]),
    "webp of two frames": lambda: saved(small(), "WEBP", save_all=True, append_images=[small("Another frame")]),
    "png of two frames": lambda: saved(small(), "PNG", save_all=True, append_images=[small("Another frame")]),
    "jpeg in print's colours": lambda: saved(small().convert("CMYK"), "JPEG"),
    "grey jpeg": lambda: saved(small().convert("L"), "JPEG"),
    "png with a palette": lambda: saved(small().quantize(16), "PNG"),
    "png of two colours": lambda: saved(small().convert("1"), "PNG"),
    "png of 16 bits": lambda: saved(
        Image.frombytes("I;16", (400, 80), b"".join(bytes((0, one)) for one in small().convert("L").tobytes())), "PNG"
    ),
    "png that is transparent": lambda: saved(RGBA, "PNG"),
    "grey png that is transparent": lambda: saved(RGBA.convert("LA"), "PNG"),
    "webp that is transparent": lambda: saved(RGBA, "WEBP", lossless=True),
    "gif that is transparent": lambda: saved(RGBA, "GIF"),
    "light on dark": lambda: saved(small().point(lambda value: 255 - value), "PNG"),
    "jpeg that lies on its side": lambda: saved(small().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=oriented(6)),
    "png that is upside down": lambda: saved(small().transpose(Image.Transpose.ROTATE_180), "PNG", exif=oriented(3)),
    "webp as in a mirror": lambda: saved(small().transpose(Image.Transpose.FLIP_LEFT_RIGHT), "WEBP", exif=oriented(2)),
    "jpeg with half an Exif": lambda: saved(small(), "JPEG", exif=oriented(1).tobytes()[:12]),
}


def oriented(how: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = how
    return exif


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_is_read_as_people_see_it(form: str, shared: Reader) -> None:
    assert shared.read(FORMS[form]()) == ReadText(SAID)


@pytest.mark.parametrize(
    ("read", "meant"),
    [
        ("0perationalError in ERR0R.log", "OperationalError in ERROR.log"),
        ("Ox80070070 at Oxdeadbeef1, 1O482 of 2O26", "0x80070070 at 0xdeadbeef1, 10482 of 2026"),
        ("c0nnecti0n l0st, IMP0RT 0lga", "connection lost, IMPORT Olga"),
        (
            "0xdeadbeef 0bxyzz v0 worker0 a0b0c0d0 cafe0bad 80c0mmon",
            "0xdeadbeef 0bxyzz v0 worker0 a0b0c0d0 cafe0bad 80c0mmon",
        ),
        ("Oxford, OxO, O, 100 000, x0y", "Oxford, OxO, O, 100 000, x0y"),
    ],
)
def test_zero_and_o_are_told_apart_by_what_stands_beside_them(read: str, meant: str) -> None:
    assert mended(read) == meant


def test_a_picture_without_text_has_none_and_no_problem(shared: Reader) -> None:
    for size in ((1, 1), (1, 3000), (3000, 1), (640, 480)):
        assert shared.read(saved(Image.new("RGB", size, "#808080"), "PNG")) == ReadText("")


def test_what_is_cut_is_unreadable_once_and_for_all(shared: Reader) -> None:
    for form in ("PNG", "JPEG", "WEBP"):
        whole = saved(small(), form)
        assert shared.read(whole[: len(whole) // 2]) == ReadText("", "its data are damaged or cut")


def test_a_text_is_no_longer_than_its_bound(start: Callable[..., Reader]) -> None:
    assert start(characters=11).read(PNG) == ReadText(SAID[:11])


@LINUX
def test_hostile_pictures_neither_end_nor_hold_up_nor_bloat_the_server(start: Callable[..., Reader]) -> None:
    reader = start()
    assert reader.read(PNG) == ReadText(SAID)
    warm = reader.read(HOSTILE["8 MiB of noise"]())
    assert warm.problem
    before, most = rss(), 0
    for name, make in HOSTILE.items():
        data = make()
        began = time.monotonic()
        found = reader.read(data)
        del data
        most = max(most, rss())
        assert (found.text, time.monotonic() - began < 60) == ("", True), name
    assert most - before <= RSS_GROWTH
    assert reader.read(PNG) == ReadText(SAID)


def test_damaged_pictures_are_read_or_unreadable(start: Callable[..., Reader]) -> None:
    """Whatever is changed in them."""
    reader, random = start(), Random(7)
    for form in ("PNG", "JPEG", "WEBP", "GIF"):
        whole = saved(small(), form, exif=oriented(6))
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(random.randint(1, 8)):
                data[random.randrange(len(data))] = random.randrange(256)
            found = reader.read(bytes(data))
            assert not (found.text and found.problem)
    assert reader.read(PNG) == ReadText(SAID)


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def asleep(reader: Reader, data: bytes, pool: ThreadPoolExecutor) -> "tuple[int, Future[ReadText]]":
    """A reader's process that stands still while it has a picture to read, and the call that waits for it."""
    reader.read(PNG)
    pid = pid_of(reader)
    os.kill(pid, signal.SIGSTOP)
    waiting = pool.submit(reader.read, data)
    wait_until(lambda: reader._reading.locked(), "it to be asked")
    time.sleep(0.1)  # the picture is on its way
    return pid, waiting


def test_a_process_that_is_killed_says_nothing_of_the_picture_at_first(start: Callable[..., Reader]) -> None:
    """The system may have killed it, for memory; but no picture is to cost a process for ever."""
    reader, other = start(), saved(small("Another one"), "PNG")
    with ThreadPoolExecutor(1) as pool:
        for times in range(1, KILLS + 1):
            pid, waiting = asleep(reader, other, pool)
            os.kill(pid, signal.SIGKILL)
            if times < KILLS:
                with pytest.raises(ReadingFailed, match="was killed"):
                    waiting.result(30)
            else:
                assert waiting.result(30) == ReadText("", f"the process that read it was killed {KILLS} times")
            assert not is_there(pid)
    assert reader.read(other) == ReadText("Another one")


def test_a_picture_that_ends_its_process_costs_itself_alone(start: Callable[..., Reader]) -> None:
    reader = start()
    with ThreadPoolExecutor(1) as pool:
        pid, waiting = asleep(reader, PNG, pool)
        os.kill(pid, signal.SIGSEGV)
        os.kill(pid, signal.SIGCONT)
        assert waiting.result(30) == ReadText("", "it ended the process that read it (SIGSEGV)")
    assert reader.read(PNG) == ReadText(SAID)


@LINUX
def test_a_picture_that_needs_too_much_memory_is_unreadable(start: Callable[..., Reader]) -> None:
    reader = start(memory=200 * MIB)
    large = saved(Image.new("RGBA", (6000, 5000), (1, 2, 3, 4)), "PNG", compress_level=1)
    assert reader.read(PNG) == ReadText(SAID)
    assert reader.read(large) == ReadText("", "it needs more than 200 MiB of memory")
    assert reader.read(PNG) == ReadText(SAID)


@LINUX
def test_the_largest_picture_that_may_be_fits(start: Callable[..., Reader]) -> None:
    screen = Screen(7680, 4320)
    screen.say(1000, 1000, SAID, 400)
    screen.image.putalpha(200)
    assert start().read(saved(screen.image, "WEBP", quality=50, method=0)) == ReadText(SAID)


def test_a_picture_that_takes_too_much_time_is_unreadable(start: Callable[..., Reader]) -> None:
    reader = start(cpu_seconds=1)
    found = reader.read(HOSTILE["jpeg of 8 MiB of fill bytes"]() * 4)
    assert found == ReadText("", "it takes more than 1 s of processor time")
    assert reader.read(PNG) == ReadText(SAID)


def test_a_process_that_does_not_answer_is_ended(start: Callable[..., Reader]) -> None:
    """As on a machine that has too much to do: the picture is to be read later."""
    reader = start(seconds=1)
    with ThreadPoolExecutor(1) as pool:
        pid, waiting = asleep(reader, PNG, pool)
        with pytest.raises(ReadingFailed, match=r"was killed: it did not answer for 1 s"):
            waiting.result(30)
    assert not is_there(pid)
    assert reader.read(PNG) == ReadText(SAID)


def test_it_ends_when_it_has_nothing_to_do(start: Callable[..., Reader]) -> None:
    reader = start(idle_seconds=0.3)
    assert reader.pid is None
    for _ in range(2):
        assert reader.read(PNG) == ReadText(SAID)
        pid = pid_of(reader)
        wait_until(lambda: reader.pid is None, "its end")
        assert not is_there(pid)


def test_a_process_that_was_killed_between_pictures_is_missed_by_none(start: Callable[..., Reader]) -> None:
    reader = start()
    for _ in range(2):
        assert reader.read(PNG) == ReadText(SAID)
        os.kill(pid_of(reader), signal.SIGKILL)
        wait_until(lambda: reader.pid is None, "its end")


def test_many_threads_read_one_after_another(shared: Reader) -> None:
    pictures = {said: saved(small(said), "PNG") for said in ("First", "Second", "Third", "Fourth")}
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda said: (said, shared.read(pictures[said]).text), [*pictures] * 4)
    assert all(said == text for said, text in found)


def test_closing_breaks_off_what_is_read(start: Callable[..., Reader]) -> None:
    reader = start()
    with ThreadPoolExecutor(1) as pool:
        pid, waiting = asleep(reader, PNG, pool)
        reader.close()
        with pytest.raises(ReadingFailed, match="closed"):
            waiting.result(30)
    assert not is_there(pid)
    with pytest.raises(ReadingFailed, match="closed"):
        reader.read(PNG)
    assert reader.pid is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_a_terminal_or_systemd_sends_to_all_does_not_end_it(shared: Reader, number: int) -> None:
    shared.read(PNG)
    pid = pid_of(shared)
    os.kill(pid, number)
    assert shared.read(PNG) == ReadText(SAID)
    assert shared.pid == pid


READS = """if True:
    import sys
    from pathlib import Path
    from reflexio_server.index.ocr import Reader
    reader = Reader(Path(sys.argv[1]))
    reader.read(b"")
    print(reader.pid, sorted({name.partition(".")[0] for name in sys.modules} & {"PIL", "onnxruntime"}), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_it_dies_with_its_server_which_imports_no_decoder(ocr_dir: Path, stopped: bool) -> None:
    """Also in the midst of something that it would not wake up from."""
    if stopped and sys.platform != "linux":
        pytest.skip("only Linux ends it then")
    command = [sys.executable, "-c", READS, str(ocr_dir)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    number, imported = server.stdout.readline().split(maxsplit=1)
    assert imported.strip() == "[]"
    if stopped:
        os.kill(int(number), signal.SIGSTOP)
    server.kill()
    server.communicate()
    wait_until(lambda: not is_there(int(number)), "its end", 20)


@LINUX
def test_the_process_has_next_to_nothing(start: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLEXIO_SECRET", "swordfish")
    inherited, _ = os.pipe()
    os.set_inheritable(inherited, True)
    reader = start()
    reader.read(PNG)
    of = Path(f"/proc/{reader.pid}")
    assert b"swordfish" not in (of / "environ").read_bytes()
    files = {int(one.name): os.readlink(one) for one in (of / "fd").iterdir()}
    socket = files.pop(max(files))
    assert socket.startswith("socket:")
    assert [files[0], files[1]] == [os.devnull] * 2
    assert files[2].startswith("pipe:")
    assert len(files) == 3
    limits = dict(re.findall(r"^Max (.+?)  +(\d+) ", (of / "limits").read_text(), re.MULTILINE))
    assert {what: int(limits[what]) for what in ("open files", "processes", "file size", "core file size")} == {
        "open files": 1,
        "processes": 0,
        "file size": 0,
        "core file size": 0,
    }
    assert int(limits["data size"]) == Bounds().memory
    assert os.getpriority(os.PRIO_PROCESS, pid_of(reader)) >= 10
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert int((of / "oom_score_adj").read_text()) == min(1000, own + 300)
    os.close(inherited)


def test_no_process_is_a_fault_that_passes(start: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    reader = start()

    def short(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", short)
        with pytest.raises(ReadingFailed, match="Resource temporarily unavailable"):
            reader.read(PNG)
    said = "ImportError: libgcc_s.so.1: cannot open shared object file"
    with monkeypatch.context() as patched:
        patched.setattr(child, "command", lambda *_: [sys.executable, "-c", f"raise SystemExit({said!r})"])
        with pytest.raises(ReadingFailed, match=f"could not begin: {said}"):
            reader.read(PNG)
    assert reader.read(PNG) == ReadText(SAID)


def test_a_process_whose_networks_are_gone_says_so(start: Callable[..., Reader], ocr_dir: Path, tmp_path: Path) -> None:
    reader = start()
    reader._model_dir = tmp_path
    with pytest.raises(ReadingFailed, match=f"could not begin: FileNotFoundError.*{DETECTOR}"):
        reader.read(PNG)
    reader._model_dir = ocr_dir
    assert reader.read(PNG) == ReadText(SAID)


@pytest.mark.parametrize(
    "answer",
    [
        struct.pack(">i", -1) + struct.pack(">Q", 1 << 40),
        struct.pack(">i", 1 << 30),
        struct.pack(">i", 100) + b"half",
        struct.pack(">i", 9) + b"\x80\x04nothing",
        struct.pack(">i", 5) + b"[1,2]",
    ],
    ids=["a terabyte", "a gigabyte", "half a message", "no JSON", "no answer"],
)
def test_whatever_a_process_that_was_led_astray_answers_is_no_text(
    start: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    ready = b'["ready", ""]'
    script = f"""if True:
        import os, sys, time
        os.write(int(sys.argv[1]), {struct.pack(">i", len(ready)) + ready!r})
        os.read(int(sys.argv[1]), 1)
        os.write(int(sys.argv[1]), {answer!r})
        time.sleep(100)
    """
    reader = start()
    monkeypatch.setattr(ocr, "_END_SECONDS", 1.0)
    monkeypatch.setattr(child, "command", lambda _module, _folder, number, _: [sys.executable, "-c", script, number])
    for _ in range(KILLS - 1):
        with pytest.raises(ReadingFailed):
            reader.read(PNG)
    assert reader.read(PNG).problem


class Failing:
    """Networks that raise what they are to."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def read(self, *_: Any) -> str:
        raise self.error


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("Failed to allocate memory for requested buffer")])
def test_a_system_that_is_short_of_memory_is_no_fault_of_the_picture(
    monkeypatch: pytest.MonkeyPatch, short: bool, error: Exception
) -> None:
    monkeypatch.setattr(ocr_child, "_system_is_short", lambda: short)
    networks: Any = Failing(error)
    assert ocr_child._read(networks, b"", Bounds()) == (
        ("failed", "the system is short of memory", False)
        if short
        else ("problem", "it needs more than 900 MiB of memory", False)
    )


def test_an_error_that_nobody_thought_of_is_the_pictures_fault() -> None:
    networks: Any = Failing(ValueError("negative dimensions: secret"))
    assert ocr_child._read(networks, b"", Bounds()) == ("problem", "reading it failed (ValueError)", False)


def test_who_has_no_networks_is_told_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"Run: reflexio-server model install --ocr --model-dir "):
        Reader(tmp_path)


def test_the_process_outlives_the_thread_whose_call_started_it(start: Callable[..., Reader]) -> None:
    """On Linux it dies with the thread that started it."""
    reader, found = start(), set()

    def read() -> None:
        found.add((reader.read(PNG).text, reader.pid))

    for _ in range(3):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        time.sleep(0.1)
    assert found == {(SAID, reader.pid)}
