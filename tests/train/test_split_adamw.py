"""AdamW over split weights: the same numbers as float32 weights with a bf16 copy, in two bytes less."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from haina.model import Transformer
from haina.model.initial import initial_weights
from haina.model.training import plain_states
from haina.runtime.errors import HainaError
from haina.train.config import TrainConfig
from haina.train.hardware import choose
from haina.train.loss import linear_cross_entropy
from haina.train.optimizer import OptimizerParts, build_optimizer
from haina.train.split_adamw import SplitAdamW, join, split

from .small import small_model

CONFIG = TrainConfig(optimizer="adamw", learning_rate=3e-3, steps=100, warmup_steps=0, weight_decay=0.1)
SPLIT = CONFIG.model_copy(update={"split_weights": True})


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=64))
def test_splitting_rounds_like_a_cast_and_joins_again(numbers: list[int]) -> None:
    bits = torch.tensor(numbers, dtype=torch.int64).to(torch.int32)
    # Near the largest float a cast gives infinity, and NaN has many faces; a weight is neither.
    wide = bits.view(torch.float32)
    bits = bits[wide.isfinite() & (wide.abs() < 3e38)]
    wide = bits.view(torch.float32)
    high, low = split(wide)
    assert torch.equal(high, wide.bfloat16().view(torch.int16))
    lost = bits - join(high, low).view(torch.int32)
    tie = (bits & 0xFFFF) == 0x8000
    assert torch.equal(lost != 0, tie & (high == (bits >> 16)))
    assert int(lost.abs().max() if len(lost) else 0) <= 1


def test_every_tie_and_the_ends_of_the_range() -> None:
    wide = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-40, -1e-45, 3e38, float("inf"), -float("inf")])
    high, low = split(wide)
    assert torch.equal(high.view(torch.bfloat16).float(), wide.bfloat16().float())
    assert torch.equal(join(high, low), wide)


def test_what_is_not_a_number_stays_so_whatever_its_bits() -> None:
    """A GPU makes NaN of all bits set, which rounding would carry over into -0.0."""
    wide = torch.tensor([0x7FFFFFFF, -1, 0x7F800001, 0x7FC00000, -(1 << 22)], dtype=torch.int32)
    high, low = split(wide.view(torch.float32))
    assert high.view(torch.bfloat16).isnan().all()
    assert join(high, low).isnan().all()


def trained(model: Transformer, optimizer: OptimizerParts, steps: int, accumulation: int = 2) -> list[float]:
    generator = torch.Generator().manual_seed(5)
    losses = []
    for _ in range(steps):
        total = 0.0
        for _ in range(accumulation):
            tokens = torch.randint(0, 96, (2, 33), generator=generator)
            hidden = plain_states(model, tokens[:, :-1], None, None, torch.bfloat16)
            objective, loss = linear_cross_entropy(
                hidden.flatten(0, 1),
                model.head_weight(),
                tokens[:, 1:].reshape(-1),
                chunk=32,
                dtype=torch.bfloat16,
                total=accumulation * 64,
            )
            objective.backward()
            total += float(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


def fresh() -> Transformer:
    return small_model(3, vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=2)


def masters(model: Transformer, optimizer: OptimizerParts) -> dict[str, Tensor]:
    first = optimizer.parts[0]
    return {
        name: first.master(p) if isinstance(first, SplitAdamW) and p in first.state else p.detach().clone()
        for name, p in model.named_parameters()
    }


def test_training_is_that_of_float32_weights_under_autocast() -> None:
    plain, halves = fresh(), fresh()
    plain_optimizer, optimizer = build_optimizer(plain, CONFIG), build_optimizer(halves, SPLIT)
    inside = [p for name, p in halves.named_parameters() if p.dim() == 2 and ".layers." in name]
    assert inside
    assert all(p.dtype == torch.bfloat16 for p in inside)
    first = trained(plain, plain_optimizer, 1), trained(halves, optimizer, 1)
    assert first[0] == first[1]  # the same bits go forward
    expected, found = trained(plain, plain_optimizer, 10), trained(halves, optimizer, 10)
    assert max(abs(a - b) for a, b in zip(expected, found, strict=True)) < 2e-3
    assert expected[-1] != expected[0]
    wanted = masters(plain, plain_optimizer)
    for name, weight in masters(halves, optimizer).items():
        start = dict(fresh().named_parameters())[name].detach()
        assert (weight - wanted[name]).norm() <= 0.02 * (wanted[name] - start).norm(), name


def test_gradients_are_those_of_autocast_summed_in_float32() -> None:
    plain, halves = fresh(), fresh()
    build_optimizer(halves, SPLIT)
    tokens = torch.randint(0, 96, (3, 2, 32), generator=torch.Generator().manual_seed(4))
    for model in (plain, halves):
        for micro_batch in tokens:
            plain_states(model, micro_batch, None, None, torch.bfloat16).float().square().mean().backward()
    for wanted, found in zip(plain.parameters(), halves.parameters(), strict=True):
        assert (wanted.grad is None) == (found.grad is None)
        if wanted.grad is not None and found.grad is not None:
            assert found.grad.dtype == torch.float32
            assert torch.equal(found.grad, wanted.grad)


@pytest.mark.slow
def test_the_compiled_update_is_the_plain_one() -> None:
    """Slow: it calls a C++ compiler."""
    results = []
    for compiled in (False, True):
        parameter = torch.nn.Parameter(torch.randn(48, 64, generator=torch.Generator().manual_seed(1)))
        split = SplitAdamW([{"params": [parameter]}], 1e-3, (0.9, 0.95), 1e-8, compiled)
        generator = torch.Generator().manual_seed(2)
        for step in range(3):
            parameter.grad = torch.randn(48, 64, generator=generator)
            split.step(skip=torch.tensor(float(step == 1)))
        results.append((split.master(parameter), split.squared_change))
    (plain, length), (fast, same_length) = results
    assert (plain - fast).abs().max() <= 1e-6
    assert float(length) == pytest.approx(float(same_length), rel=1e-4)


def test_one_step_is_adamw_to_float32() -> None:
    weight = torch.randn(48, 64, generator=torch.Generator().manual_seed(1))
    reference = torch.nn.Parameter(weight.double())
    parameter = torch.nn.Parameter(weight.clone())
    group = {"params": [parameter], "weight_decay": 0.1}
    split = SplitAdamW([group], 1e-3, (0.9, 0.95), 1e-8)
    exact = torch.optim.AdamW([reference], 1e-3, (0.9, 0.95), 1e-8, weight_decay=0.1)
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        gradient = torch.randn(48, 64, generator=generator)
        parameter.grad, reference.grad = gradient.clone(), gradient.double()
        before = reference.detach().clone()
        split.step()
        exact.step()
        change = (reference.detach() - before).norm()
        assert float(split.squared_change) ** 0.5 == pytest.approx(float(change), rel=1e-4)
    assert (split.master(parameter).double() - reference).abs().max() < 2e-6
    assert torch.equal(parameter.detach(), split.master(parameter).bfloat16())


def test_a_skipped_step_changes_nothing() -> None:
    model = fresh()
    optimizer = build_optimizer(model, SPLIT)
    trained(model, optimizer, 2)

    def everything() -> list[Tensor]:
        state = [value.clone() for values in optimizer.state.values() for value in values.values()]
        return [parameter.detach().clone() for parameter in model.parameters()] + state

    before = everything()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"), dtype=torch.float32)
    optimizer.step(torch.ones(()))
    assert all(torch.equal(a, b) for a, b in zip(everything(), before, strict=True))
    assert float(optimizer.update_norm()) == 0.0
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter, dtype=torch.float32)
    optimizer.step(torch.zeros(()))
    assert not any(torch.equal(a, b) for a, b in zip(everything(), before, strict=True) if a.dim() == 2)


def test_a_restart_is_the_state_before_the_first_step() -> None:
    model = fresh()
    optimizer = build_optimizer(model, SPLIT)
    before, weights = masters(model, optimizer), [p.detach().clone() for p in model.parameters()]
    trained(model, optimizer, 3)
    optimizer.restart(initial_weights(model, 3))
    for name, weight in masters(model, optimizer).items():
        assert torch.equal(weight, before[name]), name
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))
    for values in optimizer.state.values():
        assert not any(value.any() for name, value in values.items() if name != "low")


def test_where_split_weights_cannot_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ({"optimizer": "muon"}, {"optimizer": "adamw", "precision": "fp32"}):
        with pytest.raises(ValidationError, match="split_weights"):
            TrainConfig.model_validate({"split_weights": True, **wrong})
    monkeypatch.setattr("haina.train.hardware.has_native_bf16", lambda device: False)
    with pytest.raises(HainaError, match="split_weights"):
        choose(SPLIT)
