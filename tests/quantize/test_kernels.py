"""Every kernel against dequantise-then-matmul in float64, on random and hostile activations."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from haina.quantize import packed_dot
from haina.quantize.int4 import dequantize
from haina.quantize.kernels import (
    DequantizeKernel,
    PackedDotKernel,
    TorchCpuKernel,
    TorchCudaKernel,
    choose_kernel,
)

CPU = torch.device("cpu")


@st.composite
def products(draw: st.DrawFn, row_multiple: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """values int8 [out, in], scales bfloat16 [out, groups], inputs float32 [rows, in]."""
    group_size = draw(st.sampled_from([8, 32, 64, 128]))
    groups = draw(st.integers(1, 4))
    out = row_multiple * draw(st.integers(1, 5))
    rows = draw(st.sampled_from([1, 2, 8, 9, 17]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    values = torch.randint(-8, 8, (out, groups * group_size), dtype=torch.int8, generator=generator)
    scales = (torch.randn(out, groups, generator=generator) * 0.02).bfloat16()
    inputs = torch.randn(rows, groups * group_size, generator=generator)
    kind = draw(st.sampled_from(["gaussian", "outlier", "zeros", "extreme weights", "tiny"]))
    if kind == "outlier":
        inputs[:, :: group_size + 1] *= 1000
    elif kind == "zeros":
        inputs[0] = 0
    elif kind == "extreme weights":
        values = torch.where(values >= 0, 7, -8).to(torch.int8)
        inputs = inputs.sign()
    elif kind == "tiny":
        inputs *= 1e-20
    return values, scales, inputs


def allowed(values: Tensor, scales: Tensor, inputs: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """The exact product, and how far a kernel may be off when it rounds activations to `step` of their
    largest."""
    weights = dequantize(values, scales).double()
    exact = inputs.double() @ weights.t()
    largest = inputs.double().abs().amax(-1, keepdim=True)
    return exact, step * largest * weights.abs().sum(-1) + 1e-30


@settings(max_examples=60, deadline=None)
@given(products())
def test_packed_dot(case: tuple[Tensor, Tensor, Tensor]) -> None:
    exact, tolerance = allowed(*case, step=1 / 32767)
    product = PackedDotKernel(*case[:2], CPU)(case[2])
    assert product.shape == exact.shape
    assert bool(((product - exact).abs() <= tolerance).all())


@settings(max_examples=30, deadline=None)
@given(products())
def test_dequantize_kernel(case: tuple[Tensor, Tensor, Tensor]) -> None:
    exact, tolerance = allowed(*case, step=2**-20)
    assert bool(((DequantizeKernel(*case[:2], CPU)(case[2]) - exact).abs() <= tolerance).all())


@settings(max_examples=30, deadline=None)
@given(products(row_multiple=16).filter(lambda case: case[0].shape[1] // case[1].shape[1] >= 32))
def test_torch_cpu_kernel(case: tuple[Tensor, Tensor, Tensor]) -> None:
    exact, tolerance = allowed(*case, step=2**-7)
    product = TorchCpuKernel(*case[:2], CPU)(case[2].bfloat16())
    assert product.dtype == torch.bfloat16
    assert bool(((product.double() - exact).abs() <= tolerance).all())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_torch_cuda_kernel() -> None:
    values = torch.randint(-8, 8, (64, 256), dtype=torch.int8)
    scales, inputs = (torch.randn(64, 4) * 0.02).bfloat16(), torch.randn(3, 256)
    exact, tolerance = allowed(values, scales, inputs, step=2**-7)
    device = torch.device("cuda")
    product = TorchCudaKernel(values, scales, device)(inputs.to(device, torch.bfloat16)).cpu()
    assert bool(((product.double() - exact).abs() <= tolerance).all())
    assert choose_kernel(values, scales, device, torch.bfloat16).name == "torch int4 (CUDA)"


def random_weight(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-8, 8, (rows, columns), dtype=torch.int8, generator=generator)
    return values, torch.rand(rows, columns // 64, generator=generator).bfloat16()


def test_blocks_are_joined_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    values, scales = random_weight(50, 128)
    inputs = torch.randn(20, 128, generator=torch.Generator().manual_seed(1))
    whole = PackedDotKernel(values, scales, CPU)(inputs)
    monkeypatch.setattr("haina.quantize.kernels._BLOCK_WEIGHTS", 7 * 128)
    for kernel in (PackedDotKernel, DequantizeKernel):
        torch.testing.assert_close(kernel(values, scales, CPU)(inputs), whole, rtol=1e-5, atol=1e-4)


def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    values, scales = random_weight(101, 192)
    kernel = PackedDotKernel(values, scales, CPU)
    inputs = torch.randn(2, 192, generator=torch.Generator().manual_seed(1))
    alone = kernel(inputs)
    monkeypatch.setattr(packed_dot, "_PARALLEL_WEIGHTS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(kernel(inputs), alone)
    results: list[Tensor] = []
    callers = [threading.Thread(target=lambda: results.append(kernel(inputs))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert len(results) == 8
    assert all(torch.equal(result, alone) for result in results)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_show_in_the_result(bad: float) -> None:
    values, scales = random_weight(16, 128)
    inputs = torch.ones(2, 128)
    inputs[1, 70] = bad
    product = PackedDotKernel(values, scales, CPU)(inputs)
    assert bool(product[0].isfinite().all())
    assert bool(product[1].isnan().all())


def test_the_choice_follows_precision_and_shape_and_says_why() -> None:
    values, scales = random_weight(32, 128)
    wide = choose_kernel(values, scales, CPU, torch.float32)
    assert (type(wide.kernel), wide.reason) == (PackedDotKernel, "float32 activations on a CPU")
    assert isinstance(choose_kernel(values, scales, CPU, torch.bfloat16).kernel, TorchCpuKernel)
    odd = choose_kernel(values[:17], scales[:17], CPU, torch.bfloat16)
    assert isinstance(odd.kernel, PackedDotKernel)
    assert odd.kernel(torch.ones(1, 128, dtype=torch.bfloat16)).dtype == torch.bfloat16
