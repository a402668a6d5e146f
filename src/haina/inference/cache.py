"""The key/value cache of one request: contiguous, preallocated, doubled when full.

Keys and values of new tokens in, views of all tokens so far out. Appending copies only what is new, where
concatenation would copy the whole past at every token; growing by doubling keeps that true on average without
reserving the whole window for a short request.
"""

from __future__ import annotations

import torch
from torch import Tensor

from haina.model import ModelConfig

FIRST_CAPACITY = 128


class ContiguousCache:
    """Implements `haina.model.KeyValueCache`.

    Args:
        config: sizes of the model.
        batch: sequences side by side.
        capacity: tokens to make room for at first; more is made when needed, up to the model's window at
            most.
        dtype, device: of the keys and values.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int = 1,
        capacity: int = FIRST_CAPACITY,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.num_layers = config.num_hidden_layers
        self.limit = config.max_position_embeddings
        self.length = 0
        shape = (
            2,
            self.num_layers,
            batch,
            config.num_key_value_heads,
            min(max(capacity, 1), self.limit),
            config.head_dim,
        )
        self.storage = torch.empty(shape, dtype=dtype, device=device)

    @property
    def capacity(self) -> int:
        """Tokens there is room for now."""
        return self.storage.shape[-2]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `KeyValueCache.append`.

        Raises:
            ValueError: more tokens than the model's window; the engine never asks for that.
        """
        end = self.length + keys.shape[2]
        if end > self.limit:
            raise ValueError(f"cache of {self.limit} tokens asked to hold {end}")
        if end > self.capacity:
            self._grow(end)
        kept_keys, kept_values = self.storage[0, layer], self.storage[1, layer]
        kept_keys[:, :, self.length : end] = keys
        kept_values[:, :, self.length : end] = values
        if layer == self.num_layers - 1:
            self.length = end
        return kept_keys[:, :, :end], kept_values[:, :, :end]

    def _grow(self, needed: int) -> None:
        shape = list(self.storage.shape)
        shape[-2] = min(max(needed, 2 * self.capacity), self.limit)
        grown = self.storage.new_empty(shape)
        grown[..., : self.length, :] = self.storage[..., : self.length, :]
        self.storage = grown
