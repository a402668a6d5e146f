"""Holds a shards folder against its own `shards.json`.

In: a shards folder. Out: nothing, or an error that names the file that does not agree: a length, a count, a
checksum.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import read_json
from haina.shards.indexed import IndexedDataset


def verify(folder: Path) -> dict[str, Any]:
    """Read every byte of a shards folder and return its `shards.json`.

    Raises:
        HainaError: a shard is damaged, or is not the one that `shards.json` describes.
    """
    description: dict[str, Any] = read_json(folder / "shards.json")
    for name, split in description["splits"].items():
        dataset = IndexedDataset(folder / name)
        for what, found in (
            ("documents", len(dataset)),
            ("tokens", len(dataset.tokens)),
            ("dtype", dataset.dtype.name),
            ("sha256", _sha256(dataset.bin_path)),
        ):
            if found != split[what]:
                raise HainaError(
                    f"{dataset.bin_path}: {what} is {found}, shards.json says {split[what]}",
                    "copy the shard again or run the shards stage again",
                )
    return description


def _sha256(path: Path) -> str:
    with os_errors_about(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
