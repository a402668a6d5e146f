"""Duplicates: kernels equal to their plain counterparts, and clusters that neither miss nor swallow."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.duplicates import best_first, cluster, cluster_plain, exact_duplicates
from haina.corpus.minhash import EMPTY, buckets, estimate, signature, signature_plain
from haina.corpus.shingles import (
    exact_key,
    fold,
    jaccard,
    shingles_of,
    shingles_plain,
    tokens_of,
    tokens_plain,
)

COMMON = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所"
mixed_text = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("甲乙丙電电１a1 ,，\n")), max_size=200
)


def chinese(seed: int, length: int) -> str:
    values = random.Random(seed)
    return "".join(chr(values.randrange(0x4E00, 0x9FA5)) for _ in range(length))


def english(seed: int, length: int) -> str:
    values = random.Random(seed)
    return " ".join(
        "".join(values.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(5)) for _ in range(length)
    )


def edited(text: str, rate: float, seed: int) -> str:
    """Every character (or word) replaced with probability `rate`."""
    values = random.Random(seed)
    units = text.split(" ") if " " in text else list(text)
    fresh = [f"new{i}" if " " in text else COMMON[i % len(COMMON)] for i in range(len(units))]
    joined = [fresh[i] if values.random() < rate else unit for i, unit in enumerate(units)]
    return (" " if " " in text else "").join(joined)


def clusters_of(texts: list[str], threshold: float = 0.8, rows: int = 4, exact: bool = True) -> list[int]:
    sets = [shingles_of(tokens_of(text), 5) for text in texts]
    sizes = np.array([len(values) for values in sets], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])[: len(sets)].astype(np.int64)
    order = best_first(
        np.array([len(text) for text in texts], dtype=np.int64), [f"{i:04d}" for i in range(len(texts))]
    )
    found = cluster(
        order, np.stack([signature(values, 128) for values in sets]), np.concatenate(sets), starts, sizes, threshold, rows, exact=exact
    )  # fmt: skip
    for member, head in enumerate(found.representative.tolist()):
        if exact and member != head:
            assert found.similarity[member] == jaccard(sets[member], sets[head]) >= threshold
    return found.representative.tolist()


@given(mixed_text)
@settings(max_examples=150, deadline=None)
def test_tokens_and_shingles_equal_the_plain_ones(text: str) -> None:
    tokens = tokens_of(text)
    assert tokens.tolist() == tokens_plain(text)
    for width in (1, 5):
        assert shingles_of(tokens, width).tolist() == shingles_plain(tokens.tolist(), width)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=300), st.sampled_from([16, 127, 128]))
@settings(max_examples=100, deadline=None)
def test_signature_equals_the_plain_one(hashes: list[int], permutations: int) -> None:
    values = np.array(sorted(set(hashes)), dtype=np.uint64)
    assert signature(values, permutations).tolist() == signature_plain(sorted(set(hashes)), permutations)


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
@settings(deadline=None)
def test_jaccard_equals_sets(left: set[int], right: set[int]) -> None:
    union = len(left | right)
    arrays = [np.array(sorted(values), dtype=np.uint64) for values in (left, right)]
    assert jaccard(*arrays) == (len(left & right) / union if union else 0)


@given(
    st.lists(st.text("甲乙丙ab ", min_size=1, max_size=30), min_size=1, max_size=25),
    st.sampled_from([0.3, 0.8]),
)
@settings(max_examples=60, deadline=None)
def test_clusters_equal_the_plain_ones(texts: list[str], threshold: float) -> None:
    sets = [shingles_of(tokens_of(text), 2) for text in texts]
    signatures = np.stack([signature(values, 64) for values in sets])
    sizes = np.array([len(values) for values in sets], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])[: len(sets)].astype(np.int64)
    order = best_first(np.array([len(text) for text in texts]), [str(i) for i in range(len(texts))])
    bucket = buckets(signatures, 2)

    def candidates(a: int, b: int) -> bool:
        shared = any(bucket[band, a] == bucket[band, b] >= 0 for band in range(len(bucket)))
        return shared and estimate(signatures[a], signatures[b]) >= threshold - 0.2

    found = cluster(order, signatures, np.concatenate(sets), starts, sizes, threshold, 2, exact=True)
    plain = cluster_plain(order.tolist(), [set(values.tolist()) for values in sets], candidates, threshold)
    assert list(zip(found.representative.tolist(), found.similarity.tolist(), strict=True)) == plain


def test_the_key_folds_what_makes_no_difference() -> None:
    assert fold("ＡＩ電腦") == "ai电脑"
    same = ["電腦軟體，Python！", "电脑软体python", "電 腦 軟 體\nＰＹＴＨＯＮ"]
    assert len({exact_key(text, tokens_of(text)) for text in same}) == 1
    different = ["电脑", "电脑 1", "1 5", "15", "...", "!!!", ""]
    assert len({exact_key(text, tokens_of(text)) for text in different}) == len(different)


def test_estimate_is_unbiased_for_short_and_long_texts() -> None:
    """Mean error over pairs of known similarity; one sigma of the mean is below 0.01."""
    values = random.Random(3)
    for size in (8, 60, 2000):
        errors = []
        for _ in range(200):
            shared = [values.getrandbits(64) for _ in range(size)]
            sets = [
                np.array(sorted(shared + [values.getrandbits(64) for _ in range(size // 2)]), dtype=np.uint64)
                for _ in range(2)
            ]
            errors.append(estimate(signature(sets[0], 128), signature(sets[1], 128)) - jaccard(*sets))
        assert abs(np.mean(errors)) < 0.03


@pytest.mark.parametrize("make", [chinese, english])
def test_edits_of_one_percent_are_found_in_both_languages(make: object) -> None:
    originals = [make(seed, 500) for seed in range(40)]  # type: ignore[operator]
    heads = clusters_of(originals + [edited(text, 0.01, seed) for seed, text in enumerate(originals)])
    joined = sum(heads[i] == heads[i + 40] for i in range(40))
    assert joined >= 39
    assert len({heads[i] for i in range(40)}) == 40


def test_template_pages_are_not_swallowed_by_a_chain() -> None:
    """Each page is like the next one (0.82) but not like those further on: components would merge all fifty."""
    words = english(1, 3000).split()
    pages = [" ".join(words[40 * i : 40 * i + 400]) for i in range(50)]
    heads = clusters_of(pages)
    assert any(head != i for i, head in enumerate(heads))
    assert len(set(heads)) >= 50 / 3


def test_short_texts_neither_crash_nor_collide() -> None:
    texts = ["", "一", "二", "你好", "您好", "a", "b", "hello", "!!!", "一二三四", "一二三五"]
    assert clusters_of(texts) == list(range(len(texts)))
    assert clusters_of(texts, 0.5, 3, exact=False) == list(range(len(texts)))
    assert signature(shingles_of(tokens_of(""), 5), 16).tolist() == [int(EMPTY)] * 16
    assert len(shingles_of(tokens_of("一二三"), 5)) == 1


def test_the_longest_stays_whatever_the_order() -> None:
    base = chinese(5, 300)
    texts = [base, base + "尾", edited(base, 0.005, 1), base + "尾巴"]
    expected = base + "尾巴"
    for seed in range(5):
        shuffled = random.Random(seed).sample(texts, len(texts))
        assert {shuffled[head] for head in clusters_of(shuffled)} == {expected}


def test_exact_duplicates_keep_the_best() -> None:
    order = best_first(np.array([3, 5, 5, 3]), ["d", "c", "b", "a"])
    assert order.tolist() == [2, 1, 3, 0]
    assert exact_duplicates([b"k", b"k", b"k", b"other"], order).tolist() == [2, 2, 2, 3]
