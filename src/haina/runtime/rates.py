"""How fast this machine multiplies matrices and moves memory: the ceilings that other figures are read against.

In: a type, a device, about how long to measure. Out: medians of several runs with their extremes. torch is imported
only inside the functions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from haina.runtime.devices import Machine
from haina.runtime.errors import HainaError

# 256 MiB: well beyond the last-level cache of a desktop or one socket's share of a server's.
MEMORY_BLOCK = 256 << 20
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}
REPEATS = 5


@dataclass(frozen=True)
class Rate:
    """A measured rate: the median of several runs and their extremes, in units a second."""

    median: float
    low: float
    high: float
    runs: int


def _timed_rate(once: Callable[[], None], amount: float, seconds: float) -> Rate:
    """Median rate of `amount` units a call, over `REPEATS` runs that share about `seconds`."""
    once()
    start = time.perf_counter()
    once()
    single = max(time.perf_counter() - start, 1e-9)
    calls = max(1, round(seconds / REPEATS / single))
    rates = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(calls):
            once()
        rates.append(amount * calls / max(time.perf_counter() - start, 1e-9))
    return Rate(statistics.median(rates), min(rates), max(rates), REPEATS)


def measure_matmul(dtype: str = "float32", seconds: float = 0.5, device: str = "cpu") -> Rate:
    """Rate of a square matrix product in FLOP/s (2 n^3 each; int8 operations are counted alike).

    The ceiling against which training's and inference's rates are read: n is 1024 on a CPU, 8192 on CUDA.

    Args:
        dtype: float32, bfloat16, float16 or int8 (int32 sums).
        seconds: about how long to measure, without warm-up.
        device: cpu or cuda.

    Raises:
        HainaError: unknown type, or torch has no such product on this device.
    """
    import torch

    if dtype not in ("float32", "bfloat16", "float16", "int8"):
        raise HainaError(f"matmul dtype {dtype}: unknown", "use float32, bfloat16, float16 or int8")
    kind = torch.device(device).type
    size = MATMUL_SIZE.get(kind, 1024)
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-8, 8, (2, size, size), generator=generator).to(getattr(torch, dtype)).to(device)
    # The transpose gives int8 on CUDA the column-major right side it insists on, and is free for the others.
    left, right = values[0], values[1].t()
    product = torch._int_mm if dtype == "int8" else torch.mm

    def once() -> None:
        product(left, right)
        if kind == "cuda":
            torch.cuda.synchronize()

    try:
        with torch.inference_mode():
            return _timed_rate(once, 2.0 * size**3, seconds)
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise HainaError(
            f"matmul in {dtype} on {device}: not available ({reason})", "measure another type"
        ) from error


def measure_memory(seconds: float = 0.5, device: str = "cpu") -> dict[str, Rate]:
    """Memory rates in bytes/s of a block beyond every cache, all torch threads at work.

    Returns:
        `read`: bytes read by a sum; `copy`: bytes read plus bytes written by a copy (STREAM's convention).
    """
    import torch

    source = torch.ones(MEMORY_BLOCK // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)

    def settled(work: Callable[[], object]) -> Callable[[], None]:
        def once() -> None:
            work()
            if source.device.type == "cuda":
                torch.cuda.synchronize()

        return once

    return {
        "read": _timed_rate(settled(source.sum), MEMORY_BLOCK, seconds),
        "copy": _timed_rate(settled(lambda: target.copy_(source)), 2.0 * MEMORY_BLOCK, seconds),
    }


@dataclass(frozen=True)
class MachineRate:
    """A `Rate` with its name (`matmul float32`, `memory read`), its unit (`FLOP/s`, `B/s`) and its device."""

    name: str
    unit: str
    device: str
    median: float
    low: float
    high: float


def measure_rates(machine: Machine, seconds: float = 0.5) -> list[MachineRate]:
    """Matmul and memory rates of the CPU and of the first GPU; about `seconds` each.

    int8 is measured only where the processor has instructions for it: elsewhere one product takes seconds.
    """
    devices = ["cpu", *(["cuda"] if machine.gpus else [])]
    found: list[MachineRate] = []
    for device in devices:
        types = ["float32", "bfloat16"]
        if device == "cuda" or {"avx512_vnni", "amx", "arm_i8mm"}.intersection(machine.instruction_sets):
            types.append("int8")
        rates = {f"matmul {dtype}": ("FLOP/s", measure_matmul(dtype, seconds, device)) for dtype in types}
        rates |= {f"memory {kind}": ("B/s", rate) for kind, rate in measure_memory(seconds, device).items()}
        found += [
            MachineRate(name, unit, device, rate.median, rate.low, rate.high)
            for name, (unit, rate) in rates.items()
        ]
    return found
