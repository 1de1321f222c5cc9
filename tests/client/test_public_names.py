"""What `import reflexio` offers: every name is known as reflexio's own, can be explained, and is meant for users."""

import inspect
import pickle
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

import reflexio

NAMES = [name for name in reflexio.__all__ if not name.startswith("__")]
CLIENT = {
    *("api_key", "login", "who_am_i", "list_api_keys", "revoke_api_key"),
    *("publish_interaction", "publish_many", "flush", "stats", "close"),
    *("search_interactions", "get_interactions", "iter_interactions", "get_requests", "iter_requests", "get_image"),
    *("delete_interaction", "delete_request", "delete_request_group", "delete_user"),
}


def methods(kind: type) -> dict[str, Any]:
    """The public methods of ours, and the functions behind its properties."""
    bases = [base for base in kind.__mro__ if base.__module__.split(".")[0] == "reflexio"]
    found = {name: value for base in bases for name, value in vars(base).items()}
    functions = {name: getattr(value, "fget", value) for name, value in found.items() if not name.startswith("_")}
    return {name: value for name, value in functions.items() if inspect.isfunction(value)}


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_says_reflexio_and_explains_itself(name: str) -> None:
    thing = getattr(reflexio, name)
    assert isinstance(thing, type)
    assert (thing.__module__, thing.__qualname__) == ("reflexio", name)
    assert pickle.loads(pickle.dumps(thing)) is thing
    assert f"reflexio\n{name}".encode() in pickle.dumps(thing, 0)
    assert inspect.getdoc(thing)
    assert inspect.signature(thing)
    for method, value in methods(thing).items():
        assert inspect.getdoc(value), method
        assert inspect.signature(value), method


def test_an_error_is_shown_and_pickled_by_its_public_name() -> None:
    code = "import pickle, reflexio; e = pickle.loads(pickle.dumps(reflexio.NotFoundError('no'))); raise e"
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert failed.stderr.splitlines()[-1] == "reflexio.NotFoundError: no"


@pytest.mark.parametrize("kind", [reflexio.ReflexioClient, reflexio.AsyncReflexioClient])
def test_a_client_has_no_public_method_but_those_for_users(kind: type) -> None:
    assert {name for name in dir(kind) if not name.startswith("_")} == CLIENT


@pytest.mark.parametrize("kind", [reflexio.PublishReceipt, reflexio.DeleteReceipt])
def test_a_receipt_has_no_public_name_but_those_for_users(kind: Any) -> None:
    assert {name for name in dir(kind("r_1")) if not name.startswith("_")} == {"request_id", "done", "wait"}


def test_nothing_else_is_public() -> None:
    others = {name for name in vars(reflexio) if not name.startswith("_")} - set(NAMES)
    assert not [name for name in others if not isinstance(getattr(reflexio, name), ModuleType)]
