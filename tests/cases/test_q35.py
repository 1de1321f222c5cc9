"""Questionable 35: each length of time and each number is taken in every form, or refused in words."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import reflexio
from reflexio.errors import ConfigurationError, InvalidArgumentError
from tests.client.scripted_server import KEY, ScriptedServer

NO_TIME = ["5", b"5", True, False, np.True_, float("nan"), float("inf"), -1, -0.001, Decimal("NaN"), Decimal("sNaN")]
NO_TIME += [10**400, timedelta(seconds=-1), [], object(), 1j, np.float64("nan"), np.array([1.0, 2.0])]
A_TIME: list[Any] = [20, 20.0, np.int64(20), np.float32(20), Decimal(20), Fraction(41, 2), timedelta(seconds=20)]
A_TIME += [1e10, 1e18, 2**63, threading.TIMEOUT_MAX * 2]
Use = Callable[[reflexio.ReflexioClient, Any], Any]

CALLS: dict[str, Use] = {
    "publish": lambda c, t: c.publish_interaction("u", [{"content": "x"}], wait_for_response=True, timeout=t),
    "publish_many": lambda c, t: c.publish_many([{"user_id": "u", "interactions": [{"content": "x"}]}], timeout=t),
    "search": lambda c, t: c.search_interactions(user_id="u", query="x", timeout=t),
    "get": lambda c, t: c.get_interactions(user_id="u", timeout=t),
    "iter": lambda c, t: list(c.iter_interactions(user_id="u", timeout=t)),
    "delete": lambda c, t: c.delete_user("u", wait_for_response=True, timeout=t),
    "who_am_i": lambda c, t: c.who_am_i(timeout=t),
    "login": lambda c, t: c.login("a@b.c", "password", timeout=t),
}
WAITS: dict[str, Use] = {
    "receipt": lambda c, t: c.publish_interaction("u", [{"content": "x"}]).wait(t),
    "delete receipt": lambda c, t: c.delete_interaction("u", "i").wait(t),
    "flush": lambda c, t: c.flush(t),
    "close": lambda c, t: c.close(t),
}


@pytest.mark.parametrize("bad", NO_TIME, ids=repr)
def test_what_is_no_time_is_refused_in_words(scripted_client: reflexio.ReflexioClient, bad: Any) -> None:
    for name, use in (CALLS | WAITS).items():
        with pytest.raises(InvalidArgumentError, match="timeout must be a number of seconds"):
            pytest.fail(f"{name} took it: {use(scripted_client, bad)}")
    for name, use in CALLS.items():
        with pytest.raises(InvalidArgumentError, match="timeout must be a number of seconds above 0"):
            pytest.fail(f"{name} took 0: {use(scripted_client, 0)}")
    with pytest.raises(ConfigurationError, match="timeout must be a number of seconds above 0"):
        reflexio.ReflexioClient(timeout=bad)
    assert scripted_client.who_am_i().account.tag  # close() refused it, too, and closed nothing


@pytest.mark.parametrize("good", A_TIME, ids=repr)
def test_every_form_of_a_time_is_taken(
    scripted: ScriptedServer, scripted_client: reflexio.ReflexioClient, good: Any
) -> None:
    reflexio.ReflexioClient(KEY, scripted.url, good).close(0)
    scripted_client.publish_interaction("u", [{"content": "x"}], wait_for_response=True)
    for use in CALLS.values():
        use(scripted_client, good)
    assert scripted_client.publish_interaction("u", [{"content": "x"}]).wait(good).success
    assert scripted_client.flush(good).delivered
    scripted_client.close(good)


def test_none_waits_and_0_only_looks(scripted: ScriptedServer, scripted_client: reflexio.ReflexioClient) -> None:
    assert scripted_client.flush(0).delivered
    assert scripted_client.flush(None).delivered
    receipt = scripted_client.publish_interaction("u", [{"content": "x"}])
    assert receipt.wait(None).success
    assert receipt.wait(0).success
    scripted.stop()
    late = scripted_client.publish_interaction("u", [{"content": "y"}])
    assert scripted_client.flush(0).pending == 1
    with pytest.raises(reflexio.DeadlineExceededError):
        late.wait(0)
    threading.Timer(0.5, scripted.start).start()
    assert scripted_client.flush(None).delivered
    scripted_client.close(None)


def test_the_awaitable_client_likewise(scripted: ScriptedServer) -> None:
    async def main() -> None:
        client = reflexio.AsyncReflexioClient(KEY, scripted.url)
        receipt = await client.publish_interaction("u", [{"content": "x"}])
        for bad in ("5", True, float("nan"), -1):
            for wait in (receipt.wait, client.flush, client.close):
                with pytest.raises(InvalidArgumentError, match="timeout must be a number of seconds from 0"):
                    await wait(bad)  # type: ignore[arg-type]
        for good in (None, 1e10, np.float64(20)):
            assert (await receipt.wait(good)).success
            assert (await client.flush(good)).delivered
        assert (await receipt.wait(0)).success
        assert (await client.flush(0)).delivered
        await client.close(None)

    asyncio.run(main())


def test_the_command_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLEXIO_API_KEY", KEY)
    for bad in ("nan", "inf", "-1", "0", "soon"):
        command = [sys.executable, "-m", "reflexio.spool", "flush", "--timeout", bad]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, "Traceback" in done.stderr, "--timeout" in done.stderr) == (2, False, True)


@pytest.mark.parametrize("bad", [0, -1, 1001, 2**40])
def test_top_k_of_a_search_names_the_servers_limit(scripted_client: reflexio.ReflexioClient, bad: int) -> None:
    with pytest.raises(InvalidArgumentError, match="top_k must be from 1 to 1,000, not "):
        scripted_client.search_interactions(query="x", top_k=bad)


def test_numbers_of_numpy_are_numbers(scripted_client: reflexio.ReflexioClient) -> None:
    """Questionable 11, too: whole ones are taken as times as others are."""
    for moment in (np.int64(1_700_000_000), np.float64(1_700_000_000), Decimal(1_700_000_000)):
        scripted_client.publish_interaction("u", [{"content": "x", "created_at": moment}], wait_for_response=True)
    few: Any = np.int32(2)
    found = scripted_client.search_interactions(query="x", top_k=few, min_score=float(np.float32(0.25)))
    assert [hit.interaction.created_at for hit in found.hits] == [1_700_000_000] * 2
    bad: Any
    for bad in (np.float64("nan"), np.True_, Decimal("Infinity")):
        with pytest.raises(InvalidArgumentError):
            scripted_client.search_interactions(query="x", top_k=bad)
        with pytest.raises(InvalidArgumentError):
            scripted_client.search_interactions(query="x", min_score=bad)
        with pytest.raises(InvalidArgumentError):
            scripted_client.publish_interaction("u", [{"content": "x", "created_at": bad}])
