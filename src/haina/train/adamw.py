"""AdamW: gradients in, one step of Adam with decoupled weight decay out (Loshchilov & Hutter 2019, arXiv 1711.05101).

PyTorch's fused kernel does the arithmetic in one pass. What this class adds is what
a guarded run needs: a step can be skipped by a number that lives on the device, so that nobody has to wait for it, and
the length of every step is known. All state is there from the start, so that a checkpoint can be read into it in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

MOMENTS = ("exp_avg", "exp_avg_sq")
UPDATES = "updates"
# Elements whose old values are kept at once, to know how far they moved.
LARGEST_COPY = 1 << 26


class AdamW(torch.optim.Optimizer):
    """Args:
    groups: as for any torch optimizer; each may have its own `lr` and `weight_decay`.
    learning_rate: of groups that name none.
    betas: decay of the mean and of the mean square of the gradient.
    epsilon: added to the root of the mean square.

    State of each parameter: `exp_avg`, `exp_avg_sq`, and `updates`, fp32 [], the steps that were not skipped.

    Attributes:
        squared_change: fp32 [], sum of squares of the change that the last step made.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        learning_rate: float,
        betas: tuple[float, float],
        epsilon: float,
    ) -> None:
        defaults = {"lr": learning_rate, "weight_decay": 0.0, "betas": betas, "eps": epsilon}
        super().__init__(groups, defaults)
        self.squared_change = torch.zeros(())
        for parameter in (p for group in self.param_groups for p in group["params"]):
            state = {
                moment: torch.zeros_like(parameter, memory_format=torch.preserve_format) for moment in MOMENTS
            }
            state[UPDATES] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            self.state[parameter] = state

    @torch.no_grad()
    def step(self, closure: Any = None, *, skip: Tensor | None = None) -> None:
        """Update every parameter that has a gradient; `closure` is not used.

        Args:
            skip: float32 [] on the device of the parameters; 1.0 leaves them and all state as they are.
        """
        changes = [change for group in self.param_groups for change in self._step(group, skip)]
        if changes:
            self.squared_change = torch.stack(changes).sum()

    def _step(self, group: dict[str, Any], skip: Tensor | None) -> Iterator[Tensor]:
        """Update a group, part by part; yields the sum of squares of each part's change."""
        for parameters in _slices([p for p in group["params"] if p.grad is not None]):
            yield self._update(parameters, group, skip)

    def _update(self, parameters: list[Tensor], group: dict[str, Any], skip: Tensor | None) -> Tensor:
        """Update some parameters of a group; returns the sum of squares of their change."""
        before = [parameter.clone() for parameter in parameters]
        state = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            *([values[moment] for values in state] for moment in MOMENTS),
            [],
            [values[UPDATES] for values in state],
            fused=True,
            found_inf=skip,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        torch._foreach_sub_(before, parameters)
        return torch.stack(torch._foreach_norm(before)).float().square().sum()


def _slices(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """The parameters in order, in lists of at most `LARGEST_COPY` elements or one parameter."""
    part: list[Tensor] = []
    for parameter in parameters:
        if part and sum(p.numel() for p in part) + parameter.numel() > LARGEST_COPY:
            yield part
            part = []
        part.append(parameter)
    if part:
        yield part
