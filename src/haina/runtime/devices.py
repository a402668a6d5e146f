"""What this machine is and what it can do.

In: the operating system's own tables (`/proc/cpuinfo`, control groups, the environment) and, when asked,
short timed loops. Out: a `Machine` that reports quote as their conditions, measured ceilings that their
figures are compared with, and the checks that `haina doctor` prints. No network connection is opened, and
torch is imported only inside the functions that need it.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

GIB = 1 << 30

# Name used here: names under which Linux lists it (x86 `flags`, Arm `Features`).
INSTRUCTION_SETS: dict[str, tuple[str, ...]] = {
    "avx2": ("avx2",),
    "fma": ("fma",),
    "avx512f": ("avx512f",),
    "avx512_vnni": ("avx512_vnni", "avx512vnni"),
    "avx512_bf16": ("avx512_bf16",),
    "amx": ("amx_tile", "amx_bf16", "amx_int8"),
    "neon": ("asimd", "neon"),
    "sve": ("sve",),
    "arm_bf16": ("bf16",),
    "arm_i8mm": ("i8mm",),
}
BF16_SETS = frozenset({"avx512_bf16", "amx", "arm_bf16"})

# What the quickstart recipe needs: peak memory under 6 GiB, and room for packages, pages and checkpoints.
QUICKSTART_MEMORY = 6 * GIB
QUICKSTART_DISK = 8 * GIB
QUICKSTART_CORES = 2


@dataclass(frozen=True)
class Gpu:
    """One accelerator: `memory` in bytes, `compute_capability` such as "9.0" ("" where there is none)."""

    name: str
    memory: int
    compute_capability: str


@dataclass(frozen=True)
class Machine:
    """The conditions of a measurement.

    Attributes:
        cpu: model name.
        physical_cores, logical_cores: what this process may use (affinity and control-group quota applied).
        memory_total, memory_available: bytes, never more than the control group allows.
        instruction_sets: names from `INSTRUCTION_SETS` that the processor has.
        gpus: accelerators that torch can use.
        disk_free: bytes free where the path given to `describe_machine` lies.
        packages: versions of the packages that decide about speed.
    """

    cpu: str
    physical_cores: int
    logical_cores: int
    memory_total: int
    memory_available: int
    instruction_sets: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    os: str
    python: str
    torch: str
    disk_free: int
    packages: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **asdict(self),
            "instruction_sets": list(self.instruction_sets),
            "gpus": [asdict(g) for g in self.gpus],
        }


@dataclass(frozen=True)
class Check:
    """One line of `haina doctor`: `ok` None is for information only, `advice` "" when nothing needs doing."""

    name: str
    value: str
    ok: bool | None
    advice: str = ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...], int]:
    """Model name, instruction sets and physical cores (0 when not told) from the text of `/proc/cpuinfo`."""
    model, words, cores, package = "", set[str](), set[tuple[str, str]](), ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if key in ("model name", "Model", "cpu model") and not model:
            model = value
        elif key in ("flags", "Features"):
            words.update(value.split())
        elif key == "physical id":
            package = value
        elif key == "core id":
            cores.add((package, value))
    return model, _named_sets(words), len(cores)


def _named_sets(words: Iterable[str]) -> tuple[str, ...]:
    present = set(words)
    return tuple(name for name, flags in INSTRUCTION_SETS.items() if present.intersection(flags))


def _instruction_sets_of_torch() -> tuple[str, ...]:
    """Where there is no `/proc/cpuinfo`: what torch dispatches to."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    if capability.startswith("AVX512"):
        return ("avx2", "fma", "avx512f")
    if capability.startswith("AVX2"):
        return ("avx2", "fma")
    return ("neon",) if platform.machine().lower() in ("arm64", "aarch64") else ()


def _cpu_name() -> str:
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, timeout=5, check=True
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return platform.machine()
    return platform.processor() or platform.machine() or "unknown"


def _positive(text: str) -> int | None:
    """A control-group number; None for `max`, an absent file and the huge values that mean no limit."""
    text = text.strip()
    if not text.isascii() or not text.isdigit():
        return None
    value = int(text)
    return value if 0 < value < 1 << 60 else None


