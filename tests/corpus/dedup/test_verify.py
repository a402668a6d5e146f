"""Verification of candidate pairs: kernels against plain sets, and what counts as a template."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.dedup import verify
from haina.corpus.dedup.verify import estimate_pairs, verify_pairs
from haina.corpus.dedup.verify_reference import verify_plain


def flat(sets: list[set[int]]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.concatenate([[0], np.cumsum([len(s) for s in sets])]).astype(np.int64)
    values = [value for members in sets for value in sorted(members)]
    return np.array(values, dtype=np.uint64), starts


def verified(
    sets: list[set[int]], pairs: list[tuple[int, int]], threshold: float, **options: bool
) -> list[float]:
    component = np.zeros(len(sets), dtype=np.int64)
    shape = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return verify_pairs(*flat(sets), component, shape, threshold, **options).tolist()


def spread(text: list[str], width: int = 5) -> set[int]:
    """Shingles of a token sequence as well mixed hashes."""
    runs = [tuple(text[i : i + width]) for i in range(max(1, len(text) - width + 1))]
    return {random.Random(repr(run)).getrandbits(64) for run in runs}


def edited(text: list[str], share: float, rng: random.Random) -> list[str]:
    return [f"新{rng.getrandbits(40)}" if rng.random() < share else token for token in text]


def words(count: int, rng: random.Random) -> list[str]:
    return [
        f"词{rng.randrange(30000)}" if rng.random() < 0.5 else f"w{rng.randrange(30000)}"
        for _ in range(count)
    ]


hashes = st.integers(0, 2**64 - 1)
small_sets = st.lists(
    st.sets(st.integers(0, 40).map(lambda i: (i * 0x9E3779B97F4A7C15) % 2**64), max_size=30),
    min_size=2,
    max_size=12,
)


@given(small_sets, st.floats(0.05, 1.0), st.booleans(), st.booleans())
def test_kernel_is_the_plain_rule(
    sets: list[set[int]], threshold: float, containment: bool, swap: bool
) -> None:
    pairs = [(i, j) for i in range(len(sets)) for j in range(i)]
    pairs = [(j, i) for i, j in pairs] if swap else pairs
    expected = verify_plain(sets, pairs, threshold, containment=containment)
    assert verified(sets, pairs, threshold, containment=containment) == pytest.approx(expected)


@given(st.lists(small_sets, min_size=1, max_size=4))
def test_components_do_not_see_one_another(groups: list[list[set[int]]]) -> None:
    sets = [members for group in groups for members in group]
    component = np.repeat(np.arange(len(groups)) * 7 + 3, [len(group) for group in groups])
    first = np.cumsum([0, *[len(group) for group in groups]])
    pairs, expected = [], []
    for base, group in zip(first, groups, strict=False):
        local = [(i, j) for i in range(len(group)) for j in range(i)]
        pairs += [(base + i, base + j) for i, j in local]
        expected += verify_plain(group, local, 0.5)
    mixed = np.random.default_rng(0).permutation(len(pairs))
    found = verify_pairs(*flat(sets), component, np.array(pairs, dtype=np.int64)[mixed], 0.5)
    assert found.tolist() == pytest.approx([expected[i] for i in mixed])


def test_forms_are_not_duplicates_and_their_copies_are() -> None:
    rng = random.Random(1)
    for share in (0.06, 0.15, 0.25):
        template = words(300, rng)
        forms = []
        for _ in range(40):
            text = list(template)
            for start in range(10, 280, round(8 / share)):
                text[start : start + 8] = words(8, rng)
            forms.append(text)
        copies = [edited(text, 0.01, rng) for text in forms]
        sets = [spread(text) for text in [*forms, *copies]]
        pairs = [(i, j) for i in range(40) for j in range(i)]
        alike = [
            value
            for value in verify_plain(sets[:1] * 4 + sets[:40], [(i + 4, j + 4) for i, j in pairs], 0.3)
            if value
        ]
        assert not any(verified(sets, pairs, 0.3)), alike
        found = verified(sets, [(i, i + 40) for i in range(40)], 0.5)
        assert sum(value > 0 for value in found) >= 39


def test_many_copies_of_one_text_are_duplicates_of_one_another() -> None:
    rng = random.Random(2)
    original = words(400, rng)
    wrapped = [*words(40, rng), *original]
    copies = [original, *(edited(original, 0.01, rng) for _ in range(50)), original[:330], wrapped]
    sets = [spread(text) for text in copies]
    pairs = [(i, j) for i in range(len(sets)) for j in range(i)]
    by_jaccard = [len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.7 for i, j in pairs]
    assert sum(by_jaccard) > 1000
    found = [value > 0 for value in verified(sets, pairs, 0.7)]
    # Edits of both that meet look like content of their own.
    assert sum(found) >= 0.98 * sum(by_jaccard)
    assert not any(value and not alike for value, alike in zip(found, by_jaccard, strict=True))
    # Nothing keeps a copy apart from the original.
    assert all(
        value == alike for (_, j), value, alike in zip(pairs, found, by_jaccard, strict=True) if j == 0
    )


def test_an_empty_form_does_not_take_the_place_of_its_fillings() -> None:
    rng = random.Random(4)
    template = words(300, rng)
    fillings = [[*template[:100], *words(30, rng), *template[100:]] for _ in range(20)]
    sets = [spread(text) for text in [template, *fillings]]
    assert len(sets[0] & sets[1]) / len(sets[0] | sets[1]) > 0.8
    assert not any(verified(sets, [(0, i) for i in range(1, 21)], 0.7))
    assert not any(verified(sets, [(i, 0) for i in range(1, 21)], 0.7))


def test_counters_of_a_huge_component_judge_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    template = words(200, rng)
    sets = [spread([*template[:100], *words(30, rng), *template[100:]]) for _ in range(30)]
    sets += [spread(edited(template, 0.01, rng)) for _ in range(30)]
    pairs = [(i, j) for i in range(60) for j in range(i)]
    exact = verified(sets, pairs, 0.6)
    monkeypatch.setattr(verify, "MAX_EXACT", 10)
    monkeypatch.setattr(verify, "_MAX_COUNTERS", 1 << 18)
    rough = verified(sets, pairs, 0.6)
    assert sum((a > 0) == (b > 0) for a, b in zip(rough, exact, strict=True)) >= 0.98 * len(pairs)
    assert 0 < sum(value > 0 for value in exact) < len(pairs)


def test_empty_sets_and_no_pairs() -> None:
    assert verified([set(), set(), {1}], [(0, 1), (0, 2)], 0.1) == [0.0, 0.0]
    assert verified([{1}, {2}], [], 0.5) == []


@given(st.floats(0.0, 1.0), st.integers(0, 2**32 - 1))
def test_estimate_is_unbiased(similarity: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    width = 4096
    left = rng.integers(0, 256, (1, width), dtype=np.uint8)
    right = np.where(
        rng.random((1, width)) < similarity, left, rng.integers(0, 256, (1, width), dtype=np.uint8)
    )
    found = estimate_pairs(np.concatenate([left, right]), np.array([[0, 1]]), -1.0)
    assert abs(found[0] - similarity) < 5 * 0.5 / width**0.5
    assert estimate_pairs(np.concatenate([left, left]), np.array([[0, 1]]), 0.99).tolist() == [1.0]
