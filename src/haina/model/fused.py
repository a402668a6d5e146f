"""The transformer for training on a CPU: tokens in, the states that the output head looks at out, and the way back.

A block is one autograd function whose forward and backward pass are written out:

    residual += delta;  n = norm(residual);  qkv = n Wqkv';  turn;  mixed = attention(qkv);  delta = mixed Wo'
    residual += delta;  n = norm(residual);  gate_up = n Wgu';  delta = swiglu(gate_up) Wd'

Matrix products are torch's (oneDNN), in bf16 or float32; all else is `fused_kernels` and `attention_kernel`. The
residual stream is one float32 tensor for all blocks, changed in place: a block keeps the normed rows (narrow), the
packed products qkv and gate_up, and what attention needs; the cheap rest is made again on the way back. Gradients
leave through autograd, so that accumulation, hooks on parameters and gradients of tied weights are as usual.
`Transformer.hidden_states` is the definition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from haina.model import fused_kernels as kernels
from haina.model.attention import Attention
from haina.model.attention_kernel import attention_backward, attention_forward, attention_kernel_available
from haina.model.head import NormHead
from haina.model.norm import RMSNorm
from haina.model.rotary import rotary_angles
from haina.model.transformer import Block, Decoder, FeedForward, Transformer

Tables = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Places:
    """Where the tokens of a batch stand, the same for all blocks.

    Attributes:
        positions: int32 [batch * seq], rows of the tables.
        tables: cosine and sine, float32 [positions, head_dim / 2].
        starts: int32 [batch, seq], the first position of its row that each token may look at; None: 0.
        heads, kv_heads, epsilon: of the model.
        dtype: of the matrix products.
    """

    positions: Tensor
    tables: Tables
    starts: Tensor | None
    heads: int
    kv_heads: int
    epsilon: float
    dtype: torch.dtype


def segment_starts(segments: Tensor) -> Tensor:
    """int32 [batch, seq]: where the stretch of equal `segments` [batch, seq] that each place is in begins."""
    places = torch.arange(segments.shape[1]).expand_as(segments)
    begins = torch.zeros_like(places)
    begins[:, 1:] = torch.where(segments[:, 1:] != segments[:, :-1], places[:, 1:], 0)
    return begins.cummax(dim=1).values.to(torch.int32)


@lru_cache(maxsize=4)
def _tables(length: int, head_dim: int, theta: float) -> Tables:
    return rotary_angles(torch.arange(length), head_dim, theta)


def _packed(weights: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    """The matrices below one another, in `dtype`."""
    packed = torch.empty(sum(map(len, weights)), weights[0].shape[1], dtype=dtype)
    for part, weight in zip(packed.split([len(weight) for weight in weights]), weights, strict=True):
        part.copy_(weight)
    return packed


class _FusedBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        residual, delta, places, *weights = arguments
        first_gain, q, k, v, o, second_gain, gate, up, down, *norms = weights
        dtype, heads, kv_heads = places.dtype, places.heads, places.kv_heads
        gains = (norms[0], norms[1]) if norms else None
        batch, seq, hidden = residual.shape
        qkv_weight, gate_up_weight = _packed((q, k, v), dtype), _packed((gate, up), dtype)
        o_weight, down_weight = o.to(dtype), down.to(dtype)

        first, states, first_inverse = kernels.add_rms_norm(
            residual, delta, first_gain, places.epsilon, dtype
        )
        qkv = torch.mm(states.view(-1, hidden), qkv_weight.t())
        turned = kernels.rotary(
            qkv, places.positions, places.tables, gains, places.epsilon, heads, kv_heads
        ).view(batch, seq, -1)
        mixed, lse = attention_forward(turned, heads, kv_heads, places.starts)
        update = torch.mm(mixed.view(batch * seq, -1), o_weight.t())
        second, states, second_inverse = kernels.add_rms_norm(
            residual, update, second_gain, places.epsilon, dtype
        )
        gate_up = torch.mm(states.view(-1, hidden), gate_up_weight.t())
        del states
        update = torch.mm(kernels.swiglu(gate_up), down_weight.t(), out=update)

        if any(ctx.needs_input_grad):
            ctx.save_for_backward(
                first, first_inverse, qkv, mixed, lse, second, second_inverse, gate_up,
                first_gain, second_gain, qkv_weight, o_weight, gate_up_weight, down_weight, *norms,
            )  # fmt: skip
            ctx.places, ctx.sizes = places, ([len(q), len(k), len(v)], [len(gate), len(up)])
        ctx.mark_dirty(residual)
        return residual, update.view(batch, seq, hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        above, delta_gradient = output_gradients
        first, first_inverse, qkv, mixed, lse, second, second_inverse, gate_up, *saved = ctx.saved_tensors
        first_gain, second_gain, qkv_weight, o_weight, gate_up_weight, down_weight, *norms = saved
        places, (attention_sizes, mlp_sizes) = ctx.places, ctx.sizes
        heads, kv_heads, gains = places.heads, places.kv_heads, (norms[0], norms[1]) if norms else None
        batch, seq, hidden = first.shape
        turn = places.positions, places.tables, gains, places.epsilon, heads, kv_heads

        delta_gradient = delta_gradient.view(-1, hidden)
        activated, gate_up_gradient = kernels.swiglu_backward(torch.mm(delta_gradient, down_weight), gate_up)
        down_gradient = torch.mm(delta_gradient.t(), activated).float()
        del activated, delta_gradient
        states = kernels.scale_columns(second, second_gain).view(-1, hidden)
        mlp_gradients = torch.mm(gate_up_gradient.t(), states).float().split(mlp_sizes)
        gradient = torch.mm(gate_up_gradient, gate_up_weight, out=states)
        del gate_up_gradient
        middle, rounded, second_gain_gradient = kernels.rms_norm_backward(
            gradient, second, second_inverse, second_gain, above
        )
        rounded = rounded.view(-1, hidden)
        o_gradient = torch.mm(rounded.t(), mixed.view(batch * seq, -1)).float()
        turned = qkv if gains is None else kernels.rotary(qkv, *turn)
        gradient = attention_backward(
            torch.mm(rounded, o_weight).view(mixed.shape), turned.view(batch, seq, -1), mixed, lse,
            heads, kv_heads, places.starts,
        ).view(qkv.shape)  # fmt: skip
        del turned
        gain_gradients = kernels.rotary_backward(gradient, qkv, *turn)
        states = kernels.scale_columns(first, first_gain).view(-1, hidden)
        q, k, v = torch.mm(gradient.t(), states).float().split(attention_sizes)
        gradient = torch.mm(gradient, qkv_weight, out=states)
        below, rounded, first_gain_gradient = kernels.rms_norm_backward(
            gradient, first, first_inverse, first_gain, middle
        )
        return (
            below, rounded if ctx.needs_input_grad[1] else None, None,
            first_gain_gradient, q, k, v, o_gradient, second_gain_gradient, *mlp_gradients, down_gradient,
            *(() if gains is None else gain_gradients),
        )  # fmt: skip


class _LastNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        residual, delta, gain, epsilon, dtype = arguments
        normed, out, inverse = kernels.add_rms_norm(residual, delta, gain, epsilon, dtype)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(normed, inverse, gain)
            # The stream ends here: its gradient is nothing, not a tensor of zeros.
            ctx.set_materialize_grads(False)
        ctx.mark_dirty(residual)
        return residual, out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        normed, inverse, gain = ctx.saved_tensors
        residual, rounded, gain_gradient = kernels.rms_norm_backward(
            output_gradients[1].contiguous(), normed, inverse, gain, None
        )
        return residual, rounded, gain_gradient, None, None


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        tokens, weight = arguments
        ctx.save_for_backward(tokens)
        ctx.vocab = len(weight)
        return F.embedding(tokens, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[None, Tensor]:
        (tokens,) = ctx.saved_tensors
        (gradient,) = output_gradients
        return None, kernels.embedding_gradient(gradient.flatten(0, 1).contiguous(), tokens, ctx.vocab)


_OWN_TYPES = (
    Transformer, Decoder, Block, Attention, FeedForward, RMSNorm, NormHead, nn.Linear, nn.Embedding, nn.ModuleList,
)  # fmt: skip
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _foreign(name: str, module: nn.Module) -> Iterator[str]:
    if type(module) not in _OWN_TYPES:
        yield f"{name} is a {type(module).__name__}"
    if "forward" in vars(module):
        yield f"{name} has a forward of its own"
    if any(getattr(module, hooks) for hooks in _HOOKS):
        yield f"{name} has hooks"
    if getattr(module, "bias", None) is not None:
        yield f"{name} has a bias"


def _obstacles(model: Transformer, tokens: Tensor, dtype: torch.dtype) -> Iterator[str]:
    if tokens.device.type != "cpu":
        yield f"tokens are on {tokens.device.type}"
    if dtype not in kernels.NARROW:
        yield f"there are no kernels for {dtype}"
    if model.config.head_dim > kernels.LARGEST_HEAD:
        yield f"head_dim {model.config.head_dim} is above {kernels.LARGEST_HEAD}"
    for name, module in model.named_modules():
        yield from _foreign(name or "the model", module)
    for name, weight in model.named_parameters():
        if weight.dtype != torch.float32 or weight.device.type != "cpu" or not weight.is_contiguous():
            yield f"{name} is no contiguous float32 matrix of the CPU"
        if not weight.requires_grad:
            yield f"{name} is frozen"
    if why := kernels.fused_kernels_obstacle():
        yield f"there are no compiled kernels: {why}"
    if not attention_kernel_available():
        yield "there is no attention kernel"


def fused_obstacle(model: Transformer, tokens: Tensor, dtype: torch.dtype) -> str | None:
    """Why `fused_states` cannot stand for the plain forward of `model` here, in some words; None: it can."""
    return next(_obstacles(model, tokens, dtype), None)


def fused_states(
    model: Transformer,
    tokens: Tensor,
    positions: Tensor | None,
    segments: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """`Transformer.hidden_states` in `dtype`; arguments as there, where `fused_obstacle` finds nothing."""
    config, decoder = model.config, model.model
    batch, seq = tokens.shape
    if positions is None:
        length, placed = seq, torch.arange(seq, dtype=torch.int32).expand(batch, seq)
    else:
        if int(positions.min()) < 0:
            raise ValueError("positions must not be negative")
        length, placed = int(positions.max()) + 1, positions.to(torch.int32).expand(batch, seq)
    places = Places(
        placed.flatten().contiguous(),
        _tables(length, config.head_dim, config.rope_theta),
        None if segments is None else segment_starts(segments),
        config.num_attention_heads,
        config.num_key_value_heads,
        config.rms_norm_eps,
        dtype,
    )
    with torch.autocast("cpu", enabled=False):
        residual = _Embedding.apply(tokens.to(torch.int64).contiguous(), decoder.embed_tokens.weight)
        delta = None
        for block in decoder.layers:
            residual, delta = _FusedBlock.apply(residual, delta, places, *_weights(block))
        _, out = _LastNorm.apply(residual, delta, decoder.norm.weight, config.rms_norm_eps, dtype)
    states: Tensor = out
    return states


def _weights(block: nn.Module) -> tuple[Tensor, ...]:
    """In the order that `_FusedBlock` takes them."""
    assert isinstance(block, Block)
    attention, mlp = block.self_attn, block.mlp
    norms = [norm.weight for norm in (attention.q_norm, attention.k_norm) if norm is not None]
    return (
        block.input_layernorm.weight, attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight,
        attention.o_proj.weight, block.post_attention_layernorm.weight, mlp.gate_proj.weight, mlp.up_proj.weight,
        mlp.down_proj.weight, *norms,
    )  # fmt: skip
