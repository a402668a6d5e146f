"""Exact causal attention for training on a CPU: packed queries, keys and values in, mixed values out, and the way back.

Nothing of the size of seq x seq is kept: the forward pass saves one number for each query, the logarithm of its
softmax sum (`lse`), from which the backward pass computes the probabilities again block by block (Dao et al. 2022,
arXiv 2205.14135). `kernels/attention.c` does it in C; the `plain_` functions are the definition, the reference of the
tests, and the way for what the kernels do not take. `fused.py` puts both into a block of the model.

Shapes, all through this file:
    qkv     [batch, seq, (heads + 2 * kv_heads) * head_dim], contiguous: of every token all query heads, then the key
            heads, then the value heads, queries and keys already turned to their positions
    out     [batch, seq, heads * head_dim], of qkv's dtype
    lse     float32 [batch, heads, seq], natural logarithm
    starts  int32 [batch, seq], the first position that each query may look at, at most its own, never falling along
            seq (the start of its document in a packed row); None: 0 everywhere

Query head h looks at key head h // (heads // kv_heads). Scores are scaled by head_dim ** -0.5.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from haina.runtime.c_kernels import CKernelError, load_c_kernels

SOURCE = Path(__file__).parent / "kernels" / "attention.c"


def _heads_apart(qkv: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys, values, each [batch, heads, seq, head_dim]: keys and values repeated for their query heads."""
    batch, seq, width = qkv.shape
    apart = qkv.view(batch, seq, heads + 2 * kv_heads, width // (heads + 2 * kv_heads)).transpose(1, 2)
    queries, keys, values = apart.split((heads, kv_heads, kv_heads), dim=1)
    group = heads // kv_heads
    return queries, keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)


def _hidden_from_queries(seq: int, starts: Tensor | None, device: torch.device) -> Tensor:
    """bool [batch or 1, 1, seq, seq], True where a query (second to last axis) may not look."""
    place = torch.arange(seq, device=device)
    later = (place > place[:, None])[None, None]
    return later if starts is None else later | (place < starts[:, None, :, None])


