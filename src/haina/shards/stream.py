"""Packs of concatenation: the documents of a domain, in the order of the shards, are one stream, cut into windows.

Row w begins at token w * sequence_length of the stream and holds one token more than a row has inputs: windows overlap
by it, so that every token but the first is predicted once. What is left at the end and fills no window is left out.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from haina.shards.plan_writer import DomainWriter, pieces_of


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _stream_pieces(
    sizes: NDArray[np.int64], start: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut documents that follow one another in a stream from token `start` on.

    Returns:
        int64 [pieces] each: row (row w covers tokens w * length ... (w + 1) * length, both included), place of the
        document in `sizes`, first token in the document, tokens.
    """
    count = 0
    begin = start
    for size in sizes:
        if size > 0:
            count += (begin + size - 1) // length - max(0, -(-(begin - length) // length)) + 1
        begin += size
    rows, of = np.empty(count, np.int64), np.empty(count, np.int64)
    firsts, lengths = np.empty(count, np.int64), np.empty(count, np.int64)
    place = 0
    begin = start
    for number in range(len(sizes)):
        end = begin + sizes[number]
        if end > begin:
            for row in range(max(0, -(-(begin - length) // length)), (end - 1) // length + 1):
                low, high = max(begin, row * length), min(end, (row + 1) * length + 1)
                rows[place], of[place] = row, number
                firsts[place], lengths[place] = low - begin, high - low
                place += 1
        begin = end
    return rows, of, firsts, lengths


def cut_stream(
    domain: DomainWriter,
    documents: NDArray[np.int64],
    positions: NDArray[np.int64],
    sizes: NDArray[np.int64],
    length: int,
) -> None:
    """Go on with a domain's stream; write the rows that are whole, let the last one wait."""
    rows, of, first, lengths = _stream_pieces(sizes, domain.tokens, length)
    domain.tokens += int(sizes.sum())
    pieces = np.concatenate([domain.waiting, pieces_of(documents[of], positions[of], first, lengths)])
    # What waits is all of the first row that is not written yet.
    rows = np.concatenate([np.full(len(domain.waiting), domain.packs), rows])
    whole = max(0, (domain.tokens - 1) // length)
    ready = rows < whole
    counts = np.bincount(rows[ready] - domain.packs, minlength=whole - domain.packs)
    domain.waiting = pieces[~ready]
    domain.write(pieces[ready], counts)
