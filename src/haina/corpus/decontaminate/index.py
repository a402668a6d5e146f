"""The index that documents are searched with: one file, mapped by every worker.

The question, each option and the passage of an item are parts; equal parts (by key form) stand once. Items with
the same question, options and passage form a group. `build.py` makes it; this is its layout, and how it is
written and read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from haina.corpus.decontaminate.grams import Int64, UInt8, UInt32, UInt64
from haina.runtime.errors import HainaError
from haina.runtime.files import atomic_path

QUESTION, OPTION, PASSAGE = range(3)
_MAGIC = b"HAINADEC1\n"
_ALIGN = 64


class Arrays(NamedTuple):
    """The index as kernels read it.

    Attributes:
        sampled, whole, brief: bit sets of the hashes of the three kinds of seeds (`seeds.py`): uint64 [2^k].
        table: number of a seed + 1 by open addressing: int32 [2^m].
        seeds: hashes, sorted: uint64 [seeds]. seed_starts: int64 [seeds + 1] into `seed_parts` and `seed_places`, the
            part and the token in it where the seed stands: int32.
        reach: units of each part that its seeds cover together: int32 [parts].
        tokens: of all parts: uint32. units: uint8. bits, weights: evidence and share of each token: float32. frames:
            whether it belongs to a word that asks: bool.
        starts: where each part begins: int64 [parts + 1].
        member_starts: int64 [parts + 1] into `members` (group, int32) and `roles` (uint8).
        questions, passages: part of each group, -1 for none: int32 [groups].
        option_starts: int64 [groups + 1] into `options`: int32.
        asks: token where the last sentence of the question begins: int32 [groups]. blanks: token after the blank
            inside the question, -1 for none: int32 [groups].
        alone: whether the question of a group has no seed, so that one option has to do: bool [groups].
        item_starts: int64 [groups + 1] into `items`: int32.
    """

    sampled: UInt64
    whole: UInt64
    brief: UInt64
    table: npt.NDArray[np.int32]
    seeds: UInt64
    seed_starts: Int64
    seed_parts: npt.NDArray[np.int32]
    seed_places: npt.NDArray[np.int32]
    reach: npt.NDArray[np.int32]
    tokens: UInt32
    units: UInt8
    bits: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    frames: npt.NDArray[np.bool_]
    starts: Int64
    member_starts: Int64
    members: npt.NDArray[np.int32]
    roles: UInt8
    questions: npt.NDArray[np.int32]
    passages: npt.NDArray[np.int32]
    option_starts: Int64
    options: npt.NDArray[np.int32]
    asks: npt.NDArray[np.int32]
    blanks: npt.NDArray[np.int32]
    alone: npt.NDArray[np.bool_]
    item_starts: Int64
    items: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Index:
    """Arrays, and for each item the names it is reported by.

    Attributes:
        arrays: for kernels.
        files: names of the evaluation files.
        item_files: number of each item's file. item_names, item_fields: id and field of each item.
        too_short: items that have no seed.
    """

    arrays: Arrays
    files: tuple[str, ...]
    item_files: tuple[int, ...]
    item_names: tuple[str, ...]
    item_fields: tuple[str, ...]
    too_short: tuple[int, ...]


def save_index(index: Index, path: Path) -> None:
    """Write one file that `load_index` maps: a magic line, a JSON header, arrays aligned to 64 bytes."""
    header: dict[str, Any] = {
        "files": index.files,
        "item_files": index.item_files,
        "item_names": index.item_names,
        "item_fields": index.item_fields,
        "too_short": index.too_short,
        "arrays": [[name, array.dtype.str, len(array)] for name, array in index.arrays._asdict().items()],
    }
    raw = json.dumps(header, ensure_ascii=False).encode("utf-8")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC + len(raw).to_bytes(8, "little") + raw)
        for array in index.arrays:
            file.write(b"\0" * (-file.tell() % _ALIGN))
            file.write(np.ascontiguousarray(array).tobytes())


def load_index(path: Path) -> Index:
    """Map an index; its arrays are read from the file as they are used, and shared between processes.

    Raises:
        HainaError: not an index, or cut short.
    """
    damaged = HainaError(
        f"{path}: not a whole index of evaluation items", "delete it and run the same command again"
    )
    try:
        whole = np.memmap(path, dtype=np.uint8, mode="r")
        head = len(_MAGIC) + 8
        if whole[: len(_MAGIC)].tobytes() != _MAGIC:
            raise damaged
        size = int.from_bytes(whole[len(_MAGIC) : head].tobytes(), "little")
        header = json.loads(whole[head : head + size].tobytes())
        place = head + size
        arrays = []
        for _, kind, length in header["arrays"]:
            place += -place % _ALIGN
            dtype = np.dtype(kind)
            array = whole[place : place + length * dtype.itemsize].view(dtype)
            if len(array) != length:
                raise damaged
            arrays.append(np.asarray(array))
            place += length * dtype.itemsize
        return Index(
            Arrays(*arrays), tuple(header["files"]), tuple(header["item_files"]), tuple(header["item_names"]),
            tuple(header["item_fields"]), tuple(header["too_short"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged from error
