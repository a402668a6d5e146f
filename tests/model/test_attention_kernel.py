"""The C kernels of attention against its definition in float64, on random and hostile input, forward and backward."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from haina.model import attention_kernel
from haina.model.attention_kernel import (
    attention_backward,
    attention_forward,
    attention_kernel_available,
    plain_attention_backward,
    plain_attention_forward,
)
from haina.runtime.c_kernels import SWITCH

pytestmark = pytest.mark.skipif(
    not attention_kernel_available(), reason="no C compiler, or no OpenMP of torch's"
)

# ||error|| / ||true||. bf16: an element is rounded by at most 2^-9 of itself, weights once more before their product.
FORWARD_ERROR = {torch.bfloat16: 4e-3, torch.float32: 1e-6}
BACKWARD_ERROR = {torch.bfloat16: 6e-3, torch.float32: 3e-6}
# Our error over that of PyTorch's kernel in the same dtype. In float32 both are some ulps, ours a few more.
TIMES_SDPA = {torch.bfloat16: 1.5, torch.float32: 3.0}
TEN_THOUSAND = 1e4


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def built_with(*defines: str) -> Iterator[None]:
    """The kernels as another processor gets them."""
    kernels = attention_kernel._functions
    attention_kernel._functions = lambda: kernels(defines)
    try:
        yield
    finally:
        attention_kernel._functions = kernels


def random_starts(batch: int, seq: int, documents: float, seed: int) -> Tensor:
    """int32 [batch, seq]: a new document begins at each position with probability `documents`."""
    begins = torch.rand(batch, seq, generator=torch.Generator().manual_seed(seed)) < documents
    return torch.where(begins, torch.arange(seq), 0).cummax(1).values.int()


def random_case(
    batch: int, seq: int, heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """qkv and a gradient of the output."""
    generator = torch.Generator().manual_seed(seed)
    qkv = torch.randn(batch, seq, (heads + 2 * kv_heads) * head_dim, generator=generator)
    return qkv.to(dtype), torch.randn(batch, seq, heads * head_dim, generator=generator).to(dtype)


def sdpa(qkv: Tensor, heads: int, kv_heads: int, starts: Tensor | None) -> Tensor:
    """PyTorch's own, in qkv's dtype, with an explicit mask where there are documents."""
    batch, seq = qkv.shape[:2]
    apart = qkv.view(batch, seq, heads + 2 * kv_heads, -1).transpose(1, 2)
    mask = None
    if starts is not None:
        place = torch.arange(seq)
        mask = ((place <= place[:, None]) & (place >= starts[:, :, None]))[:, None]
    out = F.scaled_dot_product_attention(
        *apart.split((heads, kv_heads, kv_heads), 1),
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=heads != kv_heads,
    )
    return out.transpose(1, 2).flatten(2)


def sdpa_gradient(qkv: Tensor, grad_out: Tensor, heads: int, kv_heads: int, starts: Tensor | None) -> Tensor:
    leaf = qkv.detach().requires_grad_()
    return torch.autograd.grad(sdpa(leaf, heads, kv_heads, starts), leaf, grad_out)[0]


def distance(found: Tensor, true: Tensor) -> float:
    return float((found.double() - true).norm())


def compare(qkv: Tensor, grad_out: Tensor, heads: int, kv_heads: int, starts: Tensor | None) -> None:
    """Kernels against float64, and their error against that of PyTorch's kernel in the same dtype."""
    true_out, true_lse = plain_attention_forward(qkv.double(), heads, kv_heads, starts)
    true_grad = plain_attention_backward(grad_out.double(), qkv.double(), heads, kv_heads, starts)
    out, lse = attention_forward(qkv, heads, kv_heads, starts)
    grad = attention_backward(grad_out, qkv, out, lse, heads, kv_heads, starts)
    assert (out.dtype, lse.dtype, grad.dtype) == (qkv.dtype, torch.float32, qkv.dtype)
    assert (out.shape, lse.shape, grad.shape) == (true_out.shape, true_lse.shape, qkv.shape)
    assert float((lse - true_lse).abs().max()) <= 1e-5 + 2e-7 * float(true_lse.abs().max())
    assert distance(out, true_out) <= FORWARD_ERROR[qkv.dtype] * float(true_out.norm())
    assert distance(grad, true_grad) <= BACKWARD_ERROR[qkv.dtype] * float(true_grad.norm())
    # A little is allowed to both where the truth is nearly zero: gradients of queries that see one key only.
    times, little = TIMES_SDPA[qkv.dtype], {torch.bfloat16: 5e-5, torch.float32: 2e-7}[qkv.dtype]
    theirs = distance(sdpa(qkv, heads, kv_heads, starts), true_out)
    assert distance(out, true_out) <= times * theirs + little * float(true_out.norm())
    theirs = distance(sdpa_gradient(qkv, grad_out, heads, kv_heads, starts), true_grad)
    assert distance(grad, true_grad) <= times * theirs + little * float(true_grad.norm())


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, int, Tensor | None]:
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    seq = draw(st.one_of(st.integers(1, 300), st.sampled_from([1, 2, 31, 32, 33, 127, 128, 129, 256, 257])))
    head_dim = draw(st.one_of(st.sampled_from([32, 64, 96, 128]), st.integers(1, 80).map(lambda n: 2 * n)))
    batch, seed = draw(st.integers(1, 3)), draw(st.integers(0, 2**31))
    dtype = draw(st.sampled_from([torch.bfloat16, torch.float32]))
    documents = draw(st.sampled_from([None, 0.01, 0.1, 1.0]))
    qkv, grad_out = random_case(batch, seq, kv_heads * group, kv_heads, head_dim, dtype, seed)
    starts = None if documents is None else random_starts(batch, seq, documents, seed)
    return qkv, grad_out, kv_heads * group, kv_heads, starts


