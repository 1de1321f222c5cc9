"""B16: where counting ends at a bound, the metadata says how far was counted, not the bound itself."""

from typing import Any

import grpc
import pytest

from reflexio_server.rpc.publish_messages import MOST_FIELDS
from tests.support import Caller
from tests.wire import failure, say

pytestmark = pytest.mark.store

EMPTY = b"\x12\x00"  # interactions { }


@pytest.mark.parametrize("empty", [2 * MOST_FIELDS, 2 * MOST_FIELDS + 77, 500_000])
def test_what_was_counted_is_more_than_the_bound(caller: Caller, empty: int) -> None:
    call: Any = caller.channel.unary_unary("/reflexio.v1.InteractionService/PublishInteractions")
    many = say("many").SerializeToString() + EMPTY * empty
    found = failure(call, many, metadata=caller.metadata, timeout=30)
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(found.info.metadata) == {"field": "interactions", "count": str(MOST_FIELDS + 1), "maximum": "1000"}
    assert f"more than {MOST_FIELDS:,}" in found.text


def test_what_is_counted_to_its_end_is_said_exactly(caller: Caller) -> None:
    call: Any = caller.channel.unary_unary("/reflexio.v1.InteractionService/PublishInteractions")
    found = failure(call, say("many").SerializeToString() + EMPTY * 1200, metadata=caller.metadata, timeout=30)
    assert dict(found.info.metadata) == {"field": "interactions", "count": "1201", "maximum": "1000"}
