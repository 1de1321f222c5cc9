"""What becomes of publishes when processes end, fork and meet: with real processes."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import reflexio
from tests.client.processes import expected, python, run, spools
from tests.client.scripted_server import KEY, ScriptedServer, eventually


@pytest.fixture
def down(server: ScriptedServer) -> Iterator[ScriptedServer]:
    """The server's address with nobody listening yet."""
    server.stop()
    yield server
    server.start()


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "signal.raise_signal(15)"])
def test_the_next_start_delivers_what_a_killed_process_left(
    down: ScriptedServer, spool_dir: Path, tmp_path: Path, end: str
) -> None:
    run(down, f"publish(connect(), 'ada', 100)\n{end}", tmp_path)
    assert len(spools(spool_dir)) == 1
    down.start()
    with reflexio.ReflexioClient(KEY, down.url) as client:
        assert client.flush(60).delivered
        stats = client.stats()
        assert (stats.adopted, stats.delivered, stats.pending) == (100, 100, 0)
    assert down.stored_contents() == expected("ada", 100), "each once, and in order"
    assert os.listdir(spool_dir) == []
    down.stop()


def test_what_is_left_at_exit_is_said_with_the_place_and_comes_with_the_next_start(
    down: ScriptedServer, spool_dir: Path, tmp_path: Path
) -> None:
    done = run(down, "publish(connect(), 'ada', 7)", tmp_path)
    assert done.returncode == 0
    assert f"7 requests were not delivered to {down.url}" in done.stderr
    assert f"They are kept in {spool_dir / spools(spool_dir)[0]}" in done.stderr
    down.start()
    with reflexio.ReflexioClient(KEY, down.url):
        eventually(lambda: down.stored_contents() == expected("ada", 7))
    down.stop()


def test_processes_that_start_together_deliver_each_file_once(
    down: ScriptedServer, spool_dir: Path, tmp_path: Path
) -> None:
    body = "client = connect()\npublish(client, sys.argv[0][-4], 50)\nos.kill(os.getpid(), signal.SIGKILL)"
    for process in [python(down, body, tmp_path, str(n)) for n in range(6)]:
        process.wait(120)
    assert len(spools(spool_dir)) >= 1
    down.start()
    body = "c = connect()\nassert c.flush(90).delivered\nprint(c.stats().adopted)\nc.close()"
    adopters = [python(down, body, tmp_path, f"adopter{n}") for n in range(3)]
    adopted = [int(process.communicate(timeout=150)[0]) for process in adopters]
    eventually(lambda: len(down.requests) == 300)
    assert sum(adopted) == 300
    sent = sum(len(batch) for batch in down.sent("PublishInteractionStream"))
    assert sent == 300, "nothing was sent twice"
    assert os.listdir(spool_dir) == []
    down.stop()


def test_a_living_process_keeps_its_file(down: ScriptedServer, spool_dir: Path, tmp_path: Path) -> None:
    body = "c = connect()\npublish(c, 'ada', 5)\nprint('ready', flush=True)\nsys.stdin.read()"
    owner = python(down, body, tmp_path)
    assert owner.stdout
    assert owner.stdout.readline() == "ready\n"
    with reflexio.ReflexioClient(KEY, "http://127.0.0.1:1/") as other_address:
        other_address.publish_interaction("bob", [{"content": "x"}])
        with reflexio.ReflexioClient(KEY, down.url) as client:
            client.publish_interaction("bob", [{"content": "y"}])
            stats = client.stats()
            assert (stats.adopted, stats.pending) == (0, 1)
            assert stats.spool_path.startswith(str(spool_dir))
            client.close(0)
        other_address.close(0)
    assert len(spools(spool_dir)) == 3
    owner.send_signal(signal.SIGKILL)
    owner.wait(30)


