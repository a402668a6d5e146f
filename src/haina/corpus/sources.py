"""Which files an input holds, in an order and with names that do not depend on the machine.

Comes in: the files, folders, patterns (`crawl/*.warc.gz`) and addresses (`s3://bucket/crawl/`) the user named. Goes
out: sources (location, portable name, licence), cut into partitions of about equal bytes, and the count of files
that are no pages. Walks folders in sorted order. A symbolic link to something else below the same folder is passed
over, since that is read where it stands; one that leads back above itself, a broken one and an unreadable folder
become sources with a fault, which is quarantined later.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from haina.corpus.locations import is_address, is_pattern, local_matches, remote_files
from haina.runtime.errors import HainaError
from haina.runtime.files import read_json

LICENSES_FILE = "LICENSES.json"
UNKNOWN_LICENSE = "unknown"

_ARCHIVES = tuple(kind + packing for kind in (".warc", ".arc", ".wet") for packing in ("", ".gz", ".zst"))
_READABLE = "WARC, ARC, WET, HTML, zip, JSONL(.gz, .zst), Parquet, .txt or .md"
_SUFFIXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("archive", _ARCHIVES),
    ("jsonl", (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst")),
    ("parquet", (".parquet",)),
    ("html", (".html", ".htm", ".xhtml")),
    ("text", (".txt", ".md")),
    ("zip", (".zip",)),
)


@dataclass(frozen=True)
class Source:
    """One input file.

    Attributes:
        location: local path or fsspec address; never written to an output.
        name: its path relative to the input, `/`-separated; with several inputs their own names stand before
            it.
        format: `archive`, `jsonl`, `parquet`, `html`, `text`, `zip`, or `fault`.
        bytes: size; 0 for a fault.
        license: from the input's LICENSES.json, else `unknown`.
        fault: why it cannot be read, empty when it can.
    """

    location: str
    name: str
    format: str
    bytes: int
    license: str = UNKNOWN_LICENSE
    fault: str = ""


@dataclass(frozen=True)
class Inputs:
    """All sources of a run, in order, and the number of files that are no pages."""

    sources: tuple[Source, ...]
    ignored_files: int


def format_of(name: str) -> str | None:
    """The reader for a file name, None when it is no page: `a.warc.gz` -> `archive`."""
    lowered = name.lower()
    return next((kind for kind, suffixes in _SUFFIXES if lowered.endswith(suffixes)), None)


def _portable(name: str) -> str:
    """A file name that any encoding can hold: undecodable bytes are spelled \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace(os.sep, "/")


def _walk(
    folder: Path, relative: str, above: frozenset[tuple[int, int]], root: Path
) -> Iterator[tuple[Path, str, str]]:
    """(path, relative name, fault) of everything below a folder, in sorted order.

    `above` identifies the folders on the way here; `root` is the resolved input folder.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield folder, relative or ".", f"unreadable: {error.strerror}"
        return
    for entry in entries:
        name = f"{relative}/{entry.name}" if relative else entry.name
        path = Path(entry.path)
        try:
            status = path.stat()
        except OSError as error:
            yield path, name, f"unreadable: {error.strerror}"
            continue
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            yield path, name, "symlink-loop: leads back to a folder above it"
        elif entry.is_symlink() and path.resolve().is_relative_to(root):
            continue
        elif path.is_dir():
            yield from _walk(path, name, above | {identity}, root)
        else:
            yield path, name, ""


def _licenses(root: Path) -> list[tuple[str, str]]:
    """(prefix, licence) pairs of a root's LICENSES.json, longest prefix first."""
    path = root / LICENSES_FILE
    if not root.is_dir() or not path.is_file():
        return []
    data = read_json(path)
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise HainaError(f"{path}: not a map from folder to licence", 'write {"folder": "CC-BY-SA-4.0"}')
    return sorted(
        ((key.strip("/"), value) for key, value in data.items()), key=lambda pair: (-len(pair[0]), pair[0])
    )


def _license_of(name: str, licenses: Sequence[tuple[str, str]]) -> str:
    for prefix, license_name in licenses:
        if prefix in ("", ".", name) or name.startswith(prefix + "/"):
            return license_name
    return UNKNOWN_LICENSE


def _source(path: Path, name: str, kind: str, fault: str, license_name: str) -> Source:
    if not fault and not path.is_file():
        fault = "unreadable: not a regular file"
    if not fault and not os.access(path, os.R_OK):
        fault = "unreadable: permission denied"
    if fault:
        return Source(str(path), name, "fault", 0, license_name, fault)
    return Source(str(path), name, kind, path.stat().st_size, license_name)


