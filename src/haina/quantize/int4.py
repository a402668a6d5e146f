"""Group-wise symmetric INT4: float weights in, 4-bit integers and one scale per group out, and back.

A weight is `value * scale` with value in -8..7 and one scale for `group_size` neighbours along the input. The
range is lopsided, so a scale may be negative: the end of the group that reaches further is put on the -8
side. These are the plain definitions that the kernels are tested against.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST, HIGHEST = -8, 7
VALUES_PER_WORD = 8
# Divisors of the group's largest magnitude, tried as scales. -8 stands for the extreme itself, smaller
# numbers clip nothing and leave finer steps unused, larger ones clip the extreme to gain finer steps for the
# rest.
_DIVISORS = tuple(5.0 + step / 8 for step in range(45))
_REFINEMENTS = 2
_CHUNK_ELEMENTS = 1 << 22


def _errors(groups: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error of each group at a scale, and the rounded values. groups: [n, group_size]; scales:
    [n]."""
    values = (groups / scales.unsqueeze(-1)).round_().clamp_(LOWEST, HIGHEST)
    return (values * scales.unsqueeze(-1) - groups).square_().sum(-1), values


def _usable(scales: Tensor) -> Tensor:
    """Scales as they will be stored (bfloat16), none of them zero or not finite."""
    stored = scales.to(torch.bfloat16).float()
    return torch.where(torch.isfinite(stored) & (stored != 0), stored, torch.ones_like(stored))


def search_scales(groups: Tensor) -> Tensor:
    """The scale of each group with the least squared error found.

    First a grid around the largest magnitude, with both signs; then the best is refined: with the rounded
    values fixed, the optimal scale is a least-squares fit, which changes the rounding, and so on.

    Args:
        groups: float32 [n, group_size].

    Returns:
        float32 [n], representable in bfloat16.
    """
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)).squeeze(-1)
    best = _usable(-extreme / 8)
    best_error, values = _errors(groups, best)
    for divisor in _DIVISORS:
        for sign in (-1.0, 1.0):
            scales = _usable(sign * extreme / divisor)
            error, _ = _errors(groups, scales)
            better = error < best_error
            best, best_error = torch.where(better, scales, best), torch.where(better, error, best_error)
    for _ in range(_REFINEMENTS):
        _, values = _errors(groups, best)
        scales = _usable((groups * values).sum(-1) / values.square().sum(-1).clamp(min=1.0))
        error, _ = _errors(groups, scales)
        better = error < best_error
        best, best_error = torch.where(better, scales, best), torch.where(better, error, best_error)
    return best


def quantize(weight: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """Round a weight matrix to INT4.

    Args:
        weight: [out, in], any float dtype; `group_size` divides `in`.
        group_size: weights along the input that share a scale.

    Returns:
        values: int8 [out, in] in -8..7; scales: bfloat16 [out, in / group_size].

    Raises:
        ValueError: `group_size` does not divide `in`, or a weight is not finite.
    """
    rows, columns = weight.shape
    if columns % group_size:
        raise ValueError(f"group size {group_size} does not divide the input width {columns}")
    values = torch.empty(rows, columns, dtype=torch.int8)
    scales = torch.empty(rows, columns // group_size, dtype=torch.bfloat16)
    step = max(1, _CHUNK_ELEMENTS // columns)
    for start in range(0, rows, step):
        groups = weight[start : start + step].float().reshape(-1, group_size)
        if not bool(torch.isfinite(groups).all()):
            raise ValueError("a weight is not finite")
        chosen = search_scales(groups)
        _, rounded = _errors(groups, chosen)
        values[start : start + step] = rounded.to(torch.int8).view(-1, columns)
        scales[start : start + step] = chosen.to(torch.bfloat16).view(-1, columns // group_size)
    return values, scales


def dequantize(values: Tensor, scales: Tensor) -> Tensor:
    """The float32 weights that INT4 values stand for.

    Args:
        values: int8 [out, in]; scales: [out, groups], any float dtype.

    Returns:
        float32 [out, in].
    """
    rows, columns = values.shape
    grouped = values.float().view(rows, scales.shape[1], columns // scales.shape[1])
    return (grouped * scales.float().unsqueeze(-1)).view(rows, columns)


def pack(values: Tensor) -> Tensor:
    """Eight values in one word, as `pack-quantized` of compressed-tensors keeps them.

    Args:
        values: int8 [out, in] in -8..7, `in` a multiple of 8.

    Returns:
        int32 [out, in / 8]; value i of a word, plus 8, stands in bits 4i to 4i + 3.
    """
    rows, columns = values.shape
    nibbles = (values.to(torch.int64) + 8).view(rows, columns // VALUES_PER_WORD, VALUES_PER_WORD)
    shifts = torch.arange(0, 32, 4)
    words = (nibbles << shifts).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def unpack(words: Tensor) -> Tensor:
    """The inverse of `pack`: int32 [out, in / 8] to int8 [out, in]."""
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=words.device)
    nibbles = (words.unsqueeze(-1) >> shifts) & 15
    return (nibbles - 8).to(torch.int8).flatten(1)


def relative_error(weight: Tensor, values: Tensor, scales: Tensor) -> float:
    """|W - W4| / |W|, Frobenius norms; 0 for a matrix of zeros."""
    exact = weight.float()
    norm = exact.norm().item()
    return (exact - dequantize(values, scales)).norm().item() / norm if norm > 0 else 0.0
