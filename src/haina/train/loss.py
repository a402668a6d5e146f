"""Hidden states and the output matrix in, cross-entropy a target out, without ever holding all logits.

The logits of 4,096 tokens over 8,192 ids are 128 MiB, three times over with the usual softmax and its
gradient. Here the output matrix is applied to a few hundred tokens at a time and their gradient is formed on
the spot, while the logits are still in cache: the backward pass only scales what the forward pass has left.
`plain_loss` is the reference.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def plain_loss(hidden: Tensor, weight: Tensor, targets: Tensor, total: int | None = None) -> Tensor:
    """Cross-entropy in nats. Arguments as in `chunked_loss`."""
    logits = (hidden @ weight.t()).float()
    if total is None:
        return F.cross_entropy(logits, targets)
    return F.cross_entropy(logits, targets, reduction="sum") / total


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        hidden, weight, targets, chunk, dtype, total = arguments
        if total is None:
            total = (targets >= 0).sum()
        needs_gradient = any(ctx.needs_input_grad[:2])
        matrix = weight.to(dtype)
        losses = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if needs_gradient else None
        weight_gradient = torch.zeros_like(weight) if needs_gradient else None
        for start in range(0, len(targets), chunk):
            rows = slice(start, start + chunk)
            states, wanted = hidden[rows].to(dtype), targets[rows].unsqueeze(1)
            counted, wanted = wanted >= 0, wanted.clamp(min=0)
            log_probabilities = torch.log_softmax((states @ matrix.t()).float(), dim=-1)
            losses[rows] = (log_probabilities.gather(1, wanted) * counted).squeeze(1)
            if hidden_gradient is None or weight_gradient is None:
                continue
            # d(loss)/d(logits) = (softmax - one_hot) / total; divided, and cleared of what does not count, later, on
            # smaller tensors.
            gradient = log_probabilities.exp_()
            gradient.scatter_add_(1, wanted, gradient.new_full((1, 1), -1.0).expand_as(wanted))
            gradient = gradient.to(dtype)
            hidden_gradient[rows] = (gradient @ matrix) * counted
            states = states * counted
            if dtype == weight.dtype:
                weight_gradient.addmm_(gradient.t(), states)
            else:
                weight_gradient += gradient.t() @ states
        if hidden_gradient is not None and weight_gradient is not None:
            ctx.save_for_backward(hidden_gradient.div_(total), weight_gradient.div_(total))
        return losses.sum().div_(total).neg_()

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        (scale,) = output_gradients
        return hidden_gradient * scale, weight_gradient * scale, None, None, None, None


def chunked_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    chunk: int,
    dtype: torch.dtype,
    total: int | None = None,
) -> Tensor:
    """Sum of the cross-entropies of the next token, in nats, over `total`; same value and gradients as `plain_loss`.

    Args:
        hidden: [tokens, hidden_size].
        weight: output matrix [vocab, hidden_size].
        targets: int64 [tokens]; negative ones are not counted.
        chunk: tokens whose logits exist at once.
        dtype: of the matrix products; the softmax is float32 always.
        total: what the sum is divided by: the targets of the whole step over all its micro-batches and ranks, so that
            each counts the same wherever it stands; default: the targets given here.
    """
    return _ChunkedLoss.apply(hidden, weight, targets, chunk, dtype, total)
