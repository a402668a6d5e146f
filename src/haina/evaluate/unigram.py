"""The baseline that knows only how frequent each token is.

In: token counts of the training shard. Out: the cost in nats of every token under add-one smoothing,
p(t) = (count(t) + 1) / (N + V). A model that has learnt anything about order must be far below it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_TOKENS = 1 << 22


def token_counts(tokens: NDArray[np.integer], vocab_size: int) -> NDArray[np.int64]:
    """How often each id occurs, int64 [vocab_size]. tokens: [n], a memory map is read block by block."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(tokens), BLOCK_TOKENS):
        counts += np.bincount(tokens[start : start + BLOCK_TOKENS], minlength=vocab_size)
    return counts


def unigram_costs(counts: NDArray[np.int64], start_id: int | None) -> NDArray[np.float64]:
    """Nats of each id. counts: [vocab_size]. Returns float64 [vocab_size].

    `start_id` opens every document and is given, never predicted: its count is left out, which makes the
    baseline a little stronger.
    """
    counts = counts.copy()
    if start_id is not None:
        counts[start_id] = 0
    return -np.log((counts + 1) / (counts.sum() + len(counts)))
