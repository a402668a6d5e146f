"""The contiguous cache against concatenation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from haina.inference import ContiguousCache
from haina.model import ConcatenatedCache, ModelConfig

CONFIG = ModelConfig(
    vocab_size=16,
    hidden_size=8,
    intermediate_size=8,
    num_hidden_layers=3,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=40,
)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 50), st.integers(1, 3))
def test_equals_concatenation_at_every_step(passes: list[int], capacity: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    fast, plain = ContiguousCache(CONFIG, batch, capacity), ConcatenatedCache(3)
    for size in passes:
        for layer in range(3):
            keys, values = torch.randn(2, batch, 1, size, 4, generator=generator)
            for ours, theirs in zip(
                fast.append(layer, keys, values), plain.append(layer, keys, values), strict=True
            ):
                assert torch.equal(ours, theirs)
        assert fast.length == plain.length
    assert fast.capacity <= 40


def test_growth_is_by_doubling_and_ends_at_the_window() -> None:
    cache = ContiguousCache(CONFIG, capacity=4)
    seen = []
    for _ in range(40):
        for layer in range(3):
            cache.append(layer, torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4))
        seen.append(cache.capacity)
    assert sorted(set(seen)) == [4, 8, 16, 32, 40]
    with pytest.raises(ValueError, match="40 tokens asked to hold 41"):
        cache.append(0, torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4))