def _group_folders() -> list[str]:
    """Folders where this process's control-group limits may stand: version 2, its ancestors, version 1."""
    own = ""
    for line in _read("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            own = line[3:].strip("/")
    parts = own.split("/") if own else []
    nested = ["/".join(["/sys/fs/cgroup", *parts[:depth]]) for depth in range(len(parts), -1, -1)]
    return [*nested, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu"]


def memory_limit() -> int | None:
    """Bytes that the control group allows this process, None without a limit."""
    names = ("memory.max", "memory.limit_in_bytes")  # versions 2 and 1
    limits = [_positive(_read(f"{folder}/{name}")) for folder in _group_folders() for name in names]
    return min((limit for limit in limits if limit is not None), default=None)


def cpu_quota() -> float | None:
    """Processors' worth of time that the control group allows, None without a limit."""
    pairs = [_read(f"{folder}/cpu.max").partition(" ")[::2] for folder in _group_folders()]
    pairs.append(
        (_read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
    )
    numbers = [(_positive(quota), _positive(period)) for quota, period in pairs]
    return min((quota / period for quota, period in numbers if quota and period), default=None)


def logical_cores() -> int:
    """Hardware threads that this process may use: no more than affinity mask and quota allow, at least 1."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        count = min(count, len(os.sched_getaffinity(0)))
    quota = cpu_quota()
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads counted once: the right number of compute workers."""
    counted = psutil.cpu_count(logical=False) or parse_cpuinfo(_read("/proc/cpuinfo"))[2] or logical_cores()
    return max(1, min(counted, logical_cores()))


def _gpus() -> tuple[Gpu, ...]:
    import torch

    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return tuple(Gpu(p.name, int(p.total_memory), f"{p.major}.{p.minor}") for p in found)
    if torch.backends.mps.is_available():
        return (Gpu("Apple GPU", int(torch.mps.recommended_max_memory()), ""),)
    return ()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _os_name() -> str:
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}"
    except (OSError, KeyError):
        return platform.platform()


def free_disk(path: Path) -> int:
    """Bytes free on the disk where `path` lies or will lie (its nearest existing parent is asked)."""
    for folder in [path.absolute(), *path.absolute().parents]:
        if folder.exists():
            return shutil.disk_usage(folder).free
    return 0


def describe_machine(path: Path | None = None) -> Machine:
    """What this machine is; takes a few milliseconds beside the import of torch.

    Args:
        path: where the work will lie, for `disk_free`; the current folder when None.
    """
    model, sets, _ = parse_cpuinfo(_read("/proc/cpuinfo"))
    memory, limit = psutil.virtual_memory(), memory_limit()
    total = min(memory.total, limit) if limit else memory.total
    packages = {name: _version(name) for name in ("haina", "numpy", "numba", "pyarrow", "tokenizers")}
    return Machine(
        cpu=model or _cpu_name(),
        physical_cores=physical_cores(),
        logical_cores=logical_cores(),
        memory_total=total,
        memory_available=min(memory.available, total),
        instruction_sets=sets or _instruction_sets_of_torch(),
        gpus=_gpus(),
        os=_os_name(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        torch=_version("torch"),
        disk_free=free_disk(path or Path()),
        packages=packages,
    )


def compiler() -> str | None:
    """Path of a C++ compiler (torch.compile needs one), None without."""
    named = os.environ.get("CXX", "").split()
    candidates = [*named[:1], "g++", "clang++", "c++", "cl"]
    return next((found for name in candidates if (found := shutil.which(name))), None)


def _hub() -> Check:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return Check("model hub", "switched off by HF_HUB_OFFLINE", None, "unset it to fetch from the hub")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    advice = "set HF_ENDPOINT to a mirror where the hub cannot be reached"
    return Check("model hub", f"{endpoint} (not tried: doctor opens no connection)", None, advice)


def _amount(name: str, have: int, need: int, advice: str) -> Check:
    value = f"{have / GIB:.1f} GiB"
    return Check(
        name, value, have >= need, "" if have >= need else f"{advice} (quickstart needs {need / GIB:.0f} GiB)"
    )


def _capabilities(machine: Machine) -> list[Check]:
    bf16 = sorted(BF16_SETS.intersection(machine.instruction_sets))
    fast = {"avx2", "neon"}.intersection(machine.instruction_sets)
    sets = " ".join(machine.instruction_sets) or "none known"
    slow = "" if fast else "expect slow training: no vector instructions known here"
    gpus = ", ".join(f"{gpu.name} {gpu.memory / GIB:.0f} GiB" for gpu in machine.gpus) or "none"
    half = ", ".join(bf16) or "emulated on this CPU"
    half_advice = "" if bf16 or machine.gpus else "float32 is the faster precision here"
    return [
        Check("instruction sets", sets, bool(fast), slow),
        Check("bfloat16", half, None, half_advice),
        Check("GPU", gpus, None),
    ]


def _tools() -> list[Check]:
    found, packages = compiler(), shutil.which("apt-get")
    need_compiler = "" if found else "install g++ or clang to use torch.compile; everything works without"
    need_packages = "" if packages else "`haina sample` will use the hub or what is on the disk instead"
    return [
        Check("C++ compiler", found or "none", None, need_compiler),
        Check("apt-get", packages or "none", None, need_packages),
        _hub(),
    ]


def diagnose(path: Path | None = None, machine: Machine | None = None) -> list[Check]:
    """The checks of `haina doctor`, the verdict about the quickstart last.

    Args:
        path: where the work will lie; the current folder when None.
        machine: a description made earlier.
    """
    machine = machine or describe_machine(path)
    supported = sys.version_info[:2] >= (3, 11)
    torch_found = machine.torch != "absent"
    enough = machine.physical_cores >= QUICKSTART_CORES
    cores = f"{machine.physical_cores} physical, {machine.logical_cores} logical"
    checks = [
        Check("python", machine.python, supported, "" if supported else "use Python 3.11 or 3.12"),
        Check("torch", machine.torch, torch_found, "" if torch_found else "pip install torch"),
        Check("cores", cores, enough, "" if enough else "the quickstart takes longer than its 20 minutes"),
        _amount(
            "memory",
            machine.memory_available,
            QUICKSTART_MEMORY,
            "close other programs or use a smaller recipe",
        ),
        _amount("free disk", machine.disk_free, QUICKSTART_DISK, "free some space or work on another disk"),
        *_capabilities(machine),
        *_tools(),
    ]
    lacking = [check.name for check in checks if check.ok is False]
    verdict = "yes" if not lacking else "not as it is: " + ", ".join(lacking)
    return [
        *checks,
        Check("fits quickstart", verdict, not lacking, "" if not lacking else "see the lines above"),
    ]
