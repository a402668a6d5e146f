"""Sort more records than fit into memory.

Records are rows of a numpy structured array of fixed width. What comes in is sorted in runs as large as the
budget allows, each run goes to an unnamed file, and the runs are merged a block at a time. The order is that of the
key fields, numbers compared as numbers; equal keys stay in the order in which they came, so the result is one
sequence for any budget.

Sorting is by radix, merging by a heap of runs, both in numba: 5 million records of 24 bytes with two keys a second and
core from disk to disk in eight runs, three times what `np.lexsort` does of as many in memory. `sorted` and
`heapq.merge` say the same in a line each; the tests hold the kernels against them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numba import njit

from haina.runtime.errors import os_errors_about

Records = np.ndarray[Any, np.dtype[Any]]

_FAN_IN = 64  # runs that are merged at a time
_BLOCK_BYTES = 1 << 20  # of each run, when the budget allows
_SIGN = np.uint64(1 << 63)


def sort_keys(records: Records, keys: Sequence[str]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Key fields as unsigned numbers in the same order: uint64 [records, keys].

    Raises:
        TypeError: a field is neither a number of at most 64 bits nor a byte string of at most 8.
    """
    out = np.empty((len(records), len(keys)), np.uint64)
    for column, name in enumerate(keys):
        values = np.ascontiguousarray(records[name])
        match values.dtype.kind:
            case "u" | "b":
                out[:, column] = values
            case "i":
                out[:, column] = values.astype(np.int64).view(np.uint64) ^ _SIGN
            case "f" if values.dtype.itemsize <= 8:
                # IEEE 754: larger bits are larger numbers, and smaller ones below zero; -0.0 is 0.0.
                bits = (values.astype(np.float64) + 0.0).view(np.uint64)
                out[:, column] = np.where(bits & _SIGN, ~bits, bits | _SIGN)
            case "S" if values.dtype.itemsize <= 8:
                out[:, column] = values.astype("S8").view(">u8")
            case _:
                raise TypeError(f"records cannot be sorted by {name}: {values.dtype}")
    return out


@njit(nogil=True, cache=True)
def radix_order(keys: Any) -> Any:
    """A stable sort of rows: int64 [records], such that `keys[order]` ascends by the first column, then the next.

    Least significant digit first, 11 bits a time; digits that are the same everywhere cost nothing (Knuth, The Art
    of Computer Programming 3, 5.2.5). `np.lexsort` of the columns from last to first says the same.
    """
    count, columns = keys.shape
    order = np.arange(count)
    other = np.empty(count, np.int64)
    values = np.empty(count, np.uint64)
    moved = np.empty(count, np.uint64)
    for column in range(columns - 1, -1, -1):
        tallies = np.zeros((6, 2048), np.int64)
        for place in range(count):
            value = keys[order[place], column]
            values[place] = value
            for digit in range(6):
                tallies[digit, (value >> np.uint64(11 * digit)) & np.uint64(2047)] += 1
        for digit in range(6):
            shift = np.uint64(11 * digit)
            starts = tallies[digit]
            total = 0
            constant = False
            for bucket in range(2048):
                here = starts[bucket]
                constant = constant or here == count
                starts[bucket] = total
                total += here
            if constant:
                continue
            for place in range(count):
                bucket = (values[place] >> shift) & np.uint64(2047)
                target = starts[bucket]
                starts[bucket] = target + 1
                moved[target] = values[place]
                other[target] = order[place]
            values, moved = moved, values
            order, other = other, order
    return order


def sorted_records(records: Records, keys: Sequence[str]) -> Records:
    """A sorted copy; equal keys stay in order."""
    return _rows(records, radix_order(sort_keys(records, keys)))


def _rows(records: Records, order: np.ndarray[Any, Any]) -> Records:
    # Four times as fast as indexing, which copies field by field.
    whole = np.ascontiguousarray(records)
    return np.take(whole.view(f"V{whole.dtype.itemsize}"), order).view(whole.dtype)


@njit(nogil=True, cache=True)
def _before(keys: Any, a: int, run_a: int, b: int, run_b: int) -> bool:
    for column in range(keys.shape[1]):
        if keys[a, column] != keys[b, column]:
            return bool(keys[a, column] < keys[b, column])
    return run_a < run_b


@njit(nogil=True, cache=True)
def _sink(heap: Any, count: int, start: int, keys: Any, heads: Any) -> None:
    place = start
    while True:
        child = 2 * place + 1
        if child >= count:
            return
        if child + 1 < count and _before(
            keys, heads[heap[child + 1]], heap[child + 1], heads[heap[child]], heap[child]
        ):
            child += 1
        if not _before(keys, heads[heap[child]], heap[child], heads[heap[place]], heap[place]):
            return
        heap[place], heap[child] = heap[child], heap[place]
        place = child