@settings(max_examples=60)
@given(cases(), st.integers(1, 4))
def test_kernels_are_as_near_to_float64_as_sdpa(
    case: tuple[Tensor, Tensor, int, int, Tensor | None], count: int
) -> None:
    with threads(count):
        compare(*case)


@settings(max_examples=15)
@given(cases(), st.integers(1, 3))
def test_code_for_processors_without_avx512(
    case: tuple[Tensor, Tensor, int, int, Tensor | None], count: int
) -> None:
    with threads(count), built_with("PLAIN"):
        compare(*case)


@pytest.mark.parametrize("documents", [None, 0.05])
def test_the_plain_way_is_sdpa(documents: float | None) -> None:
    qkv, grad_out = random_case(2, 50, 4, 2, 16, torch.float64)
    starts = None if documents is None else random_starts(2, 50, documents, 1)
    torch.testing.assert_close(plain_attention_forward(qkv, 4, 2, starts)[0], sdpa(qkv, 4, 2, starts))
    found = plain_attention_backward(grad_out, qkv, 4, 2, starts)
    torch.testing.assert_close(found, sdpa_gradient(qkv, grad_out, 4, 2, starts))


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_rows_of_several_blocks(head_dim: int, dtype: torch.dtype) -> None:
    qkv, grad_out = random_case(1, 700, 2, 1, head_dim, dtype)
    compare(qkv, grad_out, 2, 1, None)
    compare(qkv, grad_out, 2, 1, random_starts(1, 700, 0.005, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_same_bits_when_repeated_and_forward_for_any_number_of_threads(dtype: torch.dtype) -> None:
    qkv, grad_out = random_case(1, 515, 4, 2, 64, dtype)
    starts = random_starts(1, 515, 0.01, 0)
    outs, gradients = [], {}
    for count in (1, 2, 3, 3, 2, 1):
        with threads(count):
            out, lse = attention_forward(qkv, 4, 2, starts)
            gradient = attention_backward(grad_out, qkv, out, lse, 4, 2, starts)
        outs.append((out, lse))
        assert torch.equal(gradient, gradients.setdefault(count, gradient))
    assert all(torch.equal(out, outs[0][0]) and torch.equal(lse, outs[0][1]) for out, lse in outs)


def test_keys_of_one_head_shared_out_among_threads() -> None:
    """Fewer heads than threads: the gradient of the queries comes in parts."""
    qkv, grad_out = random_case(1, 900, 2, 1, 64, torch.float32)
    with threads(4):
        compare(qkv, grad_out, 2, 1, None)
        compare(qkv, grad_out, 2, 1, random_starts(1, 900, 0.003, 5))


@pytest.mark.parametrize("define", [(), ("PLAIN",)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_documents_do_not_see_each_other(dtype: torch.dtype, define: tuple[str, ...]) -> None:
    """A row of documents gives the bits that each of them gives alone, wherever it begins."""
    qkv, grad_out = random_case(1, 256, 2, 2, 64, dtype)
    starts = torch.where(torch.arange(256) < 128, 0, 128).int()[None]
    with built_with(*define):
        out, lse = attention_forward(qkv, 2, 2, starts)
        gradient = attention_backward(grad_out, qkv, out, lse, 2, 2, starts)
        for part in (slice(0, 128), slice(128, 256)):
            alone = qkv[:, part].contiguous()
            one, one_lse = attention_forward(alone, 2, 2)
            assert torch.equal(one, out[:, part])
            assert torch.equal(
                attention_backward(grad_out[:, part], alone, one, one_lse, 2, 2), gradient[:, part]
            )


def test_a_document_of_one_token_gives_its_value() -> None:
    qkv, grad_out = random_case(2, 77, 3, 3, 32, torch.float32)
    alone = torch.arange(77, dtype=torch.int32).expand(2, -1)
    out, lse = attention_forward(qkv, 3, 3, alone)
    torch.testing.assert_close(out, qkv[..., 2 * 96 :], rtol=1e-6, atol=0)
    gradient = attention_backward(grad_out, qkv, out, lse, 3, 3, alone)
    torch.testing.assert_close(gradient[..., 2 * 96 :], grad_out, rtol=1e-6, atol=0)


@pytest.mark.parametrize("define", [(), ("PLAIN",)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_huge_scores(dtype: torch.dtype, define: tuple[str, ...]) -> None:
    """Scores around 1e4: one key takes all, its weight is 1 and nothing overflows."""
    qkv, grad_out = random_case(1, 150, 2, 1, 64, dtype)
    qkv[..., : 3 * 64] *= (TEN_THOUSAND / 8) ** 0.5
    true_out, _ = plain_attention_forward(qkv.double(), 2, 1)
    with built_with(*define):
        out, lse = attention_forward(qkv, 2, 1)
        gradient = attention_backward(grad_out, qkv, out, lse, 2, 1)
    # lse is float32: at 1e4 it is known to 5e-4, and so are weights.
    assert distance(out, true_out) <= 5e-3 * float(true_out.norm())
    assert bool(gradient.isfinite().all())
    true_gradient = plain_attention_backward(grad_out.double(), qkv.double(), 2, 1)
    assert distance(gradient[..., -64:], true_gradient[..., -64:]) <= 1e-2 * float(
        true_gradient[..., -64:].norm()
    )


@pytest.mark.parametrize("define", [(), ("PLAIN",)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_is_not_finite_shows_in_the_rows_that_see_it(
    dtype: torch.dtype, value: float, define: tuple[str, ...]
) -> None:
    qkv, grad_out = random_case(2, 100, 2, 1, 64, dtype)
    qkv[0, 40, 2 * 64 : 3 * 64] = value  # a key of the first row
    with built_with(*define):
        out, lse = attention_forward(qkv, 2, 1)
        gradient = attention_backward(grad_out, qkv, out, lse, 2, 1)
    assert not bool(out[0, 40:].isfinite().all(-1).any()) or value == float("inf")
    assert not bool(out[0].isfinite().all())
    assert not bool(gradient[0].isfinite().all())
    assert bool(out[0, :40].isfinite().all())
    assert bool(out[1].isfinite().all())
    assert bool(gradient[1].isfinite().all())


@pytest.mark.parametrize(("dtype", "head_dim"), [(torch.float64, 4), (torch.bfloat16, 3)])
def test_what_the_kernels_do_not_take_goes_the_plain_way(dtype: torch.dtype, head_dim: int) -> None:
    qkv, grad_out = random_case(1, 6, 2, 1, head_dim, dtype)
    out, lse = attention_forward(qkv, 2, 1)
    plain_out, plain_lse = plain_attention_forward(qkv, 2, 1)
    assert torch.equal(out, plain_out)
    assert torch.equal(lse, plain_lse)
    found = attention_backward(grad_out, qkv, out, lse, 2, 1)
    assert torch.equal(found, plain_attention_backward(grad_out, qkv, 2, 1))


def test_heads_of_any_width() -> None:
    for dtype in (torch.bfloat16, torch.float32):
        compare(*random_case(1, 130, 2, 1, 514, dtype), 2, 1, None)


def test_strided_tensors_and_gradients() -> None:
    """Autograd hands over expanded gradients (those of a sum); callers may hand over views."""
    qkv, grad_out = random_case(2, 40, 2, 1, 32, torch.float32)
    wide = torch.cat((qkv, qkv), -1).transpose(0, 1).contiguous().transpose(0, 1)
    view = wide[..., : qkv.shape[-1]]
    out, lse = attention_forward(view, 2, 1)
    assert torch.equal(out, attention_forward(qkv, 2, 1)[0])
    ones = torch.ones(()).expand_as(grad_out)
    found = attention_backward(ones, view, out, lse, 2, 1)
    assert torch.equal(found, attention_backward(ones.contiguous(), qkv, out, lse, 2, 1))


def test_shapes_that_do_not_belong_together() -> None:
    qkv, grad_out = random_case(1, 8, 2, 1, 32, torch.float32)
    out, lse = attention_forward(qkv, 2, 1)
    with pytest.raises(ValueError, match="heads"):
        attention_forward(qkv, 3, 2)
    with pytest.raises(ValueError, match="starts"):
        attention_forward(qkv, 2, 1, torch.zeros(1, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="starts"):
        attention_forward(qkv, 2, 1, torch.zeros(1, 7, dtype=torch.int32))
    with pytest.raises(ValueError, match="grad_out"):
        attention_backward(grad_out.bfloat16(), qkv, out, lse, 2, 1)
    with pytest.raises(ValueError, match="grad_out"):
        attention_backward(grad_out[:, :4], qkv, out[:, :4], lse, 2, 1)
    with pytest.raises(ValueError, match="out"):
        attention_backward(grad_out, qkv, out[:, :4], lse, 2, 1)
    for wrong in (lse[:, :, :4], lse.double()):
        with pytest.raises(ValueError, match="lse"):
            attention_backward(grad_out, qkv, out, wrong, 2, 1)


def test_starts_that_fall_are_obeyed() -> None:
    """They should not fall; if they do, every query still sees exactly what its start says."""
    qkv, grad_out = random_case(1, 300, 2, 1, 64, torch.float32)
    starts = (torch.rand(1, 300, generator=torch.Generator().manual_seed(0)) * torch.arange(300)).int()
    compare(qkv, grad_out, 2, 1, starts)


def test_without_kernels_the_definition_is_taken() -> None:
    code = (
        "import json, torch; from haina.model.attention_kernel import *; torch.manual_seed(0);"
        "qkv = torch.randn(1, 9, 96); print(json.dumps([attention_kernel_available(),"
        "attention_forward(qkv, 1, 1)[0].double().sum().item()]))"
    )
    environment = {**os.environ, SWITCH: "0"}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=environment)
    available, total = json.loads(done.stdout)
    torch.manual_seed(0)
    assert not available
    out, _ = attention_forward(torch.randn(1, 9, 96), 1, 1)
    assert total == pytest.approx(float(out.double().sum()), rel=1e-5)
