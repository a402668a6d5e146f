"""C sources in, loaded shared libraries out: kernels that need more of a processor than PyTorch and numba give.

A source is compiled once for this very processor, with the C compiler that torch.compile needs too, and kept in the
user's cache folder under a name made of the sources, the compiler and the processor. Its OpenMP calls resolve to the
library that torch has loaded, so kernels and torch share one set of threads, and `torch.set_num_threads` rules both.
Where that cannot be had - no compiler, another OpenMP, a read-only home - callers take their plain path.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from haina.runtime.files import fsync_path

SWITCH = "HAINA_C_KERNELS"  # "0": take the plain paths
COMPILE = (
    "-O3", "-march=native", "-std=gnu11", "-fPIC", "-fopenmp", "-ffp-contract=fast",
    "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-c",
)  # fmt: skip


class CKernelError(Exception):
    """Why there are no compiled kernels here; the message is one line."""


def _compiler() -> list[str]:
    """The command of a C compiler: $CC, which may hold a wrapper and options, or what is installed."""
    for command in (shlex.split(os.environ.get("CC", "")), ["gcc"], ["cc"], ["clang"]):
        if command and shutil.which(command[0]):
            return command
    raise CKernelError("no C compiler found; install gcc")


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "haina" / "c-kernels"


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=120)
    if done.returncode:
        lines = (done.stderr.strip() or "failed").splitlines()
        reason = next((line for line in lines if "error: " in line), lines[0])
        raise CKernelError(f"{Path(command[0]).name}: {reason}")
    return done.stdout


@cache
def load_c_kernels(source: Path, defines: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The compiled functions of a C file.

    Args:
        source: the file; it may include other .c files of its folder.
        defines: macros set for the compiler, by name.

    Raises:
        CKernelError: there is no compiler, it fails, or the result cannot be loaded into this process.
    """
    import torch  # noqa: F401 - its OpenMP has to be in the process before the kernels look for one

    if os.environ.get(SWITCH) == "0":
        raise CKernelError(f"switched off by {SWITCH}=0")
    try:
        compiler = _compiler()
        # What -march=native means here, and which compiler says so: a shared home serves several machines.
        target = _run([*compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull])
        digest = hashlib.blake2b(digest_size=12)
        flags = [*COMPILE, *(f"-D{name}" for name in defines)]
        sources = [path.read_text("utf-8") for path in sorted(source.parent.glob("*.c"))]
        for part in (*sources, target, *flags):
            digest.update(part.encode() + b"\0")
        folder = _cache_folder()
        library = folder / f"{source.stem}-{digest.hexdigest()}.so"
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                built = Path(scratch) / "kernels"
                _run([*compiler, *flags, str(source), "-o", f"{built}.o"])
                # Linked without -fopenmp: a second OpenMP in the process would fight torch's for the cores.
                _run([*compiler, "-shared", f"{built}.o", "-o", f"{built}.so", "-lm"])
                # Half a library after a power cut would be kept, and refused, for ever.
                fsync_path(Path(f"{built}.so"))
                Path(f"{built}.so").replace(library)
        return ctypes.CDLL(str(library))
    except (OSError, RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
        # RuntimeError: there is no home; ValueError: $CC has a quote that does not end.
        raise CKernelError(f"C kernels cannot be used ({error})") from error
