"""Deletes in spool files: their order among several files, older files, and processes that are killed."""

import json
import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import grpc
import pytest

import reflexio
from reflexio.cli.spool import main
from reflexio.outcomes import Rejection
from reflexio.spool import Row, Spool, SpoolSettings
from reflexio.spool.file import SpoolFile
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.client.processes import python, run, spools
from tests.client.scripted_server import KEY, ScriptedServer, eventually, fail, info, verdict

NOWHERE = "http://127.0.0.1:1/"
VERSION_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rows (id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, user_id TEXT NOT NULL, payload BLOB NOT NULL,
    accepted_at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0);
CREATE TABLE dead (id INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL,
    payload BLOB NOT NULL, accepted_at INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL,
    field TEXT NOT NULL, message TEXT NOT NULL, refused_at INTEGER NOT NULL);
PRAGMA user_version = 1;
"""


def settings(folder: Path, address: str = NOWHERE) -> SpoolSettings:
    return SpoolSettings(folder, address, "testaccnt0")


def leave(folder: Path, *names: str) -> None:
    """The file of a process that ended; what is called "delete…" is one, and the others publish."""
    spool = Spool(settings(folder))
    append(spool, *names)
    spool.close()


def append(spool: Spool, *names: str) -> None:
    for name in names:
        spool.append(name, "ada", b"x", "delete_user" if name.startswith("delete") else "publish_interaction")


def drain(spool: Spool, limit: int = 10) -> list[list[str]]:
    """What leaves together, until nothing is left."""
    batches = []
    while batch := spool.take(limit, 1000):
        batches.append([row.request_id for row in batch])
        if batch[0].is_delete:
            spool.complete(batch[0])
        else:
            spool.acknowledge(batch)
    return batches


def test_what_was_accepted_around_a_delete_stays_around_it(tmp_path: Path) -> None:
    spool = Spool(settings(tmp_path))
    append(spool, "a", "b", "delete 1", "c", "delete 2", "delete 3", "d")
    assert drain(spool) == [["a", "b"], ["delete 1"], ["c"], ["delete 2"], ["delete 3"], ["d"]]
    append(spool, "a", "b", "c", "delete 1")
    assert drain(spool, limit=2) == [["a", "b"], ["c"], ["delete 1"]]


def test_files_of_ended_processes_keep_the_order_too(tmp_path: Path) -> None:
    leave(tmp_path, "1a", "delete 1")
    leave(tmp_path, "2a")
    spool = Spool(settings(tmp_path))
    append(spool, "3a", "delete 3", "3b")
    leave(tmp_path, "4a", "delete 4", "4b")
    assert spool.adopt() == 6
    order = [name for batch in drain(spool) for name in batch]
    place = order.index
    assert place("1a") < place("delete 1") < min(place("2a"), place("3a"))
    assert max(place("2a"), place("3a")) < place("delete 3") < min(place("3b"), place("4a"))
    assert max(place("3b"), place("4a")) < place("delete 4") < place("4b")
    spool.close()


def test_a_postponed_publish_goes_last_of_those_before_the_delete(tmp_path: Path) -> None:
    spool = Spool(settings(tmp_path))
    append(spool, "a", "b", "delete", "c")
    (first,) = spool.take(1, 1000)
    assert spool.postpone(first) == 1
    (delete,) = [row for row in spool._files()[0].rows() if row.is_delete]
    assert spool.postpone(delete) == 1, "its attempts are counted, but it stays where it is"
    assert drain(spool) == [["b", "a"], ["delete"], ["c"]]


def test_a_postponed_publish_waits_for_an_earlier_delete_that_is_adopted_later(tmp_path: Path) -> None:
    leave(tmp_path, "delete")
    spool = Spool(settings(tmp_path))
    append(spool, "a", "b")
    spool.postpone(spool.take(1, 1000)[0])
    assert spool.adopt() == 1
    assert drain(spool) == [["delete"], ["b", "a"]]


def test_a_delete_is_off_the_disk_for_good_before_anything_behind_it_goes(tmp_path: Path) -> None:
    spool = Spool(settings(tmp_path))
    append(spool, "delete 1", "delete 2", "a")
    assert spool._own is not None
    connection = spool._own._connection
    connection.execute("PRAGMA query_only = 1")
    for _ in range(2):
        (row,) = spool.take(10, 1000)
        assert row.request_id == "delete 1"
        with pytest.raises(reflexio.SpoolError, match="delete 1 stays in the spool"):
            spool.complete(row)
        with pytest.raises(reflexio.SpoolError):
            spool.bury(row, Rejection(None, row.request_id, "INTERNAL", "", ""))
    assert (spool.pending(), spool.rejected) == (3, 0)
    connection.execute("PRAGMA query_only = 0")
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    spool.complete(spool.take(10, 1000)[0])
    spool.bury(spool.take(10, 1000)[0], Rejection(None, "delete 2", "INTERNAL", "", ""))
    levels = [one for one in statements if one.startswith("PRAGMA synchronous =")]
    assert levels == ["PRAGMA synchronous = FULL", "PRAGMA synchronous = 1"] * 2, "written through to the disk"
    assert drain(spool) == [["a"]]
    spool.close()


def test_one_that_does_not_leave_the_disk_is_sent_again_before_what_is_behind_it(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    server.stop()
    receipt = client.delete_user("ada")
    client.publish_interaction("ada", [{"content": "after"}])
    (sender,) = client._senders.values()
    assert sender.spool._own is not None
    with sender.spool.changed:
        sender.spool._own._connection.execute("PRAGMA query_only = 1")
    server.start()
    eventually(lambda: server.count("DeleteUser") >= 3)
    assert not receipt.done
    assert "stays in the spool" in client.stats().last_error
    with sender.spool.changed:
        sender.spool._own._connection.execute("PRAGMA query_only = 0")
    assert client.flush(60).delivered
    assert receipt.done
    assert [call.method for call in server.calls][-2:] == ["DeleteUser", "PublishInteractionStream"]
    assert server.stored_contents() == ["after"]


def test_a_disk_that_fails_once_costs_a_second_call_and_no_more(
    server: ScriptedServer, client: reflexio.ReflexioClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = SpoolFile.complete
    failed: list[Row] = []

    def failing_once(self: SpoolFile, row: Row) -> None:
        if not failed:
            failed.append(row)
            raise reflexio.SpoolError("just now not")
        complete(self, row)

    monkeypatch.setattr(SpoolFile, "complete", failing_once)
    receipt = client.delete_user("ada")
    with pytest.raises(reflexio.NotFoundError):
        receipt.wait(60)
    assert (server.count("DeleteUser"), client.stats().dead) == (2, 0)
    eventually(lambda: client.stats().last_error == "")  # said after who waits was told


def test_who_waits_for_a_user_waits_for_deletes_that_do_not_say_whose(tmp_path: Path) -> None:
    spool = Spool(settings(tmp_path))
    spool.append("delete", "", b"", "delete_request")
    spool.append("a", "bob", b"")
    assert (spool.pending("ada"), spool.pending("bob"), spool.pending()) == (1, 2, 2)
    assert spool.wait_for_user("ada", 0.01) == 1
    watch = spool.watch("ada")
    spool.complete(spool.take(1, 1000)[0])
    assert watch.done.done()
    spool.recount()
    assert (spool.pending("ada"), spool.pending("bob")) == (0, 1)


def test_an_erased_request_leaves_nothing_behind(tmp_path: Path) -> None:
    spool = Spool(settings(tmp_path))
    append(spool, "a", "b")
    for row, reason in zip(spool.take(2, 1000), ("REQUEST_ERASED", "INVALID_FIELD"), strict=True):
        spool.bury(row, Rejection(None, row.request_id, reason, "", ""))
    assert (spool.rejected, spool.dead, spool.pending()) == (2, 1, 0)


def leave_version_1(folder: Path, url: str) -> Path:
    """A file as versions before wrote it, with a request that waits and one that was refused."""
    path = settings(folder, url).new_path()
    folder.mkdir(parents=True, exist_ok=True)
    request = pb.PublishInteractionsRequest(
        user_id="ada", request_id="old", interactions=[noun.InteractionData(content="of old")]
    )
    payload = pb.PublishInteractionStreamRequest(request=request).SerializeToString()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(VERSION_1)
        meta = {"address": url, "tag": "testaccnt0", "pid": "1"}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.execute("INSERT INTO rows VALUES (1, 'old', 'ada', ?, 1, 0)", (payload,))
        connection.execute(
            "INSERT INTO dead VALUES (1, 'bad', 'ada', ?, 1, 1, 'INVALID_FIELD', '', 'no', 2)", (payload,)
        )
    return path


def test_a_file_of_the_version_before_is_shown_and_delivered(
    server: ScriptedServer, spool_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = leave_version_1(spool_dir, server.url)
    for command, said in ((["status"], "1 waiting"), (["dead"], "bad  user ada"), (["export"], '"of old"')):
        assert main(command) == 0
        assert said in capsys.readouterr().out
    with reflexio.ReflexioClient(KEY, server.url) as client:
        client.delete_request("unknown")
        assert client.flush(60).delivered
        assert (client.stats().adopted, client.stats().dead) == (1, 1)
        eventually(lambda: client.flush(1).delivered and not path.exists())
    assert server.stored_contents() == ["of old"]
    assert main(["export", "--dead"]) == 0
    assert json.loads(capsys.readouterr().out)["request_id"] == "old"


def test_the_command_shows_deletes(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.script("DeleteRequest", fail(grpc.StatusCode.INVALID_ARGUMENT, "not like this", info("INVALID_FIELD")))
    with reflexio.ReflexioClient(KEY, server.url) as client:
        refused = client.delete_request("r")
        client.flush(30)
    client = reflexio.ReflexioClient(KEY, NOWHERE)
    client.publish_interaction("ada", [{"content": "x"}], request_id="p")
    client.delete_user("ada")
    client.close(0)
    assert "2 requests were not delivered" in capsys.readouterr().err
    assert main(["status"]) == 0
    assert "2 waiting" in (said := capsys.readouterr().out)
    assert "1 of them deletes" in said
    assert main(["dead"]) == 0
    assert f"{refused.request_id}  any user  INVALID_FIELD: not like this" in capsys.readouterr().out
    assert main(["export"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (lines[0]["request_id"], lines[1]) == ("p", {"delete_user": {"user_id": "ada"}})
    assert main(["export", "--dead"]) == 0
    assert json.loads(capsys.readouterr().out) == {"delete_request": {"request_id": "r"}}


STORY = """
c = connect()
publish(c, "ada", 50)
publish(c, "bob", 10)
c.delete_user("ada")
for i in range(3):
    c.publish_interaction("ada", [{"content": f"later {i}"}])
