"""A model in, its AdamW out.

AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101). Matrices are decayed, norm gains and other vectors are
not. The fused kernel updates everything in one pass where PyTorch has it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from haina.train.config import TrainConfig

MOMENTS = ("exp_avg", "exp_avg_sq")


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the parameters of `model`, its moments already present (zeros), so that a checkpoint can be
    read into them in place."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
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


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use `rate` in the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
