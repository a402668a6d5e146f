"""The fast learning of merges against the plain one, and text becoming symbols."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime.errors import HainaError
from haina.tokenizer.merge_kernel import HOLE, compact, fingerprint, learn, moved_borders
from haina.tokenizer.merge_reference import Symbol, learn_plainly
from haina.tokenizer.symbols import NEVER, PASSAGE, covered, joins, kind_of, prepare, spelt

Texts = list[tuple[list[Symbol], int]]


def learn_fast(
    texts: Sequence[tuple[Sequence[Symbol], int]],
    known: Sequence[bytes],
    widest: int,
    wanted: int,
    largest: int,
    floor: int,
    cap: int,
    barred: Sequence[bytes] = (),
) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Merges, what each counted, and the symbols that are left, through the kernel."""
    number = {piece: at for at, piece in enumerate(known)}
    rows = [
        (number.get(data, HOLE), gap if at else NEVER)
        for symbols, _ in texts
        for at, (data, gap) in enumerate(symbols)
    ]
    symbols = np.array([row[0] for row in rows], np.int32)
    gaps = np.array([row[1] for row in rows], np.uint8)
    borders = np.cumsum([0, *(len(symbols) for symbols, _ in texts)], dtype=np.int64)
    sizes = np.zeros(len(known) + wanted, np.int32)
    sizes[: len(known)] = [len(piece) for piece in known]
    prints = np.zeros(len(known) + wanted, np.uint64)
    prints[: len(known)] = [fingerprint(piece) for piece in known]
    spans = np.ones(len(symbols), np.uint8)
    pairs, counts = learn(
        symbols, spans, gaps, widest, borders, np.array([weight for _, weight in texts], np.int64), sizes, prints,
        len(known), wanted, largest, floor, cap, np.array([fingerprint(data) for data in barred], np.uint64),
        np.zeros(2, np.int64),
    )  # fmt: skip
    moved = moved_borders(spans, borders)
    left = symbols[: compact(symbols, spans, gaps)]
    assert moved[0] == 0
    assert moved[-1] == len(left)
    for first, last, (row, _) in zip(moved[:-1], moved[1:], texts, strict=True):
        pieces = [*known, *([b""] * len(pairs))]
        for at, (one, other) in enumerate(pairs.tolist()):
            pieces[len(known) + at] = pieces[one] + pieces[other]
        there = [data if data in number else None for data, _ in row]
        back = [pieces[symbol] if symbol >= 0 else None for symbol in left[first:last].tolist()]
        assert b"".join(piece or b"?" for piece in back) == b"".join(data or b"?" for data in there)
    return [tuple(pair) for pair in pairs.tolist()], counts.tolist(), left.tolist()


letters = st.sampled_from([b"a", b"b", b"\xe6\xb5\xb7", b"\xe7\xba\xb3", b"?"])
symbols = st.lists(st.tuples(letters, st.sampled_from([0, 0, 0, 1, NEVER])), max_size=40)
texts = st.lists(st.tuples(symbols, st.integers(0, 3)), min_size=1, max_size=5)


@settings(max_examples=400, deadline=None)
@given(
    texts=texts,
    widest=st.integers(0, 1),
    wanted=st.integers(0, 25),
    largest=st.sampled_from([2, 3, 6, 30]),
    floor=st.integers(1, 3),
    cap=st.sampled_from([1, 2, 100]),
    barred=st.lists(st.sampled_from([b"ab", b"aa", "海纳".encode(), b"aab"]), max_size=2),
)
def test_the_kernel_makes_the_merges_of_the_plain_version(
    texts: Texts, widest: int, wanted: int, largest: int, floor: int, cap: int, barred: list[bytes]
) -> None:
    known = [b"a", b"b", "海".encode(), "纳".encode()]
    settings_ = (known, widest, wanted, largest, floor, cap, barred)
    fast, counts, _ = learn_fast(texts, *settings_)
    assert fast == learn_plainly(texts, *settings_)
    assert counts == sorted(counts, reverse=True) or widest == 1 or barred or largest < 30
    assert all(count >= floor for count in counts)


def test_stopping_in_the_middle() -> None:
    control = np.array([0, 1], np.int64)
    symbols = np.zeros(8, np.int32)
    pairs, _ = learn(
        symbols, np.ones(8, np.uint8), np.zeros(8, np.uint8), 0, np.array([0, 8]), np.array([1]),
        np.ones(9, np.int32), np.arange(9, dtype=np.uint64), 1, 8, 99, 1, 99, np.array([], np.uint64), control,
    )  # fmt: skip
    assert len(pairs) == 0