def plain_attention_forward(
    qkv: Tensor, heads: int, kv_heads: int, starts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """out and lse by the definition, for any dtype and device; computed in float32 at least, lse in that type too."""
    compute = torch.promote_types(qkv.dtype, torch.float32)
    queries, keys, values = _heads_apart(qkv.to(compute), heads, kv_heads)
    scores = queries @ keys.mT * queries.shape[-1] ** -0.5
    scores = scores.masked_fill(_hidden_from_queries(qkv.shape[1], starts, qkv.device), -torch.inf)
    out = scores.softmax(-1) @ values
    return out.transpose(1, 2).flatten(2).to(qkv.dtype), scores.logsumexp(-1)


def plain_attention_backward(
    grad_out: Tensor, qkv: Tensor, heads: int, kv_heads: int, starts: Tensor | None = None
) -> Tensor:
    """The gradient of qkv by automatic differentiation of the definition."""
    with torch.enable_grad():
        leaf = qkv.detach().requires_grad_()
        out, _ = plain_attention_forward(leaf, heads, kv_heads, starts)
        (gradient,) = torch.autograd.grad(out, leaf, grad_out)
    return gradient


@cache
def _functions(defines: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The compiled kernels. `defines` is for the tests: ("PLAIN",) builds the code of processors without AVX-512."""
    library = load_c_kernels(SOURCE, defines)
    pointers, sizes = ctypes.c_void_p, [ctypes.c_int64] * 5
    library.attention_forward.argtypes = [*[pointers] * 4, *sizes, ctypes.c_int, ctypes.c_int]
    library.attention_backward.argtypes = [*[pointers] * 6, *sizes, ctypes.c_int, ctypes.c_int]
    return library


@cache
def attention_kernel_available() -> bool:
    """Whether the C kernels can be had in this process; without them the plain way is taken."""
    try:
        _functions()
    except CKernelError:
        return False
    return True


def _kernels_fit(qkv: Tensor, heads: int, kv_heads: int) -> bool:
    """Whether the kernels take this tensor: where it is, its dtype, its head_dim (elements go in pairs)."""
    head_dim = qkv.shape[-1] // (heads + 2 * kv_heads)
    return (
        qkv.device.type == "cpu"
        and qkv.dtype in (torch.bfloat16, torch.float32)
        and head_dim % 2 == 0
        and qkv.numel() > 0
        and attention_kernel_available()
    )


def _check(qkv: Tensor, heads: int, kv_heads: int, starts: Tensor | None) -> None:
    """Raises ValueError where the kernels would read beside the tensors."""
    if heads % kv_heads or qkv.dim() != 3 or qkv.shape[-1] % (heads + 2 * kv_heads):
        raise ValueError(f"qkv of shape {list(qkv.shape)} does not hold {heads} and 2 x {kv_heads} heads")
    if starts is not None and (starts.shape != qkv.shape[:2] or starts.dtype != torch.int32):
        raise ValueError(f"starts: {starts.dtype} {list(starts.shape)}; needs int32 {list(qkv.shape[:2])}")


def _run(function: Any, tensors: list[Tensor | None], qkv: Tensor, heads: int, kv_heads: int) -> None:
    batch, seq, width = qkv.shape
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    sizes = (batch, seq, heads, kv_heads, width // (heads + 2 * kv_heads))
    if function(*pointers, *sizes, qkv.dtype == torch.bfloat16, torch.get_num_threads()):
        raise MemoryError("attention: no memory for the scratch of its threads")


def attention_forward(
    qkv: Tensor, heads: int, kv_heads: int, starts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """out and lse.

    Raises:
        ValueError: shapes or dtypes that do not belong together.
    """
    _check(qkv, heads, kv_heads, starts)
    if not _kernels_fit(qkv, heads, kv_heads):
        return plain_attention_forward(qkv, heads, kv_heads, starts)
    qkv, starts = qkv.contiguous(), None if starts is None else starts.contiguous()
    batch, seq, width = qkv.shape
    out = qkv.new_empty(batch, seq, width // (heads + 2 * kv_heads) * heads)
    lse = torch.empty(batch, heads, seq)
    _run(_functions().attention_forward, [qkv, starts, out, lse], qkv, heads, kv_heads)
    return out, lse


def attention_backward(
    grad_out: Tensor,
    qkv: Tensor,
    out: Tensor,
    lse: Tensor,
    heads: int,
    kv_heads: int,
    starts: Tensor | None = None,
) -> Tensor:
    """The gradient of qkv, shaped and typed like it, from what the forward pass took and gave.

    Raises:
        ValueError: shapes or dtypes that do not belong together.
    """
    _check(qkv, heads, kv_heads, starts)
    batch, seq, width = qkv.shape
    compute = torch.promote_types(qkv.dtype, torch.float32)
    of_out = (batch, seq, width // (heads + 2 * kv_heads) * heads)
    for name, tensor, shape, dtype in (
        ("grad_out", grad_out, of_out, qkv.dtype),
        ("out", out, of_out, qkv.dtype),
        ("lse", lse, (batch, heads, seq), compute),
    ):
        if tensor.shape != shape or tensor.dtype != dtype:
            raise ValueError(f"{name}: {tensor.dtype} {list(tensor.shape)}; needs {dtype} {list(shape)}")
    if not _kernels_fit(qkv, heads, kv_heads):
        return plain_attention_backward(grad_out, qkv, heads, kv_heads, starts)
    qkv, starts = qkv.contiguous(), None if starts is None else starts.contiguous()
    grad_qkv = torch.empty_like(qkv)
    tensors = [grad_out.contiguous(), qkv, out.contiguous(), lse.contiguous(), starts, grad_qkv]
    _run(_functions().attention_backward, tensors, qkv, heads, kv_heads)
    return grad_qkv
