"""N11, its keys: they have names and tell when they were last used (both are the contract's next issue)."""

import pytest

from reflexio.v1 import auth_pb2
from reflexio.v1 import auth_service_pb2 as auth_pb
from tests.support import Caller


@pytest.mark.xfail(strict=True, reason="keys have no names yet: LoginRequest.name and ApiKey.name are missing")
def test_a_key_has_a_name() -> None:
    assert "name" in auth_pb.LoginRequest.DESCRIPTOR.fields_by_name
    assert "name" in auth_pb2.ApiKey.DESCRIPTOR.fields_by_name


@pytest.mark.xfail(strict=True, reason="ListApiKeys does not say yet when a key was last used")
def test_a_key_tells_when_it_was_last_used(caller: Caller) -> None:
    listed = caller.auth.ListApiKeys(auth_pb.ListApiKeysRequest(), metadata=caller.metadata, timeout=10)
    (key,) = listed.api_keys
    assert key.HasField("last_used_at")  # type: ignore[arg-type]