@njit(nogil=True, cache=True)
def merge_order(keys: Any, heads: Any, ends: Any, order: Any) -> int:
    """The order in which blocks of sorted runs are taken, until one of them is used up.

    Args:
        keys: uint64 [records, keys], the blocks one behind the other. heads: int64 [runs], the first record of
            each that is left; moved on. ends: int64 [runs]. order: int64 [records], filled.

    Returns:
        How many places of `order` are filled. Runs without records are passed over.
    """
    runs = heads.shape[0]
    heap = np.empty(runs, np.int64)
    count = 0
    for run in range(runs):
        if heads[run] < ends[run]:
            heap[count] = run
            count += 1
    for place in range(count // 2 - 1, -1, -1):
        _sink(heap, count, place, keys, heads)
    filled = 0
    while count:
        run = heap[0]
        order[filled] = heads[run]
        filled += 1
        heads[run] += 1
        if heads[run] == ends[run]:
            return filled
        _sink(heap, count, 0, keys, heads)
    return filled


def merge_sorted(runs: Sequence[Iterable[Records]], keys: Sequence[str]) -> Iterator[Records]:
    """Merge sorted runs, each given as blocks; equal keys come in the order of the runs.

    Holds one block of each run, and as much again.
    """
    sources = [iter(run) for run in runs]
    firsts = [_next_block(source) for source in sources]
    living = [number for number, block in enumerate(firsts) if block is not None]
    if not living:
        return
    # One slot a run in one array, so that the kernel sees them all and only the slot that is used up is filled.
    slots = max(len(block) for block in firsts if block is not None)
    slab = np.empty(slots * len(sources), next(block for block in firsts if block is not None).dtype)
    columns = np.empty((len(slab), len(keys)), np.uint64)
    heads = np.arange(len(sources)) * slots
    ends = heads.copy()
    order = np.empty(len(slab), np.int64)
    pending: list[Records | None] = firsts
    while True:
        for number, source in enumerate(sources):
            if heads[number] < ends[number]:
                continue
            block = pending[number] if pending[number] is not None else _next_block(source)
            pending[number] = None
            if block is None:
                continue
            start = number * slots
            part, rest = block[:slots], block[slots:]
            pending[number] = rest if len(rest) else None
            slab[start : start + len(part)] = part
            columns[start : start + len(part)] = sort_keys(part, keys)
            heads[number], ends[number] = start, start + len(part)
        filled = merge_order(columns, heads, ends, order)
        if not filled:
            return
        yield _rows(slab, order[:filled])


def _next_block(source: Iterator[Records]) -> Records | None:
    return next((block for block in source if len(block)), None)


class _RunFile:
    """Sorted records in an unnamed file: nothing is left of it when the process ends, however that ends."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def write(self, records: Records) -> None:
        self.file.write(np.ascontiguousarray(records).view(np.uint8).data)

    def blocks(self, block_records: int) -> Iterator[Records]:
        self.file.seek(0)
        while data := self.file.read(block_records * self.dtype.itemsize):
            yield np.frombuffer(data, self.dtype)


def sort_records(
    blocks: Iterable[Any], dtype: np.dtype[Any], keys: Sequence[str], *, folder: Path, memory: int = 256 << 20
) -> Iterator[Records]:
    """All records, sorted, a block at a time.

    Args:
        blocks: byte strings of whole records, as `iter_blocks` and `iter_exchange` give them, or arrays of `dtype`.
        keys: the fields to sort by, the first one first.
        folder: where runs are kept; a task gives that of its output.
        memory: bytes to use, roughly; the result is the same for any.

    Raises:
        HainaError: the disk is full; it names the folder.
    """
    # A run is held as it came, with its keys, the order and the sorted copy.
    held = 2 * dtype.itemsize + 8 * (len(keys) + 2)
    run_records = max(1024, memory // held)
    block_records = max(64, min(_BLOCK_BYTES // dtype.itemsize, memory // (2 * _FAN_IN * held)))
    with ExitStack() as stack, os_errors_about(folder):
        runs: list[_RunFile] = []

        def keep(parts: Iterable[Records]) -> _RunFile:
            run = _RunFile(folder, dtype)
            stack.callback(run.file.close)
            for part in parts:
                run.write(part)
            return run

        waiting: list[Records] = []
        count = 0
        for block in blocks:
            records = np.frombuffer(block, dtype)
            while count + len(records) > run_records:
                cut = run_records - count
                runs.append(keep([sorted_records(np.concatenate([*waiting, records[:cut]]), keys)]))
                waiting, count, records = [], 0, records[cut:]
            waiting.append(records)
            count += len(records)
        last = sorted_records(np.concatenate(waiting), keys) if waiting else np.empty(0, dtype)
        waiting.clear()
        if not runs:
            yield from (last[start : start + run_records] for start in range(0, len(last), run_records))
            return
        runs.append(keep([last]))
        del last
        while len(runs) > _FAN_IN:
            # Neighbours are joined, so equal keys stay in order.
            group, rest = runs[:_FAN_IN], runs[_FAN_IN:]
            merged = keep(merge_sorted([part.blocks(block_records) for part in group], keys))
            for part in group:
                part.file.close()
            runs = [merged, *rest]
        yield from merge_sorted([part.blocks(block_records) for part in runs], keys)
