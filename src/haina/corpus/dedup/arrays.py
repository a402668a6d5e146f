"""Arrays in files: mapped when the file lies on this machine, read when it is elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from haina.runtime.executor import Location, local_copy, local_path


def read_array(location: Location, kind: Any, width: int = 0) -> npt.NDArray[Any]:
    """The numbers of a file, not to be written to.

    Args:
        location: where. kind: their type. width: numbers in a row; 0 for a flat array.
    """
    path = local_path(location)
    if path is None:
        with local_copy(location) as copy:
            flat = np.fromfile(copy, dtype=kind)
    elif path.stat().st_size:
        flat = np.memmap(path, dtype=kind, mode="r")
    else:
        flat = np.empty(0, dtype=kind)
    return flat.reshape(-1, width) if width else flat
