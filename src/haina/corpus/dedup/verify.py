"""Whether two documents that look alike are near-duplicates: the exact comparison behind every removal.

Comes in: shingle sets of the documents of some components, and candidate pairs. Goes out: the similarity of each
pair, 0 where it is no duplicate. Two rules:

1. The Jaccard similarity of the sets (or the containment of the smaller one) reaches the threshold.
2. What they share is not merely a template. Catalogue pages, forms and listings share most of their text with many
   others and still say different things; a copied article shares its text with many others too. What tells them
   apart is what differs. Where two copies of one text differ, one side has what most others have and the
   other an edit. Where two fillings of a form differ, neither side has. So of what is rare in the family - the
   documents with the shared text - each side's part is set against what is common on the other side; what
   remains on both sides is content of their own, and the pair is a duplicate only if they share enough rare content as
   well. Where it remains on one side only, the other may be a cut or bare copy - or the empty form, which is like all
   fillings and must not take their place: a document most of whose pairs are of this kind loses them.

`verify_reference.py` says the same with Python sets, and tests hold both equal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

# Shared text is a template only when at least this many documents have it: in smaller families, what most have is too
# uncertain.
MIN_FAMILY = 8
# Pairs with a bare side that make a document an empty form.
MIN_FILLINGS = 4
# Content of their own up to this share of all shingles is noise: counters, dates, session numbers.
NOISE = 0.01
# Edits shift counts: an insertion of one token makes five new shingles out of four, a deletion four out of five.
SLACK = 1.1
# Where both sides were edited within a few tokens, neither has what most have. With a and b shingles lost to edits
# among n, a b / n are expected to meet so.
MET = 2.0
# Share of rare content that two documents of one template must have in common to be duplicates.
MIN_RARE_SHARED = 0.4
# Content on one side only that makes the other side look like an empty form, as a share of all shingles.
FILLING = 0.05
DUPLICATES, LEFT_IS_BARE, RIGHT_IS_BARE, TEMPLATE = 0, 1, 2, 3
# Up to this many shingles in a component, documents are counted exactly; beyond, shingles share counters, which errs
# towards duplicates and keeps memory bounded.
MAX_EXACT = 1 << 25
_MAX_COUNTERS = 1 << 27
HISTOGRAM = 256


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _shift_to(size: int) -> np.uint64:
    """Right shift that leaves a place in a table of `size`, a power of two above 1, of a 64-bit hash."""
    shift = 64
    while size > 1:
        shift -= 1
        size >>= 1
    return np.uint64(shift)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _count_exactly(shingles: npt.NDArray[np.uint64], size: int) -> npt.NDArray[np.uint16]:
    """In how many documents each shingle stands, aligned with `shingles`; linear probing in a table of `size`."""
    keys = np.zeros(size, dtype=np.uint64)
    counts = np.zeros(size, dtype=np.uint16)
    places = np.empty(len(shingles), dtype=np.uint32)
    shift, last = _shift_to(size), size - 1
    for index in range(len(shingles)):
        value = shingles[index]
        place = np.int64(value >> shift)
        while counts[place] and keys[place] != value:
            place = (place + 1) & last
        keys[place] = value
        if counts[place] < np.uint16(65535):
            counts[place] += np.uint16(1)
        places[index] = place
    out = np.empty(len(shingles), dtype=np.uint16)
    for index in range(len(shingles)):
        out[index] = counts[places[index]]
    return out


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _count_roughly(shingles: npt.NDArray[np.uint64], size: int) -> npt.NDArray[np.uint16]:
    """Counters that shingles share: uint16 [size]."""
    counters = np.zeros(size, dtype=np.uint16)
    shift = _shift_to(size)
    for value in shingles:
        place = np.int64(value >> shift)
        if counters[place] < np.uint16(65535):
            counters[place] += np.uint16(1)
    return counters


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _shared(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> int:
    i = j = shared = 0
    while i < len(left) and j < len(right):
        a, b = left[i], right[j]
        shared += a == b
        i += a <= b
        j += b <= a
    return shared


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _look_up(counted: npt.NDArray[np.uint16], aligned: bool, index: int, value: np.uint64) -> int:
    """Documents that have the shingle `value`, which stands at `index` of the component."""
    if aligned:
        return int(counted[index])
    return int(counted[np.int64(value >> _shift_to(len(counted)))])


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _judge(  # noqa: PLR0912 - one pass over two sets
    left: npt.NDArray[np.uint64],
    right: npt.NDArray[np.uint64],
    at_left: int,
    at_right: int,
    shared: int,
    counted: npt.NDArray[np.uint16],
    aligned: bool,
    histogram: npt.NDArray[np.int64],
) -> int:
    """Rule 2: what a pair shares - `TEMPLATE`, one side bare, or duplicates.

    `at_left` and `at_right` say where in the component the sets begin.
    """
    # The median of how many documents have what they share.
    histogram[:] = 0
    i = j = 0
    while i < len(left) and j < len(right):
        a, b = left[i], right[j]
        if a == b:
            histogram[min(HISTOGRAM - 1, _look_up(counted, aligned, at_left + i, a))] += 1
        i += a <= b
        j += b <= a
    seen = family = 0
    while seen * 2 < shared:
        seen += histogram[family]
        family += 1
    family -= 1
    if family < MIN_FAMILY:
        return DUPLICATES
    common = (family + 1) // 2
    rare_shared = rare_left = rare_right = common_left = common_right = 0
    i = j = 0
    while i < len(left) or j < len(right):
        if j >= len(right) or (i < len(left) and left[i] < right[j]):
            if _look_up(counted, aligned, at_left + i, left[i]) >= common:
                common_left += 1
            else:
                rare_left += 1
            i += 1
        elif i >= len(left) or right[j] < left[i]:
            if _look_up(counted, aligned, at_right + j, right[j]) >= common:
                common_right += 1
            else:
                rare_right += 1
            j += 1
        else:
            if _look_up(counted, aligned, at_left + i, left[i]) < common:
                rare_shared += 1
            i += 1
            j += 1
    own_left = max(0.0, rare_left - SLACK * common_right)
    own_right = max(0.0, rare_right - SLACK * common_left)
    union = len(left) + len(right) - shared
    noise = NOISE * union + MET * common_left * common_right / union
    return _verdict(own_left, own_right, rare_shared, union, noise)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _verdict(own_left: float, own_right: float, rare_shared: int, union: int, noise: float) -> int:
    """The verdict of rule 2 from counts of shingles."""
    if rare_shared >= MIN_RARE_SHARED * (rare_shared + own_left + own_right):
        return DUPLICATES
    if min(own_left, own_right) > noise:
        return TEMPLATE
    if own_right > FILLING * union:
        return LEFT_IS_BARE
    return RIGHT_IS_BARE if own_left > FILLING * union else DUPLICATES


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _similarity(size_left: int, size_right: int, shared: int, containment: bool) -> float:
    if containment:
        return shared / min(size_left, size_right)
    return shared / (size_left + size_right - shared)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _verify(
    shingles: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.int64],
    pairs: npt.NDArray[np.int64],
    threshold: float,
    containment: bool,
    begin: int,
    counted: npt.NDArray[np.uint16],
    aligned: bool,
    out: npt.NDArray[np.float32],
    verdict: npt.NDArray[np.uint8],
) -> None:
    """Verify the pairs of one component, whose shingles begin at `begin`; without counts, by rule 1 alone.

    Pairs that a template explains stay 0 in `out`; `verdict` says which of the others have a bare side.
    """
    histogram = np.zeros(HISTOGRAM, dtype=np.int64)
    for pair in range(len(pairs)):
        u, v = pairs[pair, 0], pairs[pair, 1]
        left, right = shingles[starts[u] : starts[u + 1]], shingles[starts[v] : starts[v + 1]]
        small, large = min(len(left), len(right)), max(len(left), len(right))
        # Jaccard cannot exceed the ratio of the sizes; the empty set is like nothing.
        if small == 0 or (not containment and small < threshold * large):
            continue
        shared = _shared(left, right)
        value = _similarity(len(left), len(right), shared, containment)
        if value < threshold:
            continue
        if len(counted):
            verdict[pair] = _judge(
                left, right, starts[u] - begin, starts[v] - begin, shared, counted, aligned, histogram
            )
            if verdict[pair] == TEMPLATE:
                continue
        out[pair] = value


def _drop_empty_forms(
    pairs: npt.NDArray[np.int64], similarity: npt.NDArray[np.float32], verdict: npt.NDArray[np.uint8]
) -> None:
    """Set to 0 the pairs of documents that are bare in most of theirs."""
    documents, place = np.unique(pairs, return_inverse=True)
    place = place.reshape(-1, 2)
    alike = similarity > 0
    total = np.bincount(place[alike].ravel(), minlength=len(documents))
    bare = alike & ((verdict == LEFT_IS_BARE) | (verdict == RIGHT_IS_BARE))
    side = np.where(verdict == LEFT_IS_BARE, place[:, 0], place[:, 1])
    often = np.bincount(side[bare], minlength=len(documents))
    forms = (often >= MIN_FILLINGS) & (2 * often > total)
    similarity[bare & forms[side]] = 0.0


def verify_pairs(
    shingles: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.int64],
    component: npt.NDArray[np.int64],
    pairs: npt.NDArray[np.int64],
    threshold: float,
    *,
    containment: bool = False,
) -> npt.NDArray[np.float32]:
    """Similarity of each pair, 0 where it is no near-duplicate: float32 [pairs].

    Args:
        shingles: sorted sets, one document after the other: uint64 [all shingles]; may be a memory map.
        starts: where each set begins, and the end: int64 [documents + 1].
        component: the component of each document, equal ones together: int64 [documents].
        pairs: documents to compare, both of one component: int64 [pairs, 2], any order.
        threshold: smallest similarity of duplicates.
        containment: measure the share of the smaller set instead of Jaccard.
    """
    out = np.zeros(len(pairs), dtype=np.float32)
    if not len(pairs):
        return out
    borders = np.flatnonzero(np.diff(component)) + 1
    first = np.concatenate([[0], borders, [len(component)]])
    place = np.searchsorted(first, pairs[:, 0], side="right") - 1
    by_component = np.argsort(place, kind="stable")
    cuts = np.searchsorted(place[by_component], np.arange(len(first)))
    for index in np.unique(place).tolist():
        chosen = by_component[cuts[index] : cuts[index + 1]]
        begin, end = int(first[index]), int(first[index + 1])
        total = int(starts[end] - starts[begin])
        counted = np.empty(0, dtype=np.uint16)
        if end - begin >= MIN_FAMILY and total:
            inside = shingles[starts[begin] : starts[end]]
            if total <= MAX_EXACT:
                counted = _count_exactly(inside, 1 << (2 * total).bit_length())
            else:
                counted = _count_roughly(inside, _MAX_COUNTERS)
        found, verdict = np.zeros(len(chosen), dtype=np.float32), np.zeros(len(chosen), dtype=np.uint8)
        _verify(
            shingles, starts, pairs[chosen], threshold, containment, int(starts[begin]), counted,
            total <= MAX_EXACT, found, verdict,
        )  # fmt: skip
        if verdict.any():
            _drop_empty_forms(pairs[chosen], found, verdict)
        out[chosen] = found
    return out


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def estimate_pairs(
    signatures: npt.NDArray[np.uint8], pairs: npt.NDArray[np.int64], threshold: float
) -> npt.NDArray[np.float32]:
    """Jaccard similarity of each pair estimated from MinHash values cut to 8 bits, 0 below the threshold.

    Unequal minima agree in 8 bits once in 256, which is taken out (b-bit minwise hashing, Li and König 2010).
    `signatures`: uint8 [documents, permutations]; `pairs`: int64 [pairs, 2]; the result: float32 [pairs].
    """
    out = np.zeros(len(pairs), dtype=np.float32)
    width = signatures.shape[1]
    for pair in range(len(pairs)):
        left, right = signatures[pairs[pair, 0]], signatures[pairs[pair, 1]]
        equal = 0
        for index in range(width):
            equal += left[index] == right[index]
        value = (equal / width - 1 / 256) / (1 - 1 / 256)
        if value >= threshold:
            out[pair] = value
    return out
