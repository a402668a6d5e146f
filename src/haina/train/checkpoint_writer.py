"""The state of a run in; a checkpoint on the disk out, written while training goes on.

1. `save` waits until the checkpoint before it is written: at most one is under way.
2. It looks whether the disk has room, and says how much is needed and free where it has not.
3. It copies parameters, optimizer state and guards to memory of the host - the only part that training waits for.
4. A thread writes, flushes and commits the copy (`haina.train.checkpoint`), and prunes older ones.

What goes wrong in the thread is raised by the next `poll`, `save` or `wait`, in the training thread. The copy takes as
much memory of the host as the checkpoint takes on the disk (AdamW: 12 bytes a parameter) and is kept for the next one.
What comes from a GPU is copied to pinned memory where that has room too, because it is faster. Where no copy has room,
there is no thread and training waits for the disk.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from haina.runtime.devices import memory_limit
from haina.runtime.errors import HainaError, os_errors_about
from haina.train.checkpoint import list_checkpoints, save_checkpoint

# What a checkpoint takes besides its tensors: metadata, metrics, state. More than enough for a model of 1,000 tensors.
BESIDES_TENSORS = 4 << 20
# Times what a copy of the state takes: so much of the host's memory has to be free for it.
SPARE = 1.1


def human(size: float) -> str:
    """`1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"


def free_memory() -> int:
    """Bytes of the host that this process can still take, its control group considered."""
    available, limit = psutil.virtual_memory().available, memory_limit()
    used = psutil.Process().memory_info().rss
    return int(available if limit is None else min(available, limit - used))


def tensor_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the values."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def pinned_bytes(tensors: Mapping[str, Tensor]) -> int:
    """What copies in pinned memory take: PyTorch's allocator of it rounds each up to a power of two, up to twice as
    much.
    """
    return sum(1 << max(0, tensor.nbytes - 1).bit_length() for tensor in tensors.values())


def check_room(folder: Path, needed: int) -> None:
    """See that the disk of `folder` takes `needed` bytes more.

    Raises:
        HainaError: it does not; names both numbers and the last good checkpoint.
    """
    with os_errors_about(folder):
        free = shutil.disk_usage(folder).free
    if free >= needed:
        return
    kept = list_checkpoints(folder)
    last = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
    raise HainaError(
        f"{folder}: the next checkpoint needs {human(needed)}, free are {human(free)}; {last}",
        "free some space and run the same command again; it goes on from there",
    )


class CheckpointWriter:
    """Writes the checkpoints of one run.

    Args:
        folder: where checkpoints live.
        committed: called in the thread with step, metrics and seconds when a checkpoint is whole.
    """

    def __init__(self, folder: Path, committed: Callable[[int, str, float], None]) -> None:
        self.folder, self.committed = folder, committed
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._copy: dict[str, Tensor] = {}

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        metrics: str,
        counters: Mapping[str, Any],
        *,
        now: bool = False,
    ) -> None:
        """Begin a checkpoint; returns when `tensors` may change again.

        Args:
            step, tensors, metrics, counters: of `save_checkpoint`.
            now: return only when it is committed.

        Raises:
            HainaError: this one or the one before it cannot be written; earlier ones are whole.
        """
        self.wait()
        needed = tensor_bytes(tensors) + len(metrics.encode()) + BESIDES_TENSORS
        check_room(self.folder, needed)
        started = time.perf_counter()
        if now or not self._copied(tensors):
            self._write(step, tensors, metrics, counters, started)
            self._raise()
            return
        arguments = (step, dict(self._copy), metrics, dict(counters), started)
        self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint", daemon=True)
        self._thread.start()

    def poll(self) -> None:
        """Raise what went wrong, without waiting."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Return when nothing is under way any more; raise what went wrong."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._raise()

    def close(self) -> None:
        """Let what is under way come to its end; errors stay unsaid, because another one is on its way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _copied(self, tensors: Mapping[str, Tensor]) -> bool:
        """Copy the tensors, where the host has memory for that."""
        if self._copy.keys() != tensors.keys():
            self._copy = {}
            free = free_memory()
            if free < SPARE * tensor_bytes(tensors):
                return False
            pinned = free >= SPARE * pinned_bytes(tensors)
            self._copy = {
                name: torch.empty(
                    value.shape, dtype=value.dtype, pin_memory=pinned and value.device.type == "cuda"
                )
                for name, value in tensors.items()
            }
        on_device = False
        for name, value in tensors.items():
            self._copy[name].copy_(value, non_blocking=True)
            on_device |= value.device.type == "cuda"
        if on_device:
            torch.cuda.synchronize()
        return True

    def _write(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        metrics: str,
        counters: Mapping[str, Any],
        started: float,
    ) -> None:
        try:
            save_checkpoint(self.folder, step, tensors, metrics, counters)
            self.committed(step, metrics, time.perf_counter() - started)
        except BaseException as error:  # it belongs to the training thread, whatever it is
            self._error = error

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
