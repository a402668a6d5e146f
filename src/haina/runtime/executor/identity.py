"""What a task is: its function, its item, the files it reads and the code that runs it, as one hash.

An output is used again only when the identity of the task that made it is the one of the task that would make it
now. Two runs with different settings in one folder therefore never mix, and a run that was killed goes on.
"""

from __future__ import annotations

import enum
import hashlib
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import haina
from haina.runtime.executor.locations import Location, local_path
from haina.runtime.files import fingerprint_bytes, fingerprint_file

# Read whole: a settings file written again with the same content is the same file. Larger ones count as the same
# when size and time of change are.
_SMALL_FILE = 1 << 20
_PACKAGE = Path(__file__).parents[2]


@cache
def _sources(folder: Path) -> str:
    """32 hex digits that change with any source file below a folder."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def code_of(function: Callable[..., Any]) -> str:
    """Changes with the code that a task runs: its package of ours and the runtime, or the file it stands in."""
    names = function.__module__.split(".")
    if names[0] == _PACKAGE.name and len(names) > 1 and (_PACKAGE / names[1]).is_dir():
        return f"{_sources(_PACKAGE / names[1])} {_sources(_PACKAGE / 'runtime')}"
    file = getattr(sys.modules.get(function.__module__), "__file__", None)
    return f"{haina.__version__} {_file_content(Path(file)) if file else ''}"


@cache
def _file_content(path: Path) -> str:
    return fingerprint_file(path) if path.is_file() else ""


def name_of(function: Callable[..., Any]) -> str:
    """`module:qualified.name` of a function or class."""
    return f"{function.__module__}:{function.__qualname__}"


class Identities:
    """Makes identities, knowing the files that earlier tasks made.

    Args:
        made: identity of the task that made a file, by location.
    """

    def __init__(self, made: Mapping[str, str]) -> None:
        self.made = made
        self._files: dict[str, bytes] = {}

    def of(self, kind: str, function: Callable[..., Any], item: Any) -> tuple[str, tuple[str, ...]]:
        """The identity of a task, and the known files in its item: 128-bit BLAKE2, 32 hex digits."""
        inputs: list[str] = []
        parts = self.encode(item, inputs)
        code = code_of(function).encode()
        return fingerprint_bytes(kind.encode(), name_of(function).encode(), code, parts), tuple(inputs)

    def encode(self, value: Any, inputs: list[str]) -> bytes:
        """An unambiguous form of a value: independent of hash seed, object sharing and the order of sets."""
        tag, parts = self._parts(value, inputs)
        return b"%s%d:%s;" % (tag, len(parts), b"".join(b"%d:%s" % (len(part), part) for part in parts))

    def _parts(self, value: Any, inputs: list[str]) -> tuple[bytes, list[bytes]]:  # noqa: PLR0911, PLR0912
        match value:
            case enum.Enum():
                return b"enum", [name_of(type(value)).encode(), value.name.encode()]
            case None | bool() | int() | float() | complex():
                return type(value).__name__.encode(), [repr(value).encode()]
            case str():
                return b"str", [value.encode("utf-8", "surrogatepass")]
            case bytes() | bytearray() | memoryview():
                return b"bytes", [bytes(value)]
            case Path():
                return b"path", [str(value).encode("utf-8", "surrogateescape"), self._file(value, inputs)]
            case list() | tuple():
                return b"list", [self.encode(part, inputs) for part in value]
            case dict():
                pairs = [(self.encode(key, inputs), self.encode(part, inputs)) for key, part in value.items()]
                return b"dict", [part for pair in sorted(pairs) for part in pair]
            case set() | frozenset():
                return b"set", sorted(self.encode(part, inputs) for part in value)
        if hasattr(value, "dtype") and hasattr(value, "tobytes") and not value.dtype.hasobject:  # of numpy
            kind = (str(value.dtype.descr), repr(value.shape))
            return b"array", [*(text.encode() for text in kind), value.tobytes()]
        if hasattr(value, "protocol") and hasattr(value, "fs"):  # a UPath
            return b"path", [str(value).encode(), self._file(value, inputs)]
        if is_dataclass(value) and not isinstance(value, type):
            named = [(field.name, getattr(value, field.name)) for field in fields(value)]
            return b"object", [name_of(type(value)).encode(), self.encode(named, inputs)]
        if hasattr(value, "model_fields_set") and hasattr(value, "__dict__"):  # a pydantic model
            return b"object", [name_of(type(value)).encode(), self.encode(dict(value), inputs)]
        if hasattr(value, "__qualname__") and hasattr(value, "__module__"):
            return b"name", [name_of(value).encode()]
        return b"pickle", [pickle.dumps(value, protocol=4)]

    def _file(self, location: Location, inputs: list[str]) -> bytes:
        name = str(location)
        if name in self.made:
            inputs.append(name)
            return self.made[name].encode()
        if name not in self._files:
            self._files[name] = _state(location)
        return self._files[name]


def _state(location: Location) -> bytes:
    """What can be said cheaply about the content of a file that no task of ours made."""
    path = local_path(location)
    try:
        if path is None:
            return str(location.stat().st_size).encode()
        if not path.is_file():
            return b""
        status = path.stat()
        if status.st_size <= _SMALL_FILE:
            return fingerprint_file(path).encode()
    except OSError:  # the task itself will say so, in its own words
        return b""
    return f"{status.st_size} {status.st_mtime_ns}".encode()
