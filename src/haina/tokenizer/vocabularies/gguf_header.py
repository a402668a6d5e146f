"""The key-value pairs at the start of a GGUF file, with the byte at which a damaged one goes wrong.

Format: docs/gguf.md of ggml-org/ggml, versions 2 and 3, little-endian. A vocabulary of 150,000 pieces is read in
less than a second; the gguf package, which makes an array of every string, takes some twenty seconds for it.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from haina.runtime.errors import HainaError, os_errors_about

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
# Numeric value types of the format as NumPy names them.
NUMBERS = dict(enumerate(("<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?")))
NUMBERS |= {10: "<u8", 11: "<i8", 12: "<f8"}
LENGTH = struct.Struct("<Q")
TYPE = struct.Struct("<I")


class _Cursor:
    """A place in the bytes of a file; reading past the end names the place."""

    def __init__(self, data: memoryview, path: Path) -> None:
        self.data, self.path, self.place = data, path, 0

    def fail(self, reason: str) -> HainaError:
        return HainaError(f"{self.path}: {reason} at byte {self.place:,}", "restore the file")

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.place:
            raise self.fail(f"cut off: {count:,} bytes expected, {len(self.data) - self.place:,} left,")
        found = self.data[self.place : self.place + count]
        self.place += count
        return found

    def number(self, form: struct.Struct) -> int:
        value: int = form.unpack(self.take(form.size))[0]
        return value

    def string(self) -> str:
        start = self.place
        data = bytes(self.take(self.number(LENGTH)))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            self.place = start
            raise self.fail("a string that is not UTF-8") from error

    def value(self, kind: int) -> Any:
        """One value of a type; an array is a list."""
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, count = self.number(TYPE), self.number(LENGTH)
            if inner in NUMBERS:
                dtype = np.dtype(NUMBERS[inner])
                return np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()
            return [self.value(inner) for _ in range(count)]
        if kind in NUMBERS:
            dtype = np.dtype(NUMBERS[kind])
            return np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()
        raise self.fail(f"a value of the unknown type {kind}")


def read_header(path: Path, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Key -> value of the keys that are `wanted`.

    Raises:
        HainaError: no GGUF file, another version, or a damaged or truncated one; it names the byte.
    """
    with os_errors_about(path), path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise HainaError(f"{path}: not a GGUF file: it does not begin with GGUF", "check the path")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    cursor = _Cursor(memoryview(data), path)
    cursor.take(len(MAGIC))
    version = cursor.number(TYPE)
    if version not in VERSIONS:
        raise cursor.fail(f"GGUF version {version}, of which only 2 and 3 are read,")
    cursor.number(LENGTH)  # tensors
    found: dict[str, Any] = {}
    for _ in range(cursor.number(LENGTH)):
        key = cursor.string()
        value = cursor.value(cursor.number(TYPE))
        if wanted(key):
            found[key] = value
    return found
