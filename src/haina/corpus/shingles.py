"""A text as a set of shingles: what exact and near-duplicate search compare.

Comes in: text. Goes out: token hashes in order, and the sorted set of hashes of every run of five tokens. The
key folds what does not make a text different: NFKC, lower case, traditional characters to simplified, no
punctuation or spaces. A Han character is one token, elsewhere a run of letters and digits is; a text of fewer
tokens than a shingle has is one shingle, so short texts neither vanish nor collide. Kernels are numba; the
plain counterparts below them say what they compute, and tests hold both equal.
"""

from __future__ import annotations

import hashlib
import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.characters import DIGIT, HAN, HANGUL, KANA, LATIN, LETTER, classes_of, code_points

MASK = (1 << 64) - 1
_SEED = 0x9E3779B97F4A7C15
_MULTIPLY_1 = 0xBF58476D1CE4E5B9
_MULTIPLY_2 = 0x94D049BB133111EB
_WORD_CLASSES = (KANA, HANGUL, LATIN, LETTER, DIGIT)


@cache
def _simplified() -> dict[int, str]:
    """Code points that OpenCC changes on the way from traditional to simplified, one character each."""
    from opencc import OpenCC

    codes = [*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *range(0x20000, 0x31350)]
    folded = OpenCC("t2s").convert("\n".join(map(chr, codes))).split("\n")
    return {code: target for code, target in zip(codes, folded, strict=True) if target != chr(code)}


def fold(text: str) -> str:
    """The key form, for comparison only: NFKC, lower case, simplified. `ＡＩ電腦` -> `ai电脑`."""
    return unicodedata.normalize("NFKC", text).lower().translate(_simplified())


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _mix(value: np.uint64) -> np.uint64:
    """SplitMix64's finaliser (Steele et al. 2014): each output bit depends on all input bits."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(_MULTIPLY_1)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(_MULTIPLY_2)
    return value ^ (value >> np.uint64(31))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _token_kernel(codes: npt.NDArray[np.uint32], kinds: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    tokens = np.empty(len(codes), dtype=np.uint64)
    count = 0
    state = np.uint64(0)
    inside = False
    for index in range(len(codes)):
        kind = kinds[index]
        if kind in _WORD_CLASSES:
            if not inside:
                state = np.uint64(_SEED)
                inside = True
            state = _mix(state ^ np.uint64(codes[index]))
            continue
        if inside:
            tokens[count] = state
            count += 1
            inside = False
        if kind == HAN:
            tokens[count] = _mix(np.uint64(_SEED) ^ np.uint64(codes[index]))
            count += 1
    if inside:
        tokens[count] = state
        count += 1
    return tokens[:count].copy()


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _shingle_kernel(tokens: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint64]:
    count = len(tokens) - width + 1 if len(tokens) >= width else min(1, len(tokens))
    hashes = np.empty(count, dtype=np.uint64)
    for start in range(count):
        state = np.uint64(_SEED)
        for index in range(start, min(start + width, len(tokens))):
            state = _mix(state ^ tokens[index])
        hashes[start] = state
    return np.unique(hashes)


def tokens_of(text: str) -> npt.NDArray[np.uint64]:
    """Token hashes of a text, in order: uint64 [tokens]."""
    codes = code_points(fold(text))
    return _token_kernel(codes, classes_of(codes))


def shingles_of(tokens: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint64]:
    """Set of shingle hashes, sorted: uint64 [shingles]; at least one unless there is no token."""
    return _shingle_kernel(tokens, width)


def exact_key(text: str, tokens: npt.NDArray[np.uint64]) -> bytes:
    """16 bytes that texts of the same tokens share; a text without tokens stands for itself."""
    content = tokens.tobytes() if len(tokens) else b"\0" + text.encode("utf-8")
    return hashlib.blake2b(content, digest_size=16).digest()


def jaccard(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> float:
    """Exact Jaccard similarity of two sorted sets."""
    return float(jaccard_kernel(left, right))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def jaccard_kernel(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> float:
    """Merge of two sorted arrays without repeats: shared members over all members, 0 when both are empty."""
    i = j = shared = 0
    while i < len(left) and j < len(right):
        if left[i] == right[j]:
            shared += 1
            i += 1
            j += 1
        elif left[i] < right[j]:
            i += 1
        else:
            j += 1
    union = len(left) + len(right) - shared
    return shared / union if union else 0.0


def mix_plain(value: int) -> int:
    """`_mix` in Python integers."""
    value = ((value ^ (value >> 30)) * _MULTIPLY_1) & MASK
    value = ((value ^ (value >> 27)) * _MULTIPLY_2) & MASK
    return value ^ (value >> 31)


def tokens_plain(text: str) -> list[int]:
    """`tokens_of`, a character at a time."""
    tokens: list[int] = []
    state: int | None = None
    for character in fold(text):
        kind = int(classes_of(code_points(character))[0])
        if kind in _WORD_CLASSES:
            state = mix_plain((_SEED if state is None else state) ^ ord(character))
            continue
        if state is not None:
            tokens.append(state)
            state = None
        if kind == HAN:
            tokens.append(mix_plain(_SEED ^ ord(character)))
    return tokens if state is None else [*tokens, state]


def shingles_plain(tokens: list[int], width: int) -> list[int]:
    """`shingles_of` with slices and a set."""
    runs = (
        [tokens[start : start + width] for start in range(max(1, len(tokens) - width + 1))] if tokens else []
    )
    hashes = set()
    for run in runs:
        state = _SEED
        for token in run:
            state = mix_plain(state ^ token)
        hashes.add(state)
    return sorted(hashes)
