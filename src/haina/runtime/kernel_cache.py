"""Where compiled kernels are kept, so that an edit never meets machine code of the day before.

numba notices when the file of a cached kernel changes, not when a file does that the kernel calls into
(numba documentation, "Caching compiled functions"): after an update of a checkout, old code would be linked with new
data layouts. So the cache folder is named after the state of all files that hold kernels.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
_PACKAGE = Path(__file__).parents[1]
_KEEP_SECONDS = 14 * 86400


def kernels_key(package: Path = _PACKAGE) -> str:
    """16 hex digits that change with any file below `package` that holds a kernel."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if b"njit" in source:
            digest.update(path.relative_to(package).as_posix().encode() + b"\\0" + source)
    return digest.hexdigest()


def use_kernel_cache() -> None:
    """Point numba at a folder for this state of the kernels; a `NUMBA_CACHE_DIR` that the user set stays.

    Folders of other states that were not used for two weeks are removed. Where no folder can be made, numba's own
    place remains.
    """
    if VARIABLE in os.environ:
        return
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "haina" / "kernels"
    folder = root / kernels_key()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        for other in root.iterdir():
            if other != folder and other.stat().st_mtime < time.time() - _KEEP_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return
    os.environ[VARIABLE] = str(folder)
    if "numba" in sys.modules:  # it reads the variable when it is imported
        sys.modules["numba"].config.CACHE_DIR = str(folder)
