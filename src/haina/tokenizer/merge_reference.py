"""Learns merges the plain way: count all pairs, merge the most frequent, count again.

In and out as `merge_kernel.learn`, over lists. The tests hold the two together.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence

Symbol = tuple[bytes, int]  # its bytes; distance from the symbol before it


def learn_plainly(
    texts: Sequence[tuple[Sequence[Symbol], int]],
    known: Sequence[bytes],
    widest: int,
    wanted: int,
    largest: int,
    floor: int,
    cap: int,
    barred: Collection[bytes] = (),
) -> list[tuple[int, int]]:
    """Pairs of ids in the order merged; merge i made id len(known) + i.

    Args:
        texts: symbols of each text and how often it counts; symbols that are not in `known` are never merged.
        known: bytes of each id.
        widest, wanted, largest, floor, cap, barred: as for `merge_kernel.learn`.
    """
    pieces = list(known)
    number = {piece: at for at, piece in enumerate(pieces)}
    rows = [([(number.get(data, -1), gap) for data, gap in symbols], weight) for symbols, weight in texts]
    merges: list[tuple[int, int]] = []
    while len(merges) < wanted:
        counts: Counter[tuple[int, int]] = Counter()
        for row, weight in rows:
            found = Counter(
                (left, right)
                for (left, _), (right, gap) in itertools.pairwise(row)
                if left >= 0 and right >= 0 and gap <= widest
            )
            for pair, occurrences in found.items():
                counts[pair] += weight * min(occurrences, cap)
        best = min(
            (
                (-count, pair)
                for pair, count in counts.items()
                if count >= floor
                and len(pieces[pair[0]] + pieces[pair[1]]) <= largest
                and pieces[pair[0]] + pieces[pair[1]] not in number
                and pieces[pair[0]] + pieces[pair[1]] not in barred
            ),
            default=None,
        )
        if best is None:
            break
        pair, new = best[1], len(pieces)
        merges.append(pair)
        pieces.append(pieces[pair[0]] + pieces[pair[1]])
        number[pieces[new]] = new
        for row, _ in rows:
            at = 0
            while at + 1 < len(row):
                if (row[at][0], row[at + 1][0]) == pair and row[at + 1][1] <= widest:
                    row[at : at + 2] = [(new, row[at][1])]
                at += 1
    return merges
