"""Keeps copies of held-out documents out of the training side.

Comes in: held-out and training texts. Goes out: which training texts resemble a held-out one. MinHash signatures in
bands of four values find a pair of Jaccard similarity 0.8 with a chance above 0.999 and one of 0.5 with 0.64; what is
found is compared by whole signatures, since short texts share a band by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from haina.corpus.dedup.minhash import EMPTY, signatures_batch
from haina.corpus.utf8 import pack

SHINGLE_WIDTH = 5
BANDS, ROWS = 16, 4
SIMILAR = 0.4  # estimated Jaccard similarity
MOST_COMPARED = 64  # held-out texts of one band; more of them are copies of one another


@njit(nogil=True, cache=True)
def _resembles(
    ours: NDArray[np.uint32],
    theirs: NDArray[np.uint32],
    order: NDArray[np.int64],
    found: NDArray[np.int64],
    copies: NDArray[np.bool_],
) -> None:
    """Compare each of `ours` with those of `theirs` whose band has its key: from place `found` of `order` on."""
    for text in range(len(ours)):
        place = found[text, 0]
        end = min(found[text, 1], place + MOST_COMPARED)
        while place < end and not copies[text]:
            equal = np.sum(ours[text] == theirs[order[place]])
            copies[text] = equal >= SIMILAR * ours.shape[1]
            place += 1


def _signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    return signatures_batch(*pack(texts), SHINGLE_WIDTH, BANDS * ROWS).values


def _band_keys(signatures: NDArray[np.uint32], band: int) -> NDArray[np.uint64]:
    """One hash of the values of a band: uint64 [texts]."""
    keys = np.zeros(len(signatures), np.uint64)
    for value in signatures[:, band * ROWS : (band + 1) * ROWS].T:
        keys = (keys ^ value) * np.uint64(0x9E3779B97F4A7C15)
    return keys


def resembles(texts: Sequence[str], held_out: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each of `texts` is a near-copy of any of `held_out`: bool [texts]; a text without words is none."""
    copies = np.zeros(len(texts), np.bool_)
    if not texts or not held_out:
        return copies
    ours, theirs = _signatures(texts), _signatures(held_out)
    theirs = theirs[theirs[:, 0] != EMPTY]
    for band in range(BANDS):
        keys = _band_keys(theirs, band)
        order = np.argsort(keys, kind="stable")
        wanted = _band_keys(ours, band)
        found = np.stack(
            [np.searchsorted(keys[order], wanted, "left"), np.searchsorted(keys[order], wanted, "right")],
            axis=1,
        )
        _resembles(ours, theirs, order, found, copies)
    return copies
