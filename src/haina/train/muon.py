"""Muon: gradients of weight matrices in, updates that are nearly orthogonal out.

1. momentum: a running mean of the gradient, looked at one step ahead (Nesterov);
2. orthogonalise: replace its singular values by about 1, with five Newton-Schulz steps - matrix products only;
3. scale by sqrt(max(1, rows / columns)) and subtract, after decoupled weight decay.

Every direction of a matrix is learnt at the same pace, where AdamW lets the few strongest dominate (Jordan et al.
2024, "Muon: an optimizer for hidden layers in neural networks"; Bernstein & Newhouse 2024, arXiv 2409.20325). It is
for the matrices inside the blocks; embeddings, the output head and norm gains stay with AdamW.

Matrices of one shape are orthogonalised in one batched product; `orthogonalise_plain` is the reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Coefficients of the odd quintic a x + b x^3 + c x^5 that Muon's authors chose: five rounds bring any singular value
# in (0, 1] near 1, steepest where it is small, at the price of ending in about [0.7, 1.2] instead of at 1.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalise_plain(matrix: Tensor) -> Tensor:
    """One matrix [rows, columns], the definition: the quintic applied to the singular values of matrix / ||matrix||."""
    left, values, right = torch.linalg.svd(matrix / (matrix.norm() + 1e-7), full_matrices=False)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        values = a * values + b * values**3 + c * values**5
    return left @ torch.diag(values) @ right


def orthogonalise(matrices: Tensor) -> Tensor:
    """A batch [batch, rows, columns] with rows <= columns, in the dtype given."""
    a, b, c = QUINTIC
    result = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        gram = result @ result.mT
        result = a * result + (b * gram + c * gram @ gram) @ result
    return result


class Muon(torch.optim.Optimizer):
    """Args:
    parameters: matrices.
    learning_rate: length of an update, relative to an orthogonal matrix.
    momentum: decay of the running mean.
    weight_decay: decoupled, as AdamW's.

    Raises:
        ValueError: a parameter is not a matrix.
    """

    def __init__(
        self, parameters: Iterable[Tensor], learning_rate: float, momentum: float, weight_decay: float
    ) -> None:
        defaults = {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(list(parameters), defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dim() != 2:
                    raise ValueError(f"Muon is for matrices, not for shape {list(parameter.shape)}")
                self.state[parameter] = {"momentum": torch.zeros_like(parameter)}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update every matrix that has a gradient; `closure` is not used."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows, columns = parameter.shape
                    by_shape.setdefault((min(rows, columns), max(rows, columns)), []).append(parameter)
            for parameters in by_shape.values():
                wide = [_wide(self._ahead(parameter, group["momentum"])) for parameter in parameters]
                for parameter, update in zip(parameters, orthogonalise(torch.stack(wide)), strict=True):
                    rows, columns = parameter.shape
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    length = -group["lr"] * max(1.0, rows / columns) ** 0.5
                    parameter.add_(update if rows <= columns else update.mT, alpha=length)

    def _ahead(self, parameter: Tensor, momentum: float) -> Tensor:
        assert parameter.grad is not None
        mean: Tensor = self.state[parameter]["momentum"]
        mean.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(mean, momentum)


def _wide(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
