"""Megatron's indexed dataset: writes and reads `NAME.bin` and `NAME.idx`.

`.bin` is the tokens of all sequences, one after another. `.idx`, little-endian:

    9 bytes   magic `MMIDIDX\\0\\0`
    uint64    version, 1
    uint8     token type, see below
    uint64    number of sequences, S
    uint64    number of document borders, D
    int32  x S  length of each sequence, in tokens
    int64  x S  where it begins in `.bin`, in bytes
    int64  x D  number of the first sequence of each document, then S

Token types of the format: 1 uint8, 2 int8, 3 int16, 4 int32, 5 int64, 6 float64, 7 float32, 8 uint16. It has no uint32:
ids from 65,536 on are int32, which holds every vocabulary. We write 4 and 8, and read all integers.

Layout after NVIDIA/Megatron-LM, `megatron/core/datasets/indexed_dataset.py`. Here a sequence is a document.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

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
_CHECK_ROWS = 1 << 20  # checked at a time, so that an index larger than the memory can be opened


def token_dtype(vocab_size: int) -> np.dtype[np.generic]:
    """The smallest type Megatron writes that holds every id: uint16 below 65,536 ids, int32 from there on."""
    return np.dtype("<u2") if vocab_size < 65536 else np.dtype("<i4")


def shard_paths(prefix: Path) -> tuple[Path, Path]:
    """`PREFIX.bin` and `PREFIX.idx`; the prefix may hold dots."""
    return prefix.with_name(prefix.name + ".bin"), prefix.with_name(prefix.name + ".idx")


def as_tokens(
    name: Path | str, tokens: NDArray[np.integer], dtype: np.dtype[np.generic]
) -> NDArray[np.integer]:
    """The same tokens in `dtype`.

    Raises:
        HainaError: one does not fit; `name` is the file it was meant for.
    """
    if tokens.dtype == dtype or not tokens.size:
        return tokens.astype(dtype, copy=False)
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    for extreme in (int(tokens.min()), int(tokens.max())):
        if not limits.min <= extreme <= limits.max:
            raise HainaError(f"{name}: token {extreme} does not fit {dtype}", "use a wider token type")
    return np.ascontiguousarray(tokens, dtype)


def write_index(path: Path, lengths: NDArray[np.integer], dtype: np.dtype[np.generic]) -> None:
    """Write the `.idx` of sequences of `lengths` [S] tokens, each a document."""
    lengths = lengths.astype("<i4")
    ends = np.cumsum(lengths, dtype="<i8") * dtype.itemsize
    with os_errors_about(path), path.open("wb") as file:
        file.write(HEADER.pack(MAGIC, VERSION, CODE_OF_DTYPE[dtype], len(lengths), len(lengths) + 1))
        file.write(lengths.tobytes())
        file.write((ends - lengths * np.int64(dtype.itemsize)).astype("<i8").tobytes())
        file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())


def write_indexed(
    prefix: Path, sequences: Iterable[NDArray[np.integer]], dtype: np.dtype[np.generic]
) -> None:
    """Write `PREFIX.bin` and `PREFIX.idx` from `sequences`.

    Raises:
        HainaError: a token does not fit the type, or a file cannot be written.
    """
    dtype = np.dtype(dtype).newbyteorder("<")
    bin_path, index_path = shard_paths(prefix)
    if dtype not in CODE_OF_DTYPE:
        raise HainaError(f"{bin_path}: tokens of type {dtype}", "use uint16 or int32")
    lengths = []
    with os_errors_about(bin_path), bin_path.open("wb") as file:
        for sequence in sequences:
            file.write(as_tokens(bin_path, sequence, dtype).tobytes())
            lengths.append(len(sequence))
    write_index(index_path, np.array(lengths, np.int64), dtype)


class IndexedDataset:
    """Reads an indexed dataset through memory maps; tokens are not loaded until they are used.

    Opening reads the index once, in vector operations: all lengths, places and borders have to agree with each other
    and with the size of `.bin`.

    Args:
        prefix: path without `.bin` or `.idx`.

    Attributes:
        dtype: type of a token.
        total_tokens: tokens in all sequences.
        sequence_lengths: int32 [S], tokens in each sequence.
        pointers: int64 [S], where each sequence begins in `.bin`, in bytes.
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
            raise damaged(self.index_path, 0, f"not an indexed dataset ({size:,} bytes, no MMIDIDX header)")
        _, version, code, sequences, documents = HEADER.unpack(header)
        if version != VERSION:
            raise damaged(self.index_path, 9, f"version {version}, this program reads version {VERSION}")
        if code not in DTYPE_OF_CODE:
            raise damaged(self.index_path, 17, f"token type {code} is unknown, or of numbers that are no ids")
        expected = HEADER.size + 12 * sequences + 8 * documents
        if size != expected:
            raise damaged(
                self.index_path, min(size, expected), f"{size:,} bytes, its header promises {expected:,}"
            )
        self.dtype = DTYPE_OF_CODE[code]
        index = np.memmap(self.index_path, np.uint8, "r")
        after_lengths = HEADER.size + 4 * sequences
        after_pointers = after_lengths + 8 * sequences
        # Plain views: indexing a memmap makes a memmap each time, which takes longer than the read.
        plain = np.asarray(index)
        self.sequence_lengths: NDArray[np.int32] = plain[HEADER.size : after_lengths].view("<i4")
        self.pointers: NDArray[np.int64] = plain[after_lengths:after_pointers].view("<i8")
        self.document_indices: NDArray[np.int64] = plain[after_pointers:].view("<i8")
        self.total_tokens = self._check(after_lengths, after_pointers)

    @cached_property
    def tokens(self) -> NDArray[np.integer]:
        """All tokens [total], read-only, in the order of the sequences."""
        if not self.total_tokens:  # a memory map of an empty file does not exist
            return np.empty(0, self.dtype)
        with os_errors_about(self.bin_path):
            return np.asarray(np.memmap(self.bin_path, self.dtype, "r", shape=(self.total_tokens,)))

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """int64 [S], where each sequence begins in `tokens`."""
        return self.pointers // self.dtype.itemsize

    def _check(self, pointers_at: int, borders_at: int) -> int:
        """Tokens in `.bin`, after every length has been held against every other."""
        promised = self._check_sequences(pointers_at)
        borders = self.document_indices
        good = len(borders) > 0 and borders[0] == 0 and borders[-1] == len(self)
        for start in range(0, len(borders) - 1 if good else 0, _CHECK_ROWS):
            good &= bool((np.diff(borders[start : start + _CHECK_ROWS + 1]) >= 0).all())
        if not good:
            raise damaged(
                self.index_path, borders_at, "the document borders are not 0 ... number of sequences"
            )
        with os_errors_about(self.bin_path):
            size = self.bin_path.stat().st_size
        if size != promised:
            raise damaged(
                self.bin_path,
                min(size, promised),
                f"{size:,} bytes, {self.index_path.name} promises {promised:,}",
            )
        return promised // self.dtype.itemsize

    def _check_sequences(self, pointers_at: int) -> int:
        """Bytes that the sequences take, after lengths and pointers have been held against each other."""
        end = 0
        for first in range(0, len(self), _CHECK_ROWS):
            lengths = self.sequence_lengths[first : first + _CHECK_ROWS]
            if (wrong := np.flatnonzero(lengths < 0)).size:
                place = HEADER.size + 4 * (first + int(wrong[0]))
                raise damaged(self.index_path, place, "a negative sequence length")
            sizes = lengths.astype(np.int64) * self.dtype.itemsize
            ends = np.cumsum(sizes)
            starts = ends - sizes + end
            pointers = self.pointers[first : first + _CHECK_ROWS]
            if (wrong := np.flatnonzero(starts != pointers)).size:
                number = int(wrong[0])
                raise damaged(
                    self.index_path,
                    pointers_at + 8 * (first + number),
                    f"sequence {first + number} begins at {int(pointers[number])}, "
                    f"the lengths before it say {int(starts[number])}",
                )
            end += int(ends[-1])
        return end

    def __len__(self) -> int:
        return len(self.sequence_lengths)

    def __getitem__(self, index: int) -> NDArray[np.integer]:
        """Tokens [length] of one sequence, a read-only view."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.prefix}: sequence {index} of {len(self)}")
        start = int(self.pointers[index]) // self.dtype.itemsize
        return self.tokens[start : start + int(self.sequence_lengths[index])]


def damaged(path: Path, offset: int, what: str) -> HainaError:
    """What to say about a file of a shard that is not as it was written."""
    return HainaError(
        f"{path}: at byte {offset}: {what}", "copy the shard again, or run `haina shards write` again"
    )
