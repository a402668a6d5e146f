"""Kernels against plain Python, on random and hostile text."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.decontaminate import Index, Item, build_index
from haina.corpus.decontaminate.grams import fold_tokens, gram_at, gram_plain, token_units
from haina.corpus.decontaminate.lookup import find_seeds
from haina.corpus.decontaminate.marks import ask_start, blank_place, frame_tokens, quoted
from haina.corpus.decontaminate.reference import features_plain
from haina.corpus.decontaminate.score import FEATURES, gather, score_group
from haina.corpus.decontaminate.seeds import SEED_UNITS
from haina.corpus.decontaminate.surprise import load_table, surprise
from haina.corpus.dedup.shingles import tokenize_batch, tokens_of
from haina.corpus.utf8 import pack

WORDS = [
    *"税务机关作出具体行政行为下列说法正确的是己烯甲苯",
    "the",
    "hyoid",
    "bone",
    "Ａ",
    "x",
    "1",
    "48",
    "é",
    "かな",
    " ",
    "\n",
    "，",
    ".",
    "😀",
]
TEXT = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join) | st.text(max_size=60).filter(
    lambda text: text.isprintable()
)


def arrays_of(texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    data, offsets = pack(texts)
    tokens = tokenize_batch(data, offsets)
    return (
        fold_tokens(tokens.hashes),
        token_units(data, offsets, tokens.starts, tokens.ends, tokens.documents),
        tokens.documents,
    )


def test_units_of_both_languages() -> None:
    tokens, units, _ = arrays_of(["论证 the x 1 48 é Ａ が"])
    assert len(tokens) == len(units) == 9
    assert units.tolist() == [1, 1, 2, 1, 1, 2, 1, 1, 1]


@given(TEXT, st.integers(1, 8))
def test_runs(text: str, size: int) -> None:
    tokens, units, _ = arrays_of([text])
    for place in range(len(tokens)):
        plain = gram_plain(tokens[place:].tolist(), units[place:].tolist(), size)
        assert gram_at(tokens, units, place, len(tokens), size) == plain


@given(st.lists(TEXT, max_size=4))
def test_seeds(index: Index, texts: list[str]) -> None:
    texts = [*texts, "".join(texts) + "税务行政复议的申请人可以在得知税务机关作出具体行政行为之日起"]
    tokens, units, documents = arrays_of(texts)
    places = {int(value): number for number, value in enumerate(index.arrays.seeds.tolist())}
    expected = []
    for document, (low, high) in enumerate(itertools.pairwise(documents)):
        for place in range(low, high):
            for size in (4, SEED_UNITS):
                value, length = gram_plain(tokens[place:high].tolist(), units[place:high].tolist(), size)
                if length and value in places:
                    expected.append((document, place, places[value]))
    # A hash that two filters know is looked up once; both sizes of a run can be the same tokens.
    assert set(
        zip(*(column.tolist() for column in find_seeds(tokens, units, documents, index.arrays)), strict=True)
    ) == set(expected)
    assert expected


@given(st.data())
def test_features_of_a_range(index: Index, items: tuple[Item, ...], data: st.DataObject) -> None:
    group = data.draw(st.integers(0, len(index.arrays.questions) - 1))
    item = items[index.arrays.items[index.arrays.item_starts[group]]]
    seed = random.Random(data.draw(st.integers(0, 10**6)))
    pieces = [
        item.question,
        *item.options,
        item.passage,
        "x is 己烯的是",
        "the second",
        item.question[: len(item.question) // 2],
    ]
    seed.shuffle(pieces)
    text = " ".join(piece[: seed.randrange(len(piece) + 1)] for piece in pieces * seed.randrange(1, 3))
    tokens, units, _ = arrays_of([text])
    low, high = sorted((seed.randrange(len(tokens) + 1), seed.randrange(len(tokens) + 1)))
    if seed.random() < 0.7:
        low, high = 0, len(tokens)
    whole = gather(group, index.arrays)
    got = dict(
        zip(FEATURES, score_group(tokens, units, low, high, group, index.arrays).tolist(), strict=True)
    )
    expected = features_plain(whole, tokens.tolist(), units.tolist(), low, high)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-3), (name, text)


def test_surprise() -> None:
    table = load_table()
    assert len(table.singles) > 39_900
    assert len(table.pairs) > 99_900

    def bits(text: str) -> float:
        tokens = tokens_of(text)
        return float(surprise(tokens, np.array([0, len(tokens)])).sum())

    assert bits("中华人民共和国") < 40 < bits("高锰酸钾溶液褪色")
    assert bits("one of the most") < 30 < bits("the pharyngeal arches")
    # What many parts repeat is cheap, what one part repeats is not.
    tokens = tokens_of("the hyoid bone")
    many = surprise(np.tile(tokens, 300), np.arange(301) * len(tokens))
    once = surprise(np.tile(tokens, 300), np.array([0, 300 * len(tokens)]))
    assert many[: len(tokens)].sum() < once[: len(tokens)].sum() - 15


def test_marks() -> None:
    def starts(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        data, offsets = pack([text])
        tokens = tokenize_batch(data, offsets)
        return (
            tokens.starts,
            tokens.ends,
            token_units(data, offsets, tokens.starts, tokens.ends, tokens.documents),
        )

    text = "他说：“海内存知己，天涯若比邻。”请问作者是谁"
    begin, end, units = starts(text)
    assert quoted(text, begin).tolist() == list(range(2, 12))
    assert ask_start(text, begin, units) == 12
    assert frame_tokens(tokens_of(text)).nonzero()[0].tolist() == [17]
    assert blank_place(text, begin, end) == -1
    for blank, place in (
        ("得知之日起____日内", 5),
        ("国防法，于（　）由八届", 4),
        ("the ( ) of it", 1),
        ("是____。", -1),
        ("f(x)等于", -1),
        ("____是公民", 0),
    ):
        begin, end, _ = starts(blank)
        assert blank_place(blank, begin, end) == place, blank


def test_no_items() -> None:
    empty = build_index([])
    tokens, units, documents = arrays_of(["下列 text"])
    assert find_seeds(tokens, units, documents, empty.arrays).shape == (3, 0)
