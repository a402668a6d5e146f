"""Muon against its definition by singular values, and inside a training run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.model import ModelConfig, Transformer
from haina.train import TrainConfig
from haina.train.muon import Muon, orthogonalise, orthogonalise_plain
from haina.train.optimizer import build_optimizer, set_learning_rate

CONFIG = ModelConfig(
    vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 12),
    extra=st.integers(0, 12),
    batch=st.integers(1, 4),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
    seed=st.integers(0, 2**16),
)
def test_the_batched_form_is_the_quintic_of_the_singular_values(
    rows: int, extra: int, batch: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(batch, rows, rows + extra, generator=generator, dtype=torch.float64) * scale
    wanted = torch.stack([orthogonalise_plain(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonalise(matrices), wanted, rtol=1e-6, atol=1e-8)


def test_a_well_conditioned_matrix_becomes_nearly_orthogonal() -> None:
    matrix = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrix[None])[0])
    assert 0.6 < values.min() <= values.max() < 1.3


def test_a_zero_gradient_moves_nothing_but_the_decay() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 5))
    optimizer = Muon([weight], 0.1, 0.9, weight_decay=0.5)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((3, 5), 0.95))


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7)])
def test_steps_follow_the_definition(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
    plain, mean = weight.detach().clone(), torch.zeros(shape, dtype=torch.float64)
    optimizer = Muon([weight], 0.03, 0.8, weight_decay=0.1)
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        weight.grad = gradient.clone()
        optimizer.step()
        mean = 0.8 * mean + 0.2 * gradient
        update = orthogonalise_plain(0.2 * gradient + 0.8 * mean)
        plain = plain * (1 - 0.03 * 0.1) - 0.03 * max(1.0, shape[0] / shape[1]) ** 0.5 * update
    torch.testing.assert_close(weight.detach(), plain, rtol=1e-8, atol=1e-10)


def test_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[4\]"):
        Muon([torch.nn.Parameter(torch.zeros(4))], 0.1, 0.9, 0.0)


def test_every_parameter_has_one_optimizer_and_the_schedule_reaches_both() -> None:
    model = Transformer(CONFIG)
    optimizer = build_optimizer(
        model, TrainConfig(optimizer="muon", learning_rate=0.01, matrix_learning_rate=0.02)
    )
    parameters = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(parameters) == sorted(id(p) for p in model.parameters())
    assert set(optimizer.state) == set(model.parameters())
    set_learning_rate(optimizer, 0.005)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.005, 0.01]
    inside = {id(p) for name, p in model.named_parameters() if p.dim() == 2 and ".layers." in name}
    assert {id(p) for p in optimizer.parts[0].param_groups[0]["params"]} == inside


def test_muon_learns_a_small_text_faster_than_adamw() -> None:
    losses = {}
    for name in ("adamw", "muon"):
        model = Transformer(CONFIG)
        model.initialize(0)
        optimizer = build_optimizer(model, TrainConfig(optimizer=name, learning_rate=0.004))
        tokens = torch.randint(0, 64, (4, 33), generator=torch.Generator().manual_seed(3))
        for _ in range(40):
            logits = model(tokens[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].reshape(-1))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses[name] = loss.item()
    assert losses["muon"] < losses["adamw"] < 4.2
