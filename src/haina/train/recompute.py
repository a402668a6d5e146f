"""A model in, the same model out that keeps less of its forward pass and computes it again in the backward pass.

Each policy says what a block keeps. Values and gradients are the same to the bit: what is computed again is computed by
the same operations. It serves the plain forward, eager or compiled (wrap first, compile after); parameter names stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

if TYPE_CHECKING:
    from haina.model.transformer import Transformer

Recompute = Literal["none", "selective", "full"]
_ATTENTION = tuple(
    getattr(torch.ops.aten, name).default
    for name in (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    )
)


@dataclass(frozen=True)
class KeepInput:
    """Keeps the residual stream at the block's input, 4 bytes a channel; a third more matrix products, least memory."""

    def options(self) -> dict[str, Any]:
        """Named arguments of `torch.utils.checkpoint.checkpoint`."""
        return {}


@dataclass(frozen=True)
class KeepProducts:
    """Keeps the input, what matrix products and attention have computed, and nothing that is cheap to make of it.

    Norms, casts, rotation and SwiGLU's elementwise half run twice: they read memory and compute little. The
    down-projection's output is not needed by anything inside the block.

    Attributes:
        intermediate_size: of the model; by it the down-projection is known.
    """

    intermediate_size: int

    def options(self) -> dict[str, Any]:
        """Named arguments of `torch.utils.checkpoint.checkpoint`."""
        inner = self.intermediate_size

        # A function and not a method: torch.compile calls it by itself.
        def decide(context: Any, operator: Any, *arguments: Any, **named: Any) -> CheckpointPolicy:
            product = operator is torch.ops.aten.mm.default and arguments[0].shape[-1] != inner
            if product or operator in _ATTENTION:
                return CheckpointPolicy.MUST_SAVE
            return CheckpointPolicy.PREFER_RECOMPUTE

        return {"context_fn": partial(create_selective_checkpoint_contexts, decide)}


def recompute_blocks(model: Transformer, mode: Recompute) -> None:
    """Let every block of `model` keep what `mode` says, in place; "none" is PyTorch's own way, everything.

    Passes with a cache or without gradients are as before.
    """
    policy = KeepProducts(model.config.intermediate_size) if mode == "selective" else KeepInput()
    for block in model.model.layers:
        # The class's forward again, in case the model was wrapped before.
        block.__dict__.pop("forward", None)
        if mode != "none":
            block.forward = partial(_forward, block.forward, policy.options())


def _forward(
    forward: Callable[..., Tensor],
    options: dict[str, Any],
    hidden: Tensor,
    angles: tuple[Tensor, Tensor],
    cache: Any,
    layer: int,
    mask: Tensor | None = None,
) -> Tensor:
    if cache is not None or not torch.is_grad_enabled():
        return forward(hidden, angles, cache, layer, mask)
    result: Tensor = checkpoint(
        forward, hidden, angles, cache, layer, mask, use_reentrant=False, preserve_rng_state=False, **options
    )
    return result