@given(data=st.binary(max_size=20), other=st.binary(max_size=20))
def test_fingerprints_of_joined_bytes_follow_from_their_parts(data: bytes, other: bytes) -> None:
    power = pow(0xD6E8FEB86659FD93, len(other), 1 << 64)
    assert fingerprint(data + other) == (fingerprint(data) * power + fingerprint(other)) % (1 << 64)


@pytest.mark.parametrize(
    ("character", "kind"),
    [
        ("7", "alone"), ("７", "alone"), ("②", "alone"), ("Ⅷ", "alone"), ("〇", "alone"), ("\U000323b0", "alone"),
        ("\n", "line_end"), (" ", "space"), ("\u3000", "space"), ("\t", "space"),
        ("a", "letter"), ("é", "letter"), ("\u0301", "letter"), ("カ", "letter"), ("ж", "letter"),
        ("海", "han"), ("納", "han"), ("𠮷", "han"), ("々", "han"),
        (".", "mark"), ("_", "mark"), ("€", "mark"), ("😀", "mark"), ("\x00", "mark"),
        ("，", "han_mark"), ("。", "han_mark"), ("「", "han_mark"), ("—", "han_mark"),
    ],
)  # fmt: skip
def test_kinds_of_characters(character: str, kind: str) -> None:
    assert kind_of(character) == kind
    assert joins().names[joins().kinds[ord(character)]] == kind


def test_what_may_share_a_piece() -> None:
    def gap(pair: str) -> int:
        return int(joins().gaps[joins().kinds[ord(pair[0])], joins().kinds[ord(pair[1])]])

    assert [gap(pair) for pair in ("海纳", "，但", "ab", " a", " (", "(a", "\r\n", "  ")] == [0] * 8
    assert [gap(pair) for pair in ("a ", "a,", ", ", "的，", "案：", "e:")] == [1] * 6
    assert [gap(pair) for pair in (": ", "：A", "：海", ":a")] == [NEVER] * 4
    assert [gap(pair) for pair in ("a1", "1a", "1 ", "12", "\na", "a\n", "1年", "海a", "a海")] == [NEVER] * 9


def test_characters_are_spelt_in_bytes_beginnings_first() -> None:
    spellings, merges, ids = spelt([ord("海"), ord("é"), ord("a"), ord("淑"), ord("😀")])
    assert spellings[:256] == [bytes([byte]) for byte in range(256)]
    assert spellings[256:] == [
        "海".encode()[:2],
        "淑".encode()[:2],
        "😀".encode()[:2],
        "😀".encode()[:3],
        "海".encode(),
        "é".encode(),
        "淑".encode(),
        "😀".encode(),
    ]
    for number, (left, right) in enumerate(merges):
        assert spellings[left] + spellings[right] == spellings[256 + number]
    assert ids == {
        ord(character): spellings.index(character.encode()) for character in ("海", "é", "a", "淑", "😀")
    }


def test_coverage_takes_the_frequent_characters_as_far_as_there_is_room() -> None:
    counts = np.zeros(0x110001, np.int64)
    for character, count in (("海", 90), ("a", 60), ("纳", 40), ("龘", 1), ("b", 9)):
        counts[ord(character)] = count
    assert covered(counts, 1.0, 100) == [ord(character) for character in "海a纳b龘"]
    assert covered(counts, 0.75, 100) == [ord(character) for character in "海a"]
    assert covered(counts, 1.0, 3) == [ord(character) for character in "海a"]  # 海 takes two pieces
    assert covered(counts, 1.0, 4) == [ord(character) for character in "海a纳b"]
    assert covered(np.zeros(9, np.int64), 1.0, 4) == []


def test_symbols_of_groups_and_passages() -> None:
    prepared = prepare(
        [("b", "xy"), ("a", "海a"), ("a", "龘"), ("b", "z" * (2 * PASSAGE))], {"a": 3, "b": 5}, 1.0, 9
    )
    number = {data: at for at, data in enumerate(prepared.spellings)}
    assert prepared.symbols[:6].tolist() == [
        number["海".encode()],
        97,
        HOLE,
        number["龘".encode()],
        HOLE,
        120,
    ]
    assert prepared.gaps[:7].tolist() == [NEVER, NEVER, NEVER, NEVER, NEVER, NEVER, 0]
    # Group b begins at 5; its passages begin every PASSAGE characters and where a text does.
    assert prepared.borders.tolist() == [0, 3, 5, 8, 5 + PASSAGE, 5 + 2 * PASSAGE, len(prepared.symbols)]
    assert prepared.weights.tolist() == [3, 3, 5, 5, 5, 5]


def test_more_text_than_places_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haina.tokenizer.symbols.MOST_CHARACTERS", 10)
    with pytest.raises(HainaError, match="11 characters to learn from, 10 is the limit"):
        prepare([("", "海纳百川，有容乃大。")], {"": 1}, 1.0, 99)
