"""A13, the rows, and W12 with the log's part of F17: a row that cannot be read ends among the dead and holds up nobody;
ids cannot forge lines of the log."""

from pathlib import Path

import pytest

import reflexio
from reflexio.cli.spool import main
from tests.cases.spool_files import change, leave
from tests.client.scripted_server import KEY, ScriptedServer, verdict

ROWS = {
    "an unknown method": "UPDATE rows SET method = 'delete_everything' WHERE id = 2",
    "a payload that is none": "UPDATE rows SET payload = x'ffffffff' WHERE id = 2",
    "text for a payload": "UPDATE rows SET payload = 'text' WHERE id = 2",
    "a number for a payload": "UPDATE rows SET payload = 17 WHERE id = 2",
    "bytes for an id": "UPDATE rows SET request_id = x'ff00ff' WHERE id = 2",
    "no UTF-8": "UPDATE rows SET user_id = CAST(x'ff80ff' AS TEXT), payload = x'0aff' WHERE id = 2",
    "a text for a moment": "UPDATE rows SET accepted_at = 'yesterday' WHERE id = 2",
    "a text for the attempts": "UPDATE rows SET attempts = 'many' WHERE id = 2",
    "bytes for a method": "UPDATE rows SET method = x'00' WHERE id = 2",
    "a number for a user": "UPDATE rows SET user_id = x'31' WHERE id = 2",
    "a message too large": "UPDATE rows SET payload = zeroblob(20000000) WHERE id = 2",
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("second", ["r2", "delete 2"])
def test_it_ends_among_the_dead(
    scripted: ScriptedServer, spool_dir: Path, row: str, second: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(leave(spool_dir, scripted.url, "r1", second, "r3"), ROWS[row])
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        assert client.flush(20).delivered
        assert client.publish_interaction("ada", [{"content": "own"}], request_id="own").wait(20).success
        stats = client.stats()
        assert (stats.pending, stats.dead, stats.rejected, stats.adopted) == (0, 1, 1, 3)
    assert sorted(scripted.requests) == ["own", "r1", "r3"]
    assert scripted.count("DeleteUser") == 0
    assert main(["dead"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert main(["export", "--dead"]) in (0, 1)


EVIL = ["r1\n2026-01-01 00:00:00,000 CRITICAL forged entry", "\x1b[31mred", "a\rb", "\u2028", "\u202eabc", "c1 \x9b31m"]


def test_w12_ids_forge_no_lines_of_the_log(scripted: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    """And F17's part of it."""

    def told(_delivery: reflexio.Delivery) -> None:
        raise ValueError

    with reflexio.ReflexioClient(KEY, scripted.url, on_delivery=told) as client:
        for evil in EVIL:
            scripted.script("PublishInteractionStream", verdict(0, 0, (0, "INVALID_FIELD")))
            client.publish_interaction("ada", [{"content": "x"}], request_id=evil)
            assert client.flush(20).delivered
    said = [record.getMessage() for record in caplog.records]
    assert sum("was refused" in text for text in said) == len(EVIL)
    assert sum("on_delivery failed" in text for text in said) == len(EVIL)
    assert all(text.isprintable() for text in said)
