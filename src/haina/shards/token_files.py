"""The `.bin` files of a split, mapped: their tokens for Python, and where they lie in memory for kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError, os_errors_about


@dataclass(frozen=True)
class TokenFiles:
    """The `.bin` files of a split.

    Attributes:
        paths: the files.
        maps: their tokens, mapped.
        ends: int64 [files], tokens up to and with each file.
        addresses: int64 [files], where the tokens lie in memory, as long as this object lives.
        dtype: of a token.
    """

    paths: tuple[Path, ...]
    maps: tuple[NDArray[np.integer], ...]
    ends: NDArray[np.int64]
    addresses: NDArray[np.int64]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, files: Sequence[tuple[Path, int]], dtype: np.dtype[Any]) -> TokenFiles:
        """Map files of so many tokens each.

        Raises:
            HainaError: one is missing, or holds more or fewer tokens.
        """
        maps = []
        for path, tokens in files:
            with os_errors_about(path):
                size = path.stat().st_size
                promised = tokens * dtype.itemsize
                if size != promised:
                    raise HainaError(
                        f"{path}: at byte {min(size, promised)}: {size:,} bytes, shards.json promises {promised:,}",
                        "copy the shard again or run the shards stage again",
                    )
                # A memory map of an empty file does not exist.
                maps.append(np.asarray(np.memmap(path, dtype, "r")) if tokens else np.empty(0, dtype))
        ends = np.cumsum([len(tokens) for tokens in maps], dtype=np.int64)
        addresses = np.array([tokens.ctypes.data for tokens in maps], np.int64)
        return cls(tuple(path for path, _ in files), tuple(maps), ends, addresses, dtype)

    def read(self, position: int, count: int) -> NDArray[np.integer]:
        """`count` tokens of one document from `position` on, a view."""
        file = int(np.searchsorted(self.ends, position, side="right"))
        start = position - int(self.ends[file] - len(self.maps[file]))
        return self.maps[file][start : start + count]
