"""The held-out documents of the shards in; the rows that an evaluation computes, and whose each token is, out.

Whole documents are measured, each by itself, so that its cost belongs to known bytes of text. Which ones follows from a
hash of their number: a split that is sorted by source or length is sampled evenly, the same way every time.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.shards.batch import IGNORED
from haina.shards.shard_set import ShardSet, read_description

PREFIX = "validation-"
# Columns of documents.parquet that results are also given by, and how many values of one at most.
COLUMNS = ("source", "domain")
LARGEST = 16


@dataclass(frozen=True)
class Rows:
    """Documents laid out in rows, as a loader does for training.

    Attributes:
        inputs, targets: int64 [rows, length]; -100 where nothing is predicted.
        positions, segments: int32 [rows, length]: attention stays within a segment.
        owners: int32 [rows, length]: number of the document that a target belongs to.
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    positions: NDArray[np.int32]
    segments: NDArray[np.int32]
    owners: NDArray[np.int32]


@dataclass(frozen=True)
class HeldOut:
    """The documents of one validation split that are measured.

    Attributes:
        name: `zh`, `en`, ...
        rows: of them.
        documents: how many. tokens: int64 [documents], predicted ones: all but the first.
        bytes: int64 [documents], UTF-8 of their text; None where the shards do not know.
        groups: for each column, the value of each document.
    """

    name: str
    rows: Rows
    tokens: NDArray[np.int64]
    bytes: NDArray[np.int64] | None
    groups: dict[str, list[str]]

    @property
    def documents(self) -> int:
        return len(self.tokens)


def choose(lengths: Sequence[int], max_tokens: int) -> list[int]:
    """Documents to measure, ascending: drawn until `max_tokens` are reached. One that is longer than that is passed
    over, unless there is no other.
    """

    def drawn(number: int) -> bytes:
        return hashlib.blake2b(number.to_bytes(8, "little"), digest_size=8).digest()

    fitting = [number for number, length in enumerate(lengths) if 2 <= length <= max_tokens]
    if not fitting:
        return (
            [min((n for n, length in enumerate(lengths) if length >= 2), key=drawn)]
            if max(lengths, default=0) > 1
            else []
        )
    chosen: list[int] = []
    total = 0
    for number in sorted(fitting, key=drawn):
        if total >= max_tokens:
            break
        chosen.append(number)
        total += int(lengths[number])
    return sorted(chosen)


def lay_out(documents: Sequence[NDArray[np.integer]], length: int) -> Rows:
    """Rows of `length` places, filled with whole documents, the longest first, each in the fullest row that has room.

    A document of n tokens takes n - 1 places: its last token is a target only. What is longer than a row goes on in
    another one, without what came before.
    """
    pieces = [
        (min(length, len(document) - 1 - first), number, first)
        for number, document in enumerate(documents)
        for first in range(0, len(document) - 1, length)
    ]
    pieces.sort(key=lambda piece: (-piece[0], piece[1], piece[2]))
    room: list[tuple[int, int]] = []  # (places left, row), ascending
    content: list[list[tuple[int, int, int]]] = []
    for piece in pieces:
        place = bisect_left(room, (piece[0], -1))
        if place == len(room):
            content.append([])
            left, row = length, len(content) - 1
        else:
            left, row = room.pop(place)
        content[row].append(piece)
        if left > piece[0]:
            insort(room, (left - piece[0], row))
    shape = (len(content), length)
    inputs, targets = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
    positions, owners = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    # Padding is the last segment: segments never fall along a row.
    segments = np.full(shape, length, np.int32)
    for row, found in enumerate(content):
        column = 0
        for segment, (count, number, first) in enumerate(found):
            here = slice(column, column + count)
            inputs[row, here] = documents[number][first : first + count]
            targets[row, here] = documents[number][first + 1 : first + count + 1]
            positions[row, here] = np.arange(count)
            segments[row, here] = segment
            owners[row, here] = number
            column += count
        positions[row, column:] = np.arange(length - column)
    return Rows(inputs, targets, positions, segments, owners)


def read_held_out(shards: Path, length: int, max_tokens: int) -> list[HeldOut]:
    """What to measure of every validation split, by name; splits without a document to predict are left away.

    Args:
        shards: a shards folder. length: places of a row. max_tokens: of each split, about.

    Raises:
        HainaError: a file is damaged, a document holds what is no token, or the table of documents is of other shards.
    """
    description = read_description(shards)
    vocab_size = int(description["tokenizer"]["vocab_size"])
    found = []
    for split in sorted(name for name in description["splits"] if name.startswith(PREFIX)):
        dataset = ShardSet.open(shards, split)
        chosen = choose(dataset.lengths.tolist(), max_tokens)
        if not chosen:
            continue
        documents = [np.asarray(dataset[number], dtype=np.int64) for number in chosen]
        for number, document in zip(chosen, documents, strict=True):
            if document.min() < 0 or document.max() >= vocab_size:
                raise HainaError(
                    f"{shards}: document {number} of split {split} holds ids that are no tokens (from "
                    f"{document.min()} to {document.max()}, the vocabulary has {vocab_size:,})",
                    "the file is damaged: run the shards stage again",
                )
        table = description.get("documents")
        sizes, groups = _table(shards / table, split, chosen) if table else (None, {})
        tokens = np.array([len(document) - 1 for document in documents], np.int64)
        found.append(HeldOut(split.removeprefix(PREFIX), lay_out(documents, length), tokens, sizes, groups))
    return found


def _other_table(path: Path, split: str, why: str) -> HainaError:
    return HainaError(
        f"{path}: not the table of documents of split {split} ({' '.join(why.split())})",
        "run the shards stage again",
    )


def _table(path: Path, split: str, chosen: list[int]) -> tuple[NDArray[np.int64], dict[str, list[str]]]:
    """Bytes of the chosen documents, and the values of `COLUMNS` that tell them apart."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in COLUMNS if name in file.schema_arrow.names]
        read = pq.read_table(
            path, columns=["shard", "index", "bytes", *columns], filters=[("shard", "=", split)]
        )
        places = {number: place for place, number in enumerate(read["index"].to_pylist())}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _other_table(path, split, str(error)) from error
    if missing := [number for number in chosen if number not in places]:
        raise _other_table(path, split, f"document {missing[0]} is missing")
    rows = read.take([places[number] for number in chosen])
    sizes = rows["bytes"].to_numpy().astype(np.int64)
    groups = {}
    for name in columns:
        # Of the pages of a folder the folder is what one wants to see by itself.
        values = [(value or "").split("/", 1)[0] for value in rows[name].to_pylist()]
        kept = {
            value
            for value, _ in sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))[:LARGEST]
        }
        if len(kept) > 1:
            groups[name] = [value if value in kept else "(others)" for value in values]
    return sizes, groups
