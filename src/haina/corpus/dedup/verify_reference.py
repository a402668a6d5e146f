"""The rules of `verify.py` with Python sets: what its kernels are tested against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from haina.corpus.dedup.verify import (
    DUPLICATES,
    FILLING,
    HISTOGRAM,
    LEFT_IS_BARE,
    MET,
    MIN_FAMILY,
    MIN_FILLINGS,
    MIN_RARE_SHARED,
    NOISE,
    RIGHT_IS_BARE,
    SLACK,
    TEMPLATE,
)


def judge_plain(left: set[int], right: set[int], documents: Counter[int]) -> int:
    """Rule 2 with sets: `documents` counts in how many documents of the component each shingle stands."""
    shared = sorted(min(documents[item], HISTOGRAM - 1) for item in left & right)
    family = shared[(len(shared) + 1) // 2 - 1]
    if family < MIN_FAMILY:
        return DUPLICATES
    common = (family + 1) // 2

    def rare(items: set[int]) -> int:
        return sum(documents[item] < common for item in items)

    only_left, only_right = left - right, right - left
    common_left, common_right = len(only_left) - rare(only_left), len(only_right) - rare(only_right)
    own_left = max(0.0, rare(only_left) - SLACK * common_right)
    own_right = max(0.0, rare(only_right) - SLACK * common_left)
    rare_shared, union = rare(left & right), len(left | right)
    if rare_shared >= MIN_RARE_SHARED * (rare_shared + own_left + own_right):
        return DUPLICATES
    if min(own_left, own_right) > NOISE * union + MET * common_left * common_right / union:
        return TEMPLATE
    if own_right > FILLING * union:
        return LEFT_IS_BARE
    return RIGHT_IS_BARE if own_left > FILLING * union else DUPLICATES


def verify_plain(
    sets: Sequence[set[int]], pairs: Sequence[tuple[int, int]], threshold: float, *, containment: bool = False
) -> list[float]:
    """`verify_pairs` for the documents of one component, with sets."""
    documents = Counter(item for members in sets for item in members)
    alike: dict[tuple[int, int], float] = {}
    bare: dict[tuple[int, int], int] = {}
    for left, right in pairs:
        a, b = sets[left], sets[right]
        whole = min(len(a), len(b)) if containment else len(a | b)
        value = len(a & b) / whole if a and b else 0.0
        if not value or value < threshold:
            continue
        verdict = judge_plain(a, b, documents) if len(sets) >= MIN_FAMILY else DUPLICATES
        if verdict != TEMPLATE:
            alike[left, right] = value
        if verdict in (LEFT_IS_BARE, RIGHT_IS_BARE):
            bare[left, right] = left if verdict == LEFT_IS_BARE else right
    total = Counter(document for pair in alike for document in pair)
    often = Counter(bare.values())
    forms = {d for d, count in often.items() if count >= MIN_FILLINGS and 2 * count > total[d]}
    return [
        0.0 if (left, right) in bare and bare[left, right] in forms else alike.get((left, right), 0.0)
        for left, right in pairs
    ]
