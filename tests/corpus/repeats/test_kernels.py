"""Kernels against their plain counterparts: units, windows, keys and hash tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.dedup.shingles import tokenize_batch
from haina.corpus.repeats.scanner import _unit_keys, unit_key_plain
from haina.corpus.repeats.tables import FIELDS, HashSet, KeyTable, Occurrences, contains
from haina.corpus.repeats.units import BLANKS, NEWLINES, UNITS, Unit, plain_units, units, units_batch
from haina.corpus.repeats.windows import (
    GRAM_SEED,
    batch_minimizers,
    batch_windows,
    gram_width,
    run_hash_plain,
    run_hashes,
    smallest_of,
)
from haina.corpus.utf8 import pack

pieces = st.sampled_from(
    [*"a.,!?甲乙。，“”…é１２ﬀ😀\x85", "\r\n", "\n\n", *BLANKS, *NEWLINES, "Mr. Li", "他说：", "北京"]
)
texts = st.lists(pieces, max_size=30).map("".join)


@given(st.lists(texts, min_size=1, max_size=4), st.sampled_from(UNITS))
def test_units_are_those_of_the_plain_splitter(found: list[str], level: Unit) -> None:
    expected = [plain_units(text, level) for text in found]
    data, offsets = pack(found)
    starts, ends, bounds = units_batch(data, offsets, level)
    for number, own in enumerate(expected):
        part = slice(bounds[number], bounds[number + 1])
        base = offsets[number]
        assert list(zip((starts[part] - base).tolist(), (ends[part] - base).tolist(), strict=True)) == own
    assert units(found[0], level) == expected[0]


@pytest.mark.parametrize(
    ("text", "level", "expected"),
    [
        ("  甲\u3000\r\n\r\n\tb c \n", "line", ["甲", "b c"]),
        ("甲\n乙\n\n丙\nd", "paragraph", ["甲\n乙", "丙\nd"]),
        ("甲\n乙\n丙", "paragraph", ["甲", "乙", "丙"]),
        ("\n\n甲\n乙\n\n", "paragraph", ["甲", "乙"]),
        ("一。二！Three? Four.", "sentence", ["一。", "二！", "Three?", "Four."]),
        ("", "line", []),
        (" \n\u3000\n", "paragraph", []),
    ],
)
def test_units_of_known_texts(text: str, level: Unit, expected: list[str]) -> None:
    raw = text.encode()
    assert [raw[start:end].decode() for start, end in units(text, level)] == expected


def test_many_short_lines_find_room() -> None:
    assert len(units("a\n" * 5000, "line")) == 5000


values_of_few = st.one_of(
    st.lists(st.integers(0, 3), max_size=60),
    st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.integers(2, 20)).map(
        lambda pair: pair[0] * pair[1]
    ),
)
few = values_of_few.map(lambda values: np.array(values, dtype=np.uint64) * np.uint64(1 << 60))


@given(few, st.integers(1, 24))
def test_run_hashes_are_by_definition(tokens: np.ndarray, width: int) -> None:
    plain = tokens.tolist()
    expected = [
        run_hash_plain(plain[start : start + width], GRAM_SEED) for start in range(len(plain) - width + 1)
    ]
    assert run_hashes(tokens, width, np.uint64(GRAM_SEED)).tolist() == expected


@given(few, st.integers(1, 24))
def test_smallest_of_each_window(values: np.ndarray, width: int) -> None:
    plain = values.tolist()
    assert smallest_of(values, width).tolist() == [
        min(plain[start : start + width]) for start in range(len(plain) - width + 1)
    ]


@given(st.lists(few, min_size=1, max_size=4), st.sampled_from([8, 9, 12, 17]))
def test_no_repeated_window_is_missed_before_keys(documents: list[np.ndarray], width: int) -> None:
    tokens = np.concatenate(documents)
    bounds = np.concatenate([[0], np.cumsum([len(own) for own in documents])]).astype(np.int64)
    skips = np.zeros(len(documents), dtype=np.int64)
    gram = gram_width(width)
    hashes = HashSet()
    values, twice = batch_minimizers(tokens, bounds, skips, width, gram)
    hashes.add(values, twice)
    repeated = HashSet()
    repeated.add(hashes.values[: hashes.count][hashes.seen[: hashes.count]])
    piece, first, route, high, low = batch_windows(
        tokens, bounds, skips, width, gram, repeated.slots, repeated.values
    )
    windows: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for number, own in enumerate(documents):
        for start in range(len(own) - width + 1):
            windows.setdefault(tuple(own[start : start + width].tolist()), []).append((number, start))
    wanted = {place for places in windows.values() if len(places) > 1 for place in places}
    found = list(zip(piece.tolist(), first.tolist(), strict=True))
    assert len(set(found)) == len(found)
    assert wanted <= set(found)
    # Equal windows, and only those, share key and route.
    keys = {
        place: (left, right, way)
        for place, left, right, way in zip(found, high.tolist(), low.tolist(), route.tolist(), strict=True)
    }
    by_key: dict[tuple[int, int, int], set[tuple[int, ...]]] = {}
    for (number, start), key in keys.items():
        by_key.setdefault(key, set()).add(tuple(documents[number][start : start + width].tolist()))
    assert all(len(same) == 1 for same in by_key.values())
    assert len(by_key) == len({next(iter(same)) for same in by_key.values()})


def test_minimizers_of_random_text_are_few() -> None:
    tokens = np.random.default_rng(0).integers(0, 1 << 63, 100_000).astype(np.uint64)
    bounds = np.array([0, len(tokens)], dtype=np.int64)
    values, twice = batch_minimizers(tokens, bounds, np.zeros(1, dtype=np.int64), 50, gram_width(50))
    # Expected density of winnowing: 2 / (w + 1) for w = 35 grams a window.
    assert abs(len(values) / len(tokens) - 2 / 36) < 0.002
    assert not twice.any()


def test_periodic_text_gives_one_hash() -> None:
    tokens = np.full(100_000, 7, dtype=np.uint64)
    bounds = np.array([0, len(tokens)], dtype=np.int64)
    values, twice = batch_minimizers(tokens, bounds, np.zeros(1, dtype=np.int64), 50, gram_width(50))
    assert (len(values), twice.tolist()) == (1, [True])


@given(st.lists(st.lists(st.integers(0, 40), max_size=40), max_size=60))
def test_hash_set_counts_like_a_dict(parts: list[list[int]]) -> None:
    found = HashSet()
    counts: dict[int, int] = {}
    for part in parts:
        # Multiples of a large power of two: the lowest bits of all are equal.
        values = [value << 56 for value in part]
        found.add(np.array(values, dtype=np.uint64))
        for value in values:
            counts[value] = counts.get(value, 0) + 1
    assert found.values[: found.count].tolist() == list(counts)
    assert found.seen[: found.count].tolist() == [count > 1 for count in counts.values()]
    assert all(contains(np.uint64(value), found.slots, found.values) for value in counts)
    assert not contains(np.uint64(1), found.slots, found.values)


def test_hash_set_grows() -> None:
    values = np.arange(100_000, dtype=np.uint64) * np.uint64(3)
    found = HashSet()
    for part in np.array_split(values, 7):
        found.add(part)
    found.add(values[::2])
    assert found.count == len(values)
    assert found.seen[: found.count].tolist() == [index % 2 == 0 for index in range(len(values))]


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=200), max_size=5))
def test_key_table_counts_documents_and_keeps_the_best(parts: list[list[tuple[int, int]]]) -> None:
    table = KeyTable()
    expected: dict[int, list[tuple[int, int]]] = {}
    position, document = 0, 0
    for part in parts:
        rows = []
        for key, step in part:
            document, position = document + (step == 0), position + 1
            # Later documents are better, so the best place changes.
            rows.append((key, document, -document, position))
            expected.setdefault(key, []).append((document, position))
        columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
        keys = columns[0].astype(np.uint64)
        once = np.ones(len(keys), dtype=np.int64)
        table.add(
            Occurrences(
                keys,
                keys,
                keys,
                columns[1].copy(),
                columns[2].copy(),
                columns[3].copy(),
                columns[3].copy(),
                columns[3].copy(),
                once,
                once,
                once,
            )
        )
    found = table.rows()
    assert found.high.tolist() == list(expected)
    assert found.occurrences.tolist() == [len(places) for places in expected.values()]
    assert found.documents.tolist() == [len({place[0] for place in places}) for places in expected.values()]
    best = [min(places, key=lambda place: (-place[0], place[1])) for places in expected.values()]
    assert list(zip(found.document.tolist(), found.start.tolist(), strict=True)) == best
    if len(found):
        unknown = np.array([99], dtype=np.uint64)
        assert table.find(unknown, unknown).tolist() == [-1]


def test_key_table_tells_keys_apart_by_either_half() -> None:
    high, low = np.array([5, 5, 6, 5], dtype=np.uint64), np.array([1, 2, 1, 1], dtype=np.uint64)
    fields = {name: np.ones(4, dtype=np.int64) for name in FIELDS[3:]}
    fields["document"] = np.arange(4)
    table = KeyTable()
    table.add(Occurrences(high, low, high, **fields))
    assert table.rows().occurrences.tolist() == [2, 1, 1]


@given(st.lists(texts, min_size=1, max_size=3), st.sampled_from(UNITS))
def test_unit_keys_are_of_the_tokens_inside(found: list[str], level: Unit) -> None:
    data, offsets = pack(found)
    tokens = tokenize_batch(data, offsets)
    starts, ends, bounds = units_batch(data, offsets, level)
    high, low, counts, piece = _unit_keys(
        tokens.hashes, tokens.starts, tokens.documents, offsets, starts, ends, bounds
    )
    for index in range(len(starts)):
        own = slice(tokens.documents[piece[index]], tokens.documents[piece[index] + 1])
        places = tokens.starts[own] + offsets[piece[index]]
        inside = tokens.hashes[own][(places >= starts[index]) & (places < ends[index])].tolist()
        assert counts[index] == len(inside)
        assert (high[index], low[index]) == unit_key_plain(inside)
