import threading
import time
from uuid import RFC_4122, UUID

from reflexio.ids import account_tag, new_request_id, uuid7, uuid7s
from tests.client.scripted_server import make_key


def test_request_id_names_its_source() -> None:
    assert new_request_id("support_chat").split("_")[0] == "support-chat"
    assert new_request_id().split("_")[0] == "request"
    assert UUID(new_request_id("a_b_c").split("_")[1]).version == 7


def test_ids_rise_and_never_repeat_across_threads() -> None:
    found: list[list[str]] = []

    def make() -> None:
        found.append([uuid7() for _ in range(2_000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ids == sorted(ids) for ids in found)
    assert len({id_ for ids in found for id_ in ids}) == 8_000


def test_many_ids_at_once_are_well_formed_and_follow_each_other() -> None:
    before = time.time_ns() // 1_000_000
    for _ in range(50):  # each begins to count somewhere else
        ids = [uuid7(), *uuid7s(1_000), uuid7()]
        assert ids == sorted(set(ids))
        for text in ids:
            uuid = UUID(text)
            assert str(uuid) == text
            assert (uuid.version, uuid.variant) == (7, RFC_4122)
            assert before <= uuid.int >> 80 <= time.time_ns() // 1_000_000
    assert uuid7s(0) == []


def test_account_tag_finds_typing_errors() -> None:
    key = make_key("abcdefghij")
    assert account_tag(key) == "abcdefghij"
    for wrong in ("", "rflx_", key[:-1], key + "x", key.replace("s", "t", 1), key.upper(), "x" + key[1:]):
        assert account_tag(wrong) is None
