"""Rotary positions: token positions in, queries and keys turned by them out.

RoPE (Su et al. 2021, arXiv 2104.09864) in the layout of Hugging Face's Llama: dimension i is paired with
dimension i + head_dim / 2, not with its neighbour, so weights interchange without permutation.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position and frequency.

    Args:
        positions: int64 [seq] or [batch, seq].
        head_dim: width of a head; even.
        theta: base of the frequencies.

    Returns:
        cos, sin: float32 [..., seq, head_dim / 2].
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64, device=positions.device).float() / head_dim
    angles = positions.float().unsqueeze(-1) / theta**exponents
    return angles.cos(), angles.sin()


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) by its angle.

    Args:
        heads: [batch, heads, seq, head_dim].
        cos, sin: of `rotary_angles`, broadcastable to [batch, heads, seq, head_dim / 2].
    """
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
