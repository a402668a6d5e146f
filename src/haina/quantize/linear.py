"""A linear layer on INT4 weights, in the place of `nn.Linear`."""

from __future__ import annotations

from torch import Tensor, nn

from haina.quantize.kernels import Choice


class Int4Linear(nn.Module):
    """y = x W^T with W kept packed by its kernel; for inference only, and fixed to the device it was loaded
    for.

    Args:
        choice: the kernel that holds the weights.
        in_features, out_features: shape of the layer.
    """

    def __init__(self, choice: Choice, in_features: int, out_features: int) -> None:
        super().__init__()
        self.choice, self.in_features, self.out_features = choice, in_features, out_features

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden: [..., in_features]. Returns [..., out_features]."""
        product = self.choice.kernel(hidden.reshape(-1, self.in_features))
        return product.view(*hidden.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, kernel={self.choice.name}"


def describe_kernels(model: nn.Module) -> str:
    """One line on the INT4 kernels of a model and why they were chosen; empty when it has none."""
    counts: dict[tuple[str, str], int] = {}
    for module in model.modules():
        if isinstance(module, Int4Linear):
            key = (module.choice.name, module.choice.reason)
            counts[key] = counts.get(key, 0) + 1
    return "; ".join(
        f"INT4 by {name} in {count} layers ({reason})" for (name, reason), count in counts.items()
    )
