"""F9: a word of a script without spaces is found in the texts that have it."""

import pytest

from tests.support import Caller

pytestmark = pytest.mark.store

TEXTS = (
    "我的包裹一直没有送到",
    "今天玩成语接龙游戏",
    "请帮我修改账单地址",
    "设备清单在附件里",
    "退款什么时候到账",
    "密码忘记了怎么办",
    "会议改到下周三",
    "我想取消订阅",
    "发票抬头写错了",
    "客服电话打不通",
)


@pytest.mark.parametrize(
    ("query", "text"), [("包裹", TEXTS[0]), ("账单", TEXTS[2]), ("发票", TEXTS[8]), ("itgc", "重跑gen-itgc后50条")]
)
def test_the_only_text_with_the_word_comes_first(caller: Caller, query: str, text: str) -> None:
    caller.publish("ann", *TEXTS, text)
    hits = caller.search(query=query, user_id="ann", top_k=10).hits
    assert hits[0].interaction.content == text
    assert hits[0].lexical > 0


@pytest.mark.parametrize("query", ["猫", "犬", "我"])
def test_one_letter_is_found_wherever_it_stands(caller: Caller, query: str) -> None:
    texts = {"猫": {"猫", "我有一只猫", "猫很可爱", "他的猫不见了"}, "犬": {"愛犬と散歩"}, "我": {"我有一只猫"}}
    caller.publish("ann", *set().union(*texts.values()), "没有别的", "parcel")
    found = caller.search(query=query, user_id="ann", top_k=20).hits
    assert {hit.interaction.content for hit in found if hit.lexical} == texts[query]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("배송을", "배송이 늦어요"),
        ("посылке", "Моя посылка не пришла"),
        ("الطلبات", "أين طلبي؟ الطلب متأخر"),
        ("भुगतान", "मेरा भुगतान असफल हुआ"),
        ("พัสดุ", "พัสดุของฉันยังไม่มา"),
        ("パスワード", "パスワードを忘れました"),
        ("λογαριασμός", "τον λογαριασμό μου"),
    ],
)
def test_a_word_is_found_in_another_ending_and_without_spaces(caller: Caller, query: str, text: str) -> None:
    others = ("환불 요청", "Спасибо большое", "شكرا جزيلا", "धन्यवाद", "ขอบคุณ", "ありがとう", "ευχαριστώ", "thanks")
    caller.publish("ann", *others, text)
    (first, *_) = caller.search(query=query, user_id="ann", top_k=10).hits
    assert first.interaction.content == text
    assert first.lexical > 0
    assert first.semantic == 0, "the default model cannot read it"