c.delete_request("unknown")
publish(c, "cy", 5)
"""
CHILD = """
parent = c.delete_user("dora")
if (pid := os.fork()) == 0:
    try:
        parent.wait(1)
    except reflexio.NotFoundError:
        pass  # it was done before the fork
    except reflexio.ReflexioError as error:
        assert "before the fork" in str(error), error
    publish(c, "child", 3)
    assert c.delete_user("child").wait(30).requests == 3
    c.close()
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(code or not c.flush(60).delivered)
"""


def check_story(server: ScriptedServer) -> None:
    assert server.stored_contents("ada") == ["later 0", "later 1", "later 2"]
    assert (len(server.stored_contents("bob")), len(server.stored_contents("cy"))) == (10, 5)


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "signal.raise_signal(15)"])
def test_the_next_start_goes_on_where_a_killed_process_was(
    server: ScriptedServer, spool_dir: Path, tmp_path: Path, end: str
) -> None:
    server.stop()
    run(server, f"{STORY}{end}", tmp_path)
    server.start()
    with reflexio.ReflexioClient(KEY, server.url) as client:
        assert client.flush(60).delivered
        assert (client.stats().adopted, client.stats().dead) == (70, 0)
    check_story(server)
    assert os.listdir(spool_dir) == []


def test_leaving_the_program_delivers_deletes(server: ScriptedServer, spool_dir: Path, tmp_path: Path) -> None:
    done = run(server, STORY, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    check_story(server)
    assert os.listdir(spool_dir) == []


def test_a_forked_child_leaves_the_parents_deletes_alone(
    server: ScriptedServer, spool_dir: Path, tmp_path: Path
) -> None:
    done = run(server, STORY + CHILD, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    check_story(server)
    assert server.stored_contents("child") == []
    assert server.count("DeleteUser") == 3
    assert os.listdir(spool_dir) == []


def test_kills_at_any_moment_neither_lose_nor_revive(server: ScriptedServer, spool_dir: Path, tmp_path: Path) -> None:
    """Each round a process publishes, deletes and publishes for one user after the other, and is killed meanwhile."""
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    expected: dict[str, list[str]] = {}
    for turn in range(8):
        process = python(
            server,
            """
            c = connect()
            for n in range(1000):
                user = f"{sys.argv[0][-4]}-{n}"
                time.sleep(0.004)  # or the scripted server, which is slow at erasing, falls far behind
                c.publish_interaction(user, [{"content": "before"}])
                print(f"{user} before", flush=True)
                c.delete_user(user)
                print(f"{user} deleted", flush=True)
                c.publish_interaction(user, [{"content": "after"}])
                print(f"{user} after", flush=True)
            """,
            tmp_path,
            str(turn),
        )
        assert process.stdout
        said = [process.stdout.readline()]
        time.sleep(chosen.uniform(0.01, 0.4))
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
        process.communicate(timeout=60)
        for user, what in (line.split() for line in said if line.endswith("\n")):
            expected.setdefault(user, []).append(what)
    assert len(expected) > 8
    assert any(spools(spool_dir)), "something was left behind"
    with reflexio.ReflexioClient(KEY, server.url) as client:
        assert client.flush(60).delivered
        assert client.stats().dead == 0
    wrong = []
    for user, accepted in expected.items():
        found = server.stored_contents(user)
        # The next call may have been accepted without having been said.
        right = {1: ([], ["before"]), 2: ([], ["after"]), 3: (["after"],)}[len(accepted)]
        if found not in right:
            wrong.append((user, accepted, found))
    assert not wrong
    print(f"{len(expected)} users, {server.count('DeleteUser')} deletes sent, {client.stats().adopted} adopted")


def test_a_batch_beside_a_delete_is_not_held_back(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    """A verdict that leaves a part open sends that part again before the delete."""
    server.stop()
    for i in range(4):
        client.publish_interaction("ada", [{"content": str(i)}])
    client.delete_user("ada")
    server.script("PublishInteractionStream", verdict(2, end=pb.END_REASON_DRAINING))
    server.start()
    assert client.flush(60).delivered
    assert [call.method for call in server.calls] == [*["PublishInteractionStream"] * 2, "DeleteUser"]
