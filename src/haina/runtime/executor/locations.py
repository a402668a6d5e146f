"""Files on this machine, on a shared path or in an object store, behind a few functions.

A location is a `pathlib.Path` or a `upath.UPath` (universal_pathlib over fsspec: `s3://`, `gs://`, `file://`,
`memory://`). Tasks read and write local paths only: `new_file` gives them a temporary one and makes it visible
whole or not at all, `local_copy` brings a remote file here for as long as it is needed.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from haina.runtime.errors import HainaError, from_os_error, os_errors_about
from haina.runtime.files import PARTIAL_SUFFIX, fsync_path, remove

Location = Any  # Path | UPath: the two share their methods, not a base class

_BLOCK = 1 << 20
_LOCAL_PROTOCOLS = frozenset({"", "file", "local"})
# Stores in which a put is one step: readers see the old object or the new one. Elsewhere a move follows.
_ATOMIC_PUT = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory"})
_PARTIAL = re.compile(r"\.[0-9a-f]{8}" + re.escape(PARTIAL_SUFFIX) + "$")
_PIECE = re.compile(r"\.piece-[0-9]+$")


class DamagedFile(HainaError):  # noqa: N818 - it is told like a fact, and met as one
    """A file that a task relies on is missing, cut or changed; the executor makes it again.

    Args:
        path: the location as the task was given it.
        what: what is wrong, following the path in the message.
    """

    def __init__(self, path: Location, what: str) -> None:
        super().__init__(f"{path}: {what}", "delete it and run the same command again")
        self.path = str(path)

    def __reduce__(self) -> Any:
        return _damaged_file, (self.path, self.message)


def _damaged_file(path: str, message: str) -> DamagedFile:
    return DamagedFile(path, message.removeprefix(f"{path}: "))


def local_path(location: Location) -> Path | None:
    """The path that the operating system opens, None for a location elsewhere."""
    protocol = getattr(location, "protocol", "")
    if protocol not in _LOCAL_PROTOCOLS:
        return None
    return Path(location.path) if protocol else Path(location)


def size(location: Location) -> int | None:
    """Bytes of a file, None when there is none."""
    path = local_path(location)
    with os_errors_about(location):
        try:
            if path is None:
                # A listing that fsspec remembers does not have what another machine wrote since.
                location.fs.invalidate_cache(location.parent.path)
            return int((path or location).stat().st_size)
        except (FileNotFoundError, NotADirectoryError):
            return None


def exists(location: Location) -> bool:
    """Whether there is a file."""
    return size(location) is not None


def checksum(location: Location) -> str:
    """XXH3 of a file's content, 64 bits as 16 hex digits: it finds damage, at the speed of memory.

    A flipped bit, a cut file or a swapped block has to be noticed, nobody forges them: a cryptographic digest
    would cost ten times as much, CRC-32 misses one change in four thousand million and is no quicker.
    """
    digest = xxhash.xxh3_64()
    path = local_path(location)
    with os_errors_about(location), (path or location).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return str(digest.hexdigest())


def checksum_if_readable(location: Location) -> str:
    """`checksum`, or nothing when the file cannot be read to its end."""
    try:
        return checksum(location)
    except HainaError:
        return ""


def remove_file(location: Location) -> None:
    """Remove a file; nothing happens when it is not there."""
    with os_errors_about(location):
        (local_path(location) or location).unlink(missing_ok=True)


def remove_folder(location: Location) -> None:
    """Remove a folder and all in it; nothing happens when it is not there."""
    path = local_path(location)
    with os_errors_about(location):
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)
        elif location.fs.exists(location.path):
            location.fs.rm(location.path, recursive=True)


@contextmanager
def local_copy(location: Location) -> Iterator[Path]:
    """A path to read: the file itself when it lies here, else a copy that is removed afterwards.

    Raises:
        DamagedFile: there is no such file.
    """
    path = local_path(location)
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="haina-") as folder:
        copy = Path(folder) / location.name
        with os_errors_about(location):
            try:
                location.fs.get_file(location.path, str(copy))
            except FileNotFoundError as error:
                raise DamagedFile(location, "no such file or folder") from error
        yield copy


def is_disk_full(error: OSError) -> bool:
    """Whether an error says that the disk, or the user's share of it, is used up."""
    # Some libraries pass the words on without the number.
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)


@contextmanager
def new_file(location: Location) -> Iterator[Path]:
    """A temporary path that becomes `location` when the block ends well, and is removed when it does not.

    The name is unlike that of any other attempt: one that lives on after its parent, or on the far side of a
    torn network, cannot publish this one's half-written file.

    Raises:
        HainaError: the operating system refused; it names the file.
    """
    path = local_path(location)
    if path is None:
        with tempfile.TemporaryDirectory(prefix="haina-") as folder, _writing(location):
            temporary = Path(folder) / location.name
            yield temporary
            _upload(temporary, location)
        return
    temporary = path.with_name(f"{path.name}.{os.urandom(4).hex()}{PARTIAL_SUFFIX}")
    try:
        with _writing(location):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            fsync_path(temporary)
            temporary.replace(path)
            fsync_path(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _writing(location: Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise from_os_error(full, location) from error
        # Other libraries raise OSError without a number for damaged content: that is not about this path.
        if error.errno is None:
            raise
        name = None if error.filename is None else os.fsdecode(error.filename)
        foreign = name is not None and not name.endswith(PARTIAL_SUFFIX)
        raise from_os_error(error, name if foreign else location) from error


def _upload(source: Path, location: Location) -> None:
    fs, target = location.fs, location.path
    if location.protocol in _ATOMIC_PUT:
        fs.put_file(str(source), target)
        return
    fs.makedirs(str(location.parent.path), exist_ok=True)
    temporary = f"{target}.{os.urandom(4).hex()}{PARTIAL_SUFFIX}"
    try:
        fs.put_file(str(source), temporary)
        fs.mv(temporary, target)
    except BaseException:
        if fs.exists(temporary):
            fs.rm_file(temporary)
        raise


def write_file(location: Location, data: bytes) -> None:
    """Write a small file atomically."""
    with new_file(location) as temporary:
        temporary.write_bytes(data)


def remove_partials(locations: Iterable[Location]) -> None:
    """Remove what attempts that came to no end left beside these files: temporary ones, and pieces of split items."""
    names: dict[Path, set[str]] = {}
    for location in locations:
        path = local_path(location)
        if path is not None:
            names.setdefault(path.parent, set()).add(path.name)
    for folder, wanted in names.items():
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries]
        for name in found:
            stem = _PARTIAL.sub("", name)
            while stem not in wanted and (shorter := _PIECE.sub("", stem)) != stem:
                stem = shorter
            if stem in wanted and name not in wanted:
                remove(folder / name)


def piece_of(location: Location, number: int) -> Location:
    """Where the output of a piece of a split item lies until it is joined to `location`."""
    return location.with_name(f"{location.name}.piece-{number}")
