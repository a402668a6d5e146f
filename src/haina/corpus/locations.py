"""Opening a place by its name: a local path, or an address that fsspec knows.

Comes in: a path, a pattern (`crawl/*.warc.gz`) or an address (`s3://bucket/crawl/`, `memory://a.jsonl`,
`https://host/a.warc.gz`). Goes out: files with their sizes, and open files that can seek. Local paths never pass
through fsspec, so they stay as fast as `open`.
"""

from __future__ import annotations

import glob
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, cast

from haina.runtime.errors import HainaError

_COPY_BYTES = 1 << 20
_WILD = ("*", "?", "[")


def is_address(location: str) -> bool:
    """Whether a location is for fsspec: `s3://...`; everything without `://` is a local path."""
    scheme, separator, _ = location.partition("://")
    return bool(separator) and scheme.replace("+", "").replace(":", "").isalnum()


def is_pattern(location: str) -> bool:
    """Whether a location holds the marks of a pattern."""
    return any(mark in location for mark in _WILD)


def filesystem(location: str) -> tuple[Any, str]:
    """The fsspec filesystem of an address, and its path there.

    Raises:
        HainaError: the protocol is unknown, or the package that speaks it is not installed.
    """
    from fsspec.core import url_to_fs

    protocol = location.partition("://")[0]
    try:
        return cast(tuple[Any, str], url_to_fs(location))
    except ImportError as error:
        raise HainaError(
            f"{location}: {protocol}:// needs a package that is not installed ({error})",
            "install the package that the message names, for example `pip install s3fs` for s3://",
        ) from error
    except ValueError as error:
        raise HainaError(
            f"{location}: {error}", "give a local path, or an address such as s3://bucket/folder"
        ) from error


def open_location(location: str) -> BinaryIO:
    """The file at a location, open for reading and able to seek.

    A remote file that can only be read forwards is copied to a temporary file on disk first, because a reader that
    meets damage has to go back to where it began.

    Raises:
        OSError: it cannot be read.
        HainaError: its protocol needs a package that is not installed.
    """
    if not is_address(location):
        return Path(location).open("rb")
    fs, path = filesystem(location)
    file = cast(BinaryIO, fs.open(path, "rb"))
    # fsspec's HTTP files say that they can seek and then do not; only those of known size do.
    if file.seekable() and getattr(file, "size", None) is not None:
        return file
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
    with file:
        shutil.copyfileobj(file, copy, _COPY_BYTES)
    copy.seek(0)
    return copy


def local_matches(pattern: str) -> list[Path]:
    """Local files and folders of a pattern, sorted; `**` goes through folders."""
    return [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - absolute patterns too


def remote_files(location: str) -> list[tuple[str, str, int]]:
    """(address, name below the location, size) of every file at, below or matching an address, sorted by name.

    Raises:
        HainaError: nothing is there, or the place cannot be reached.
    """
    fs, path = filesystem(location)
    try:
        if is_pattern(path):
            found = {
                name: info for name, info in fs.glob(path, detail=True).items() if info["type"] == "file"
            }
            stem = path[: min(path.find(mark) for mark in _WILD if mark in path)].rpartition("/")[0]
        elif fs.isfile(path) or _protocol(location).startswith("http"):
            info = fs.info(path)
            return [(location, path.rstrip("/").rpartition("/")[2] or "input", int(info.get("size") or 0))]
        else:
            found, stem = fs.find(path, detail=True), path.rstrip("/")
    except FileNotFoundError as error:
        raise HainaError(f"{location}: no such file or folder", "check the address of the input") from error
    except (
        Exception
    ) as error:  # drivers raise errors of their own: no credentials, no such host, no permission
        reason = (" ".join(str(error).split()) or type(error).__name__)[:300]
        raise HainaError(
            f"{location}: {reason}", "check the address, the network and the credentials"
        ) from error
    if not found:
        raise HainaError(f"{location}: no such file or folder", "check the address of the input")
    return [
        (str(fs.unstrip_protocol(name)), name[len(stem) :].strip("/"), int(found[name].get("size") or 0))
        for name in sorted(found)
    ]


def _protocol(location: str) -> str:
    return location.partition("://")[0]


def describe(location: str) -> str:
    """What tells one state of a remote location from another without reading it: names, sizes, and the marks of change
    that the filesystem keeps (etag, modification time).
    """
    fs, _ = filesystem(location)
    lines = []
    for address, name, size in remote_files(location):
        info = fs.info(fs._strip_protocol(address))
        marks = [
            str(info[key]) for key in ("ETag", "etag", "LastModified", "mtime", "created") if key in info
        ]
        lines.append(f"{name} {size} {' '.join(marks)}")
    return "\n".join(lines)
