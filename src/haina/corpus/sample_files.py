"""What every source of the sample gives back, and how it writes pages.

In: page names and bytes. Out: files below the sample folder, counted by collection - a Debian package, a
Wikipedia, an installed Python package - each with its version and licence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.progress import Reporter

# No suffix, so that the corpus stage does not take it for a page.
COPYRIGHT_FILE = "copyright"


@dataclass
class Collection:
    """Pages of one origin.

    Attributes:
        name: folder below the sample, `/`-separated.
        version: of what was fetched.
        license: SPDX expression or short name.
        files, bytes: pages written.
    """

    name: str
    version: str
    license: str
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Fetched:
    """The collections of one source, and one line about them for the reader."""

    collections: list[Collection]
    note: str


Fetcher = Callable[[Path, Reporter], Fetched]


@cache
def sample_settings() -> dict[str, Any]:
    """The contents of `sample.yaml`."""
    with Path(__file__).with_name("sample.yaml").open(encoding="utf-8") as file:
        settings: dict[str, Any] = yaml.safe_load(file)
    return settings


def write_page(sample: Path, collection: Collection, relative: str, data: bytes) -> None:
    """Write one page of a collection and count it.

    Raises:
        HainaError: the name would leave the collection's folder, or the disk refuses.
    """
    write_beside(sample, collection, relative, data)
    collection.files += 1
    collection.bytes += len(data)


def write_beside(sample: Path, collection: Collection, relative: str, data: bytes) -> None:
    """Write a file that is no page, such as a copyright notice."""
    parts = PurePosixPath(relative).parts
    if not parts or ".." in parts or PurePosixPath(relative).is_absolute():
        raise HainaError(
            f"{collection.name}: file name {relative!r} leads out of its folder", "report this package"
        )
    path = sample.joinpath(*PurePosixPath(collection.name).parts, *parts)
    with os_errors_about(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
