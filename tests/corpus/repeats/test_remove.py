"""What is left of a text when spans go: it reads on, and the edits say exactly what was done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.dedup.shingles import tokens_of
from haina.corpus.edits import apply, restore
from haina.corpus.repeats.remove import Span, remove_units
from haina.corpus.repeats.units import BLANKS, NEWLINES, UNITS, Unit, units


def _without(text: str, gone: list[str], unit: str) -> str:
    raw = text.encode()
    spans = [Span(raw.index(item.encode()), raw.index(item.encode()) + len(item.encode())) for item in gone]
    (result,) = remove_units([text], [spans], unit)
    assert apply(text, result.edits) == result.text
    assert "".join(piece for piece, _ in restore(result.text, result.edits)) == text
    return result.text


@pytest.mark.parametrize(
    ("text", "gone", "unit", "left"),
    [
        ("甲\n乙\n丙", ["乙"], "line", "甲\n丙"),
        ("甲\n\n乙\n丙", ["乙"], "line", "甲\n\n丙"),
        ("甲\n乙\n\n丙", ["乙"], "line", "甲\n\n丙"),
        ("甲\n\n乙\n\n丙\n", ["乙"], "paragraph", "甲\n\n丙\n"),
        ("甲\n\n乙\n\n丙\n", ["甲"], "paragraph", "乙\n\n丙\n"),
        ("甲\n\n乙\n\n丙\n", ["丙"], "paragraph", "甲\n\n乙"),
        ("甲\n\n乙\n\n丙", ["甲", "丙"], "paragraph", "乙"),
        ("甲\r\n乙\r\n丙", ["乙"], "line", "甲\r\n丙"),
        ("一。二。三。", ["二。"], "sentence", "一。三。"),
        ("One. Two. Three.", ["Two."], "sentence", "One. Three."),
        ("One. Two.\nThree.", ["Two."], "sentence", "One.\nThree."),
        ("One.\nTwo. Three.", ["Two."], "sentence", "One.\nThree."),
        ("甲\u3000乙 丙", ["乙"], "span", "甲\u3000丙"),
        ("One two three, four five. Six.", ["two three", "four five"], "span", "One Six."),
        ("He said: “One two.” She left.", ["One two"], "span", "He said: She left."),
        ("他说：“好的。”她走了。", ["好的"], "span", "他说：她走了。"),
        ("one-two-three", ["two"], "span", "one-three"),
        ("abc甲def", ["甲"], "span", "abc def"),
        ("甲abc乙", ["abc"], "span", "甲乙"),
        ("甲乙丙", ["乙"], "span", "甲丙"),
        ("甲\n乙", ["甲", "乙"], "line", ""),
        (" 甲 ", ["甲"], "line", ""),
    ],
)
def test_what_is_left_reads_on(text: str, gone: list[str], unit: str, left: str) -> None:
    assert _without(text, gone, unit) == left


def test_one_edit_a_span_with_its_score_and_reason() -> None:
    text = "甲\n\n乙\n\n丙\n\n丁"
    spans = [Span(5, 8, 0.9, "near"), Span(10, 13, 0.8)]
    (result,) = remove_units([text], [spans], "paragraph")
    assert result.text == "甲\n\n丁"
    assert [(edit.start, edit.end, edit.score, edit.reason, edit.removed) for edit in result.edits] == [
        (5, 10, 0.9, "near", "乙\n\n"),
        (10, 15, 0.8, "repeated", "丙\n\n"),
    ]
    assert {edit.unit for edit in result.edits} == {"paragraph"}


def test_a_text_of_which_only_marks_are_left_is_empty() -> None:
    (result,) = remove_units(["“甲乙丙”——\n"], [[Span(3, 12)]], "line")
    assert result.text == "“”——\n"
    assert result.is_empty
    assert not remove_units(["甲"], [[]], "line")[0].is_empty
    assert remove_units([""], [[]], "line")[0].is_empty


@pytest.mark.parametrize(
    "spans", [[Span(3, 6), Span(5, 8)], [Span(6, 9), Span(0, 3)], [Span(0, 99)], [Span(3, 3)]]
)
def test_wrong_spans_are_refused(spans: list[Span]) -> None:
    with pytest.raises(ValueError, match="overlaps"):
        remove_units(["甲乙丙丁"], [spans], "line")


pieces = st.sampled_from(
    ["甲。", "b c. ", "“d”", "é", "\n", "\r\n", "\n\n", "，", "😀", *BLANKS[:3], *NEWLINES[-2:], "e\u0301x "]
)


@given(st.lists(pieces, max_size=25).map("".join), st.sampled_from(UNITS), st.randoms(use_true_random=False))
def test_other_units_stay_as_they_are(text: str, level: Unit, choose) -> None:  # type: ignore[no-untyped-def]
    raw = text.encode()
    found = units(text, level)
    gone = [span for span in found if choose.random() < 0.4]
    (result,) = remove_units([text], [[Span(*span) for span in gone]], level)
    assert apply(text, result.edits) == result.text
    assert "".join(piece for piece, _ in restore(result.text, result.edits)) == text
    assert len(result.edits) == len(gone)
    kept = [raw[start:end].decode() for start, end in found if (start, end) not in gone]
    place = 0
    for unit in kept:
        place = result.text.index(unit, place) + len(unit)
    if level != "sentence":
        assert [result.text.encode()[start:end].decode() for start, end in units(result.text, "line")] == [
            line for unit in kept for line in (unit.encode()[a:b].decode() for a, b in units(unit, "line"))
        ]


@given(st.lists(pieces, max_size=25).map("".join), st.randoms(use_true_random=False))
def test_no_token_is_made_or_lost_but_those_of_the_spans(text: str, choose) -> None:  # type: ignore[no-untyped-def]
    from haina.corpus.dedup.shingles import tokenize_batch
    from haina.corpus.utf8 import pack

    tokens = tokenize_batch(*pack([text]))
    count = len(tokens.hashes)
    spans, kept, place = [], [], 0
    while place < count:
        size = choose.randrange(1, 4)
        if choose.random() < 0.4 and place + size < count:
            spans.append(Span(int(tokens.starts[place]), int(tokens.ends[place + size - 1])))
            place += size
        kept += [tokens.hashes[place]] if place < count else []
        place += 1
    (result,) = remove_units([text], [spans], "span")
    assert apply(text, result.edits) == result.text
    assert tokens_of(result.text).tolist() == [int(value) for value in kept]
