"""Megatron's indexed dataset: writes and reads `NAME.bin` and `NAME.idx`.

`.bin` is the tokens of all sequences, one after another. `.idx`, little-endian:

    9 bytes   magic `MMIDIDX\\0\\0`
    uint64    version, 1
    uint8     token type: 4 = int32, 8 = uint16 (others are read, not written)
    uint64    number of sequences, S
    uint64    number of document borders, D
    int32  x S  length of each sequence, in tokens
    int64  x S  where it begins in `.bin`, in bytes
    int64  x D  number of the first sequence of each document, then S

Layout after NVIDIA/Megatron-LM, `megatron/core/datasets/indexed_dataset.py`. Here a sequence is a document.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError, os_errors_about

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
DTYPE_OF_CODE: dict[int, np.dtype[np.generic]] = {
    code: np.dtype(name)
    for code, name in {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}.items()
}
CODE_OF_DTYPE = {dtype: code for code, dtype in DTYPE_OF_CODE.items()}


def token_dtype(vocab_size: int) -> np.dtype[np.generic]:
    """The smallest type Megatron writes that holds every id: uint16 below 65,536 ids, int32 from there on."""
    return np.dtype("<u2") if vocab_size < 65536 else np.dtype("<i4")


class IndexedDatasetWriter:
    """Appends sequences to a `.bin` file; `finish` writes the `.idx`.

    Args:
        bin_path, index_path: the files, usually temporary names that the caller moves into place.
        dtype: type of a token.
    """

    def __init__(self, bin_path: Path, index_path: Path, dtype: np.dtype[np.generic]) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")
        if self.dtype not in CODE_OF_DTYPE:
            raise HainaError(f"{bin_path}: tokens of type {dtype}", "use uint16 or int32")
        self.bin_path, self.index_path = bin_path, index_path
        self.lengths: list[int] = []
        self.sha256 = hashlib.sha256()
        with os_errors_about(bin_path):
            self._file: BinaryIO = bin_path.open("wb")

    def add(self, tokens: NDArray[np.integer]) -> int:
        """Append one document of `tokens` [length] and return its sequence number.

        Raises:
            HainaError: a token does not fit the type.
        """
        limits = np.iinfo(self.dtype)  # type: ignore[type-var]
        if tokens.size and (tokens.min() < limits.min or tokens.max() > limits.max):
            raise HainaError(
                f"{self.bin_path}: token {int(tokens.max())} does not fit {self.dtype}",
                "use a wider token type",
            )
        if tokens.size > np.iinfo(np.int32).max:
            raise HainaError(
                f"{self.bin_path}: a document of {tokens.size} tokens", "split it; 2^31 - 1 is the limit"
            )
        data = np.ascontiguousarray(tokens, self.dtype).tobytes()
        with os_errors_about(self.bin_path):
            self._file.write(data)
        self.sha256.update(data)
        self.lengths.append(int(tokens.size))
        return len(self.lengths) - 1

    def finish(self) -> None:
        """Close `.bin` and write `.idx`."""
        lengths = np.array(self.lengths, "<i4")
        ends = np.cumsum(lengths, dtype=np.int64) * self.dtype.itemsize
        pointers = np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1]]).astype("<i8")
        documents = np.arange(len(lengths) + 1, dtype="<i8")
        with os_errors_about(self.bin_path):
            self._file.close()
        with os_errors_about(self.index_path), self.index_path.open("wb") as file:
            file.write(HEADER.pack(MAGIC, VERSION, CODE_OF_DTYPE[self.dtype], len(lengths), len(documents)))
            for table in (lengths, pointers, documents):
                file.write(table.tobytes())

    def abandon(self) -> None:
        """Close `.bin` and write nothing more."""
        self._file.close()

    def __enter__(self) -> IndexedDatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()


def write_indexed(
    prefix: Path, sequences: Iterable[NDArray[np.integer]], dtype: np.dtype[np.generic]
) -> None:
    """Write whole `PREFIX.bin` and `PREFIX.idx` from `sequences`."""
    bin_path, index_path = shard_paths(prefix)
    with IndexedDatasetWriter(bin_path, index_path, dtype) as writer:
        for sequence in sequences:
            writer.add(sequence)


def shard_paths(prefix: Path) -> tuple[Path, Path]:
    """`PREFIX.bin` and `PREFIX.idx`; the prefix may hold dots."""
    return prefix.with_name(prefix.name + ".bin"), prefix.with_name(prefix.name + ".idx")


class IndexedDataset:
    """Reads an indexed dataset through memory maps; nothing is loaded until it is used.

    Args:
        prefix: path without `.bin` or `.idx`.

    Attributes:
        dtype: type of a token.
        tokens: all tokens [total], read-only, in the order of the sequences.
        sequence_lengths: int32 [S], tokens in each sequence.
        offsets: int64 [S], where each sequence begins in `tokens`.
        document_indices: int64 [D], sequence numbers at which documents begin, then S.

    Raises:
        HainaError: a file is missing, truncated or disagrees with the other; names the file and the byte
        offset.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.bin_path, self.index_path = shard_paths(prefix)
        with os_errors_about(self.index_path):
            size = self.index_path.stat().st_size
            with self.index_path.open("rb") as file:
                header = file.read(HEADER.size)
        if len(header) < HEADER.size or not header.startswith(MAGIC):
            raise self._damaged(
                self.index_path, 0, f"not an indexed dataset ({size:,} bytes, no MMIDIDX header)"
            )
        _, version, code, sequences, documents = HEADER.unpack(header)
        if version != VERSION:
            raise self._damaged(
                self.index_path, 9, f"version {version}, this program reads version {VERSION}"
            )
        if code not in DTYPE_OF_CODE:
            raise self._damaged(self.index_path, 17, f"token type {code} is unknown")
        expected = HEADER.size + 12 * sequences + 8 * documents
        if size != expected:
            raise self._damaged(
                self.index_path, min(size, expected), f"{size:,} bytes, its header promises {expected:,}"
            )
        self.dtype = DTYPE_OF_CODE[code]
        index = np.memmap(self.index_path, np.uint8, "r")
        after_lengths = HEADER.size + 4 * sequences
        after_pointers = after_lengths + 8 * sequences
        self.sequence_lengths: NDArray[np.int32] = index[HEADER.size : after_lengths].view("<i4")
        pointers: NDArray[np.int64] = index[after_lengths:after_pointers].view("<i8")
        self.document_indices: NDArray[np.int64] = index[after_pointers:].view("<i8")
        total = self._check(pointers, after_lengths, after_pointers)
        self.offsets: NDArray[np.int64] = pointers // self.dtype.itemsize
        # A memory map of an empty file does not exist.
        self.tokens: NDArray[np.integer] = (
            np.memmap(self.bin_path, self.dtype, "r", shape=(total,)) if total else np.empty(0, self.dtype)
        )

    def _check(self, pointers: NDArray[np.int64], pointers_at: int, documents_at: int) -> int:
        """Tokens in `.bin`, after every length has been held against every other."""
        lengths = self.sequence_lengths
        if (wrong := np.flatnonzero(lengths < 0)).size:
            raise self._damaged(
                self.index_path, HEADER.size + 4 * int(wrong[0]), "a negative sequence length"
            )
        ends = np.cumsum(lengths, dtype=np.int64) * self.dtype.itemsize
        starts = ends - lengths.astype(np.int64) * self.dtype.itemsize
        if (wrong := np.flatnonzero(starts != pointers)).size:
            raise self._damaged(
                self.index_path,
                pointers_at + 8 * int(wrong[0]),
                f"sequence {int(wrong[0])} begins at {int(pointers[wrong[0]])}, "
                f"the lengths before it say {int(starts[wrong[0]])}",
            )
        borders = self.document_indices
        if not len(borders) or borders[0] != 0 or borders[-1] != len(lengths) or (np.diff(borders) < 0).any():
            raise self._damaged(
                self.index_path, documents_at, "the document borders are not 0 ... number of sequences"
            )
        promised = int(ends[-1]) if len(ends) else 0
        with os_errors_about(self.bin_path):
            size = self.bin_path.stat().st_size
        if size != promised:
            raise self._damaged(
                self.bin_path,
                min(size, promised),
                f"{size:,} bytes, {self.index_path.name} promises {promised:,}",
            )
        return promised // self.dtype.itemsize

    @staticmethod
    def _damaged(path: Path, offset: int, what: str) -> HainaError:
        return HainaError(
            f"{path}: at byte {offset}: {what}", "copy the shard again or run the shards stage again"
        )

    def __len__(self) -> int:
        return len(self.sequence_lengths)

    def __getitem__(self, index: int) -> NDArray[np.integer]:
        """Tokens [length] of one sequence, a read-only view."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.prefix}: sequence {index} of {len(self)}")
        start = int(self.offsets[index])
        return self.tokens[start : start + int(self.sequence_lengths[index])]
