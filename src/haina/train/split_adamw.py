"""AdamW for a model that nearly fills its device: float32 master weights that cost two bytes beside the bf16 ones.

Ordinary mixed precision keeps a float32 weight and, while a step runs, its bf16 copy: six bytes. The copy is the upper
half of the weight, rounded. Here the parameter itself becomes that bf16 number and the optimizer keeps the sixteen bits
that are missing, so that both together are the float32 weight and take four bytes. The forward pass computes with the
same bits as autocast, gradients are summed in float32, and the update is AdamW's in float32. Of 7 billion parameters
this saves 13 GiB of 117: on a device of 140 GiB the room for one more row of a micro-batch. Embedding, head and norms
are read in float32 and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from haina.runtime.errors import HainaError
from haina.train.adamw import MOMENTS, UPDATES, AdamW

LOW = "low"
# Elements updated at once where the update is not compiled: bounds its temporaries.
SLICE = 1 << 24
_LARGEST_LOW = 0x7FFF
_NAN = 0x7FC0


def split(wide: Tensor) -> tuple[Tensor, Tensor]:
    """float32 to (bits of the nearest bf16, int16; the rest, int16): `join` gives the number back.

    Exact but for one number in 131,072, those in the middle between two bf16 numbers that are rounded down: their rest,
    32,768, has no place in sixteen bits and becomes 32,767, one unit in the last place of float32 less. NaN stays NaN.
    """
    bits = wide.view(torch.int32)
    # Round to nearest, ties to even, as a cast to bf16 does.
    high = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    # A GPU's NaN has all bits set: rounded up they would be -0.0, and nobody would see that a weight is lost.
    high = high.masked_fill(wide.isnan(), _NAN)
    low = (bits - (high << 16)).clamp(max=_LARGEST_LOW)
    return high.to(torch.int16), low.to(torch.int16)


def join(high: Tensor, low: Tensor) -> Tensor:
    """The float32 numbers that `split` took apart; both arguments int16."""
    return ((high.to(torch.int32) << 16) + low.to(torch.int32)).view(torch.float32)


def _update(
    high: Tensor, low: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, numbers: Tensor
) -> Tensor:
    """One AdamW step in place; all arguments are flat and of one length, but `numbers`, fp32 [7]: learning rate over
    the first bias correction, what decay leaves, two betas, root of the second bias correction, epsilon, 1.0 to skip.

    Returns:
        fp32 []: sum of squares of the change.
    """
    rate, remains, first, second, correction, epsilon, skip = numbers.unbind()
    before = join(high, low)
    new_mean = mean + (gradient - mean) * (1 - first)
    new_square = square * second + gradient * gradient * (1 - second)
    after = before * remains - rate * (new_mean / (new_square.sqrt() / correction + epsilon))
    keep = skip == 1.0
    new_high, new_low = split(torch.where(keep, before, after))
    change = (join(new_high, new_low) - before).square().sum()
    mean.copy_(torch.where(keep, mean, new_mean))
    square.copy_(torch.where(keep, square, new_square))
    high.copy_(new_high)
    low.copy_(new_low)
    return change


def _widen(parameter: Tensor) -> None:
    if parameter.grad is not None and parameter.grad.dtype != torch.float32:
        parameter.grad = parameter.grad.float()


class SplitAdamW(AdamW):
    """AdamW over bf16 parameters and their missing bits.

    Args:
        groups: as for any torch optimizer, of float32 parameters; they become bf16 here, in place, with float32
            gradients.
        learning_rate: of groups that name none.
        betas, epsilon: as AdamW's.
        compiled: make one kernel of the update; otherwise slices of it run operation by operation.

    State of each parameter: AdamW's, and `low`, int16, the bits that are missing.

    Raises:
        HainaError: this PyTorch keeps gradients in the dtype of their parameter only.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        learning_rate: float,
        betas: tuple[float, float],
        epsilon: float,
        compiled: bool = False,
    ) -> None:
        if not hasattr(torch.Tensor, "grad_dtype"):
            raise HainaError(
                f"PyTorch {torch.__version__} has no float32 gradients of bf16 parameters",
                "use PyTorch 2.11 or later, or train.split_weights: false",
            )
        super().__init__(groups, learning_rate, betas, epsilon)
        self._kernel: Callable[..., Tensor] = torch.compile(_update, dynamic=False) if compiled else _update
        self._slice = None if compiled else SLICE
        for parameter in (p for group in self.param_groups for p in group["params"]):
            high, low = split(parameter.detach())
            parameter.data = high.view(torch.bfloat16)
            # Any dtype: the first micro-batch's gradient is widened, the others are added to it as they come, bf16 to
            # float32 in one pass. Asking for float32 here would widen each of them first.
            parameter.grad_dtype = None
            parameter.register_post_accumulate_grad_hook(_widen)
            self.state[parameter][LOW] = low

    def _step(self, group: dict[str, Any], skip: Tensor | None) -> Iterator[Tensor]:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            return
        counts = [self.state[parameter][UPDATES] for parameter in parameters]
        skipped = torch.zeros_like(counts[0]) if skip is None else skip.to(torch.float32)
        torch._foreach_add_(counts, [1 - skipped] * len(counts))
        first, second = group["betas"]
        fixed = [group["lr"], 1 - group["lr"] * group["weight_decay"], first, second, group["eps"]]
        # Filled one by one: a list that is copied to a GPU makes the host wait for the step.
        rate, remains, *betas, epsilon = (torch.full_like(counts[0], value) for value in fixed)
        updates = counts[0].clamp(min=1)
        rate = rate / (1 - betas[0] ** updates)
        correction = (1 - betas[1] ** updates).sqrt()
        numbers = torch.stack((rate, remains, *betas, correction, epsilon, skipped))
        for parameter in parameters:
            state = self.state[parameter]
            bits = parameter.detach().view(torch.int16)
            tensors = (bits, state[LOW], *(state[moment] for moment in MOMENTS), parameter.grad)
            flat = [tensor.view(-1) for tensor in tensors]
            size = self._slice or parameter.numel()
            for parts in zip(*(tensor.split(size) for tensor in flat), strict=True):
                yield self._kernel(*parts, numbers)

    def master(self, parameter: Tensor) -> Tensor:
        """The float32 weights of `parameter`, a copy."""
        return join(parameter.detach().view(torch.int16), self.state[parameter][LOW])

    @torch.no_grad()
    def set_master(self, parameter: Tensor, weights: Tensor) -> None:
        """Give `parameter` the values `weights`, float32 on any device."""
        high, low = split(weights.to(parameter.device))
        parameter.copy_(high.view(torch.bfloat16))
        self.state[parameter][LOW].copy_(low)
