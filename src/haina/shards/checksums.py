"""Holds a shards folder against its own `shards.json`.

In: a shards folder. Out: its description, or an error that names the file that does not agree and the byte: a length, a
count, a checksum, an id that the tokenizer does not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.runtime.progress import Reporter, SilentProgress
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards.indexed import IndexedDataset, damaged
from haina.shards.shard_set import SHARDS_FILE, ShardSet, describe_file, read_description

_BLOCK_TOKENS = 1 << 22


def verify(folder: Path, tokenizer: Path | None = None, reporter: Reporter | None = None) -> dict[str, Any]:
    """Read every byte of a shards folder and return its `shards.json`.

    Args:
        tokenizer: a tokenizer folder that the shards should have been made with.

    Raises:
        HainaError: a shard is damaged, is not the one that `shards.json` describes, or the tokenizer is another.
    """
    description = read_description(folder)
    if tokenizer is not None:
        check_tokenizer(folder, description, TokenizerFile(tokenizer))
    splits = description["splits"]
    total = sum(len(split["files"]) for split in splits.values())
    with (reporter or SilentProgress()).task("reading shards", total, "shards") as task:
        for name, split in splits.items():
            opened = ShardSet.open(folder, name)
            _check_counts(folder, name, split, opened)
            for shard, entry in zip(opened.shards, split["files"], strict=True):
                _check_files(shard, entry)
                _check_ids(shard, int(description["tokenizer"]["vocab_size"]))
                task.advance()
    _check_table(folder, description)
    return description


def check_tokenizer(folder: Path, description: dict[str, Any], tokenizer: TokenizerFile) -> None:
    """Whether the shards in `folder` were made with a tokenizer.

    Raises:
        HainaError: with another one, or it was changed since.
    """
    if description["tokenizer"]["fingerprint"] != tokenizer.fingerprint:
        raise HainaError(
            f"{folder}: encoded with another tokenizer than {tokenizer.folder}, or that was changed since",
            "write the shards again, or bring the tokenizer they were made with",
        )


def _check_counts(folder: Path, name: str, split: dict[str, Any], opened: ShardSet) -> None:
    for what, found in (
        ("documents", len(opened)),
        ("tokens", opened.total_tokens),
        ("dtype", opened.dtype.name),
    ):
        if found != split[what]:
            raise HainaError(
                f"{folder / SHARDS_FILE}: {what} of {name} is {split[what]}, its files have {found}",
                "write the shards again",
            )


def _check_files(shard: IndexedDataset, entry: dict[str, Any]) -> None:
    for suffix, path in (("idx", shard.index_path), ("bin", shard.bin_path)):
        found = describe_file(path)
        size, said = found["bytes"], entry["bytes"][suffix]
        if size != said:
            raise damaged(path, min(size, said), f"{size:,} bytes, {SHARDS_FILE} says {said:,}")
        if found["sha256"] != entry["sha256"][suffix]:
            raise damaged(
                path, 0, f"sha256 is {found['sha256']}, {SHARDS_FILE} says {entry['sha256'][suffix]}"
            )


def _check_ids(shard: IndexedDataset, vocab_size: int) -> None:
    for start in range(0, shard.total_tokens, _BLOCK_TOKENS):
        tokens: NDArray[np.integer] = shard.tokens[start : start + _BLOCK_TOKENS]
        if (wrong := np.flatnonzero((tokens < 0) | (tokens >= vocab_size))).size:
            place = start + int(wrong[0])
            raise damaged(
                shard.bin_path,
                place * shard.dtype.itemsize,
                f"token {int(tokens[wrong[0]])}, the tokenizer has {vocab_size:,}",
            )


def _check_table(folder: Path, description: dict[str, Any]) -> None:
    from haina.runtime.parquet_rows import open_parquet

    if description["documents"] is None:
        return
    path = folder / description["documents"]
    with open_parquet(path) as file:
        rows = file.metadata.num_rows
    wanted = sum(split["documents"] for split in description["splits"].values())
    if rows != wanted:
        raise HainaError(
            f"{path}: {rows:,} documents, {SHARDS_FILE} says {wanted:,}", "write the shards again"
        )
