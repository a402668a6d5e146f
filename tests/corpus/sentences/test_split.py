"""The splitter: kernel against reference, offsets, and the cases that other splitters get wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.sentences import plain_sentences, split_packed, split_sentences
from haina.corpus.utf8 import pack

WORDS = st.sampled_from(
    ["Mr.", "Dr. ", "Inc. ", "No. ", "5", "U.S. ", "The ", "he said", "”他说", "”他说，", "。", "……", "...", "… ", "“",
     "”", '"', " ", "\n", "走", "好的", "John said ", "II", "I. ", "e.g. ", "ｖｏｌ．", "😀", "\U0003ffff", "\x85", "　",
     "1. ", "一.", "。」", "！", "?", '?"', "'", "）", "》", "，", "；", "a", "Z", "没有回答", "\x00", "\ufffd", "é"]
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(WORDS, max_size=30).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
)


def parts(text: str, **options: bool) -> list[str]:
    return [text[found.start : found.end] for found in split_sentences(text, **options)]


@given(TEXTS, st.booleans())
def test_the_kernel_says_what_the_reference_says(text: str, semicolons: bool) -> None:
    found = split_sentences(text, semicolons=semicolons)
    assert [(one.start, one.end) for one in found] == plain_sentences(text, semicolons=semicolons)


@given(TEXTS)
def test_sentences_cover_all_but_blanks_and_bytes_agree_with_characters(text: str) -> None:
    raw, place = text.encode(), 0
    for one in split_sentences(text):
        assert not text[place : one.start].strip()
        assert one.end > one.start
        assert raw[one.byte_start : one.byte_end].decode() == text[one.start : one.end]
        assert "\n" not in text[one.start : one.end]
        place = one.end
    assert not text[place:].strip()


@given(st.lists(TEXTS, max_size=5))
def test_many_texts_at_once_are_as_one_by_one(texts: list[str]) -> None:
    data, offsets = pack(texts)
    starts, ends, bounds = split_packed(data, offsets)
    for index, text in enumerate(texts):
        low, high = bounds[index], bounds[index + 1]
        own = [(one.byte_start, one.byte_end) for one in split_sentences(text)]
        base = offsets[index]
        assert (
            list(zip((starts[low:high] - base).tolist(), (ends[low:high] - base).tolist(), strict=True))
            == own
        )


@pytest.mark.parametrize(
    "expected",
    [
        ["今天天气很好。", "我们去公园吧！", "你觉得怎么样？"],
        ["“走吧。”他说。", "我们走了。"],
        ["他说：「我明天走。」", "她没有回答。"],
        ["《怎么办？》是小说。", "他（真的吗？）走了。"],
        ["我……我不知道。", "他沉默了很久……", "终于开口了。"],
        ["圆周率约为3.14。", "版本是1.2.3。", "见www.example.com。"],
        ["（一）总则。", "（二）附则。"],
        ["公司（Apple Inc.）成立于1976年。", "总部在加州。"],
    ],
)
def test_chinese(expected: list[str]) -> None:
    assert parts("".join(expected)) == expected


@pytest.mark.parametrize(
    "expected",
    [
        ["Mr. Smith met Dr. Jones at 5 p.m. on Monday.", "They talked."],
        ["J. K. Rowling wrote it.", "It sold well."],
        ["The U.S. Army landed.", "He got a B.", "She got an A."],
        ['"Stop!" he said.', '"Go!" John said.', "They went."],
        ["Pi is 3.14.", "Version 2.0.1 is out.", "See http://a.com/b?c=d.", "Write to a.b@c.com."],
        ["Many fruits, e.g. apples, i.e. sweet ones, are good.", "See Fig. 3."],
        ["Wait... what?", "He paused...", "Then he spoke."],
        ["Yahoo! was founded in 1994.", "Really?!", "Yes."],
    ],
)
def test_english(expected: list[str]) -> None:
    assert parts(" ".join(expected)) == expected


def test_list_numbers_belong_to_what_they_number() -> None:
    assert parts("1. 引言部分。\n2. The method.") == ["1. 引言部分。", "2. The method."]


def test_the_semicolon_is_a_choice() -> None:
    assert parts("鱼，我所欲也；熊掌，亦我所欲也。") == ["鱼，我所欲也；熊掌，亦我所欲也。"]
    assert parts("鱼，我所欲也；熊掌，亦我所欲也。", semicolons=True) == [
        "鱼，我所欲也；",
        "熊掌，亦我所欲也。",
    ]


@pytest.mark.parametrize("text", ["", " ", "。", ".", "\x00", "\ufffd", "\ue000", "́", "שלום. עולם", "\n\n"])
def test_bad_input(text: str) -> None:
    assert "".join(parts(text)).strip() == text.strip()


def test_a_long_line_takes_linear_time() -> None:
    assert len(split_sentences("。" * 1_000_000)) == 1
    assert len(split_sentences("A. " * 300_000)) >= 1
    assert len(split_sentences("好。" * 300_000)) == 300_000


def test_nothing_packed() -> None:
    starts, ends, bounds = split_packed(*pack([]))
    assert len(starts) == len(ends) == 0
    assert np.array_equal(bounds, [0])
