"""Muon against its definition by singular values, and inside a training run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from haina.train import TrainConfig
from haina.train.muon import QUINTICS, Muon, MuonSettings, orthogonalise, orthogonalise_plain, updates
from haina.train.optimizer import build_optimizer, set_learning_rate

from .small import small_model

SIZES = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}


def settings_of(momentum: float, row_decay: float, like: torch.Tensor) -> MuonSettings:
    return MuonSettings(momentum, row_decay, like.dtype)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 12),
    extra=st.integers(0, 12),
    batch=st.integers(1, 4),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
    seed=st.integers(0, 2**16),
)
def test_the_batched_form_is_the_quintics_of_the_singular_values(
    rows: int, extra: int, batch: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(batch, rows, rows + extra, generator=generator, dtype=torch.float64) * scale
    wanted = torch.stack([orthogonalise_plain(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonalise(matrices), wanted, rtol=1e-6, atol=1e-8)


def test_each_quintic_is_the_best_one_for_what_the_round_before_leaves() -> None:
    low, high = 0.003, 1.0
    for quintic in QUINTICS:
        points = np.concatenate(
            [np.geomspace(0.98 * low, 1.02 * high, 2001), np.linspace(0.98 * low, 1.02 * high, 2001)]
        )
        powers = np.stack([points, points**3, points**5], axis=1)
        error = np.ones((len(points), 1))
        # Smallest e with -e <= 1 - p(x) <= e at every point: a linear programme in a, b, c and e.
        solved = linprog(
            [0, 0, 0, 1],
            A_ub=np.block([[powers, -error], [-powers, -error]]),
            b_ub=np.concatenate([np.ones(len(points)), -np.ones(len(points))]),
            bounds=[(None, None)] * 3 + [(0, None)],
        )
        assert quintic == pytest.approx(tuple(solved.x[:3]), abs=1e-4)
        low, high = 1 - solved.x[3], 1 + solved.x[3]
    assert 0.75 < low < high < 1.25


@pytest.mark.parametrize("rank", [1, 2, 48])
def test_bf16_rounds_stay_in_bounds_for_matrices_of_low_rank(rank: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    left, right = (torch.randn(3, 48, rank, generator=generator) for _ in range(2))
    values = torch.linalg.svdvals(orthogonalise((left @ right.mT).bfloat16()).float())
    assert values.max() < 1.35
    assert (values[:, : min(rank, 40)] > 0.55).all()


def test_a_well_conditioned_matrix_becomes_nearly_orthogonal() -> None:
    matrix = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrix[None])[0])
    assert 0.7 < values.min() <= values.max() < 1.3


def test_a_zero_gradient_moves_nothing_but_the_decay() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 5))
    optimizer = Muon([weight], 0.1, 0.5, settings_of(0.9, 0.95, weight))
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((3, 5), 0.95))


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7)])
def test_steps_follow_the_definition(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
    plain, mean = weight.detach().clone(), torch.zeros(shape, dtype=torch.float64)
    optimizer = Muon([weight], 0.03, 0.1, settings_of(0.8, 0.0, weight))
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        weight.grad = gradient.clone()
        optimizer.step()
        mean = 0.8 * mean + 0.2 * gradient
        update = orthogonalise_plain(0.2 * gradient + 0.8 * mean)
        plain = plain * (1 - 0.03 * 0.1) - 0.03 * max(1.0, shape[0] / shape[1]) ** 0.5 * update
    torch.testing.assert_close(weight.detach(), plain, rtol=1e-8, atol=1e-10)


def test_vectors_are_refused() -> None:
    weight = torch.nn.Parameter(torch.zeros(4))
    with pytest.raises(ValueError, match=r"shape \[4\]"):
        Muon([weight], 0.1, 0.0, settings_of(0.9, 0.0, weight))


def test_every_parameter_has_one_optimizer_and_the_schedule_reaches_both() -> None:
    model = small_model(**SIZES)
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
        model = small_model(**SIZES)
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


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_rows_are_evened_out_and_the_length_stays(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(4)
    gradients = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    mean, rows = torch.zeros_like(gradients), torch.zeros(2, shape[0], 1, dtype=torch.float64)
    plain, _, _ = updates(gradients, mean, rows, settings_of(0.9, 0.0, gradients))
    even, _, variance = updates(gradients, mean, rows, settings_of(0.9, 0.95, gradients))
    torch.testing.assert_close(even.norm(dim=(1, 2)), plain.norm(dim=(1, 2)))
    # The mean square so far is this one's alone, so all rows become equally long.
    lengths = even.norm(dim=2)
    torch.testing.assert_close(lengths, lengths[:, :1].expand_as(lengths), rtol=1e-5, atol=0)
    torch.testing.assert_close(variance.squeeze(-1), 0.05 * plain.square().mean(-1))


def test_matrices_of_a_stack_do_not_know_of_each_other() -> None:
    generator = torch.Generator().manual_seed(5)
    gradients = torch.randn(3, 8, 5, generator=generator)
    mean, rows = torch.randn(3, 8, 5, generator=generator), torch.rand(3, 8, 1, generator=generator)
    chosen = settings_of(0.9, 0.9, gradients)
    together = updates(gradients, mean, rows, chosen)
    for place in range(3):
        here = slice(place, place + 1)
        alone = updates(gradients[here], mean[here], rows[here], chosen)
        for one, all_of_them in zip(alone, together, strict=True):
            torch.testing.assert_close(one, all_of_them[here], rtol=1e-5, atol=1e-6)


def test_a_matrix_without_a_gradient_is_an_error_beside_one_that_has() -> None:
    weights = [torch.nn.Parameter(torch.ones(3, 4)) for _ in range(2)]
    optimizer = Muon(weights, 0.1, 0.0, settings_of(0.9, 0.0, weights[0]))
    optimizer.step()
    weights[0].grad = torch.ones(3, 4)
    with pytest.raises(ValueError, match="no gradient"):
        optimizer.step()


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_gradients_of_any_scale_give_finite_updates(scale: float) -> None:
    weight = torch.nn.Parameter(torch.ones(4, 6))
    optimizer = Muon([weight], 0.1, 0.0, settings_of(0.9, 0.95, weight))
    weight.grad = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)) * scale
    optimizer.step()
    assert weight.isfinite().all()
