"""The kernels of language identification against their plain references, on anything."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.characters import class_table, code_points
from haina.corpus.language import pieces, reference, shapes
from haina.corpus.language.tables import tables

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
TELLING = st.lists(
    st.sampled_from(
        ["the ", "with ", "Naïve ", "of", "def f(x_1):", "\n", "\n    ", "\t", " ", ". ", "。", "；", "我們", "这是", "嘅", "而家", "係咪", "気", "図", "々",
         "カメラ", "です", "한국어", "Привет ", "ไทย", "１２", "3.14", "(", "「", "a_b", "HTTPServer", "x" * 30, "\0", "\ue000", "\U0001f600", "𠮶", "é", "\u0301", "汉" * 9]
    ),
    max_size=60,
).map("".join)  # fmt: skip
TEXT = ANY | TELLING


@given(TEXT)
def test_pieces(text: str) -> None:
    codes = code_points(text)
    starts = np.empty(len(codes) + 1, dtype=np.int64)
    count = pieces.cut(codes, class_table(), starts)
    assert starts[: count + 1].tolist() == reference.cut(text)


@given(TEXT)
def test_counts(text: str) -> None:
    codes = code_points(text)
    borders = sorted({0, len(text) // 2, len(text)})
    starts = np.array(borders, dtype=np.int64)
    rows = np.zeros((len(starts) - 1, pieces.COLUMNS), dtype=np.int32)
    pieces.count(codes, starts, tables(), rows)
    assert rows.tolist() == [reference.count(text[a:b]) for a, b in pairwise(borders)]


@given(TEXT)
def test_shapes(text: str) -> None:
    codes = code_points(text)
    buckets, places = np.empty(4 * len(codes), np.int32), np.empty(4 * len(codes), np.int64)
    size = shapes.features(codes, class_table(), buckets, places)
    plain = reference.features(text)
    assert list(zip(buckets[:size].tolist(), places[:size].tolist(), strict=True)) == plain
    borders = sorted({0, len(text) // 2, len(text)})
    starts = np.array(borders, dtype=np.int64)
    sums, tokens = np.zeros(len(starts) - 1, np.float32), np.zeros(len(starts) - 1, np.int32)
    weights = np.arange(shapes.BUCKETS, dtype=np.float32)
    if text:
        shapes.score(codes, class_table(), weights, starts, sums, tokens)
        for piece, (low, high) in enumerate(pairwise(borders)):
            own = [bucket for bucket, place in plain if low <= place < high]
            assert tokens[piece] == len(own)
            assert sums[piece] == np.float32(sum(own))
