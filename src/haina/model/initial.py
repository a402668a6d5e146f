"""A model and a seed in, its first weights out. The same seed gives the same bits.

- `gpt2`: N(0, 0.02), the two matrices that write into the residual stream scaled down by sqrt(2 * layers) (Radford et
  al. 2019); norms at 1.
- `fan_in`: a matrix that reads `n` numbers is N(0, 1 / (2 sqrt(n))), so that what it gives out is as large for any
  width, and small beside what it learns; matrices that write into the residual stream are 0, so that every block begins
  as the identity for any depth (Yang et al. 2022, arXiv 2203.03466). Embeddings N(0, 0.02).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from haina.model.transformer import Transformer

Scheme = Literal["gpt2", "fan_in"]
STANDARD_DEVIATION = 0.02
# Of 1 / sqrt(fan in). Measured: docs/decisions/0027-training-recipe.md.
SHARE_OF_FAN_IN = 0.5


def initial_weights(
    model: Transformer, seed: int, scheme: Scheme = "gpt2"
) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Each parameter of `model`, in the order of `named_parameters`, and its first value, float32 on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.ones(parameter.shape, dtype=torch.float32)
        if parameter.dim() > 1:
            deviation = _deviation(name, parameter.shape[1], model.config.num_hidden_layers, scheme)
            values.normal_(0.0, deviation, generator=generator)
        yield parameter, values


@torch.no_grad()
def initialize(model: Transformer, seed: int, scheme: Scheme = "gpt2") -> None:
    """Fill the weights of `model`, in place."""
    for parameter, values in initial_weights(model, seed, scheme):
        parameter.copy_(values)


def _deviation(name: str, reads: int, layers: int, scheme: Scheme) -> float:
    writes_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
    if scheme == "gpt2":
        return STANDARD_DEVIATION / math.sqrt(2 * layers) if writes_residual else STANDARD_DEVIATION
    if ".layers." not in name:
        return STANDARD_DEVIATION
    return 0.0 if writes_residual else SHARE_OF_FAN_IN / math.sqrt(reads)
