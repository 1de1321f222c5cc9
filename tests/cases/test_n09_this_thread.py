"""N9, its search: what was just said need not be its own best hit (the order of reading and roles: test_n09.py)."""

from typing import Any

import pytest

from reflexio.v1 import interaction_service_pb2 as pb
from tests.support import Caller


@pytest.mark.xfail(strict=True, raises=ValueError, reason="the contract has no exclude_request_groups yet")
def test_a_search_can_leave_out_a_thread(caller: Caller) -> None:
    caller.publish("u", "When does the ferry to the island leave?", request_group="now")
    caller.publish("u", "The ferry leaves at nine", request_group="yesterday")
    but: dict[str, Any] = {"exclude_request_groups": ["now"]}
    for scope in ({"user_id": "u"}, {}):
        hits = caller.search(query="When does the ferry leave?", filter=pb.InteractionFilter(**but), **scope).hits
        assert [hit.interaction.request_group for hit in hits] == ["yesterday"]
