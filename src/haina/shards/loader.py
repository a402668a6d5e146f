"""Batches of packed windows.

In: an indexed dataset. Out: batch number `step`, computed from `(seed, step)` alone: the token stream of all
documents, borders included, is cut into windows, and each epoch walks through all of them in an order of its
own. There is no state, so resuming is asking for the next step, and every rank of a larger job can cut its
own rows out of the same batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.shards.indexed import IndexedDataset
from haina.shards.permutation import mix, permute


class PackedLoader:
    """Windows of `sequence_length + 1` tokens: the inputs and, one to the right, the targets.

    Window w begins at token w * sequence_length, so windows overlap by one token and every token but the
    first is a target exactly once an epoch; a tail shorter than a window is left out.

    Args:
        dataset: the tokens.
        sequence_length: tokens the model reads at once.
        batch_size: windows in a batch.
        seed: fixes the order; another seed is another order.

    Attributes:
        windows_per_epoch: windows in the dataset.

    Raises:
        HainaError: the dataset is shorter than one window, or a size is not positive.
    """

    def __init__(self, dataset: IndexedDataset, sequence_length: int, batch_size: int, seed: int) -> None:
        if sequence_length < 1 or batch_size < 1:
            raise HainaError(
                f"sequence_length {sequence_length} and batch_size {batch_size}", "both must be at least 1"
            )
        self.dataset, self.seed = dataset, seed
        self.sequence_length, self.batch_size = sequence_length, batch_size
        self.windows_per_epoch = max(0, (len(dataset.tokens) - 1) // sequence_length)
        if self.windows_per_epoch == 0:
            raise HainaError(
                f"{dataset.bin_path}: {len(dataset.tokens):,} tokens, a window needs {sequence_length + 1:,}",
                "shorten the training sequence or bring more text",
            )

    def window_numbers(self, step: int) -> NDArray[np.int64]:
        """Window numbers [batch_size] of batch `step`; a batch may reach over the end of an epoch."""
        samples = np.arange(step * self.batch_size, (step + 1) * self.batch_size, dtype=np.int64)
        epochs, positions = np.divmod(samples, self.windows_per_epoch)
        numbers = np.empty_like(samples)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            numbers[chosen] = permute(positions[chosen], self.windows_per_epoch, mix(self.seed) ^ int(epoch))
        return numbers

    def batch(self, step: int) -> NDArray[np.int64]:
        """Batch `step` (>= 0): int64 [batch_size, sequence_length + 1]."""
        if step < 0:
            raise ValueError(f"step {step} is negative")
        starts = self.window_numbers(step) * self.sequence_length
        result = np.empty((self.batch_size, self.sequence_length + 1), np.int64)
        for row, start in zip(result, starts, strict=True):
            row[:] = self.dataset.tokens[start : start + self.sequence_length + 1]
        return result
