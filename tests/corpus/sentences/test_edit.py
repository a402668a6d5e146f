"""Editing: spans give the edited text, good documents stay, bad pieces go, what is left reads on."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.sentences import edit_document, edit_documents
from haina.corpus.sentences.generate import AUTHORS, families_of, generate, parse
from haina.corpus.sentences.model import REASONS, shipped
from haina.corpus.sentences.units import (
    LIMIT,
    MOST_FEATURES,
    R_OTHER,
    fold_tables,
    plain_features,
    sentence_features,
)

ZH = [
    "海纳百川是一个成语，意思是大海可以容得下成百上千条江河之水。它比喻包容的东西非常广泛，而且数量很大。",
    "这个成语出自晋代袁宏的《三国名臣序赞》。清代林则徐任两广总督时，曾在总督府衙题书堂联。",
    "后人常用它来形容心胸宽广。许多学校把它写进校训，一些城市也把它当作城市精神的一部分。",
]
EN = [
    "The battle was fought in 1282 during the conquest of Wales. It ended in a defeat for the English army.",
    "Many knights drowned when the bridge of boats broke. The chronicles give different accounts of the cause.",
    "The king gathered a larger force in the following year. The war ended with the death of the prince.",
]
BAD_ZH = ["扫码关注我们的微信公众号，获取更多精彩内容！", "责任编辑：李明", "加微信abc12345领取免费资料，名额有限！",
          "澳门新葡京官网，注册就送88元彩金！"]  # fmt: skip
BAD_EN = ["Subscribe to our newsletter today!", "Copyright © 2020 Acme Inc. All rights reserved.",
          "Buy cheap Viagra online without prescription!", "Click here to read more."]  # fmt: skip
PIECES = st.sampled_from(
    [*ZH, *EN, *BAD_ZH, *BAD_EN, "\n", "\n\n", " ", "😀", "\x00", "\ufffd", "“", "，", "\r\n", "\u200b"]
)
TEXTS = st.one_of(
    st.lists(PIECES, max_size=12).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
)


@given(TEXTS)
def test_units_kernel_says_what_the_reference_says(text: str) -> None:
    check_units(text)


@pytest.mark.parametrize(
    "text",
    ["加❤微 V❤X a.b@c.com http://a.bc/d?e=f 400-123-4567 2020-01-02 abc1234 v1.2", "É" * 2000, "é好" * 900, "A-b/c @x 3.5",
     "ÃÂ©" * 500, "/" * 50, "a//b.c", "加.微", "ＶＸ１２３", "..", "卡尔·马克思", "a1" * 300],
)  # fmt: skip
def test_units_of_hard_cases(text: str) -> None:
    check_units(text)


def check_units(text: str) -> None:
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    table, role_table = fold_tables()
    safe = np.minimum(codes, LIMIT - 1)
    folded = np.where(codes < LIMIT, table[safe], np.uint32(0xFFFD)).astype(np.uint32)
    roles = np.where(codes < LIMIT, role_table[safe], np.uint8(R_OTHER)).astype(np.uint8)
    features, about = np.empty(MOST_FEATURES, dtype=np.int32), np.zeros(2, dtype=np.uint64)
    count = sentence_features(folded, roles, 0, len(codes), features, about)
    expected, units = plain_features(text)
    assert int(about[1]) == units
    assert sorted(features[:count].tolist()) == sorted(expected)


@given(TEXTS)
def test_cutting_the_spans_gives_the_edited_text(text: str) -> None:
    edited = edit_document(text)
    raw, place, kept = text.encode(), 0, b""
    for edit in edited.edits:
        assert place <= edit.byte_start < edit.byte_end <= len(raw)
        assert edit.reason in (*REASONS, "repeated")
        assert edit.unit in ("sentence", "line", "paragraph")
        assert 0 <= edit.score <= 1
        kept += raw[place : edit.byte_start]
        place = edit.byte_end
    assert (kept + raw[place:]).decode() == edited.text


@pytest.mark.parametrize(("paragraphs", "bad"), [(ZH, BAD_ZH), (EN, BAD_EN)])
def test_planted_lines_and_sentences_go_and_the_rest_stays(paragraphs: list[str], bad: list[str]) -> None:
    good = "\n\n".join(paragraphs)
    assert edit_document(good).text == good
    gap = "" if paragraphs is ZH else " "
    for item in bad:
        assert edit_document("\n\n".join([*paragraphs[:2], item, paragraphs[2]])).text == good
        assert edit_document(good + "\n" + item + "\n").text == good
        if item.endswith((".", "！", "!")) and "Inc." not in item:
            inside = good.replace(paragraphs[1], paragraphs[1] + gap + item)
            edited = edit_document(inside)
            assert edited.text == good
            assert [edit.unit for edit in edited.edits] == ["sentence"]


def test_a_paragraph_that_goes_whole_is_one_edit() -> None:
    for paragraphs, bad in ((ZH, BAD_ZH), (EN, BAD_EN)):
        edited = edit_document("\n\n".join([paragraphs[0], "\n".join(bad[:2]), paragraphs[1]]))
        assert edited.text == "\n\n".join(paragraphs[:2])
        assert [edit.unit for edit in edited.edits] == ["paragraph"]


@pytest.mark.parametrize(
    "text",
    [
        "赌博在许多国家受到法律的严格限制，未成年人不得进入赌场。",
        "微信是腾讯公司于2011年推出的一款即时通讯软件。",
        "不可抗力是免责事由之一，但法律另有规定的除外。",
        "“你点击这里试试，”他指着屏幕对老人说。",
        "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。",
        "Advertising is the practice of drawing public attention to products and services.",
        "Copyright protects original works of authorship for a limited time.",
        '"Click here," she said, pointing at the blue button on the screen.',
        "Cookies are small pieces of data that a web server stores on a computer.",
        "def add(a, b):\n    return a + b",
    ],
)
def test_legitimate_mentions_stay(text: str) -> None:
    assert edit_document(text).text == text


def test_repetition() -> None:
    for paragraphs in (ZH, EN):
        twice = "\n\n".join([*paragraphs, paragraphs[0]])
        edited = edit_document(twice)
        assert edited.text == "\n\n".join(paragraphs)
        assert {edit.reason for edit in edited.edits} == {"repeated"}


def test_other_languages_are_left_alone() -> None:
    text = "Subscribe to our newsletter today!"
    assert edit_document(text, "de").text == text
    assert edit_document(text, "en").text == ""


def test_sentences_that_differ_in_a_number_are_not_repetitions() -> None:
    text = "\n".join(
        f"The {year} season was the longest of the whole club. It had {games} games and ended in a draw at www.club{year}.org."
        for year, games in ((2001, 13), (2011, 14), (2012, 15))
    )
    assert not [edit for edit in edit_document(text, "en").edits if edit.reason == "repeated"]
    again = text + "\n" + text.split("\n")[0]
    assert [edit.reason for edit in edit_document(again, "en").edits] == ["repeated"]


def test_many_are_as_one_by_one() -> None:
    rng = random.Random(0)
    texts = ["\n".join(rng.sample([*ZH, *EN, *BAD_ZH, *BAD_EN], 4)) for _ in range(20)] + ["", "\n"]
    assert edit_documents(texts) == [edit_document(text) for text in texts]
    with pytest.raises(ValueError, match="languages"):
        edit_documents(texts, ["zh"])


def test_bad_input() -> None:
    for text in ("", "a", "好", "\x00", "\ufffd", "\ue000", "́", "שלום", "\n" * 100):
        edit_document(text)
    assert edit_document("海" * 2_000_000).text == "海" * 2_000_000
    lines = "好的。\n" * 50_000
    assert len(edit_document(lines).text) <= len(lines)


def test_templates_are_deterministic_and_parse() -> None:
    for language in ("zh", "en"):
        first = list(generate(language, 200, 1))
        assert first == list(generate(language, 200, 1))
        assert {item.reason for item in first} <= set(REASONS)
        assert len({item.text for item in first}) > 150
        for author in AUTHORS:
            assert len(families_of(language, author)) >= 9
            own = list(generate(language, 100, 3, authors=(author,)))
            assert {item.family.split(":")[1] for item in own} == {author}
        held = {(item.family, item.template) for item in generate(language, 500, 2, fold=0)}
        assert not held & {
            (item.family, item.template) for item in generate(language, 500, 2, fold=0, held_out=True)
        }
    with pytest.raises(ValueError, match="without"):
        parse("<a|b")


def test_the_shipped_model_finds_what_it_was_taught() -> None:
    model = shipped()
    for language in ("zh", "en"):
        items = [item.text for item in generate(language, 300, 12345)]
        gone = sum(not edited.text.strip() for edited in edit_documents(items, model=model))
        assert gone / len(items) > 0.9
