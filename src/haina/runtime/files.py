"""Files that are either whole or absent.

Everything that later work relies on is written to a temporary name in the same folder, flushed to the disk
and renamed, so that a reader - or the same program after SIGKILL - never sees half a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from haina.runtime.errors import HainaError, from_os_error, os_errors_about

PARTIAL_SUFFIX = ".partial"


def fsync_path(path: Path) -> None:
    """Flush a file or a folder entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved to it when the block ends well, removed when it does not.

    The temporary name is fixed (`NAME.partial`), so a killed run leaves at most one and the next run
    replaces it. The block may write a file or make a folder; a folder can only be moved to where none is.

    Raises:
        HainaError: the operating system refused; it names `path`, or the other file that the block could
        not use.
    """
    temporary = path.with_name(path.name + PARTIAL_SUFFIX)
    with os_errors_about(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
    try:
        yield temporary
        with os_errors_about(path):
            for part in [*files_below(temporary), temporary]:
                fsync_path(part)
            temporary.replace(path)
            fsync_path(path.parent)
    except OSError as error:
        # Other libraries raise OSError without a number for damaged content: that is not about this path.
        if error.errno is None:
            raise
        foreign = error.filename is not None and Path(os.fsdecode(error.filename)) != temporary
        raise from_os_error(error, os.fsdecode(error.filename) if foreign else path) from error
    finally:
        remove(temporary)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically; `path` may be a `UPath` of an object store, where a put is one step."""
    if not isinstance(cast(Any, path), Path):
        with os_errors_about(path):
            path.write_bytes(data)
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically, with \\n line ends on every system."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: UTF-8, indented, keys in the order given, one final newline."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or damaged one is a `HainaError` that names it."""
    with os_errors_about(path):
        data = path.read_bytes()
    try:
        return json.loads(data)
    except (
        ValueError,
        RecursionError,
    ) as error:  # ValueError: broken UTF-8, no JSON, a number of 5,000 digits
        raise HainaError(
            f"{path}: not valid JSON ({error})", "delete it or restore it from where it came"
        ) from error


def remove(path: Path) -> None:
    """Remove a file or a folder tree; nothing happens when it is not there."""
    with os_errors_about(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def publish(source: Path, target: Path) -> None:
    """Move a finished file or folder into place, replacing what stood there, and flush both folders."""
    with os_errors_about(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(target)
        source.replace(target)
        fsync_path(target.parent)


def fingerprint_bytes(*parts: bytes) -> str:
    """128-bit BLAKE2 of length-prefixed parts, as 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def fingerprint_file(path: Path) -> str:
    """128-bit BLAKE2 of a file's content."""
    digest = hashlib.blake2b(digest_size=16)
    with os_errors_about(path), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def files_below(path: Path) -> list[Path]:
    """Every regular file at or below `path`, in sorted order of their relative names."""
    if path.is_file():
        return [path]
    found = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    return sorted(found, key=lambda item: item.relative_to(path).as_posix())


def fingerprint_tree(path: Path) -> str:
    """Fingerprint of the names and contents of all files at or below `path`."""
    parts: list[bytes] = []
    for file in files_below(path):
        name = file.name if file == path else file.relative_to(path).as_posix()
        parts += [name.encode("utf-8", "surrogateescape"), fingerprint_file(file).encode()]
    return fingerprint_bytes(*parts)
