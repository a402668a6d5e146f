"""Private data in Chinese and English: every kind beside Han characters, and what only looks private."""

from __future__ import annotations

import string
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.privacy import KINDS, find_private, find_private_packed, replace_private
from haina.corpus.privacy.candidates import candidates, candidates_packed, reference_candidates
from haina.corpus.privacy.checksums import (
    credit_check_digit,
    id_check_digit,
    is_credit_code,
    is_identity_card,
    luhn,
)
from haina.corpus.privacy.folding import FOREIGN, fold, fold_at
from haina.corpus.utf8 import pack

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
TELLING = st.lists(
    st.sampled_from(
        [*"0123456789", "19", "2012", "138", "0013", "８", "００", " ", "-", ".", "(", ")", "+", "  ", "－", "（", "＠", "@", ":", "::", "：", "(at)", "[AT]", "（at）",
         "a", "F", "zhang", ".com", "京", "粤", "A", "Ａ", "阿", "电话", "。", "\n", "\u3000", "\xa0", "\u2013", "é", "\U0001f600", "\0", "中", "é", "_"]
    ),
    max_size=40,
).map("".join)  # fmt: skip
TEXT = ANY | TELLING


@given(TEXT)
def test_candidates_are_those_of_the_reference(text: str) -> None:
    data, _ = pack([text])
    places = np.cumsum([0, *(len(character.encode()) for character in text)]).tolist()
    plain = [(places[start], places[end], group) for start, end, group in reference_candidates(text)]
    assert sorted(map(tuple, candidates(data).tolist())) == plain


@given(st.lists(TEXT, max_size=5))
def test_packed_is_the_same_as_one_by_one(texts: list[str]) -> None:
    data, offsets = pack(texts)
    assert len(candidates_packed(data, offsets)) == sum(len(candidates(pack([text])[0])) for text in texts)
    found = find_private_packed(data, offsets)
    rows = list(
        zip(
            found.document.tolist(),
            found.start.tolist(),
            found.end.tolist(),
            found.kind.tolist(),
            strict=True,
        )
    )
    assert rows == [
        (number, span.byte_start, span.byte_end, KINDS.index(span.kind))
        for number, text in enumerate(texts)
        for span in find_private(text)
    ]


@given(TEXT)
def test_spans_and_text_agree(text: str) -> None:
    spans = find_private(text)
    raw = text.encode()
    for span in spans:
        assert raw[span.byte_start : span.byte_end].decode() == text[span.start : span.end] != ""
        assert span.kind in KINDS
    assert all(a.end <= b.start for a, b in pairwise(spans))
    replaced, same = replace_private(text)
    assert same == spans
    place = 0
    for span in spans:
        assert replaced.startswith(text[place : span.start] + f"<{span.kind.upper()}>")
        replaced, place = replaced[len(text[place : span.start]) + len(span.kind) + 2 :], span.end
    assert replaced == text[place:]


@given(TEXT)
def test_folding_bytes_is_folding_text(text: str) -> None:
    data, _ = pack([text])
    folded, place = [], 0
    while place < len(data):
        code, width = fold_at(data, place)
        folded.append(code)
        place += width
    assert place == len(data)
    assert folded == [ord(character) if ord(character) < 0x80 else FOREIGN for character in fold(text)]


def identity() -> str:
    """A made-up identity card number with its check digit."""
    return "11010119900307123" + id_check_digit("11010119900307123")


def credit() -> str:
    """A made-up credit code with its check digit."""
    return "91110108MA01ABCD2" + credit_check_digit("91110108MA01ABCD2")


def card(start: str, size: int) -> str:
    """A made-up card number with its check digit."""
    body = start.ljust(size - 1, "7")
    return next(body + digit for digit in string.digits if luhn(body + digit))


POSITIVE = [
    *[("email", each) for each in ("zhang@example.cn", "a.b+c@mail.example.co.uk", "O'Brien@x.com", "ｚｈａｎｇ＠ｑｑ．ｃｏｍ", "zhang (at) example.com", "li [at] example [dot] com")],
    *[("phone", each) for each in ("13800138000", "138-0013-8000", "138 0013 8000", "+86 13800138000", "0086-138-0013-8000", "１３８００１３８０００")],
    *[("phone", each) for each in ("010-62781234", "(010) 8888-8888", "（0755）88888888转123", "0571 8888 8888", "+86-10-62781234")],
    *[("phone", each) for each in ("+852 2345 6789", "(852) 2345 6789", "0912-345-678", "(02) 2345-6789", "+886 2 2345 6789", "+44 20 7946 0958")],
    *[("phone", each) for each in ("(212) 555-0123", "212-555-0123", "212.555.0123", "+1 212 555 0123", "1-212-555-0123")],
    ("id_card", identity()), ("id_card", f"{identity()[:6]} {identity()[6:14]} {identity()[14:]}"), ("credit_code", credit()),
    ("bank_card", card("622202", 19)), ("bank_card", card("4111", 16)), ("bank_card", " ".join(card("5412", 16)[k : k + 4] for k in range(0, 16, 4))),
    ("plate", "京A12345"), ("plate", "粤B·D12345"), ("plate", "沪AD12345"), ("plate", "粤Z1234港"), ("ip", "114.114.114.114"), ("ip", "2001:4860:4860::8888"),
]  # fmt: skip
NEGATIVE = [
    "订单号13800138000", "訂單編號 138001380001234", "tracking number 4111111111111111", "ISBN 978-7-302-12345-6", "ISBN 9787302123456", "2012-01-01 12:30:45", "1999-2000",
    "2010 2011 2012 2013", "v1.2.3.4", "版本 114.0.5.199", "见17.18.9.0节", "192.168.1.1", "127.0.0.1", "fe80::1", "3.14159265358979",
    "圆周率3.1415926535897932384626", "39.9042, 116.4074", "d41d8cd98f00b204e9800998ecf8427e", "pp. 1234-5678", "价格1,234,567,890元", "400-800-8888", "800-810-8888",
    "12:34:56", "00:1B:44:11:3A:B7", "std::vector<int>", "a@b", "@user", "icon@2x.png", "git@github.com:a/b", "138001380001380013", "2345 6789", "E12345678",
    identity()[:17] + ("1" if identity()[17] != "1" else "2"), card("6222", 19)[:-1] + str((int(card("6222", 19)[-1]) + 1) % 10), "编号553485637656658277",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), POSITIVE)
