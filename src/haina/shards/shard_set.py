"""All shards of a split as one sequence of documents.

In: a shards folder. Its `shards.json` (version 2) names the files of each split, `train-00000.bin` and `.idx` and on,
with their documents, tokens, bytes and checksums. Out: documents by number, whichever file they lie in.
Opening holds every file against `shards.json` and against its index; `checksums.verify` reads the tokens as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import read_json, write_json
from haina.shards.indexed import IndexedDataset, damaged, shard_paths, write_indexed

SHARDS_VERSION = 2
SHARDS_FILE = "shards.json"
TRAIN = "train"


def shard_name(split: str, number: int) -> str:
    """Name of a shard's files, without the suffix."""
    return f"{split}-{number:05d}"


def read_description(folder: Path) -> dict[str, Any]:
    """`shards.json` of a folder.

    Raises:
        HainaError: it is missing, damaged, or of another version.
    """
    path = folder / SHARDS_FILE
    if not path.is_file():
        raise HainaError(f"{folder}: no {SHARDS_FILE}", "name a folder that `haina shards write` made")
    found = read_json(path)
    version = found.get("version") if isinstance(found, dict) else None
    if version != SHARDS_VERSION:
        raise HainaError(
            f"{path}: shards of version {version}, this program reads version {SHARDS_VERSION}",
            "write the shards again: `haina shards write`, or the shards stage of the recipe",
        )
    if not isinstance(found.get("splits"), dict):
        raise HainaError(f"{path}: names no splits", "write the shards again")
    return dict(found)


class ShardSet:
    """The documents of a split.

    Args:
        name: for messages. shards: its files, in order; at least one, all of one token type.

    Attributes:
        shards: the files.
        first: int64 [shards + 1], number of the first document of each file, then the number of documents.
        lengths: int32 [documents], tokens of each document.
        dtype: type of a token.
        total_tokens: tokens of all documents.
    """

    def __init__(self, name: str, shards: list[IndexedDataset]) -> None:
        self.name, self.shards = name, shards
        self.dtype = shards[0].dtype
        for shard in shards:
            if shard.dtype != self.dtype:
                raise damaged(
                    shard.index_path, 17, f"tokens of type {shard.dtype}, {shards[0].prefix} has {self.dtype}"
                )
        self.first: NDArray[np.int64] = np.cumsum([0, *map(len, shards)], dtype=np.int64)
        self.first_token: NDArray[np.int64] = np.cumsum(
            [0, *(shard.total_tokens for shard in shards)], dtype=np.int64
        )
        self.total_tokens = int(self.first_token[-1])
        self.lengths: NDArray[np.int32] = (
            shards[0].sequence_lengths
            if len(shards) == 1
            else np.concatenate([shard.sequence_lengths for shard in shards])
        )

    @classmethod
    def open(cls, folder: Path, split: str = TRAIN) -> ShardSet:
        """The split of that name.

        Raises:
            HainaError: there is none, a file of it is missing or damaged, or is not the one that `shards.json`
                describes.
        """
        described = read_description(folder)["splits"].get(split)
        if described is None:
            raise HainaError(f"{folder}: no split {split!r}", f"see `splits` in {folder / SHARDS_FILE}")
        shards = []
        for entry in described["files"]:
            shard = IndexedDataset(folder / entry["name"])
            for what, path, offset, found in (
                ("documents", shard.index_path, 18, len(shard)),
                ("tokens", shard.bin_path, 0, shard.total_tokens),
            ):
                if found != entry[what]:
                    raise damaged(path, offset, f"{found:,} {what}, {SHARDS_FILE} says {entry[what]:,}")
            shards.append(shard)
        if not shards:
            raise HainaError(
                f"{folder / SHARDS_FILE}: split {split!r} has no files", "write the shards again"
            )
        return cls(str(folder / split), shards)

    def __len__(self) -> int:
        return int(self.first[-1])

    def locate(self, document: int) -> tuple[IndexedDataset, int]:
        """The file that holds a document, and its number there."""
        if not 0 <= document < len(self):
            raise IndexError(f"{self.name}: document {document} of {len(self)}")
        number = int(np.searchsorted(self.first, document, side="right")) - 1
        return self.shards[number], document - int(self.first[number])

    def __getitem__(self, document: int) -> NDArray[np.integer]:
        """Tokens [length] of one document, a read-only view."""
        shard, index = self.locate(document + len(self) if document < 0 else document)
        return shard[index]

    def tokens(self, start: int, stop: int) -> NDArray[np.integer]:
        """Tokens [stop - start] of the split read as one stream; what lies beyond its end is left out."""
        stop = min(stop, self.total_tokens)
        parts = []
        number = int(np.searchsorted(self.first_token, start, side="right")) - 1
        while start < stop:
            first, end = int(self.first_token[number]), min(stop, int(self.first_token[number + 1]))
            parts.append(self.shards[number].tokens[start - first : end - first])
            start, number = end, number + 1
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, self.dtype), *parts])


def describe_file(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, which is read."""
    with os_errors_about(path), path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def describe_shard(
    name: str, documents: int, tokens: int, of_bin: Mapping[str, Any], of_index: Mapping[str, Any]
) -> dict[str, Any]:
    """The entry of a shard in `shards.json`, given `describe_file` of both its files."""
    both = {"bin": of_bin, "idx": of_index}
    return {
        "name": name,
        "documents": documents,
        "tokens": tokens,
        "bytes": {suffix: found["bytes"] for suffix, found in both.items()},
        "sha256": {suffix: found["sha256"] for suffix, found in both.items()},
    }


def describe_split(
    files: list[dict[str, Any]], dtype: np.dtype[np.generic], text_bytes: int
) -> dict[str, Any]:
    """The entry of a split in `shards.json`, tokens by language, source and domain left to the caller."""
    checksums = "".join(entry["sha256"]["bin"] + entry["sha256"]["idx"] for entry in files)
    return {
        "documents": sum(entry["documents"] for entry in files),
        "tokens": sum(entry["tokens"] for entry in files),
        "bytes": text_bytes,
        "dtype": dtype.name,
        # Of the checksums of its files, in order: one value that tells two splits apart.
        "sha256": hashlib.sha256(checksums.encode()).hexdigest(),
        "files": files,
    }


def write_arrays(
    folder: Path,
    splits: Mapping[str, Iterable[NDArray[np.integer]]],
    tokenizer: Mapping[str, Any],
    dtype: np.dtype[np.generic],
    documents_a_shard: int = 1 << 20,
) -> dict[str, Any]:
    """Write a shards folder from token arrays, each a document; for tokens that were not made from our documents.

    It has no table of documents. `tokenizer` is what `shards.json` says of it: `fingerprint`, `vocab_size`, `bos_id`,
    `eos_id`. Returns the content of `shards.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = {}
    for split, sequences in splits.items():
        found = list(sequences)
        cuts = [*range(0, len(found), documents_a_shard), len(found)]
        files = []
        for number, (start, stop) in enumerate(pairwise(cuts)):
            prefix = folder / shard_name(split, number)
            write_indexed(prefix, found[start:stop], dtype)
            made = map(describe_file, shard_paths(prefix))
            files.append(describe_shard(prefix.name, stop - start, sum(map(len, found[start:stop])), *made))
        described[split] = describe_split(files, np.dtype(dtype), 0)
    content = {
        "version": SHARDS_VERSION,
        "tokenizer": dict(tokenizer),
        "documents": None,
        "splits": described,
    }
    write_json(folder / SHARDS_FILE, content)
    return content
