"""Hidden states and the output matrix in, cross-entropy a target out, without ever holding all logits.

The logits of 4,096 tokens over 8,192 ids are 128 MiB, three times over with the usual softmax and its
gradient. Here the output matrix is applied to a part of the tokens at a time and their gradient is formed on
the spot, while the logits are still at hand: the backward pass only scales what the forward pass has left.
`plain_loss` is the reference.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from haina.model import fused_kernels as kernels

# Logits that exist at once where the caller names no number of tokens: they stay in the last-level cache between their
# product and their gradient's. With fewer tokens, adding up the head's gradient would cost more than that saves.
CHUNK_BYTES, LEAST_TOKENS = 16 << 20, 512


def plain_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, total: int | None = None, z_loss: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The definition, in the dtype of the arguments. Arguments and results as in `linear_cross_entropy`."""
    logits = hidden @ weight.t()
    counted = targets >= 0
    normalizer = torch.logsumexp(logits, dim=-1)
    wanted = logits.gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
    divisor = counted.sum() if total is None else total
    cross_entropy = ((normalizer - wanted) * counted).sum() / divisor
    return cross_entropy + z_loss * (normalizer.square() * counted).sum() / divisor, cross_entropy.detach()


def chunk_tokens(vocab: int, dtype: torch.dtype) -> int:
    """Tokens whose logits over `vocab` ids fill `CHUNK_BYTES`, at least `LEAST_TOKENS`."""
    return max(LEAST_TOKENS, CHUNK_BYTES // (vocab * dtype.itemsize) // 64 * 64)


def _rows(
    logits: Tensor,
    targets: Tensor,
    scale: Tensor,
    z_loss: float,
    losses: Tensor,
    normalizers: Tensor,
    back: bool,
) -> Tensor:
    """Losses of the rows of `logits` into `losses`, logsumexp into `normalizers`; gives d(objective)/d(logits) where
    `back` is set. The logits may be overwritten.
    """
    if logits.device.type == "cpu" and logits.dtype in kernels.NARROW and kernels.fused_kernels_available():
        kernels.softmax_cross_entropy(logits, targets, scale.item(), z_loss, losses, normalizers, back)
        return logits
    counted, wanted = targets >= 0, targets.clamp(min=0).unsqueeze(1)
    wide = logits.float()
    normalizer = torch.logsumexp(wide, dim=-1, keepdim=True)
    torch.mul((normalizer - wide.gather(1, wanted)).squeeze(1), counted, out=losses)
    torch.mul(normalizer.squeeze(1), counted, out=normalizers)
    gradient = wide.sub_(normalizer).exp_()
    if z_loss:
        gradient.mul_(1 + 2 * z_loss * normalizer)
    gradient.scatter_add_(1, wanted, gradient.new_full((1, 1), -1.0).expand_as(wanted))
    return gradient.mul_((scale * counted).unsqueeze(1)).to(logits.dtype)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        hidden, weight, targets, chunk, dtype, total, z_loss = arguments
        if targets.device.type == "cpu" and targets.numel() and int(targets.max()) >= len(weight):
            raise IndexError(f"target {int(targets.max())} is outside the vocabulary of {len(weight)}")
        targets = targets.contiguous()
        # Filled and not copied: a number that is copied to a GPU makes the host wait for the step.
        divisor = (targets >= 0).sum() if total is None else torch.full((), total, device=hidden.device)
        scale = divisor.float().reciprocal()
        needs_gradient = any(ctx.needs_input_grad[:2])
        matrix, states = weight.detach().to(dtype), hidden.detach().to(dtype)
        losses, normalizers = torch.empty(2, len(targets), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(states) if needs_gradient else None
        weight_gradient: Tensor | None = None
        room = states.new_empty(min(chunk, len(targets)), len(weight))
        part = torch.empty_like(matrix) if needs_gradient and len(targets) else None
        for start in range(0, len(targets), chunk):
            rows = slice(start, start + chunk)
            logits = torch.mm(states[rows], matrix.t(), out=room[: len(targets[rows])])
            gradient = _rows(
                logits, targets[rows], scale, z_loss, losses[rows], normalizers[rows], needs_gradient
            )
            if hidden_gradient is None:
                continue
            torch.mm(gradient, matrix, out=hidden_gradient[rows])
            part = torch.mm(gradient.t(), states[rows], out=part)
            if weight_gradient is None:
                weight_gradient = part.to(weight.dtype, copy=True)
            else:
                weight_gradient += part
        if hidden_gradient is not None:
            if weight_gradient is None:
                weight_gradient = torch.zeros_like(weight)
            ctx.save_for_backward(hidden_gradient.to(hidden.dtype), weight_gradient)
        cross_entropy = losses.sum() * scale
        ctx.mark_non_differentiable(cross_entropy)
        objective = cross_entropy.clone()
        if z_loss:
            objective += z_loss * normalizers.square().sum() * scale
        return objective, cross_entropy

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        scale = output_gradients[0]
        if scale.device.type == "cpu" and scale.item() == 1.0:
            return hidden_gradient, weight_gradient, None, None, None, None, None
        return hidden_gradient * scale, weight_gradient * scale, None, None, None, None, None


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    chunk: int = 0,
    dtype: torch.dtype,
    total: int | None = None,
    z_loss: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropies of the next token, in nats, over `total`; same values and gradients as `plain_loss`.

    Args:
        hidden: [tokens, hidden_size].
        weight: output matrix [vocab, hidden_size].
        targets: int64 [tokens]; negative ones are not counted.
        chunk: tokens whose logits exist at once; 0: as `chunk_tokens` says.
        dtype: of the matrix products; the softmax is float32 always.
        total: what the sums are divided by: the targets of the whole step over all its micro-batches and ranks, so that
            each counts the same wherever it stands; default: the targets given here.
        z_loss: weight of the mean square of the softmax's log normaliser (PaLM, arXiv 2204.02311, section 5).

    Returns:
        objective: cross-entropy plus z-loss, with gradient; cross_entropy: without. Both float32, 0-dim.
    """
    chunk = chunk or chunk_tokens(len(weight), dtype)
    found: tuple[Tensor, Tensor] = _LinearCrossEntropy.apply(
        hidden, weight, targets, chunk, dtype, total, z_loss
    )
    return found