def test_found_whole_in_both_languages(kind: str, value: str) -> None:
    for before, after in (
        ("请联系", "，谢谢"),
        ("资料（", "）。"),
        ("Please note ", " and go on."),
        ("", ""),
        ("第一行\n", "\n最后一行"),
    ):
        text, spans = replace_private(before + value + after)
        assert text == f"{before}<{kind.upper()}>{after}"
        assert [(span.start, span.end) for span in spans] == [(len(before), len(before) + len(value))]


@pytest.mark.parametrize("value", NEGATIVE)
def test_left_alone(value: str) -> None:
    for before, after in (("", ""), ("其", "。"), ("see ", ", ok")):
        assert find_private(before + value + after) == []


@pytest.mark.parametrize(
    ("kind", "value", "strong", "weak"),
    [
        ("phone", "2345 6789", ["電話：{}", "Tel. {}", "請致電{}查詢", "{}（手機）"], ["共{}", "pages {}"]),
        ("phone", "2125550123", ["call {}", "手机 {}"], ["total {}", "数量{}"]),
        ("passport", "E12345678", ["护照{}", "passport no. {}", "{}（護照）"], ["型号{}", "part {}"]),
        ("passport", "123456789", ["Passport: {}", "护照号码：{}"], ["共{}", "in {} steps"]),
        ("ip", "1.2.3.4", ["IP {}", "服务器{}", "http://{}/"], ["版本{}", "section {}"]),
        ("id_card", "370101900307121", ["身份证{}"], ["订单{}", "order {}"]),
    ],
)
def test_words_decide_where_numbers_do_not(kind: str, value: str, strong: list[str], weak: list[str]) -> None:
    for sentence in strong:
        assert replace_private(sentence.format(value))[0] == sentence.format(f"<{kind.upper()}>")
    for sentence in weak:
        assert find_private(sentence.format(value)) == []
    # The word of the sentence before says nothing.
    assert find_private(strong[0].format("") + "如下。" + value) == [] or kind == "id_card"


def test_several_and_numbered() -> None:
    text = "邮箱a@x.com，电话138-0013-8000；又13900139000，Ａ＠Ｘ．ｃｏｍ，13800138000"
    assert replace_private(text)[0] == "邮箱<EMAIL>，电话<PHONE>；又<PHONE>，<EMAIL>，<PHONE>"
    assert (
        replace_private(text, numbered=True)[0]
        == "邮箱<EMAIL_1>，电话<PHONE_1>；又<PHONE_2>，<EMAIL_1>，<PHONE_1>"
    )


def test_check_digits() -> None:
    assert id_check_digit("11010519491231002") == "X"  # the example of GB 11643
    assert credit_check_digit("91350100M000100Y4") == "3"  # the example of GB 32100
    assert luhn("4111111111111111")
    assert not luhn("4111111111111112")
    provinces = frozenset({"11"})
    assert is_identity_card("11010519491231002x", provinces, 2030)
    assert not is_identity_card("110105194913310020", provinces, 2030)
    assert not is_identity_card("11010519491231002x", frozenset({"12"}), 2030)
    assert not is_credit_code("91350100M000100Y44", frozenset({"35"}))


def test_hostile_texts_end_soon() -> None:
    for text in ("1" * 1_000_000, "1 2 " * 100_000, "a." * 200_000 + "@b", "@" * 100_000, ":" * 100_000, "a:" * 100_000, "(at)" * 2_000, "京A" * 3_000,
                 "13800138000 " * 3_000, "1.2.3.4," * 3_000, "＠１" * 20_000, "-" * 100_000, "a@b.c" * 2_000):  # fmt: skip
        start = time.monotonic()
        find_private(text)
        assert time.monotonic() - start < 20
    with pytest.raises(UnicodeEncodeError):
        find_private("\ud800")
