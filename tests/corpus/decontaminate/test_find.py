"""What counts as an item in a text, whatever its dress, and what does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opencc import OpenCC

from haina.corpus.decontaminate import (
    Index,
    Item,
    build_index,
    find,
    find_contamination,
    load_index,
    save_index,
)
from haina.runtime.errors import HainaError

ZH = "图书馆在早上九点开门，读者需要出示证件才能进入阅览室。" * 6
EN = "The library opens at nine in the morning, and readers show a card before they enter the room. " * 6
WIDE = str.maketrans(
    {chr(code): chr(code + 0xFEE0) for code in (*range(0x30, 0x3A), *range(0x41, 0x5B), *range(0x61, 0x7B))}
)


def found(text: str, index: Index, items: tuple[Item, ...]) -> list[str]:
    return [f"{items[item].file[:2]}{items[item].item}" for item in find_contamination([text], index).items]


def planted(item: Item, style: str = "list") -> str:
    marks = {
        "list": ["\nA. ", "\nB. ", "\nC. ", "\nD. "],
        "run": [" (1) ", "; (2) ", "; (3) ", "; (4) "],
        "none": [],
    }[style]
    return item.question + "".join(mark + option for mark, option in zip(marks, item.options, strict=False))


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize(
    "dress", ["plain", "wide", "script", "order", "running", "lines", "bare punctuation"]
)
def test_items_are_found_in_any_dress(number: int, dress: str, index: Index, items: tuple[Item, ...]) -> None:
    item = items[number]
    if dress == "order":
        item = Item(item.file, item.item, item.field, item.question, item.options[::-1], item.passage)
    body = (item.passage + "\n" if item.passage else "") + planted(
        item, "run" if dress == "running" else "list"
    )
    changed = {
        "wide": lambda text: text.translate(WIDE),
        "script": lambda text: OpenCC("s2t").convert(text).upper(),
        "lines": lambda text: (
            "\n".join(text[place : place + 12] for place in range(0, len(text), 12))
            if item.file[0] == "z"
            else text.replace(" ", "\n")
        ),
        "bare punctuation": lambda text: "".join(" " if mark in "，。？?,.“”" else mark for mark in text),
    }.get(dress, lambda text: text)(body)
    filler = ZH if item.file[0] == "z" else EN
    text = f"{filler}\n{changed}\n{filler}"
    assert found(text, index, items) == [f"{item.file[:2]}{item.item}"]


def test_spans_are_right_to_the_byte(index: Index, items: tuple[Item, ...]) -> None:
    body = planted(items[0]).replace("____。", "（  ）。")
    text = f"😀 {ZH}\n{body}\n{ZH}"
    match = find_contamination([EN, text], index)
    assert match.texts.tolist() == [1]
    assert text.encode()[match.starts[0] : match.ends[0]].decode() == body
    assert match.scores[0] == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "下列说法正确的是，读者不必携带证件。",
        "Which of the following is correct? The readers, or the librarians?",
        "海內存知己，天涯若比鄰。無為在歧路，兒女共沾巾。",
        "税务行政复议的申请人可以在得知税务机关作出具体行政行为之日起六十日内提出行政复议申请。",
        "The hyoid bone develops from the second and third pharyngeal arches.",
        "己烯、甲苯、苯酚、乙醛",
        "The harbour master climbed the tower at dusk, as he had done for thirty years, and sat beside the unlit lamp.",
        "",
        "A",
        "。。。",
    ],
)
def test_what_a_question_quotes_or_shares_is_no_item(
    text: str, index: Index, items: tuple[Item, ...]
) -> None:
    assert found(f"{ZH}{text}{EN}", index, items) == []
    assert found(text, index, items) == []


def test_question_alone_and_small_edits(index: Index, items: tuple[Item, ...]) -> None:
    assert found(ZH + "\n" + items[0].question + "\n" + ZH, index, items) == ["zh0"]
    assert found(EN + "\nNatalia had sold clips to 48 of her friends in April and then sold half as many in May. How many clips did she sell altogether in April and May?", index, items) == ["en2"]  # fmt: skip


def test_equal_items_are_all_reported() -> None:
    first = Item("a.csv", "0", "question", "論證的三重功能不包括：", ("證成", "推論", "說服", "反駁"))
    second = Item("b.csv", "9", "question", "论证的三重功能不包括", ("反驳", "说服", "推论", "证成"))
    match = find_contamination([planted(first)], build_index([first, second]))
    assert match.items.tolist() == [0, 1]
    assert match.starts[0] == match.starts[1]


def test_too_short_items_are_named(index: Index, items: tuple[Item, ...]) -> None:
    assert [items[number].question for number in index.too_short] == ["A"]


def test_a_text_does_not_depend_on_its_neighbours(index: Index, items: tuple[Item, ...]) -> None:
    texts = [ZH + planted(items[0]), EN, "", EN + planted(items[5], "run") + ZH + planted(items[2]), ZH]
    whole = find_contamination(texts, index)
    for number, text in enumerate(texts):
        alone = find_contamination([text], index)
        of_text = whole.texts == number
        for column, other in zip(whole[1:], alone[1:], strict=True):
            assert column[of_text].tolist() == other.tolist()


@given(cut=st.integers(0, 700))
def test_long_texts_in_pieces(index: Index, items: tuple[Item, ...], cut: int) -> None:
    text = (ZH * 3)[:cut] + planted(items[0]) + EN * 2 + planted(items[5]) + ZH
    expected = find_contamination([text], index)
    old = find.BATCH_BYTES, find.OVERLAP_BYTES
    try:
        find.BATCH_BYTES, find.OVERLAP_BYTES = 1500, 900
        pieces = find_contamination([text], index)
    finally:
        find.BATCH_BYTES, find.OVERLAP_BYTES = old
    for one, other in zip(pieces, expected, strict=True):
        assert one.tolist() == other.tolist()


def test_a_page_that_repeats_itself(index: Index, items: tuple[Item, ...]) -> None:
    text = (items[0].question + "己烯" + "下列") * 2000
    assert set(found(text, index, items)) == {"zh0"}


def test_saved_index_is_the_same(tmp_path: Path, index: Index, items: tuple[Item, ...]) -> None:
    save_index(index, tmp_path / "a.index")
    save_index(build_index(items), tmp_path / "b.index")
    assert (tmp_path / "a.index").read_bytes() == (tmp_path / "b.index").read_bytes()
    loaded = load_index(tmp_path / "a.index")
    for name, array in index.arrays._asdict().items():
        assert np.array_equal(array, getattr(loaded.arrays, name)), name
    assert loaded.item_names == index.item_names
    assert loaded.files == ("zh.csv", "en.csv")
    assert found(planted(items[0]), loaded, items) == ["zh0"]
    (tmp_path / "a.index").write_bytes((tmp_path / "a.index").read_bytes()[:-100])
    with pytest.raises(HainaError, match="not a whole index"):
        load_index(tmp_path / "a.index")
