"""Connected components of candidate pairs: what has to be brought together to be compared.

Comes in: files of pairs. Goes out: one table with a label for every rank, the smallest rank of its component. Each file
of pairs gives a spanning forest first, in parallel and in memory of its own size; one task then merges the forests by
union-find with path halving (Tarjan, van Leeuwen 1984) over the mapped table. Components are no clusters: chains of
likeness run through them, and only what follows decides who is a duplicate of whom.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.dedup.arrays import read_array
from haina.corpus.dedup.candidates import read_pairs
from haina.corpus.dedup.flow import Flow, Step
from haina.corpus.dedup.layout import Layout
from haina.corpus.dedup.sorting import Index, number_type, pack_pairs

_CHUNK = 1 << 20


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _root(parents: npt.NDArray[Any], number: np.int64) -> np.int64:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = np.int64(parents[number])
    return number


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def unite(parents: npt.NDArray[Any], left: npt.NDArray[Any], right: npt.NDArray[Any], none: int) -> None:
    """Join components, in place; the smaller number becomes the root.

    `parents`: what holds `none` was in no pair yet.
    """
    for pair in range(len(left)):
        a, b = np.int64(left[pair]), np.int64(right[pair])
        if parents[a] == none:
            parents[a] = a
        if parents[b] == none:
            parents[b] = b
        a, b = _root(parents, a), _root(parents, b)
        if a < b:
            parents[b] = a
        elif b < a:
            parents[a] = b


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def flatten(parents: npt.NDArray[Any], none: int) -> None:
    """Replace every parent by its root, in place. Parents are never larger, so one pass upwards is enough."""
    for number in range(len(parents)):
        if parents[number] != none:
            parents[number] = parents[parents[number]]


def components_plain(pairs: list[tuple[int, int]]) -> dict[int, int]:
    """Label of every number in a pair, by walking."""
    mates: dict[int, set[int]] = {}
    for a, b in pairs:
        mates.setdefault(a, set()).add(b)
        mates.setdefault(b, set()).add(a)
    labels: dict[int, int] = {}
    for number in sorted(mates):
        todo = [] if number in labels else [number]
        while todo:
            place = todo.pop()
            if place not in labels:
                labels[place] = number
                todo += mates[place]
    return labels


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _distinct(sorted_numbers: npt.NDArray[np.uint64]) -> int:
    """Move different numbers to the front; how many."""
    count = 0
    for number in sorted_numbers:
        if count == 0 or number != sorted_numbers[count - 1]:
            sorted_numbers[count] = number
            count += 1
    return count


def write_forest(task: tuple[Path, Layout], path: Path) -> None:
    """Task: a star for each component of a file of pairs, (smallest rank, other rank)."""
    pairs_path, layout = task
    left, right = read_pairs(pairs_path, layout)
    numbers = np.concatenate([left, right])
    numbers.sort()
    numbers = numbers[: _distinct(numbers)]
    index = Index(numbers)
    parents = np.arange(len(numbers))
    unite(parents, index.find(left), index.find(right), -1)
    flatten(parents, -1)
    others = np.flatnonzero(parents != np.arange(len(numbers)))
    path.write_bytes(pack_pairs(numbers[parents[others]], numbers[others], layout.bits).tobytes())


def write_labels(task: tuple[int, tuple[tuple[Path, ...], Layout]], path: Path) -> None:
    """Task: the label of every rank, none for those in no pair: `number_type` [documents]."""
    _, (forests, layout) = task
    if not layout.total:
        path.touch()
        return
    parents = np.memmap(path, dtype=number_type(layout.bits), mode="w+", shape=(layout.total,))
    parents[:] = layout.none
    for forest in forests:
        left, right = read_pairs(forest, layout)
        unite(parents, left, right, layout.none)
    flatten(parents, layout.none)
    parents.flush()


def read_labels(path: Path, layout: Layout) -> npt.NDArray[Any]:
    """The table of `write_labels`, mapped."""
    return read_array(path, number_type(layout.bits))


def component_step(flow: Flow, pairs: Step, layout: Layout) -> Step:
    """Declare the forests and the table."""
    forests = flow.step("forests", write_forest, pairs.files, shared=layout, needs=[pairs])
    return flow.step("components", write_labels, [0], shared=(forests.files, layout), needs=[forests])
