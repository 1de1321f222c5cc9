"""F11: whatever a caller gets can be pickled and copied; what cannot says what to do instead (with questionable 18)."""

import copy
import dataclasses
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import reflexio
from reflexio import (
    BulkInterruptedError,
    BulkResult,
    Counts,
    InvalidArgumentError,
    ReflexioError,
    Rejection,
    models,
    outcomes,
    requests,
)
from tests.client.scripted_server import KEY, ScriptedServer

COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(lambda thing, p=protocol: pickle.loads(pickle.dumps(thing, p)) for protocol in range(2, 6)),
]


def all_kinds(kind: type[ReflexioError] = ReflexioError) -> Iterator[type[ReflexioError]]:
    if kind.__module__ == reflexio.__name__:
        yield kind
    for child in kind.__subclasses__():
        yield from all_kinds(child)


def example(kind: type[ReflexioError]) -> ReflexioError:
    if kind is BulkInterruptedError:
        refused = Rejection(3, "r3", "INVALID_FIELD", "interactions", "äöü")
        error: ReflexioError = BulkInterruptedError("stopped", BulkResult(Counts(1, 2, 3), Counts(4, 5, 6), [refused]))
        error.__cause__ = example(reflexio.UnavailableError)
    else:
        more: dict[str, Any] = {"violations": [("a", "b")]} if issubclass(kind, InvalidArgumentError) else {}
        metadata = {"error_id": "e1", "field": "x"}
        error = kind("what is wrong", code="C", reason="R", metadata=metadata, retry_after=1.5, call_id="c1", **more)
    error.add_note("said later")
    return error


class OfTheirOwn(ReflexioError):
    """A user's subclass that takes what it likes."""

    def __init__(self, one: int, *, two: str) -> None:
        super().__init__(f"{one} {two}", code="THEIRS")
        self.one, self.two = one, two


def same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    assert (str(one), repr(one), one.args) == (str(other), repr(other), other.args)
    assert one.__dict__ == other.__dict__
    assert (one.__cause__ is None) == (other.__cause__ is None)
    if one.__cause__ is not None:
        same(one.__cause__, other.__cause__)


@pytest.mark.parametrize("copied", COPIES)
def test_every_error_keeps_all_it_says(copied: Callable[[Any], Any]) -> None:
    kinds = set(all_kinds())
    assert len(kinds) >= 16
    for kind in kinds:
        same(example(kind), copied(example(kind)))
    same(OfTheirOwn(1, two="2"), copied(OfTheirOwn(1, two="2")))


def test_a_copy_is_one_of_its_own() -> None:
    error = example(reflexio.InternalError)
    copied = copy.deepcopy(error)
    copied.metadata["error_id"] = "another"
    assert error.metadata["error_id"] == "e1"


def raise_it(kind: str) -> None:
    raise example(getattr(reflexio, kind))


def test_a_pool_hands_on_every_error() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        waiting = [(kind, pool.apply_async(raise_it, (kind.__name__,))) for kind in set(all_kinds())]
        for kind, result in waiting:
            with pytest.raises(ReflexioError) as caught:
                result.get(60)
            assert type(caught.value) is kind
            assert caught.value.__dict__ == example(kind).__dict__


@pytest.mark.parametrize("copied", COPIES)
def test_what_is_given_and_answered_can_be_copied(copied: Callable[[Any], Any]) -> None:
    kinds = {
        thing
        for module in (models, outcomes, requests)
        for thing in vars(module).values()
        if isinstance(thing, type)
        and dataclasses.is_dataclass(thing)
        and thing.__module__ in (reflexio.__name__, module.__name__)
    }
    assert len(kinds) > 20
    for kind in kinds:
        needed = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
        thing = kind(**{name: f"the {name}" for name in needed})
        assert copied(thing) == thing


@pytest.mark.parametrize("copied", COPIES)
def test_a_client_and_a_receipt_say_what_to_do_instead(
    copied: Callable[[Any], Any], scripted: ScriptedServer, scripted_client: reflexio.ReflexioClient
) -> None:
    receipt = scripted_client.publish_interaction("u", [{"content": "x"}])
    for thing, instead in (
        (scripted_client, "in another process make one with the same settings"),
        (reflexio.AsyncReflexioClient(KEY, scripted.url), "in another process make one with the same settings"),
        ({"in": [scripted_client]}, "in another process make one with the same settings"),
        (scripted_client.search_interactions, "in another process make one with the same settings"),
        (receipt, "hand on its request_id"),
    ):
        if copied is copy.copy and thing not in (scripted_client, receipt):
            continue  # a new dict around the same client is no copy of it
        with pytest.raises(TypeError, match=instead):
            copied(thing)
    assert receipt.wait(20).success  # and none of it did any harm
    assert scripted_client.who_am_i().account.tag
