"""A seeded permutation of 0 ... n-1 that needs no memory.

In: positions. Out: where each goes. A Feistel network permutes the smallest even-bit power of two that holds
n, and positions that fall outside are sent through again until they do not ("cycle walking", Black and
Rogaway 2002, "Ciphers with arbitrary finite domains"). A trillion windows cost as much as ten, and the order
is the same on every machine and numpy version.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

ROUNDS = 6
MASK = (1 << 64) - 1
# numba turns uint64 + int64 into float64: every constant has to be unsigned.
_STEP, _FIRST, _SECOND = (
    np.uint64(constant) for constant in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_U27, _U30, _U31, _ONE = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(1)


def mix(value: int) -> int:
    """SplitMix64's finaliser (Steele et al. 2014): 64 bits in, 64 well-mixed bits out."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def _mix_array(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _half_bits(count: int) -> int:
    return max(2, ((count - 1).bit_length() + 1) // 2)


def _round_keys(key: int) -> list[int]:
    return [mix(mix(key & MASK) ^ number) for number in range(ROUNDS)]


def permute_one(position: int, count: int, key: int) -> int:
    """`permute` for one position, written plainly; the tests hold the two together."""
    half = _half_bits(count)
    low = (1 << half) - 1
    value = position
    while True:
        left, right = value >> half, value & low
        for round_key in _round_keys(key):
            left, right = right, left ^ (mix(right ^ round_key) & low)
        value = left << half | right
        if value < count:
            return value


def permute(positions: NDArray[np.int64], count: int, key: int) -> NDArray[np.int64]:
    """Where the permutation `key` of 0 ... count-1 sends `positions` [n], each in 0 ... count-1."""
    half, low = np.uint64(_half_bits(count)), np.uint64((1 << _half_bits(count)) - 1)
    keys = [np.uint64(round_key) for round_key in _round_keys(key)]
    result = positions.astype(np.uint64)
    walking = np.arange(len(result))
    while walking.size:
        left, right = result[walking] >> half, result[walking] & low
        for round_key in keys:
            left, right = right, left ^ (_mix_array(right ^ round_key) & low)
        value = (left << half) | right
        result[walking] = value
        walking = walking[value >= np.uint64(count)]
    return result.astype(np.int64)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _mix_word(value: np.uint64) -> np.uint64:
    value = value + _STEP
    value = (value ^ (value >> _U30)) * _FIRST
    value = (value ^ (value >> _U27)) * _SECOND
    return value ^ (value >> _U31)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def permute_position(position: int, count: int, key: np.uint64) -> np.int64:
    """`permute_one` for kernels: int64 position and count, uint64 key."""
    half, reach = 2, 16
    while reach < count and half < 31:
        half += 1
        reach <<= 2
    bits = np.uint64(half)
    low = (_ONE << bits) - _ONE
    base = _mix_word(key)
    value = np.uint64(position)
    while True:
        left, right = value >> bits, value & low
        for number in range(ROUNDS):
            right, left = left ^ (_mix_word(right ^ _mix_word(base ^ np.uint64(number))) & low), right
        value = (left << bits) | right
        if value < np.uint64(count):
            return np.int64(value)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def permute_range(start: int, stop: int, count: int, key: np.uint64) -> NDArray[np.int64]:
    """Where the permutation `key` of 0 ... count-1 sends `start` ... `stop`-1: int64 [stop - start]."""
    result = np.empty(stop - start, np.int64)
    for position in range(start, stop):
        result[position - start] = permute_position(position, count, key)
    return result
