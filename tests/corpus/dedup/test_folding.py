"""The shipped folding table against Unicode's data and OpenCC's dictionaries in this environment."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from haina.corpus.dedup.folding import (
    APART,
    CLASS_SHIFT,
    CONTINUE,
    HAN,
    IGNORED,
    LETTER,
    MARK,
    NOTHING,
    PATH,
    SURROGATES,
    TABLE_SIZE,
    class_of,
    fold_character,
    folded_form,
    load_folding,
    save_folding,
    variants,
)


def known_codes() -> list[int]:
    """Code points that are assigned both for this Python and for the one that built the table."""
    with np.load(PATH) as stored:
        bounds = stored["assigned"]
    built = np.zeros(TABLE_SIZE, dtype=np.int64)
    built[bounds] = 1
    inside = np.cumsum(built) % 2 == 1
    return [
        code
        for code in np.flatnonzero(inside).tolist()
        if unicodedata.category(chr(code)) != "Cn" and not SURROGATES[0] <= code < SURROGATES[1]
    ]


def expected_form(character: str) -> list[tuple[int, int, str]]:
    """`folded_form` by the rules themselves."""
    folded = fold_character(character)
    parts = [
        (class_of(part), unicodedata.combining(part) if class_of(part) == MARK else 0, part)
        for part in folded
    ]
    kinds = {kind for kind, _, _ in parts}
    if len(folded) > 1 and kinds & {NOTHING, HAN} and kinds & {LETTER, HAN}:
        return [(NOTHING, 0, ""), *parts, (NOTHING, 0, "")]
    return parts


def test_table_is_what_unicode_and_opencc_say() -> None:
    different = []
    codes = known_codes()
    for code in codes:
        found, expected = folded_form(chr(code)), expected_form(chr(code))
        if {kind for kind, _, _ in expected} <= {NOTHING, MARK, CONTINUE} and NOTHING in {
            k for k, _, _ in expected
        }:
            # What only separates has no form.
            found, expected = [found[0][:2]], [(NOTHING, 0)]
        if found != expected:
            different.append(hex(code))
    assert len(codes) > 140_000
    assert different == []


def test_table_was_built_by_the_code_beside_it(tmp_path: Path) -> None:
    save_folding(tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz") as again, np.load(PATH) as stored:
        if again["versions"].tolist() == stored["versions"].tolist():
            assert all(np.array_equal(again[name], stored[name]) for name in stored.files)
        else:
            # Another Unicode or OpenCC: no character may be assigned that was not, except new ones.
            assert len(again["sequences"]) >= len(stored["sequences"])


@pytest.mark.parametrize(
    ("character", "folded"),
    [
        ("Ａ", "a"), ("１", "1"), ("電", "电"), ("著", "着"), ("瞭", "了"), ("裡", "里"), ("衞", "卫"), ("é", "e\u0301"),
        ("ẞ", "ss"), ("ς", "σ"), ("㎏", "kg"), ("ﬁ", "fi"), ("が", "か\u3099"), ("ｶ", "カ"), ("각", "\u1100\u1161\u11a8"),
        ("\u0345", "\u0345"), ("\u00ad", ""), ("\ufe0f", ""), ("豈", "岂"), ("𠀀", "𠀀"), ("𐐀", "𐐨"), ("۳", "۳"),
    ],
)  # fmt: skip
def test_folded_characters(character: str, folded: str) -> None:
    target = "".join(part for _, _, part in folded_form(character))
    if len(character) == len(folded) == 1 and class_of(character) == HAN:
        # Forms of a group go by one of them, whichever it is.
        folded = "".join(part for _, _, part in folded_form(folded))
    assert target == folded


def test_folding_again_changes_nothing() -> None:
    table = load_folding().table
    for code in range(0, TABLE_SIZE, 7):
        for kind, _, folded in folded_form(chr(code)):
            if kind in (LETTER, HAN, MARK, CONTINUE):
                assert [part for _, _, part in folded_form(folded)] == [folded]
    assert set(np.unique(table >> CLASS_SHIFT)) >= {NOTHING, IGNORED, MARK, CONTINUE, LETTER, HAN, APART}


@pytest.mark.parametrize("conversion", ["t2s", "s2t", "s2tw", "s2hk", "tw2s", "hk2s"])
def test_scripts_of_common_characters_fold_together(conversion: str) -> None:
    from opencc import OpenCC

    # The common characters of GB 2312, in phrases that OpenCC knows or does not.
    common = "".join(
        bytes((row, cell)).decode("gb2312", "ignore")
        for row in range(0xB0, 0xD8)
        for cell in range(0xA1, 0xFF)
    )
    text = "\n".join(common[start : start + 5] for start in range(0, len(common), 3))
    converted = OpenCC(conversion).convert(text)

    def fold(text: str) -> str:
        return "".join(chr(variants().get(ord(character), ord(character))) for character in text)

    assert fold(converted) == fold(text)
