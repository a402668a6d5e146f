"""Records on their way between blocks and partitions of keys.

Comes in: what a block knows of its repeated keys; what a partition has found out about a key. Goes out: bytes, and the
same arrays from bytes. A document that rows point to stands once in a message, with its id and what it is ranked by.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from haina.corpus.repeats.tables import I64, U64, Occurrences

U32 = npt.NDArray[np.uint32]
ROW_FIELDS = ("documents", "occurrences", "document", "position", "start", "end")


@dataclass(frozen=True)
class Message:
    """Rows of keys, one of each key.

    Attributes:
        block: who sends it, or whom it is for.
        high, low: the key: uint64 [rows].
        documents, occurrences: how many hold the key, and how often it stands: uint32 [rows].
        document: index of the best document that holds it in `ranked` and `ids`: uint32 [rows].
        position, start, end: first token (or byte) and bytes of the first occurrence there: uint32 [rows].
        ranked: see `blocks.rank_keys`: uint64 [documents, 3].
        ids: of the documents.
    """

    block: int
    high: U64
    low: U64
    documents: U32
    occurrences: U32
    document: U32
    position: U32
    start: U32
    end: U32
    ranked: U64
    ids: tuple[str, ...]

    def encode(self) -> bytes:
        """Little-endian: numbers of rows and documents, bytes of the ids, then the arrays."""
        names = [name.encode("utf-8") for name in self.ids]
        sizes = np.array([len(name) for name in names], dtype="<u4")
        blob = b"".join(names)
        return b"".join(
            [
                struct.pack("<4q", self.block, len(self.high), len(names), len(blob)),
                self.high.astype("<u8").tobytes(),
                self.low.astype("<u8").tobytes(),
                *(getattr(self, name).astype("<u4").tobytes() for name in ROW_FIELDS),
                self.ranked.astype("<u8").tobytes(),
                sizes.tobytes(),
                blob,
            ]
        )

    @staticmethod
    def decode(data: bytes | memoryview) -> Message:
        """The message of `encode`."""
        block, rows, count, size = struct.unpack_from("<4q", data)
        place = 32

        def take(kind: str, number: int) -> npt.NDArray[Any]:
            nonlocal place
            found = np.frombuffer(data, dtype=kind, count=number, offset=place)
            place += found.nbytes
            return found

        high, low = take("<u8", rows), take("<u8", rows)
        fields = {name: take("<u4", rows) for name in ROW_FIELDS}
        ranked = take("<u8", 3 * count).reshape(count, 3)
        ends = np.cumsum(take("<u4", count), dtype=np.int64).tolist()
        blob = bytes(data[place : place + size])
        ids = (
            tuple(blob[low:high].decode("utf-8") for low, high in zip([0, *ends[:-1]], ends, strict=True))
            if count
            else ()
        )
        return Message(block, high, low, ranked=ranked, ids=ids, **fields)


def message_of(
    block: int, rows: Occurrences, chosen: I64, documents: I64, ranked: U64, ids: Sequence[str]
) -> bytes:
    """Some rows on their way.

    Args:
        block: who sends them, or whom they are for.
        rows, chosen: indices of rows.
        documents: for each chosen row, its best document in `ranked` and `ids`: int64 [chosen].
        ranked, ids: of all documents; only those that are pointed to travel.
    """
    points = np.zeros(len(ids), dtype=np.bool_)
    points[documents] = True
    used = np.flatnonzero(points)
    document = (np.cumsum(points) - 1)[documents]
    fields = {
        name: getattr(rows, name)[chosen].astype(np.uint32) for name in ROW_FIELDS if name != "document"
    }
    return Message(
        block,
        rows.high[chosen],
        rows.low[chosen],
        document=document.astype(np.uint32),
        ranked=ranked[used],
        ids=tuple(ids[place] for place in used.tolist()),
        **fields,
    ).encode()


def as_occurrences(message: Message, document: int, rank: I64) -> Occurrences:
    """The rows of a message, all of one sender `document`; `rank` is that of each row's best document."""
    wide = {name: getattr(message, name).astype(np.int64) for name in ROW_FIELDS}
    none = np.zeros(len(message.high), dtype=np.int64)
    wide["document"] = none + document
    return Occurrences(message.high, message.low, message.high, rank=rank, tokens=none, **wide)
