"""A model in, its optimizer out: AdamW, or Muon for the matrices inside the blocks and AdamW for the rest.

AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101). Matrices are decayed, norm gains and other vectors are not. The
fused kernel updates everything in one pass where PyTorch has it. All state is there from the start (zeros), so that a
checkpoint can be read into it in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from haina.train.config import TrainConfig
from haina.train.muon import Muon

MOMENTS = ("exp_avg", "exp_avg_sq")
# Of the peak learning rate, what a group takes; so that one schedule serves groups of different scale.
SHARE = "share"


class OptimizerParts:
    """One or more optimizers over disjoint parameters, used as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict[Tensor, dict[str, Tensor]]:
        return {parameter: values for part in self.parts for parameter, values in part.state.items()}

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)


def build_optimizer(model: nn.Module, config: TrainConfig) -> OptimizerParts:
    """The optimizer that `config.optimizer` names."""
    named = list(model.named_parameters())
    inside = [p for name, p in named if config.optimizer == "muon" and p.dim() == 2 and ".layers." in name]
    taken = set(inside)
    parts: list[torch.optim.Optimizer] = []
    if inside:
        muon = Muon(inside, config.matrix_learning_rate, config.matrix_momentum, config.weight_decay)
        muon.param_groups[0][SHARE] = config.matrix_learning_rate / config.learning_rate
        parts.append(muon)
    return OptimizerParts(*parts, _adamw([p for _, p in named if p not in taken], config))


def _adamw(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay, SHARE: 1.0},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0, SHARE: 1.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    optimizer = torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=config.betas, eps=config.epsilon, fused=fused
    )
    for parameter in parameters:
        device = parameter.device if fused else torch.device("cpu")
        state: dict[str, Tensor] = {"step": torch.zeros((), dtype=torch.float32, device=device)}
        for moment in MOMENTS:
            state[moment] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        optimizer.state[parameter] = state
    return optimizer


def set_learning_rate(optimizer: OptimizerParts, rate: float) -> None:
    """Use `rate`, times each group's share, in the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[SHARE]
