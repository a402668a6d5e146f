"""Exchange files: what one map task hands to every reducer, sorted by partition, with an index.

A task adds byte strings to numbered partitions in any order; memory stays bounded, since what goes beyond a
budget is spilled to an unnamed file in the same folder. A reducer reads its partition of every file without touching
the rest. One file a task instead of one a task and partition keeps the number of files linear.

Layout, all numbers little-endian uint64, all checksums XXH3:

    pieces      for each partition in turn: data of one or more adds, then the length of each add
    tables      for each partition: (offset, data bytes, adds, checksum) of each of its pieces
    directory   for each partition: offset of its table, pieces, data bytes, checksum of these and the table
    footer      magic, partitions, offset of the directory, bytes of the file, checksum of these

Everything that is read is under a checksum that is checked, so a damaged file is never taken for another one.
"""

from __future__ import annotations

import os
import struct
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

import xxhash

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.executor.locations import DamagedFile, Location, local_path, size

MAGIC = b"HAINAEX2"
PIECE_BYTES = 1 << 20
BUFFER_BYTES = 64 << 20
_FOOTER = struct.Struct("<8s4Q")
_ENTRY = struct.Struct("<4Q")
_TAIL_BYTES = 256 << 10
_ADD_COST = 8  # bytes held for the length of an add


class Buckets(Protocol):
    """Where an exchange task puts its data."""

    partitions: int

    def add(self, partition: int, data: Any) -> None:
        """Append bytes (anything with the buffer protocol) to a partition; each add comes back as one piece."""


def _sum(*parts: bytes | memoryview) -> int:
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return int(digest.intdigest())


class BucketWriter:
    """Collects adds and writes the exchange file.

    Args:
        path: the file to make. partitions: how many. buffer: bytes held before they are spilled.
    """

    def __init__(self, path: Path, partitions: int, buffer: int = BUFFER_BYTES) -> None:
        if partitions < 1:
            raise ValueError("an exchange needs at least one partition")
        self.path, self.partitions, self.buffer = path, partitions, buffer
        self._held = 0
        self._data = [bytearray() for _ in range(partitions)]
        self._lengths = [array("Q") for _ in range(partitions)]
        self._spill: IO[bytes] | None = None
        self._spilled: list[list[tuple[int, int, int]]] = [[] for _ in range(partitions)]

    def add(self, partition: int, data: Any) -> None:
        """Append `data` to `partition`.

        Raises:
            IndexError: there is no such partition.
        """
        if not 0 <= partition < self.partitions:
            raise IndexError(f"partition {partition} of {self.partitions}")
        view = memoryview(data)
        view = view.cast("B") if view.nbytes else memoryview(b"")  # an empty array cannot be cast
        self._data[partition] += view
        self._lengths[partition].append(len(view))
        self._held += len(view) + _ADD_COST
        if self._held > self.buffer:
            self._write_run()

    def _write_run(self) -> None:
        if self._spill is None:
            self._spill = tempfile.TemporaryFile(dir=self.path.parent, buffering=0)  # noqa: SIM115
        offset = self._spill.seek(0, os.SEEK_END)
        for partition in range(self.partitions):
            data, lengths = self._data[partition], self._lengths[partition]
            if lengths:
                packed = lengths.tobytes()
                _write_all(self._spill, data)
                _write_all(self._spill, packed)
                self._spilled[partition].append((offset, len(data), len(lengths)))
                offset += len(data) + len(packed)
                self._data[partition] = bytearray()
                self._lengths[partition] = array("Q")
        self._held = 0

    def _runs(self, partition: int) -> Iterator[tuple[memoryview, array[int]]]:
        for offset, held, adds in self._spilled[partition]:
            assert self._spill is not None
            self._spill.seek(offset)
            block = memoryview(_read_all(self._spill, held + 8 * adds))
            yield block[:held], array("Q", bytes(block[held:]))
        if self._lengths[partition]:
            yield memoryview(self._data[partition]), self._lengths[partition]

    def finish(self) -> None:
        """Write the file."""
        tables: list[list[tuple[int, int, int, int]]] = []
        with ExitStack() as stack:
            if self._spill is not None:
                stack.enter_context(self._spill)
            file = stack.enter_context(self.path.open("wb"))
            offset = 0
            for partition in range(self.partitions):
                table = []
                for data, lengths in self._runs(partition):
                    for piece, adds in _cut(data, lengths):
                        packed = adds.tobytes()
                        file.write(piece)
                        file.write(packed)
                        table.append((offset, len(piece), len(adds), _sum(piece, packed)))
                        offset += len(piece) + len(packed)
                tables.append(table)
            directory = []
            for partition, table in enumerate(tables):
                packed = b"".join(_ENTRY.pack(*entry) for entry in table)
                total = sum(entry[1] for entry in table)
                file.write(packed)
                directory.append((offset, len(table), total, _entry_sum(partition, offset, total, packed)))
                offset += len(packed)
            file.writelines(_ENTRY.pack(*entry) for entry in directory)
            end = offset + _ENTRY.size * self.partitions + _FOOTER.size
            head = _FOOTER.pack(MAGIC, self.partitions, offset, end, 0)[:-8]
            file.write(head + struct.pack("<Q", _sum(head)))


