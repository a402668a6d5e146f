"""A gzip file, member by member, with the byte offset of each and the truth about its end.

Comes in: an open file. Goes out: members whose decompressed bytes are drawn in bounded chunks. A member that
is truncated or corrupt says so and does not hide those after it: Python's gzip and most WARC readers stop at
the first.
Format: RFC 1952; archives keep one record in a member (WARC 1.1, annex D).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

CHUNK = 64 << 10
MAGIC = b"\x1f\x8b\x08"


class GzipMember:
    """One member.

    Attributes:
        offset: of its first byte in the file.
        end: of the byte after it, once drawn whole.
        error: `truncated-gzip` or `corrupt-gzip` once its end is reached, empty if it ended well.
    """

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self.file = file
        self.offset = offset
        self.end = offset
        self.error = ""
        self._decoder = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._finished = False
        file.seek(offset)

    def read_chunk(self) -> bytes:
        """Up to 64 KiB of decompressed bytes; empty at the end, well or badly."""
        while not self._finished:
            data = self._pending or self.file.read(CHUNK)
            if not data:
                self._finish("truncated-gzip")
                return b""
            try:
                out = self._decoder.decompress(data, CHUNK)
            except zlib.error:
                self._finish("corrupt-gzip")
                return b""
            self._pending = self._decoder.unconsumed_tail
            if self._decoder.eof:
                self._finish("", len(self._decoder.unused_data))
            if out:
                return out
        return b""

    def _finish(self, error: str, unused: int = 0) -> None:
        self._finished = True
        self.error = error
        self.end = self.file.tell() - unused

    def drain(self) -> None:
        """Read to the end so that `end` and `error` are known."""
        while self.read_chunk():
            pass


def starts_gzip(file: BinaryIO) -> bool:
    """Whether the file begins with a gzip header; the position goes back to the start."""
    head = file.read(2)
    file.seek(0)
    return head == MAGIC[:2]


def find_member(file: BinaryIO, start: int, begins_well: Callable[[bytes], bool]) -> int | None:
    """Offset at or after `start` of the next member whose first decompressed bytes satisfy `begins_well`."""
    file.seek(start)
    base, window = start, b""
    while block := file.read(CHUNK):
        window += block
        search = 0
        while (hit := window.find(MAGIC, search)) >= 0:
            after = file.tell()
            if begins_well(GzipMember(file, base + hit).read_chunk()):
                return base + hit
            file.seek(after)
            search = hit + 1
        keep = len(MAGIC) - 1
        base += len(window) - keep if len(window) > keep else 0
        window = window[-keep:]
    return None


def gzip_members(file: BinaryIO, size: int, begins_well: Callable[[bytes], bool]) -> Iterator[GzipMember]:
    """Every member of the file, damaged ones included.

    After a damaged member the search goes on for the next one that `begins_well`; zero padding at the end is
    none. The caller may leave a member half read.
    """
    offset: int | None = 0
    while offset is not None and offset < size:
        file.seek(offset)
        head = file.read(CHUNK)
        if not head.strip(b"\0"):
            offset += len(head)
            continue
        member = GzipMember(file, offset)
        yield member
        member.drain()
        offset = find_member(file, offset + 1, begins_well) if member.error else member.end
