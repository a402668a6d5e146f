"""Pairs of documents that meet in a bucket and look alike by their sketches.

Comes in: records of bands, one partition of buckets at a time. Goes out: pairs of ranks, each once, the better document
first. All pairs of a small bucket are looked at. In a larger one leaders are taken by rank: a leader is paired with
all that look alike, and those that surely are duplicates leave the bucket. Where leaders take few along, as among
pages of one template, the members are set apart by what they do not share with most of the bucket, and only neighbours
are paired. So a bucket costs time and pairs in proportion to its members, be they a million.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.dedup.arrays import read_array
from haina.corpus.dedup.flow import Flow, Step
from haina.corpus.dedup.layout import ClusterConfig, Layout
from haina.corpus.dedup.sorting import (
    Words,
    mix,
    pair_bits,
    pair_width,
    read_rows,
    send_rows,
    share_of,
    sort_rows,
    unpack_pairs,
)
from haina.runtime.executor import Buckets

# Of two sketches at Hamming distance d, J is estimated by 1 - d / 32, with a sigma of 0.09 at J = 0.7.
FAR_MARGIN = 0.3  # below the threshold: a pair that looks less alike is none
SURE_MARGIN = 0.1  # above the threshold: a member that looks so much like a leader needs no other
ALL = 16  # members of a bucket of which all pairs are looked at
SMALL = 64  # members of a bucket that any number of leaders may lead
LEADERS = 64  # in one bucket at most
IDLE = 4  # leaders in a row that take less than a sixteenth along
NEIGHBOURS = 32
_REPEATS = 16
_POSITIONS = 4  # bits of a sketch that set a member apart
_FLUSH = 1 << 20


def _orders() -> npt.NDArray[np.int64]:
    """`_REPEATS` permutations of the 64 bits of a sketch, always the same."""
    hashes = np.arange(1, 64 * _REPEATS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    return np.argsort(hashes.reshape(_REPEATS, 64), axis=1, kind="stable").astype(np.int64)


ORDERS = _orders()


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _distance(left: np.uint64, right: np.uint64) -> np.int64:
    """Bits that differ."""
    value = left ^ right
    value -= (value >> np.uint64(1)) & np.uint64(0x5555555555555555)
    value = (value & np.uint64(0x3333333333333333)) + (
        (value >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((value * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _put(out: Words, count: int, left: np.uint64, right: np.uint64) -> int:
    """Append a pair as `pack_pairs` has it, smaller rank first."""
    if left == right:
        return count
    if left > right:
        left, right = right, left
    if out.shape[1] == 1:
        out[count, 0] = (left << np.uint64(32)) | right
    else:
        out[count, 0] = left
        out[count, 1] = right
    return count + 1


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _sort_few(records: Words) -> None:
    """Sort by the first word, in place, by insertion."""
    for index in range(1, len(records)):
        word, sketch, place = records[index, 0], records[index, 1], index
        while place > 0 and records[place - 1, 0] > word:
            records[place, 0], records[place, 1] = records[place - 1, 0], records[place - 1, 1]
            place -= 1
        records[place, 0], records[place, 1] = word, sketch


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _small_buckets(
    records: Words, start: int, bits: int, far: int, sure: int, out: Words
) -> tuple[int, int, int]:
    """Pairs of the buckets from `start` on: (next start, end of the large bucket that begins there or 0, pairs).

    Stops before a bucket of more than `SMALL`, or before `out` is full.
    """
    count, below = 0, (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    resolved = np.zeros(SMALL, dtype=np.bool_)
    while start < len(records):
        key, end = records[start, 0] >> np.uint64(bits), start + 1
        while end < len(records) and records[end, 0] >> np.uint64(bits) == key:
            end += 1
        if end - start > SMALL:
            return start, end, count
        if count + SMALL * SMALL // 2 > len(out):
            break
        resolve = sure if end - start > ALL else -1
        if resolve >= 0:
            _sort_few(records[start:end])
            resolved[:] = False
        for i in range(start, end):
            if resolve >= 0 and resolved[i - start]:
                continue
            for j in range(i + 1, end):
                if resolve >= 0 and resolved[j - start]:
                    continue
                distance = _distance(records[i, 1], records[j, 1])
                if distance <= far:
                    count = _put(out, count, records[i, 0] & below, records[j, 0] & below)
                if distance <= resolve:
                    resolved[j - start] = True
        start = end
    return start, 0, count


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _follow(members: Words, below: np.uint64, far: int, sure: int, out: Words) -> tuple[int, int]:
    """Pairs of the first member with the others; those that stay move to the front: (how many stay, pairs)."""
    count, stay = 0, 0
    leader, sketch = members[0, 0] & below, members[0, 1]
    for index in range(1, len(members)):
        distance = _distance(sketch, members[index, 1])
        if distance <= far:
            count = _put(out, count, leader, members[index, 0] & below)
        if distance > sure:
            members[stay, 0], members[stay, 1] = members[index, 0], members[index, 1]
            stay += 1
    return stay, count


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _oddities(members: Words, order: npt.NDArray[np.int64], keys: Words) -> None:
    """What sets members apart: MinHash of the bits in which a sketch differs from the majority, above the index."""
    ones = np.zeros(64, dtype=np.int64)
    for index in range(len(members)):
        for bit in range(64):
            ones[bit] += np.int64((members[index, 1] >> np.uint64(bit)) & np.uint64(1))
    majority = np.uint64(0)
    for bit in range(64):
        if ones[bit] * 2 > len(members):
            majority |= np.uint64(1) << np.uint64(bit)
    for index in range(len(members)):
        odd = members[index, 1] ^ majority
        key, found = np.uint64(0), 0
        for bit in order:
            if (odd >> np.uint64(bit)) & np.uint64(1):
                key = (key << np.uint64(6)) | np.uint64(bit)
                found += 1
                if found == _POSITIONS:
                    break
        key = (key << np.uint64(3)) | np.uint64(found)
        keys[index] = (key << np.uint64(32)) | np.uint64(index)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _neighbours(
    members: Words, keys: Words, start: int, below: np.uint64, far: int, out: Words
) -> tuple[int, int]:
    """Pairs of members whose sorted keys agree and lie near each other, until `out` is full: (next start, pairs)."""
    count, low = 0, np.uint64(0xFFFFFFFF)
    while start < len(keys) and count + NEIGHBOURS <= len(out):
        a = np.int64(keys[start] & low)
        for following in range(start + 1, min(len(keys), start + 1 + NEIGHBOURS)):
            if keys[following] >> np.uint64(32) != keys[start] >> np.uint64(32):
                break
            b = np.int64(keys[following] & low)
            if _distance(members[a, 1], members[b, 1]) <= far:
                count = _put(out, count, members[a, 0] & below, members[b, 0] & below)
        start += 1
    return start, count


def _large_bucket(members: Words, bits: int, far: int, sure: int, width: int) -> Iterator[Words]:
    """Pairs of one bucket, `members` being in order of rank; changes `members`."""
    below = np.uint64((1 << bits) - 1)
    out = np.empty((max(len(members), SMALL * SMALL // 2), width), dtype=np.uint64)
    idle = 0
    for _ in range(LEADERS):
        if len(members) <= SMALL or idle == IDLE:
            break
        stay, count = _follow(members, below, far, sure, out)
        yield out[:count]
        idle = 0 if (len(members) - stay) * 16 >= len(members) else idle + 1
        members = members[:stay]
    if len(members) <= SMALL:
        _, _, count = _small_buckets(members, 0, bits, far, sure, out)
        yield out[:count]
        return
    keys = np.empty(len(members), dtype=np.uint64)
    for order in ORDERS:
        _oddities(members, order, keys)
        keys.sort()
        start = 0
        while start < len(keys):
            start, count = _neighbours(members, keys, start, below, far, out)
            yield out[:count]


def pair_buckets(records: Words, bits: int, far: int, sure: int) -> Iterator[Words]:
    """Pairs of all buckets as rows of `pack_pairs`, in pieces that are valid until the next; some come twice.

    Args:
        records: sorted by key: uint64 [records, 2], (key << bits | rank, sketch).
        bits: of a rank. far, sure: Hamming distances of sketches up to which a pair looks alike, and surely is.
    """
    out = np.empty((_FLUSH, pair_width(bits)), dtype=np.uint64)
    start = 0
    while start < len(records):
        start, end, count = _small_buckets(records, start, bits, far, sure, out)
        yield out[:count]
        if end:
            members = records[start:end]
            members = members[np.argsort(members[:, 0], kind="stable")]
            yield from _large_bucket(members, bits, far, sure, out.shape[1])
            start = end


def small_bucket_plain(members: list[tuple[int, int]], far: int, sure: int) -> set[tuple[int, int]]:
    """Pairs of ranks of one bucket of (rank, sketch) of at most `SMALL`."""
    found, resolved = set(), set()
    for (i, (rank, sketch)), (j, (other, theirs)) in combinations(enumerate(sorted(members)), 2):
        distance = (sketch ^ theirs).bit_count()
        if i in resolved or j in resolved:
            continue
        if distance <= far and rank != other:
            found.add((rank, other))
        if distance <= sure and len(members) > ALL:
            resolved.add(j)
    return found


def distances(threshold: float) -> tuple[int, int]:
    """Hamming distances `far` and `sure` of sketches for a threshold."""
    return int((1 - max(0.0, threshold - FAR_MARGIN)) * 32), int((1 - min(1.0, threshold + SURE_MARGIN)) * 32)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _share_of_pairs(pairs: Words, partitions: int) -> npt.NDArray[np.int64]:
    out = np.empty(len(pairs), dtype=np.int64)
    for pair in range(len(pairs)):
        state = np.uint64(0)
        for word in range(pairs.shape[1]):
            state = mix(state ^ pairs[pair, word])
        out[pair] = share_of(state, partitions)
    return out


def _send_pairs(held: list[Words], layout: Layout, buckets: Buckets) -> None:
    if held:
        rows = np.concatenate(held)
        send_rows(buckets, rows, _share_of_pairs(rows, layout.partitions))


def send_candidates(task: tuple[int, tuple[tuple[Path, ...], Layout, float]], buckets: Buckets) -> None:
    """Task: pairs of a partition of buckets, to partitions of pairs."""
    partition, (files, layout, threshold) = task
    # Only the key is sorted here; the few buckets of several members sort themselves by rank.
    records = sort_rows(read_rows(files, partition, 2), [(layout.bits, 64)])
    far, sure = distances(threshold)
    held: list[Words] = []
    waiting = 0
    for found in pair_buckets(records, layout.bits, far, sure):
        if waiting + len(found) > _FLUSH:
            _send_pairs(held, layout, buckets)
            held, waiting = [], 0
        held.append(found.copy())
        waiting += len(found)
    _send_pairs(held, layout, buckets)


def write_pairs(task: tuple[int, tuple[tuple[Path, ...], Layout]], path: Path) -> None:
    """Task: the different pairs of a partition, in order."""
    partition, (files, layout) = task
    rows = sort_rows(read_rows(files, partition, pair_width(layout.bits)), pair_bits(layout.bits))
    if len(rows):
        rows = rows[np.concatenate([[True], np.any(rows[1:] != rows[:-1], axis=1)])]
    path.write_bytes(rows.tobytes())


def read_pairs(path: Path, layout: Layout) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Pairs of a file of `write_pairs`: better and worse rank, uint64 [pairs] each."""
    return unpack_pairs(read_array(path, "<u8", pair_width(layout.bits)))


def candidate_step(flow: Flow, bands: list[Step], layout: Layout, config: ClusterConfig) -> Step:
    """Declare the search in the buckets of each group of bands, and the union of what they find."""
    found = [
        flow.step(
            f"pairs of {group.name}", send_candidates, range(layout.partitions),
            shared=(group.files, layout, config.candidate_threshold), needs=[group], partitions=layout.partitions,
        )
        for group in bands
    ]  # fmt: skip
    files = tuple(file for step in found for file in step.files)
    return flow.step("pairs", write_pairs, range(layout.partitions), shared=(files, layout), needs=found)
