"""Hidden states and the output matrix in, mean cross-entropy out, without ever holding all logits.

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


def plain_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats. Arguments as in `chunked_loss`."""
    return F.cross_entropy((hidden @ weight.t()).float(), targets)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        hidden, weight, targets, chunk, dtype = arguments
        needs_gradient = any(ctx.needs_input_grad[:2])
        matrix = weight.to(dtype)
        losses = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if needs_gradient else None
        weight_gradient = torch.zeros_like(weight) if needs_gradient else None
        for start in range(0, len(targets), chunk):
            rows = slice(start, start + chunk)
            states, wanted = hidden[rows].to(dtype), targets[rows].unsqueeze(1)
            log_probabilities = torch.log_softmax((states @ matrix.t()).float(), dim=-1)
            losses[rows] = log_probabilities.gather(1, wanted).squeeze(1)
            if hidden_gradient is None or weight_gradient is None:
                continue
            # d(mean loss)/d(logits) = (softmax - one_hot) / tokens; divided at the end, on smaller tensors.
            gradient = log_probabilities.exp_()
            gradient.scatter_add_(1, wanted, gradient.new_full((1, 1), -1.0).expand_as(wanted))
            gradient = gradient.to(dtype)
            hidden_gradient[rows] = gradient @ matrix
            if dtype == weight.dtype:
                weight_gradient.addmm_(gradient.t(), states)
            else:
                weight_gradient += gradient.t() @ states
        if hidden_gradient is not None and weight_gradient is not None:
            ctx.save_for_backward(hidden_gradient.div_(len(targets)), weight_gradient.div_(len(targets)))
        return losses.mean().neg_()

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        (scale,) = output_gradients
        return hidden_gradient * scale, weight_gradient * scale, None, None, None


def chunked_loss(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int, dtype: torch.dtype) -> Tensor:
    """Mean cross-entropy of the next token, in nats; same value and gradients as `plain_loss`.

    Args:
        hidden: [tokens, hidden_size].
        weight: output matrix [vocab, hidden_size].
        targets: int64 [tokens].
        chunk: tokens whose logits exist at once.
        dtype: of the matrix products; the softmax is float32 always.
    """
    return _ChunkedLoss.apply(hidden, weight, targets, chunk, dtype)
