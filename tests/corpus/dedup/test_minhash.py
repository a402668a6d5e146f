"""Signatures: kernels against their plain counterparts, unbiased estimates, bands of short texts, sketches."""

from __future__ import annotations

import math
import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.dedup.minhash import (
    CHUNK,
    EMPTY,
    KEPT,
    estimate,
    signature_of,
    signatures_batch,
    sketch64,
    truncate8,
)
from haina.corpus.dedup.plain import (
    shingles_plain,
    signature_plain,
    sketch_plain,
    tokens_plain,
    truncate_plain,
)
from haina.corpus.dedup.shingles import exact_key, shingles_of, tokens_of
from haina.corpus.utf8 import pack

U64 = npt.NDArray[np.uint64]
WORDS = ["a ", "word ", "中", "文", "，", "é", "日本語かな", " ", "x" * 70]
TEXTS = st.lists(
    st.one_of(st.sampled_from(WORDS), st.characters(exclude_categories=["Cs"])), max_size=80
).map("".join)


def random_text(rng: random.Random, tokens: int, different: int, chinese: bool) -> str:
    """`tokens` tokens, `different` ones among them at most."""
    if chinese:
        return "".join(chr(0x4E00 + rng.randrange(different)) for _ in range(tokens))
    return " ".join(f"w{rng.randrange(different)}" for _ in range(tokens))


def two_sets(rng: np.random.Generator, size: int, jaccard: float) -> tuple[U64, U64, float]:
    """Two sets of random hashes with `size` members in all, and their Jaccard similarity."""
    shared = round(jaccard * size)
    union = rng.integers(0, 2**64, size, dtype=np.uint64)
    rest = (size - shared + 1) // 2
    return union[: shared + rest], np.concatenate((union[:shared], union[shared + rest :])), shared / size


@settings(max_examples=60)
@given(st.lists(TEXTS, max_size=5), st.integers(1, 9), st.sampled_from([1, 20, 64, 128]))
def test_batch_equals_plain(texts: list[str], width: int, permutations: int) -> None:
    signatures = signatures_batch(*pack(texts), width, permutations)
    for index, text in enumerate(texts):
        hashes = shingles_plain([token for token, _, _ in tokens_plain(text.encode())], width)
        assert signatures.values[index].tolist() == signature_plain(hashes, permutations)
        assert signatures.sizes[index] == len(hashes)
        assert signatures.keys[index].tobytes() == exact_key(text)
        assert np.array_equal(
            signatures.values[index], signature_of(shingles_of(tokens_of(text), width), permutations)
        )


@pytest.mark.parametrize("chinese", [True, False])
@pytest.mark.parametrize(
    "tokens", [CHUNK - 1, CHUNK, CHUNK + 3, 3 * CHUNK, KEPT - 1, KEPT + 3, KEPT + 4, KEPT + 5, 60_000]
)
@pytest.mark.parametrize("different", [1, 3, 4000])
def test_long_documents(tokens: int, different: int, chinese: bool) -> None:
    # Few different tokens leave bins empty however long the document is.
    text = random_text(random.Random(tokens), tokens, different, chinese)
    signatures = signatures_batch(*pack([text]), 5, 128)
    assert signatures.sizes[0] == tokens - 4
    assert np.array_equal(signatures.values[0], signature_of(shingles_of(tokens_of(text), 5), 128))
    assert signatures.keys[0].tobytes() == exact_key(text)


def test_texts_without_tokens_are_empty() -> None:
    signatures = signatures_batch(*pack(["", "。。", "字"]), 5, 128)
    assert np.all(signatures.values[:2] == EMPTY)
    assert not np.any(signatures.values[2] == EMPTY)
    assert signatures.sizes.tolist() == [0, 0, 1]


