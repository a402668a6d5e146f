"""Which tokens of a page stand in its gold text.

Comes in: two token sequences. Goes out: the positions of the first that an alignment in order pairs with the
second. Runs that occur once on both sides anchor it (patience diff), longer runs before shorter ones; what lies
between is aligned the same way.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import numpy.typing as npt

_LENGTHS = (12, 6, 3, 2, 1)
_SMALL = 400_000


def aligned(page: list[str], gold: list[str]) -> npt.NDArray[np.bool_]:
    """Positions of `page` that are paired: bool [len(page)]."""
    out = np.zeros(len(page), np.bool_)
    todo = [(0, len(page), 0, len(gold), 0)]
    while todo:
        a, a_end, b, b_end, level = todo.pop()
        while a < a_end and b < b_end and page[a] == gold[b]:
            out[a] = True
            a, b = a + 1, b + 1
        while a < a_end and b < b_end and page[a_end - 1] == gold[b_end - 1]:
            a_end, b_end = a_end - 1, b_end - 1
            out[a_end] = True
        if a == a_end or b == b_end or level == len(_LENGTHS):
            continue
        chain = _anchors(page, gold, a, a_end, b, b_end, _LENGTHS[level])
        if not chain:
            if level < len(_LENGTHS) - 1:
                todo.append((a, a_end, b, b_end, level + 1))
            elif (a_end - a) * (b_end - b) <= _SMALL:
                for i in _common(page[a:a_end], gold[b:b_end]):
                    out[a + i] = True
            continue
        start_a, start_b = a, b
        for i, j in chain:
            if i < start_a or j < start_b:
                continue
            todo.append((start_a, i, start_b, j, level))
            run = 0
            while i + run < a_end and j + run < b_end and page[i + run] == gold[j + run]:
                run += 1
            out[i : i + run] = True
            start_a, start_b = i + run, j + run
        todo.append((start_a, a_end, start_b, b_end, level))
    return out


def _anchors(
    page: list[str], gold: list[str], a: int, a_end: int, b: int, b_end: int, length: int
) -> list[tuple[int, int]]:
    """Pairs of positions of runs that occur once on both sides, in order on both."""
    places: list[dict[tuple[str, ...], int]] = []
    for words, low, high in ((page, a, a_end), (gold, b, b_end)):
        found: dict[tuple[str, ...], int] = {}
        for i in range(low, high - length + 1):
            run = tuple(words[i : i + length])
            found[run] = -1 if run in found else i
        places.append(found)
    pairs = sorted((i, places[1].get(run, -1)) for run, i in places[0].items() if i >= 0)
    tails: list[int] = []
    ends: list[int] = []
    back: list[int] = []
    kept = [(i, j) for i, j in pairs if j >= 0]
    for index, (_, j) in enumerate(kept):
        place = bisect_left(tails, j)
        back.append(ends[place - 1] if place else -1)
        if place == len(tails):
            tails.append(j)
            ends.append(index)
        else:
            tails[place], ends[place] = j, index
    chain = []
    index = ends[-1] if ends else -1
    while index >= 0:
        chain.append(kept[index])
        index = back[index]
    return chain[::-1]


def _common(first: list[str], second: list[str]) -> list[int]:
    """Positions of `first` in a longest common subsequence."""
    table = np.zeros((len(first) + 1, len(second) + 1), np.int32)
    for i in range(len(first) - 1, -1, -1):
        for j in range(len(second) - 1, -1, -1):
            table[i, j] = (
                table[i + 1, j + 1] + 1 if first[i] == second[j] else max(table[i + 1, j], table[i, j + 1])
            )
    out = []
    i = j = 0
    while i < len(first) and j < len(second):
        if first[i] == second[j]:
            out.append(i)
            i, j = i + 1, j + 1
        elif table[i + 1, j] >= table[i, j + 1]:
            i += 1
        else:
            j += 1
    return out
