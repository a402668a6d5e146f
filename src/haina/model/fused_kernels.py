"""What a training step on a CPU does beside its matrix products: tensors in, tensors out, in C, and the plain
definition of each function beside it.

Activations are bf16 or float32 ("narrow" below), everything that is summed over many terms - the residual stream,
normalisers, gradients of gains - float32. All tensors are contiguous and on the CPU. The `plain_` functions take any
dtype; they are the reference of the tests and are differentiated there by autograd.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from haina.runtime.c_kernels import CKernelError, load_c_kernels

SOURCE = Path(__file__).parent / "kernels" / "elementwise.c"
LARGEST_HEAD = 256
NARROW = {torch.bfloat16: "bf16", torch.float32: "f32"}

_POINTER, _INTEGER, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
# p: pointer, f: float, i: int64; in the order of the C definitions.
_ARGUMENTS = {
    "add_rms_norm": "pppfpppii",
    "scale_columns": "pppii",
    "rms_norm_backward": "ppppppppii",
    "rotary": "pppppppfiiii",
    "rotary_backward": "pppppppfpiiii",
    "swiglu": "ppii",
    "swiglu_backward": "ppppii",
    "softmax_cross_entropy": "ppppiiffi",
}


@cache
def _library() -> ctypes.CDLL:
    library = load_c_kernels(SOURCE)
    kinds = {"p": _POINTER, "f": _FLOAT, "i": _INTEGER}
    for name, arguments in _ARGUMENTS.items():
        for suffix in NARROW.values():
            function = getattr(library, f"{name}_{suffix}")
            function.argtypes, function.restype = [kinds[kind] for kind in arguments], None
    library.embedding_gradient.argtypes = [_POINTER, _POINTER, _POINTER, _INTEGER, _INTEGER]
    library.embedding_gradient.restype = None
    return library


@cache
def fused_kernels_obstacle() -> str | None:
    """Why the functions of this file cannot be called here; None: they can."""
    try:
        _library()
    except CKernelError as error:
        return str(error)
    return None


def fused_kernels_available() -> bool:
    """Whether the functions of this file can be called here."""
    return fused_kernels_obstacle() is None


def _call(name: str, dtype: torch.dtype, *arguments: Tensor | float | None) -> None:
    values = [value.data_ptr() if isinstance(value, Tensor) else value for value in arguments]
    getattr(_library(), f"{name}_{NARROW[dtype]}")(*values)


def _thread_sums(*shape: int) -> Tensor:
    return torch.zeros(torch.get_num_threads(), *shape, dtype=torch.float32)


def plain_rms_norm(hidden: Tensor, gain: Tensor, epsilon: float) -> Tensor:
    """hidden / sqrt(mean(hidden^2) + epsilon) * gain over the last axis."""
    return hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + epsilon) * gain


def add_rms_norm(
    residual: Tensor, delta: Tensor | None, gain: Tensor, epsilon: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Add `delta` to the residual stream, in place, and norm the sum.

    Args:
        residual: float32 [..., columns]; becomes residual + delta.
        delta: narrow, the same shape; None: nothing is added.
        gain: float32 [columns].
        dtype: of the results.

    Returns:
        normed: narrow, the sum at unit root mean square; out: narrow, normed * gain; inverse: float32 [rows], one over
        the root mean square of each row.
    """
    columns = residual.shape[-1]
    rows = residual.numel() // columns
    normed, out = (torch.empty(residual.shape, dtype=dtype) for _ in range(2))
    inverse = torch.empty(rows, dtype=torch.float32)
    _call("add_rms_norm", dtype, residual, delta, gain, epsilon, normed, out, inverse, rows, columns)
    return normed, out, inverse


