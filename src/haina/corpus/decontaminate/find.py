"""Items in texts.

Comes in: texts and an index. Goes out: matches with byte spans. Texts go through in batches of bounded size; a
text longer than a batch is cut into pieces that overlap by more than any item is long, and what both pieces
hold is reported once. What is found in a text does not depend on the texts beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from haina.corpus.decontaminate.decide import NONE, decide
from haina.corpus.decontaminate.grams import Int64, UInt8, fold_tokens, token_units
from haina.corpus.decontaminate.index import Index
from haina.corpus.decontaminate.scan import Candidates, find_candidates
from haina.corpus.decontaminate.score import FEATURES, HIGH, LOW, TAIL, TAIL_REST, score_candidates
from haina.corpus.dedup.shingles import Tokens, tokenize_batch

_AFTER = 8
BATCH_BYTES = 8 << 20
OVERLAP_BYTES = 512 << 10
_ENDS = re.compile(r"[\n。？！?!：:；;（(_…]|\.\s")
_LABEL = re.compile(r"\s*[(（]?[A-Ha-hＡ-Ｈａ-ｈ1-8１-８①-⑧][.．)）、:：]")


class Matches(NamedTuple):
    """Items that were found, in the order of the texts, then of start, end and item.

    Attributes:
        texts: number of the text: int64. starts, ends: its UTF-8 bytes, half-open: int64.
        items: number of the item in the index: int32. scores: 0 to 1: float32.
        methods: as in `decide.METHODS`: int8.
    """

    texts: Int64
    starts: Int64
    ends: Int64
    items: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    methods: npt.NDArray[np.int8]


class _Found(NamedTuple):
    """One group in one text, before pieces of a text are put together."""

    text: int
    group: int
    start: int
    end: int
    score: float
    method: int


def find_contamination(texts: Sequence[str], index: Index) -> Matches:
    """Items of `index` that stand in `texts`; every item of a group of equal ones is a match.

    Raises:
        UnicodeEncodeError: a text holds a lone surrogate.
    """
    found: list[_Found] = []
    for pieces in _batches(texts):
        found += _find_in(pieces, index)
    rows: list[tuple[int, int, int, int, float, int]] = []
    arrays = index.arrays
    for one in _once(found):
        members = arrays.items[arrays.item_starts[one.group] : arrays.item_starts[one.group + 1]]
        rows += [(one.text, one.start, one.end, int(item), one.score, one.method) for item in members]
    rows.sort()
    columns = list(zip(*rows, strict=True)) or [()] * 6
    kinds = (np.int64, np.int64, np.int64, np.int32, np.float32, np.int8)
    return Matches(*(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)))


class _Piece(NamedTuple):
    """Bytes of a text from `offset` on."""

    text: int
    offset: int
    data: bytes


def _batches(texts: Sequence[str]) -> Iterator[list[_Piece]]:
    batch: list[_Piece] = []
    size = 0
    for number, text in enumerate(texts):
        data = text.encode("utf-8")
        place = 0
        while True:
            end = min(place + BATCH_BYTES, len(data))
            while end < len(data) and data[end] & 0xC0 == 0x80:
                end -= 1
            batch.append(_Piece(number, place, data if end - place == len(data) else data[place:end]))
            size += end - place
            if size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
            if end == len(data):
                break
            place = end - OVERLAP_BYTES
            while data[place] & 0xC0 == 0x80:
                place -= 1
    if batch:
        yield batch


def _once(found: list[_Found]) -> list[_Found]:
    """The longest of the matches of a group that overlap: pieces of a text may hold the ends of one."""
    kept: list[_Found] = []
    for one in sorted(found, key=lambda one: (one.text, one.group, one.start, one.end)):
        last = kept[-1] if kept else None
        if last is None or (last.text, last.group) != (one.text, one.group) or one.start >= last.end:
            kept.append(one)
        elif (one.end - one.start, one.score) > (last.end - last.start, last.score):
            kept[-1] = one
    return kept


def _find_in(pieces: list[_Piece], index: Index) -> list[_Found]:
    offsets = np.zeros(len(pieces) + 1, dtype=np.int64)
    np.cumsum([len(piece.data) for piece in pieces], out=offsets[1:])
    data = np.frombuffer(b"".join(piece.data for piece in pieces), dtype=np.uint8)
    tokens = tokenize_batch(data, offsets)
    units = token_units(data, offsets, tokens.starts, tokens.ends, tokens.documents)
    values = fold_tokens(tokens.hashes)
    candidates = find_candidates(values, units, tokens.documents, index.arrays)
    if not len(candidates.groups):
        return []
    features = score_candidates(
        values, units, candidates.groups, candidates.lows, candidates.highs, index.arrays
    )
    methods, scores = decide(features, _question_ends(features, candidates, tokens, data, offsets))
    out = []
    for row in np.flatnonzero(methods != NONE).tolist():
        piece = pieces[candidates.documents[row]]
        low, high = int(features[row, LOW]), int(features[row, HIGH])
        start, end = int(tokens.starts[low]), int(tokens.ends[high - 1])
        out.append(
            _Found(
                piece.text, int(candidates.groups[row]), piece.offset + start, piece.offset + end,
                float(scores[row]), int(methods[row]),
            )
        )  # fmt: skip
    return out


def _question_ends(
    features: npt.NDArray[np.float64], candidates: Candidates, tokens: Tokens, data: UInt8, offsets: Int64
) -> npt.NDArray[np.bool_]:
    """Whether a line, sentence or blank ends where the question does, give or take a changed token: bool [candidates].

    A sentence that a question was made from goes on with the answer there.
    """
    assert features.shape[1] == len(FEATURES)
    out = np.zeros(len(features), dtype=np.bool_)
    for row in np.flatnonzero(features[:, TAIL] >= 0).tolist():
        document = candidates.documents[row]
        last = tokens.documents[document + 1]
        rest = int(features[row, TAIL_REST])
        tail = int(features[row, TAIL])
        for token in range(tail + max(0, rest - 1), tail + rest + (2 if rest else 1)):
            if token >= last:
                out[row] = True
                break
            low, high = offsets[document] + tokens.ends[token - 1], offsets[document] + tokens.starts[token]
            after = data[low : high + _AFTER].tobytes().decode("utf-8", "replace")
            gap = data[low:high].tobytes().decode("utf-8", "replace")
            if _ENDS.search(gap) or _LABEL.match(after):
                out[row] = True
                break
    return out