@pytest.mark.parametrize("size", [1, 2, 5, 20, 64, 128, 300, 1000, 10_000])
@pytest.mark.parametrize("jaccard", [0.3, 0.5, 0.8])
def test_estimate_is_unbiased(size: int, jaccard: float) -> None:
    rng = np.random.default_rng(size)
    errors = []
    for _ in range(max(40, 20_000 // max(size, 50))):
        left, right, exact = two_sets(rng, size, jaccard)
        errors.append(estimate(signature_of(left, 128), signature_of(right, 128)) - exact)
    sigma = max(float(np.std(errors)), 1e-9) / math.sqrt(len(errors))
    assert abs(float(np.mean(errors))) <= 3 * sigma
    # Bins of their own for all: no estimate errs more than that of 128 independent permutations.
    assert np.std(errors) <= 1.2 * math.sqrt(0.25 / 128)


@pytest.mark.parametrize(("bands", "rows"), [(32, 4), (20, 4)])
@pytest.mark.parametrize("size", [5, 10, 20, 50, 128, 400])
def test_bands_find_short_texts_as_the_formula_says(size: int, bands: int, rows: int) -> None:
    rng = np.random.default_rng(size * bands)
    pairs, found, expected = 600, 0, 0.0
    for _ in range(pairs):
        left, right, exact = two_sets(rng, size, 0.6)
        equal = signature_of(left, 128) == signature_of(right, 128)
        found += bool(np.any(np.all(equal[: bands * rows].reshape(bands, rows), axis=1)))
        expected += 1 - (1 - exact**rows) ** bands
    # Three sigma of the sample, and what dependence within a few shingles may cost.
    share = expected / pairs
    assert found / pairs >= share - 3 * math.sqrt(share * (1 - share) / pairs) - 0.02


def test_truncated_values_are_well_mixed() -> None:
    rng = np.random.default_rng(0)
    # Minima are small numbers: the smaller, the longer the text.
    for bits in (32, 24):
        values = rng.integers(0, 2**bits, (500, 128), dtype=np.uint64).astype(np.uint32)
        other = rng.integers(0, 2**bits, (500, 128), dtype=np.uint64).astype(np.uint32)
        counts = np.bincount(truncate8(values).ravel(), minlength=256)
        mean = values.size / 256
        assert np.sum((counts - mean) ** 2 / mean) < 255 + 6 * math.sqrt(2 * 255)
        equal = np.mean((truncate8(values) == truncate8(other))[values != other])
        assert abs(equal - 1 / 256) < 6 * math.sqrt(1 / 256 / values.size)
        assert truncate8(values)[0].tolist() == [truncate_plain(value) for value in values[0].tolist()]


def test_sketch_estimates_jaccard() -> None:
    rng = np.random.default_rng(0)
    for jaccard in (0.0, 0.5, 0.9, 1.0):
        distances = []
        for _ in range(400):
            left, right, _ = two_sets(rng, 200, jaccard)
            sketches = sketch64(np.stack([signature_of(left, 128), signature_of(right, 128)]))
            distances.append(int(sketches[0] ^ sketches[1]).bit_count())
        estimated = 1 - 2 * np.mean(distances) / 64
        assert abs(estimated - jaccard) < 4 * math.sqrt(0.25 / 64 * 4 / 400) + 1e-9


@pytest.mark.parametrize("permutations", [64, 80, 128])
def test_sketch_equals_plain(permutations: int) -> None:
    signatures = signatures_batch(
        *pack(["这是一个句子，后面还有一句。", "an English sentence", ""]), 3, permutations
    ).values
    assert sketch64(signatures).tolist() == [sketch_plain(row) for row in signatures.tolist()]


def test_signatures_do_not_change() -> None:
    # They are written to disk: other values are another format.
    signatures = signatures_batch(*pack(["Ａ long-internationalization 電"]), 2, 3)
    assert signatures.values[0].tolist() == [2750815599, 2535726084, 606800501]
    assert signatures.keys[0].tobytes().hex() == "d0e832f90a133ceb3d13f6b40e2baccd"
