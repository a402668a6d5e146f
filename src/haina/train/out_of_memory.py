"""An allocation that failed in; out, an error that says what a step takes by estimate, what there is, what fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from haina.model.config import ModelConfig
from haina.runtime.errors import HainaError
from haina.train.checkpoint_writer import free_memory, human
from haina.train.config import TrainConfig
from haina.train.hardware import Hardware
from haina.train.memory import estimate_for, fitting_settings

# What is not raised as an error of its own: by PyTorch's CPU allocator, by oneDNN, by CUDA outside PyTorch's allocator
# (pinned memory of the host, a library's own buffers).
_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "could not create a memory object",
    "std::bad_alloc",
    "CUDA error: out of memory",
    "_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or of the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def usable_bytes(device: torch.device) -> int:
    """Memory of the device that this process can have in all."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device))
    return free_memory() + int(psutil.Process().memory_info().rss)


@contextmanager
def out_of_memory_explained(config: TrainConfig, shape: ModelConfig, hardware: Hardware) -> Iterator[None]:
    """Turn a failed allocation inside into a `HainaError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise _explained(config, shape, hardware, error) from error


def _explained(
    config: TrainConfig, shape: ModelConfig, hardware: Hardware, error: BaseException
) -> HainaError:
    usable = usable_bytes(hardware.device)
    needed = estimate_for(config, shape, hardware.device, hardware.dtype)
    where = "the GPU" if hardware.device.type == "cuda" else "the machine"
    reason = " ".join(str(error).split())[:160]
    parts = ", ".join(f"{name} {human(size)}" for name, size in needed.components.items() if size)
    fitting = fitting_settings(config, shape, usable, hardware.device, hardware.dtype)
    hint = "; or ".join(fitting) if fitting else "take a smaller model: train.model.preset"
    return HainaError(
        f"out of memory on {where} ({reason}): a step takes about {human(needed.total)} ({parts}), "
        f"{human(usable)} can be had",
        f"what would fit: {hint}",
    )
