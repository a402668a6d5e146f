"""What the machine offers in, what this run uses out: device, precision, threads.

All three change the last bits of a result, so they are decided once, at the start, and recorded in the
summary.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from haina.runtime.devices import physical_cores
from haina.runtime.errors import HainaError
from haina.train.config import TrainConfig


@dataclass(frozen=True)
class Hardware:
    """Attributes: device; dtype of matrix products (weights are float32 always); CPU threads."""

    device: torch.device
    dtype: torch.dtype
    threads: int

    @property
    def precision(self) -> str:
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    def autocast(self) -> AbstractContextManager[object]:
        """Matrix products in `dtype` inside the block."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def has_native_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products are faster than float32 ones here, not merely possible."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    flags = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(flag() for flag in flags if flag is not None)


def choose(config: TrainConfig) -> Hardware:
    """Device, precision and threads of this run.

    Raises:
        HainaError: CUDA is asked for and there is none, or split weights and bf16 would not be used.
    """
    # Pages of 2 MiB for large tensors, where the system gives them to those who ask: a step on a CPU is a tenth faster.
    # torch reads this when it makes its first tensor.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise HainaError(
            "train.device: cuda is asked for, but PyTorch sees no CUDA device", "use device: auto or cpu"
        )
    device = torch.device("cuda" if available and config.device != "cpu" else "cpu")
    bf16 = config.precision == "bf16" or (config.precision == "auto" and has_native_bf16(device))
    if config.split_weights and not bf16:
        raise HainaError(
            "train.split_weights: there are no fast bf16 products here, and float32 ones read whole weights",
            "leave it out, or set train.precision: bf16",
        )
    return Hardware(device, torch.bfloat16 if bf16 else torch.float32, config.threads or physical_cores())


@contextmanager
def in_use(hardware: Hardware) -> Iterator[None]:
    """Inside the block: a fixed number of threads and repeatable kernels. After it: as before."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    # cuBLAS reads it when its first handle is made; without it its reductions may differ from run to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.set_num_threads(hardware.threads)
    if hardware.device.type == "cuda":
        # The CPU kernels used here repeat as they are, and this call imports the whole compiler.
        torch.use_deterministic_algorithms(True, warn_only=True)
        # The filling is a debugging aid that costs a pass over every new tensor.
        torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = fill
        if hardware.device.type == "cuda":
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_num_threads(threads)
