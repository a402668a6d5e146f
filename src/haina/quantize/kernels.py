"""Ways to multiply activations with INT4 weights, and the rule that picks one.

Each kernel is a class made from the stored form of one weight matrix (int8 values, scales); it keeps them in
the layout it computes on and nothing else, and is called with activations [rows, in]. `choose_kernel` decides
once at load, from the device and the precision alone - never from a timing, so that the same machine gives
the same bits - and says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from haina.quantize.int4 import dequantize, pack, unpack
from haina.quantize.packed_dot import expand, packed_dot, to_halves

# Up to here the packed dot product is faster on the CPU, above it unpacking a block for a float matmul pays
# off.
PACKED_ROWS = 8
_BLOCK_WEIGHTS = 1 << 20


class Kernel(Protocol):
    """One weight matrix, ready to be multiplied."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """inputs: [rows, in]. Returns [rows, out] in the same dtype."""


class DequantizeKernel:
    """The reference: unpack a block of rows, multiply, forget it. Any device, any shape."""

    def __init__(self, values: Tensor, scales: Tensor, device: torch.device) -> None:
        self.words, self.scales = pack(values).to(device), scales.to(device)
        self.block = max(1, _BLOCK_WEIGHTS // values.shape[1])

    def __call__(self, inputs: Tensor) -> Tensor:
        blocks = zip(self.words.split(self.block), self.scales.split(self.block), strict=True)
        return torch.cat(
            [
                F.linear(inputs, dequantize(unpack(words), scales).to(inputs.dtype))
                for words, scales in blocks
            ],
            dim=-1,
        )


class PackedDotKernel:
    """CPU: `packed_dot` for a few rows, blocks expanded to float32 for many (a prompt, a batch to score)."""

    def __init__(self, values: Tensor, scales: Tensor, device: torch.device) -> None:
        if device.type != "cpu":
            raise ValueError("the packed dot product runs on the CPU")
        group_size = values.shape[1] // scales.shape[1]
        self.halves = to_halves(values, group_size)
        self.scales = scales.float().contiguous().numpy()
        self.block = max(1, _BLOCK_WEIGHTS // values.shape[1])

    def __call__(self, inputs: Tensor) -> Tensor:
        wide = inputs.float().contiguous()
        if wide.shape[0] <= PACKED_ROWS:
            return torch.from_numpy(packed_dot(self.halves, self.scales, wide.numpy())).to(inputs.dtype)
        rows = self.halves.shape[0]
        out = wide.new_empty(wide.shape[0], rows)
        for first in range(0, rows, self.block):
            last = min(rows, first + self.block)
            weights = torch.from_numpy(expand(self.halves, self.scales, first, last))
            out[:, first:last] = wide @ weights.t()
        return out.to(inputs.dtype)


def _scales_and_zeros(scales: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[groups, out, 2] as torch's operators want them; they compute (nibble - 8) * scale + zero, so zero is
    0."""
    return torch.stack((scales.t(), torch.zeros_like(scales.t())), dim=-1).to(device, dtype).contiguous()


class TorchCpuKernel:
    """CPU, bfloat16: torch's `_weight_int4pack_mm_for_cpu`. `out` must be a multiple of 16."""

    def __init__(self, values: Tensor, scales: Tensor, device: torch.device) -> None:
        if device.type != "cpu" or values.shape[0] % 16:
            raise ValueError("needs the CPU and a multiple of 16 output rows")
        self.group_size = values.shape[1] // scales.shape[1]
        self.packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values.to(torch.int32) + 8, 1)
        self.scales = _scales_and_zeros(scales, torch.bfloat16, device)

    def __call__(self, inputs: Tensor) -> Tensor:
        narrow = inputs.to(torch.bfloat16).contiguous()
        product = torch.ops.aten._weight_int4pack_mm_for_cpu(
            narrow, self.packed, self.group_size, self.scales
        )
        return product.to(inputs.dtype)


class TorchCudaKernel:
    """CUDA, compute capability 8.0 and above: torch's `_weight_int4pack_mm`, bfloat16 inside.

    Wants `out` a multiple of 8 and `in` a multiple of 32 or more, by the tile that it packs for.
    """

    def __init__(self, values: Tensor, scales: Tensor, device: torch.device) -> None:
        rows, columns = values.shape
        tiles = next((count for count in (8, 4, 2) if columns % (16 * count) == 0), 0)
        if device.type != "cuda" or rows % 8 or not tiles:
            raise ValueError("needs CUDA, a multiple of 8 output rows and of 32 inputs")
        self.group_size = columns // scales.shape[1]
        nibbles = (values + 8).to(torch.uint8)
        pairs = ((nibbles[:, ::2] << 4) | nibbles[:, 1::2]).to(device)
        self.packed = torch.ops.aten._convert_weight_to_int4pack(pairs, tiles)
        self.scales = _scales_and_zeros(scales, torch.bfloat16, device)

    def __call__(self, inputs: Tensor) -> Tensor:
        narrow = inputs.to(torch.bfloat16).contiguous()
        return torch.ops.aten._weight_int4pack_mm(narrow, self.packed, self.group_size, self.scales).to(
            inputs.dtype
        )


@dataclass(frozen=True)
class Choice:
    """A kernel for one matrix.

    Attributes:
        kernel: ready to call.
        name: for people.
        reason: why this one, as a clause.
    """

    kernel: Kernel
    name: str
    reason: str


def _agrees(kernel: Kernel, reference: Kernel, width: int, device: torch.device) -> bool:
    """Whether a kernel gives the reference's numbers, to bfloat16 exactness, on one fixed random row."""
    row = torch.randn(1, width, generator=torch.Generator().manual_seed(0)).to(device, torch.bfloat16)
    expected = reference(row).float()
    return bool((kernel(row).float() - expected).abs().max() <= 0.02 * expected.abs().max())


def choose_kernel(values: Tensor, scales: Tensor, device: torch.device, dtype: torch.dtype) -> Choice:
    """The kernel for one weight matrix.

    Args:
        values: int8 [out, in] in -8..7, on the CPU; scales: [out, groups].
        device: where activations will be.
        dtype: of the activations.
    """
    if device.type == "cuda":
        reference = DequantizeKernel(values, scales, device)
        try:
            packed = TorchCudaKernel(values, scales, device)
            if _agrees(packed, reference, values.shape[1], device):
                return Choice(packed, "torch int4 (CUDA)", "agrees with the reference on this GPU")
            reason = "torch's int4 operator disagrees with the reference on this GPU"
        except (RuntimeError, ValueError, NotImplementedError) as error:
            reason = f"torch's int4 operator cannot run here: {str(error).splitlines()[0]}"
        return Choice(reference, "dequantise, then matmul", reason)
    if dtype == torch.bfloat16 and values.shape[0] % 16 == 0:
        return Choice(
            TorchCpuKernel(values, scales, device), "torch int4 (CPU)", "bfloat16 activations on a CPU"
        )
    return Choice(
        PackedDotKernel(values, scales, device),
        "packed dot product (numba)",
        f"{str(dtype).removeprefix('torch.')} activations on a CPU",
    )