def _folder_sources(root: Path, prefix: str) -> tuple[list[Source], int]:
    """Sources of a local folder, and the number of files that are no pages."""
    sources: list[Source] = []
    ignored = 0
    licenses = _licenses(root)
    status = root.stat()
    for path, name, fault in _walk(root, "", frozenset({(status.st_dev, status.st_ino)}), root.resolve()):
        if name == LICENSES_FILE:
            continue
        kind = format_of(name)
        if kind is None and not fault:
            ignored += 1
            continue
        portable = _portable(name)
        full = f"{prefix}/{portable}" if prefix else portable
        sources.append(_source(path, full, kind or "fault", fault, _license_of(portable, licenses)))
    return sources, ignored


def _remote_sources(address: str, prefix: str) -> tuple[list[Source], int]:
    """Sources of an address, and the number of files that are no pages."""
    sources: list[Source] = []
    files = remote_files(address)
    for location, name, size in files:
        kind = format_of(name)
        if kind is None and len(files) == 1:
            raise HainaError(f"{address}: not a format that can be read", f"give {_READABLE}")
        if kind is not None:
            one = len(files) == 1 and location == address
            full = (prefix or name) if one else f"{prefix}/{name}" if prefix else name
            sources.append(Source(location, full, kind, size))
    return sources, len(files) - len(sources)


def _expanded(roots: Sequence[Path | str]) -> list[Path | str]:
    """The roots with local patterns replaced by what they match; addresses stay strings."""
    found: list[Path | str] = []
    for root in roots:
        if isinstance(root, str) and is_address(root):
            found.append(root)
        elif is_pattern(str(root)) and not Path(root).exists():
            matches = local_matches(str(root))
            if not matches:
                raise HainaError(f"{root}: matches no file or folder", "check the pattern")
            found += [path for path in matches if path.is_dir() or format_of(path.name) is not None]
        else:
            found.append(Path(root))
    return found


def list_sources(roots: Sequence[Path | str]) -> Inputs:
    """Every source below the given files, folders, patterns and fsspec addresses.

    A file that a pattern matches and that is no page is passed over, since the user did not name it.

    Raises:
        HainaError: no input was named, one does not exist or cannot be reached, or none holds a file that could be a
            page.
    """
    if not roots:
        raise HainaError(
            "no input was named", "name files or folders with pages, or make some with `haina sample DIR`"
        )
    sources: list[Source] = []
    ignored = 0
    used: dict[str, int] = {}
    places = _expanded(roots)
    for root in places:
        label = _label(root)
        used[label] = used.get(label, 0) + 1
        prefix = "" if len(places) == 1 else (label if used[label] == 1 else f"{label}-{used[label]}")
        if isinstance(root, str):
            found, others = _remote_sources(root, prefix)
        elif not root.exists():
            raise HainaError(f"{root}: no such file or folder", "check the path of the input")
        elif root.is_file():
            kind = format_of(root.name)
            if kind is None:
                raise HainaError(f"{root}: not a format that can be read", f"give {_READABLE}")
            found, others = [_source(root, prefix or label, kind, "", UNKNOWN_LICENSE)], 0
        else:
            found, others = _folder_sources(root, prefix)
        sources += found
        ignored += others
    if not any(source.format != "fault" for source in sources):
        names = ", ".join(str(root) for root in roots)
        raise HainaError(
            f"{names}: no page to read ({ignored} files of other kinds, {len(sources)} unreadable)",
            f"give {_READABLE} files",
        )
    return Inputs(tuple(sources), ignored)


def _label(root: Path | str) -> str:
    """The last part of an input's name, which tells several inputs apart."""
    if isinstance(root, str):
        name = root.partition("://")[2].rstrip("/")
        parts = [part for part in name.split("/") if not is_pattern(part)]
        return _portable(parts[-1]) if parts and parts[-1] else "input"
    return _portable(root.resolve().name) or "input"


def partition(sources: Sequence[Source], count: int) -> list[tuple[Source, ...]]:
    """Cut the ordered sources into at most `count` runs of about equal bytes, none of them empty.

    A file is never cut. Each file weighs its bytes and 4 KiB for the work of opening it.
    """
    count = min(count, len(sources))
    weights = [source.bytes + 4096 for source in sources]
    total = sum(weights)
    parts: list[list[Source]] = [[] for _ in range(count)]
    before = 0
    for source, weight in zip(sources, weights, strict=True):
        parts[min(count - 1, (before + weight // 2) * count // total)].append(source)
        before += weight
    return [tuple(part) for part in parts if part]
