"""What the loader has to know of a split before it opens a plan: its files, and what tells them from others.

Reads `shards.json` alone. The indices, which grow with the number of documents, are opened only to make a plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import fingerprint_bytes
from haina.shards.indexed import shard_paths
from haina.shards.shard_set import SHARDS_FILE, TRAIN, read_description


@dataclass(frozen=True)
class SplitFiles:
    """A split of a shards folder.

    Attributes:
        folder, name: of the shards and of the split.
        files: each `.bin` and its tokens.
        dtype: of a token.
        fingerprint: the checksum over all files of the split.
        table: the table of documents; None where the shards have none.
        mixture: `mixture` of `shards.json`: `by` and `weights`; None where there is none.
    """

    folder: Path
    name: str
    files: list[tuple[Path, int]]
    dtype: np.dtype[Any]
    fingerprint: str
    table: Path | None
    mixture: Mapping[str, Any] | None

    @classmethod
    def read(cls, folder: Path, name: str = TRAIN) -> SplitFiles:
        """The split `name` of a shards folder.

        Raises:
            HainaError: there is none, or `shards.json` is damaged.
        """
        description = read_description(folder)
        split = description["splits"].get(name)
        if split is None:
            raise HainaError(f"{folder}: no split {name!r}", f"see `splits` in {folder / SHARDS_FILE}")
        try:
            files = [(shard_paths(folder / file["name"])[0], int(file["tokens"])) for file in split["files"]]
            dtype, fingerprint = np.dtype(split["dtype"]).newbyteorder("<"), str(split["sha256"])
        except (KeyError, TypeError, ValueError) as error:
            raise HainaError(
                f"{folder / SHARDS_FILE}: split {name!r} is not described ({error!r})",
                "write the shards again",
            ) from error
        table = description.get("documents")
        return cls(
            folder,
            name,
            files,
            dtype,
            fingerprint,
            folder / table if table else None,
            description.get("mixture"),
        )

    def table_fingerprint(self) -> str | None:
        """Of the table of documents: its size and its Parquet footer, which holds the place, size and limits of every
        column chunk.
        """
        if self.table is None:
            return None
        with os_errors_about(self.table), self.table.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 8))
            footer = int.from_bytes(file.read(4), "little")
            file.seek(max(0, size - 8 - footer))
            return fingerprint_bytes(str(size).encode(), file.read())