def _entry_sum(partition: int, offset: int, total: int, table: bytes) -> int:
    return _sum(struct.pack("<3Q", partition, offset, total), table)


def _write_all(file: IO[bytes], data: Any) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _read_all(file: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = file.read(count)
        if not part:
            raise OSError("the spilled data is gone")
        parts.append(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _cut(data: memoryview, lengths: array[int]) -> Iterator[tuple[memoryview, array[int]]]:
    """Pieces of whole adds, each of about `PIECE_BYTES` or one larger add."""
    first, start, end = 0, 0, 0
    for number, length in enumerate(lengths):
        if end > start and end + length - start > PIECE_BYTES:
            yield data[start:end], lengths[first:number]
            first, start = number, end
        end += length
    if first < len(lengths):
        yield data[start:end], lengths[first:]


class _Ranges:
    """Reads ranges of a file; of a remote one the last part is fetched at once, since all indices lie there."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self._path = local_path(location)
        self._descriptor = -1
        self._tail = b""
        if self._path is not None:
            self._descriptor = os.open(self._path, os.O_RDONLY)
            self.size = os.fstat(self._descriptor).st_size
        else:
            found = size(location)
            if found is None:
                raise FileNotFoundError(str(location))
            self.size = found
            self._tail = location.fs.cat_file(location.path, start=max(self.size - _TAIL_BYTES, 0))

    def read(self, offset: int, count: int) -> bytes:
        if self._path is not None:
            data = os.pread(self._descriptor, count, offset)
            while 0 < len(data) < count:  # one call gives 2 GiB at most
                more = os.pread(self._descriptor, count - len(data), offset + len(data))
                if not more:
                    break
                data += more
            return data
        start = self.size - len(self._tail)
        if offset >= start:
            return self._tail[offset - start : offset - start + count]
        return bytes(self.location.fs.cat_file(self.location.path, start=offset, end=offset + count))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _pieces(location: Location, partition: int) -> Iterator[tuple[memoryview, bytes]]:
    """Data and packed add lengths of each piece of a partition, checked."""
    damaged = DamagedFile(location, "not a whole exchange file")
    with os_errors_about(location):
        try:
            ranges = _Ranges(location)
        except FileNotFoundError as error:
            raise DamagedFile(location, "no such file or folder") from error
    try:
        with os_errors_about(location):
            footer = ranges.read(max(ranges.size - _FOOTER.size, 0), _FOOTER.size)
            if len(footer) < _FOOTER.size:
                raise damaged
            magic, partitions, start, end, check = _FOOTER.unpack(footer)
            if (magic, end, check) != (MAGIC, ranges.size, _sum(footer[:-8])):
                raise damaged
            if not 0 <= partition < partitions:
                raise HainaError(
                    f"{location}: holds {partitions} partitions, not number {partition}",
                    "delete it and run again",
                )
            entry = ranges.read(start + partition * _ENTRY.size, _ENTRY.size)
            if len(entry) < _ENTRY.size:
                raise damaged
            offset, pieces, total, check = _ENTRY.unpack(entry)
            if offset + pieces * _ENTRY.size > start:
                raise damaged
            table = ranges.read(offset, pieces * _ENTRY.size)
            if len(table) != pieces * _ENTRY.size or check != _entry_sum(partition, offset, total, table):
                raise damaged
        for place, held, adds, check in _ENTRY.iter_unpack(table):
            with os_errors_about(location):
                block = ranges.read(place, held + 8 * adds)
            if len(block) != held + 8 * adds or _sum(block) != check:
                raise damaged
            yield memoryview(block)[:held], block[held:]
    finally:
        ranges.close()


def iter_exchange(files: Iterable[Location], partition: int) -> Iterator[memoryview]:
    """Every add to `partition`, in the order of `files` and as added within one; about 1 MiB is held at a time.

    Raises:
        DamagedFile: a file is missing or not what was written; the executor then makes it again.
    """
    for location in files:
        for data, packed in _pieces(location, partition):
            start = 0
            for length in array("Q", packed):
                yield data[start : start + length]
                start += length


def iter_blocks(files: Iterable[Location], partition: int) -> Iterator[memoryview]:
    """Like `iter_exchange`, but adds joined to blocks of about 1 MiB: for records of a fixed width."""
    for location in files:
        for data, _ in _pieces(location, partition):
            yield data


def read_exchange(files: Iterable[Location], partition: int) -> list[bytes]:
    """The bytes that every exchange file holds for `partition`, one string a file, in the order of `files`."""
    return [b"".join(data for data, _ in _pieces(location, partition)) for location in files]