def scale_columns(normed: Tensor, gain: Tensor) -> Tensor:
    """normed * gain, narrow."""
    out = torch.empty_like(normed)
    columns = normed.shape[-1]
    _call("scale_columns", normed.dtype, normed, gain, out, normed.numel() // columns, columns)
    return out


def rms_norm_backward(
    gradient: Tensor, normed: Tensor, inverse: Tensor, gain: Tensor, above: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The way back through `add_rms_norm`.

    Args:
        gradient: of `out`, narrow; above: float32, of the new residual stream; None: 0.
        normed, inverse, gain: as they were.

    Returns:
        residual: float32, the gradient of the sum, which is that of both of its terms; rounded: the same, narrow; of
        gain: float32 [columns].
    """
    columns = normed.shape[-1]
    residual = torch.empty(normed.shape, dtype=torch.float32)
    rounded = torch.empty_like(normed) if normed.dtype != torch.float32 else None
    sums = _thread_sums(columns)
    _call(
        "rms_norm_backward", normed.dtype, gradient, normed, inverse, gain, above, residual, rounded, sums,
        normed.numel() // columns, columns,
    )  # fmt: skip
    return residual, residual if rounded is None else rounded, sums.sum(0)


def plain_rotary(
    qkv: Tensor,
    cosine: Tensor,
    sine: Tensor,
    gains: tuple[Tensor, Tensor] | None,
    epsilon: float,
    heads: int,
    kv_heads: int,
) -> Tensor:
    """Norm (where there are gains) and turn the queries and keys of `qkv` [tokens, (heads + 2 * kv_heads) * head_dim]
    by cosine, sine [tokens, head_dim / 2]: dimension i is paired with i + head_dim / 2.
    """
    tokens, width = qkv.shape
    apart = qkv.view(tokens, heads + 2 * kv_heads, width // (heads + 2 * kv_heads))
    parts = list(apart.split((heads, kv_heads, kv_heads), dim=1))
    if gains is not None:
        parts[:2] = [plain_rms_norm(part, gain, epsilon) for part, gain in zip(parts, gains, strict=False)]
    first, second = torch.cat(parts[:2], dim=1).chunk(2, dim=-1)
    c, s = cosine[:, None], sine[:, None]
    turned = torch.cat((first * c - second * s, second * c + first * s), dim=-1)
    return torch.cat((turned, parts[2]), dim=1).reshape(tokens, width)


def rotary(
    qkv: Tensor,
    positions: Tensor,
    tables: tuple[Tensor, Tensor],
    gains: tuple[Tensor, Tensor] | None,
    epsilon: float,
    heads: int,
    kv_heads: int,
) -> Tensor:
    """`plain_rotary` with the angles of `positions`; in place where there are no gains.

    Args:
        qkv: narrow [tokens, (heads + 2 * kv_heads) * head_dim].
        positions: int32 [tokens], rows of the tables.
        tables: cosine, sine: float32 [positions, head_dim / 2].
        gains: of queries and keys, float32 [head_dim].
    """
    head_dim = qkv.shape[-1] // (heads + 2 * kv_heads)
    out = qkv if gains is None else torch.empty_like(qkv)
    _call(
        "rotary", qkv.dtype, qkv, out, positions, *tables, *(gains or (None, None)), epsilon,
        qkv.numel() // qkv.shape[-1], heads, kv_heads, head_dim,
    )  # fmt: skip
    return out


def rotary_backward(
    gradient: Tensor,
    qkv: Tensor,
    positions: Tensor,
    tables: tuple[Tensor, Tensor],
    gains: tuple[Tensor, Tensor] | None,
    epsilon: float,
    heads: int,
    kv_heads: int,
) -> Tensor:
    """Turn `gradient`, of `rotary`'s result, into that of its argument `qkv`, in place.

    Returns:
        float32 [2, head_dim], the gradients of the gains; zeros without.
    """
    head_dim = qkv.shape[-1] // (heads + 2 * kv_heads)
    sums = _thread_sums(2, head_dim)
    _call(
        "rotary_backward", qkv.dtype, gradient, qkv, positions, *tables, *(gains or (None, None)), epsilon, sums,
        qkv.numel() // qkv.shape[-1], heads, kv_heads, head_dim,
    )  # fmt: skip
    return sums.sum(0)


def plain_swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of [..., gate then up]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def swiglu(gate_up: Tensor) -> Tensor:
    """`plain_swiglu` of a narrow [tokens, 2 * columns]."""
    rows, columns = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, columns)
    _call("swiglu", gate_up.dtype, gate_up, out, rows, columns)
    return out


def swiglu_backward(gradient: Tensor, gate_up: Tensor) -> tuple[Tensor, Tensor]:
    """`swiglu`'s result once more, and the gradient of its argument."""
    rows, columns = gradient.shape
    out, gate_up_gradient = torch.empty_like(gradient), torch.empty_like(gate_up)
    _call("swiglu_backward", gate_up.dtype, gradient, gate_up, out, gate_up_gradient, rows, columns)
    return out, gate_up_gradient


def softmax_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    scale: float,
    z_loss: float,
    losses: Tensor,
    normalizers: Tensor,
    differentiate: bool,
) -> None:
    """Cross-entropies of rows of logits, in nats, and their logsumexp; in place of the logits, the gradient.

    Args:
        logits: narrow [rows, vocab]; where `differentiate` is set they become
            scale * d(cross-entropy + z_loss * logsumexp^2) / d(logits).
        targets: int64 [rows], below vocab; where negative, everything is 0.
        losses, normalizers: float32 [rows], written to.
    """
    _call(
        "softmax_cross_entropy", logits.dtype, logits, targets, losses, normalizers, *logits.shape, scale, z_loss,
        int(differentiate),
    )  # fmt: skip


def embedding_gradient(gradient: Tensor, tokens: Tensor, vocab: int) -> Tensor:
    """float32 [vocab, columns]: the rows of `gradient`, float32 [tokens, columns], summed by token in their order."""
    out = torch.zeros(vocab, gradient.shape[-1], dtype=torch.float32)
    _library().embedding_gradient(
        gradient.data_ptr(), tokens.data_ptr(), out.data_ptr(), tokens.numel(), gradient.shape[-1]
    )
    return out