def test_a_forked_child_leaves_the_parents_file_alone_and_has_its_own(
    server: ScriptedServer, spool_dir: Path, tmp_path: Path
) -> None:
    done = run(
        server,
        """
        client = connect()
        publish(client, "warm", 1)
        client.flush(30)
        publish(client, "parent", 100)
        children = []
        for n in range(5):
            if (pid := os.fork()) == 0:
                publish(client, f"child{n}", 20)
                os._exit(0)  # without any cleaning up
            children.append(pid)
            publish(client, f"between{n}", 20)
        for pid in children:
            os.waitpid(pid, 0)
        again = connect()  # adopts what the children left
        assert again.flush(60).delivered and client.flush(60).delivered
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for n in range(5):
        assert server.stored_contents(f"child{n}") == expected(f"child{n}", 20)
        assert server.stored_contents(f"between{n}") == expected(f"between{n}", 20)
    assert server.stored_contents("parent") == expected("parent", 100)
    assert os.listdir(spool_dir) == []


def test_a_child_that_outlives_its_parent_does_not_hold_the_parents_file(
    down: ScriptedServer, spool_dir: Path, tmp_path: Path
) -> None:
    done = run(
        down,
        """
        client = connect()
        publish(client, "parent", 10)
        if os.fork() == 0:
            os.close(1); os.close(2)
            time.sleep(60)
            os._exit(0)
        os._exit(0)
        """,
        tmp_path,
    )
    assert done.returncode == 0
    down.start()
    with reflexio.ReflexioClient(KEY, down.url) as client:
        assert client.flush(30).delivered
    assert len(down.requests) == 10
    down.stop()


def test_forking_while_threads_publish_does_not_hang(server: ScriptedServer, tmp_path: Path) -> None:
    done = run(
        server,
        """
        import threading
        client = connect()
        go_on = True
        def work(name):
            while go_on:
                publish(client, name, 1)
        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        codes = []
        for n in range(20):
            if (pid := os.fork()) == 0:
                signal.alarm(60)
                publish(client, f"child{n}", 3)
                os._exit(0)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        go_on = False
        for thread in threads:
            thread.join()
        sys.exit(any(codes))
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_a_child_can_call_though_its_parents_threads_were_calling(server: ScriptedServer, tmp_path: Path) -> None:
    done = run(
        server,
        """
        import threading
        client = connect()
        go_on = True
        def work():
            while go_on:
                client.publish_interaction("parent", [{"content": "x"}], wait_for_response=True)
        threads = [threading.Thread(target=work) for n in range(4)]
        for thread in threads:
            thread.start()
        codes = []
        for n in range(10):
            if (pid := os.fork()) == 0:
                signal.alarm(60)
                with connect() as child:
                    child.publish_interaction(f"child{n}", [{"content": "0"}], wait_for_response=True)
                    child.publish_interaction(f"child{n}", [{"content": "1"}])
                os._exit(0)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        go_on = False
        for thread in threads:
            thread.join()
        print(codes)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, f"{[0] * 10}\n"), done.stderr
    for n in range(10):
        assert server.stored_contents(f"child{n}") == ["0", "1"]


def test_a_fork_ends_a_call_that_hangs(server: ScriptedServer, spool_dir: Path, tmp_path: Path) -> None:
    called, ended = threading.Event(), threading.Event()

    def hang(_request: Any, context: grpc.ServicerContext) -> None:
        called.set()
        context.add_callback(ended.set)
        ended.wait(60)

    server.script("PublishInteractionStream", hang)
    process = python(
        server,
        """
        client = connect()
        publish(client, "parent", 10)
        sys.stdin.readline()
        if (pid := os.fork()) == 0:
            signal.alarm(60)
            with connect() as child:
                publish(child, "child", 3)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.exit(code or not client.flush(60).delivered)
        """,
        tmp_path,
    )
    try:
        assert called.wait(60)
        process.communicate("go\n", timeout=60)
    finally:
        process.kill()
        ended.set()
    assert process.returncode == 0
    assert server.stored_contents("child") == expected("child", 3)
    assert server.stored_contents("parent") == expected("parent", 10), "what was in the call is sent again"
    assert os.listdir(spool_dir) == []


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(server: ScriptedServer, spool_dir: Path, tmp_path: Path, method: str) -> None:
    done = run(
        server,
        f"""
        import multiprocessing
        def work(n):
            publish(connect(), f"worker{{n}}", 30)
        if __name__ == "__main__":
            parent = connect()
            publish(parent, "parent", 30)
            context = multiprocessing.get_context({method!r})
            workers = [context.Process(target=work, args=(n,)) for n in range(2)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(60)
            sys.exit(any(worker.exitcode for worker in workers))
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("parent", "worker0", "worker1"):
        assert server.stored_contents(name) == expected(name, 30), "a worker delivers before it ends"
    assert os.listdir(spool_dir) == []
