"""The optimizers against PyTorch's and against plain float64 formulas; skipped steps; the length of a step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from haina.model import Transformer
from haina.train import TrainConfig
from haina.train import adamw as adamw_module
from haina.train.adamw import AdamW
from haina.train.optimizer import OptimizerParts, build_optimizer, set_learning_rate

from .small import small_model


def build(name: str, **changes: object) -> tuple[Transformer, OptimizerParts]:
    model = small_model(vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2)
    return model, build_optimizer(model, TrainConfig(optimizer=name, precision="fp32", **changes))


def gradients(model: Transformer, seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * scale


def everything(model: Transformer, optimizer: OptimizerParts) -> list[Tensor]:
    """Copies of all parameters and all optimizer state."""
    state = [value for p in model.parameters() for _, value in sorted(optimizer.state[p].items())]
    return [tensor.detach().clone() for tensor in [*model.parameters(), *state]]


def bits(tensors: list[Tensor]) -> list[bytes]:
    return [tensor.detach().numpy().tobytes() for tensor in tensors]


@pytest.mark.parametrize("copy_limit", [1, 1 << 26])
def test_adamw_is_that_of_pytorch(monkeypatch: pytest.MonkeyPatch, copy_limit: int) -> None:
    monkeypatch.setattr(adamw_module, "LARGEST_COPY", copy_limit)
    ours = [
        torch.nn.Parameter(torch.randn(n, generator=torch.Generator().manual_seed(n))) for n in (3, 70, 9)
    ]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    optimizer = AdamW([{"params": ours, "weight_decay": 0.1}], 0.01, (0.9, 0.95), 1e-8)
    reference = torch.optim.AdamW(theirs, 0.01, (0.9, 0.95), 1e-8, weight_decay=0.1, fused=True)
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        optimizer.step()
        reference.step()
    assert bits(ours) == bits(theirs)
    assert bits([optimizer.state[p]["exp_avg_sq"] for p in ours]) == bits(
        [reference.state[p]["exp_avg_sq"] for p in theirs]
    )


def test_adamw_follows_its_formula_in_float64() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(6, 7, generator=generator, dtype=torch.float64))
    plain = weight.detach().clone()
    mean, square = torch.zeros_like(plain), torch.zeros_like(plain)
    optimizer = AdamW([{"params": [weight], "weight_decay": 0.2}], 0.03, (0.8, 0.99), 1e-6)
    for step in range(1, 5):
        weight.grad = torch.randn(6, 7, generator=generator, dtype=torch.float64)
        mean = 0.8 * mean + 0.2 * weight.grad
        square = 0.99 * square + 0.01 * weight.grad**2
        plain -= 0.03 * 0.2 * plain
        plain -= 0.03 * (mean / (1 - 0.8**step)) / ((square / (1 - 0.99**step)).sqrt() + 1e-6)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), plain, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("poison", [1.0, 1e30, math.inf, math.nan])
def test_a_skipped_step_leaves_every_bit_as_it_was(name: str, poison: float) -> None:
    model, optimizer = build(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[0] = -0.0
    gradients(model, 1)
    optimizer.step()
    before = everything(model, optimizer)
    gradients(model, 2, poison)
    optimizer.step(torch.tensor(1.0))
    assert bits(everything(model, optimizer)) == bits(before)
    assert optimizer.update_norm().item() == 0.0


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_after_a_skipped_step_the_run_is_as_if_it_had_not_been(name: str) -> None:
    outcomes = []
    for with_skip in (False, True):
        model, optimizer = build(name)
        for step in range(4):
            if with_skip and step == 2:
                gradients(model, 99, math.nan)
                optimizer.step(torch.tensor(1.0))
            gradients(model, step)
            optimizer.step(torch.tensor(0.0) if with_skip else None)
        outcomes.append(bits(everything(model, optimizer)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_update_norm_is_the_length_of_the_change(name: str) -> None:
    model, optimizer = build(name, weight_decay=0.3)
    for step in range(3):
        before = [p.detach().clone().double() for p in model.parameters()]
        gradients(model, step)
        optimizer.step()
        change = [p.detach().double() - old for p, old in zip(model.parameters(), before, strict=True)]
        wanted = torch.stack([c.square().sum() for c in change]).sum().sqrt()
        assert optimizer.update_norm().item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_read_back_in_place_goes_on_bit_for_bit(name: str) -> None:
    model, optimizer = build(name)
    for step in range(3):
        gradients(model, step)
        optimizer.step()
    again, resumed = build(name)
    with torch.no_grad():
        for mine, other in zip(again.parameters(), model.parameters(), strict=True):
            mine.copy_(other)
            for key, value in optimizer.state[other].items():
                resumed.state[mine][key].copy_(value)
    for step in range(3, 5):
        gradients(model, step)
        gradients(again, step)
        optimizer.step()
        resumed.step()
    assert bits(everything(model, optimizer)) == bits(everything(again, resumed))


@pytest.mark.parametrize(("embeddings", "decayed"), [(True, 0.5), (False, 1.0)])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_what_is_decayed(name: str, embeddings: bool, decayed: float) -> None:
    model, optimizer = build(name, weight_decay=0.5, decay_embeddings=embeddings)
    set_learning_rate(optimizer, 1.0)
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, parameter in model.named_parameters():
        share = 1.0 if parameter.dim() == 1 else decayed if "embed" in key else 0.5
        torch.testing.assert_close(parameter.detach(), before[key] * share)
