"""A model in, its optimizer out: AdamW, or Muon for the matrices inside the blocks and AdamW for the rest.

Matrices inside the blocks are decayed, and where the configuration says so embeddings and head too; norm gains and
other vectors never are. One learning rate drives all groups: each takes its share of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from haina.train.adamw import AdamW
from haina.train.config import TrainConfig
from haina.train.hardware import has_native_bf16
from haina.train.muon import Muon, MuonSettings
from haina.train.split_adamw import SplitAdamW

# Of the peak learning rate, what a group takes; so that one schedule serves groups of different scale.
SHARE = "share"


Part = AdamW | Muon


class OptimizerParts:
    """One or more optimizers over disjoint parameters, used as one."""

    def __init__(self, *parts: Part) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict[Tensor, dict[str, Tensor]]:
        return {parameter: values for part in self.parts for parameter, values in part.state.items()}

    def step(self, skip: Tensor | None = None) -> None:
        """Update all parameters.

        Args:
            skip: float32 [] on the device; 1.0 leaves parameters and all state exactly as they are, whatever the
                gradients, 0.0 and None update. Nothing waits for its value.
        """
        for part in self.parts:
            part.step(skip=skip)

    def update_norm(self) -> Tensor:
        """float32 []: L2 norm of the change that the last step made to all parameters together."""
        return torch.stack([part.squared_change for part in self.parts]).sum().sqrt()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    @torch.no_grad()
    def restart(self, weights: Iterable[tuple[nn.Parameter, Tensor]]) -> None:
        """Be as before the first step, each parameter with its value in `weights`, float32 on any device."""
        for values in self.state.values():
            for value in values.values():
                value.zero_()
        split = {p: part for part in self.parts if isinstance(part, SplitAdamW) for p in part.state}
        for parameter, values in weights:
            if parameter in split:
                split[parameter].set_master(parameter, values)
            else:
                parameter.copy_(values)


def build_optimizer(model: nn.Module, config: TrainConfig) -> OptimizerParts:
    """The optimizer that `config.optimizer` names; with `split_weights` block matrices become bf16, one at a time."""
    named = list(model.named_parameters())
    inside = [p for name, p in named if p.dim() == 2 and ".layers." in name]
    parts: list[Part] = []
    if inside and config.split_weights:
        group = {"params": inside, "weight_decay": config.weight_decay, SHARE: 1.0}
        # One kernel of the update is worth its compilation where a GPU would launch twenty.
        compiled = inside[0].device.type == "cuda"
        parts.append(SplitAdamW([group], config.learning_rate, config.betas, config.epsilon, compiled))
    elif inside and config.optimizer == "muon":
        fast = config.precision != "fp32" and has_native_bf16(inside[0].device)
        settings = MuonSettings(
            config.matrix_momentum, config.row_decay, torch.bfloat16 if fast else inside[0].dtype
        )
        muon = Muon(inside, config.matrix_learning_rate, config.weight_decay, settings)
        muon.param_groups[0][SHARE] = config.matrix_learning_rate / config.learning_rate
        parts.append(muon)
    taken = set(inside) if parts else set()
    return OptimizerParts(*parts, _adamw([(name, p) for name, p in named if p not in taken], config))


def _adamw(named: Iterable[tuple[str, nn.Parameter]], config: TrainConfig) -> AdamW:
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in named:
        matrix = parameter.dim() >= 2 and (config.decay_embeddings or ".layers." in name)
        (decayed if matrix else others).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay, SHARE: 1.0},
        {"params": others, "weight_decay": 0.0, SHARE: 1.0},
    ]
    return AdamW(
        [group for group in groups if group["params"]], config.learning_rate, config.betas, config.epsilon
    )


def set_learning_rate(optimizer: OptimizerParts, rate: float) -> None:
    """Use `rate`, times each group's share, in the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[SHARE]
