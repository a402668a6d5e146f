"""What is computed again is the same to the bit, and less is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from haina.model import ConcatenatedCache, Transformer
from haina.model.training import plain_states
from haina.train.recompute import recompute_blocks

from .small import small_model

MODES: list[Any] = ["selective", "full"]


@pytest.fixture
def model() -> Transformer:
    return small_model(
        1,
        vocab_size=128,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        qk_norm=True,
    )


def tokens() -> Tensor:
    return torch.randint(0, 128, (2, 48), generator=torch.Generator().manual_seed(0))


def gradients(model: Transformer, dtype: torch.dtype, separate: bool) -> list[Tensor]:
    places = torch.arange(48).expand(2, 48)
    positions, segments = (places % 20, places // 20) if separate else (None, None)
    model.zero_grad()
    plain_states(model, tokens(), positions, segments, dtype).float().square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("separate", [False, True])
def test_gradients_are_identical(model: Transformer, mode: Any, dtype: torch.dtype, separate: bool) -> None:
    expected = gradients(model, dtype, separate)
    recompute_blocks(model, mode)
    found = gradients(model, dtype, separate)
    assert len(found) == len(expected) > 3 * 9
    assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_compiled_blocks_recompute_too(model: Transformer, mode: Any) -> None:
    expected = gradients(model, torch.bfloat16, False)
    recompute_blocks(model, mode)
    for block in model.model.layers:
        block.compile(backend="aot_eager")
    found = gradients(model, torch.bfloat16, False)
    for left, right in zip(found, expected, strict=True):
        assert (left - right).norm() <= 2e-2 * right.norm()


def kept(model: Transformer) -> int:
    """Bytes that a forward pass leaves for the backward pass, weights aside."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    seen: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        seen.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        plain_states(model, tokens(), None, None, torch.float32)
    return sum(t.untyped_storage().nbytes() for key, t in seen.items() if key not in own)


def test_full_keeps_the_residual_stream_only(model: Transformer) -> None:
    before = kept(model)
    recompute_blocks(model, "full")
    # Recomputed blocks hide what they keep from the hooks, but for their input.
    assert kept(model) < before / 4


def test_none_undoes_it(model: Transformer) -> None:
    names = [name for name, _ in model.named_parameters()]
    before = kept(model)
    recompute_blocks(model, "full")
    assert [name for name, _ in model.named_parameters()] == names
    assert kept(model) < before
    recompute_blocks(model, "none")
    assert kept(model) == before


@pytest.mark.parametrize("mode", MODES)
def test_generation_is_as_before(model: Transformer, mode: Any) -> None:
    with torch.no_grad():
        expected = model(tokens())
        recompute_blocks(model, mode)
        assert torch.equal(model(tokens()), expected)
    cache = ConcatenatedCache(3)
    with torch.no_grad():
        pieces = [model(part, cache) for part in tokens().split(16, dim=1)]
    assert torch.allclose(torch.cat(pieces, dim=1), expected, atol=1e-5)
