"""A gzip or zstd file, member by member, with the byte offset of each and the truth about its end.

Comes in: an open file that can seek. Goes out: members (gzip members, zstd frames) whose unpacked bytes are drawn
in bounded chunks, and the gaps between them. A member that is truncated, corrupt or a bomb says so and does not
hide those after it: Python's gzip and most WARC readers stop at the first. After damage the next member is
searched for by its first bytes, and is one only if it unpacks to what `begins_well` accepts, since the same three
bytes also stand in the middle of compressed data.
Formats: RFC 1952 (gzip); RFC 8878 (zstd); archives keep one record in a member (WARC 1.1, annex D), and a
zstd archive may begin with a dictionary in a skippable frame (WARC zstd 1.0, IIPC).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

CHUNK = 64 << 10
# The three fixed bytes, and no reserved flag.
_GZIP_MAGIC = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]")
_ZSTD_MAGIC = re.compile(rb"\x28\xb5\x2f\xfd")
_DICTIONARY_MAGIC = b"\x5d\x2a\x4d\x18"
_BLOCK_BYTES = 128 << 10
_TRIAL_BYTES = 4096
# DEFLATE cannot give more than 1032 bytes for one; text gives 3 to 10, the emptiest of real pages some 50.
BOMB_RATIO = 100
_MAX_ZSTD_WINDOW = 1 << 27
# Members that turn out damaged are read in vain; a file made to have many of them is given up after this many times
# its size.
_VAIN_READS = 20


class GzipMember:
    """One gzip member.

    Attributes:
        offset: of its first byte in the file.
        end: of the byte after the last one used, once its end was reached.
        error: `truncated-gzip`, `corrupt-gzip` or `gzip-bomb` once its end is reached, empty if it ended well.
        broke_off: whether the data itself could not be decoded, rather than its checksum being wrong.
    """

    def __init__(self, file: BinaryIO, offset: int, bomb_bytes: int) -> None:
        self.file = file
        self.offset = offset
        self.end = offset
        self.error = ""
        self.broke_off = False
        self._decoder = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._position = offset
        self._unpacked = 0
        self._bomb_bytes = bomb_bytes
        self._finished = False

    def read_chunk(self) -> bytes:
        """Up to 64 KiB of unpacked bytes; empty at the end, well or badly."""
        while not self._finished:
            data = self._pending
            if not data:
                self.file.seek(self._position)
                data = self.file.read(CHUNK)
                self._position += len(data)
            before = self._decoder.copy()
            try:
                out = self._decoder.decompress(data, CHUNK)
            except zlib.error as error:
                self._finish("corrupt-gzip")
                self.broke_off = "check" not in str(error)
                return _up_to_damage(before, data)
            self._pending = self._decoder.unconsumed_tail
            self._unpacked += len(out)
            used = self._position - len(self._pending) - self.offset
            if self._decoder.eof:
                self._position -= len(self._decoder.unused_data)
                self._finish("")
            elif self._unpacked > self._bomb_bytes and self._unpacked > BOMB_RATIO * used:
                return self._finish("gzip-bomb")
            if out:
                return out
            if not data:
                return self._finish("truncated-gzip")
        return b""

    def _finish(self, error: str) -> bytes:
        self._finished = True
        self.error = error
        self.end = self._position
        return b""

    def drain(self) -> None:
        """Read to the end so that `end` and `error` are known."""
        while self.read_chunk():
            pass


def _up_to_damage(decoder: Any, data: bytes) -> bytes:
    """What `data` unpacks to before the byte that zlib refuses; zlib itself gives nothing of a refused piece."""
    parts: list[bytes] = []
    start, step = 0, 4096
    while step:
        before = decoder.copy()
        try:
            parts.append(decoder.decompress(data[start : start + step]))
            start += step
        except zlib.error:
            decoder, step = before, step // 16
        if start >= len(data):
            break
    return b"".join(parts)


class ZstdFrame:
    """One zstd frame, read block by block so that its end is known exactly and no call unpacks more than 128 KiB.

    The attributes are those of `GzipMember`, with errors named `truncated-zstd`, `corrupt-zstd` and `zstd-bomb`.
    """

    def __init__(self, file: BinaryIO, offset: int, bomb_bytes: int, dictionary: bytes = b"") -> None:
        self.file = file
        self.offset = offset
        self.end = offset
        self.error = ""
        self.broke_off = False
        self._dictionary = dictionary
        self._decoder: Any = None
        self._position = offset
        self._unpacked = 0
        self._bomb_bytes = bomb_bytes
        self._checksum = False
        self._finished = False

    def _header(self) -> bytes | None:
        self.file.seek(self.offset)
        head = self.file.read(18)
        if len(head) < 6:
            return None
        flags = head[4]
        single = bool(flags & 0x20)
        size = 5 + (not single) + (0, 1, 2, 4)[flags & 3] + (int(single), 2, 4, 8)[flags >> 6]
        self._checksum = bool(flags & 4)
        self._position = self.offset + size
        return head[:size] if len(head) >= size else None

    def _block(self) -> tuple[bytes, bool] | str:
        """The next block with its header, and whether it is the last; or the error."""
        self.file.seek(self._position)
        head = self.file.read(3)
        if len(head) < 3:
            return "truncated-zstd"
        value = int.from_bytes(head, "little")
        last, kind, size = bool(value & 1), value >> 1 & 3, value >> 3
        if kind == 3 or size > _BLOCK_BYTES:
            return "corrupt-zstd"
        stored = (1 if kind == 1 else size) + (4 if last and self._checksum else 0)
        body = self.file.read(stored)
        if len(body) < stored:
            return "truncated-zstd"
        self._position += 3 + stored
        return head + body, last

    def read_chunk(self) -> bytes:  # noqa: PLR0911 - one return a way to end
        """Up to 128 KiB of unpacked bytes; empty at the end, well or badly."""
        import zstandard

        if self._decoder is None and not self._finished:
            header = self._header()
            if header is None:
                return self._finish("truncated-zstd")
            try:
                known = zstandard.ZstdCompressionDict(self._dictionary) if self._dictionary else None
                self._decoder = zstandard.ZstdDecompressor(
                    dict_data=known, max_window_size=_MAX_ZSTD_WINDOW
                ).decompressobj()
                self._decoder.decompress(header)
            except zstandard.ZstdError:
                return self._finish("corrupt-zstd")
        while not self._finished:
            block = self._block()
            if isinstance(block, str):
                return self._finish(block)
            try:
                out = bytes(self._decoder.decompress(block[0]))
            except zstandard.ZstdError as error:
                self.broke_off = "checksum" not in str(error)
                return self._finish("corrupt-zstd")
            self._unpacked += len(out)
            if block[1]:
                self._finish("")
            elif self._unpacked > self._bomb_bytes and self._unpacked > BOMB_RATIO * (
                self._position - self.offset
            ):
                return self._finish("zstd-bomb")
            if out:
                return out
        return b""

    def _finish(self, error: str) -> bytes:
        self._finished = True
        self.error = error
        self.end = self._position
        return b""

    def drain(self) -> None:
        """Read to the end so that `end` and `error` are known."""
        while self.read_chunk():
            pass


Member = GzipMember | ZstdFrame


@dataclass(frozen=True)
class Gap:
    """Bytes between members that belong to none."""

    start: int
    end: int


class Packed:
    """A file of gzip members or zstd frames.

    Args:
        file: open, able to seek.
        size: bytes of the file.
        codec: `gzip` or `zstd`.
        begins_well: whether these first unpacked bytes (up to 4 KiB) are those of a member worth to go on from.
        bomb_bytes: unpacked bytes that a member may have at any ratio; above, it may have `BOMB_RATIO` times its
            packed ones.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        codec: Literal["gzip", "zstd"],
        begins_well: Callable[[bytes], bool],
        bomb_bytes: int,
    ) -> None:
        self.file = file
        self.size = size
        self.codec = codec
        self.begins_well = begins_well
        self.bomb_bytes = bomb_bytes
        self.dictionary = b""
        self.first = 0
        self._vain = 0
        if codec == "zstd":
            self._read_dictionary()

    def _read_dictionary(self) -> None:
        import zstandard

        self.file.seek(0)
        head = self.file.read(8)
        if not head.startswith(_DICTIONARY_MAGIC) or len(head) < 8:
            return
        length = int.from_bytes(head[4:], "little")
        if length > min(self.size, _MAX_ZSTD_WINDOW):
            return
        content = self.file.read(length)
        if _ZSTD_MAGIC.match(content):
            try:
                content = zstandard.ZstdDecompressor().decompress(content, max_output_size=16 << 20)
            except zstandard.ZstdError:
                return
        self.dictionary, self.first = content, 8 + length

    def member_at(self, offset: int) -> Member:
        """The member that begins at `offset`, whatever stands there."""
        if self.codec == "gzip":
            return GzipMember(self.file, offset, self.bomb_bytes)
        return ZstdFrame(self.file, offset, self.bomb_bytes, self.dictionary)

    def is_member(self, offset: int) -> bool:
        """Whether the fixed first bytes of a member stand at `offset`."""
        self.file.seek(offset)
        magic = _GZIP_MAGIC if self.codec == "gzip" else _ZSTD_MAGIC
        return bool(magic.match(self.file.read(4)))

    def first_bytes(self, offset: int, head: bytes = b"") -> bytes:
        """Some of the first bytes that a member would unpack to; empty where there is none."""
        if self.codec == "zstd":
            out = self.member_at(offset).read_chunk()
            self._vain += len(out)
            return out[:_TRIAL_BYTES]
        if not head:
            self.file.seek(offset)
            head = self.file.read(_TRIAL_BYTES)
        try:
            return zlib.decompressobj(wbits=31).decompress(head, _TRIAL_BYTES)
        except zlib.error:
            return b""

    def find(self, start: int) -> int:
        """Offset at or after `start` of the next member that begins well; the size of the file when there is none."""
        magic = _GZIP_MAGIC if self.codec == "gzip" else _ZSTD_MAGIC
        position = start
        while position < self.size and self._vain <= _VAIN_READS * self.size + (256 << 20):
            self.file.seek(position)
            window = self.file.read(1 << 20)
            if not window:
                break
            for hit in magic.finditer(window):
                head = window[hit.start() : hit.start() + _TRIAL_BYTES]
                if self.begins_well(
                    self.first_bytes(position + hit.start(), head if len(head) == _TRIAL_BYTES else b"")
                ):
                    return position + hit.start()
            # Four fixed bytes may lie across two windows.
            position += max(1, len(window) - 3)
        return self.size

    def after(self, member: Member) -> int:
        """Offset where reading goes on after a member that was drained."""
        if not member.error:
            return member.end
        self._vain += member.end - member.offset
        return self.find(member.offset + 1)

    def members(self) -> Iterator[Member | Gap]:
        """Every member of the file, damaged ones included, and the gaps; the caller may leave a member half read."""
        offset = self.first
        while offset < self.size:
            if not self.is_member(offset):
                following = self.find(offset)
                yield Gap(offset, following)
                offset = following
                continue
            member = self.member_at(offset)
            yield member
            member.drain()
            offset = self.after(member)


def find_codec(
    file: BinaryIO, size: int, name: str, begins_well: Callable[[bytes], bool]
) -> Literal["gzip", "zstd", ""]:
    """How a file is compressed, also when its beginning is damaged: by its first bytes, else by what they hold, else by
    its name, else by the first member that can be found in it.
    """
    codec = codec_of(file)
    head = file.read(_TRIAL_BYTES)
    file.seek(0)
    if codec or not head or begins_well(head):
        return codec
    lowered = name.lower()
    if lowered.endswith(".gz"):
        return "gzip"
    if lowered.endswith(".zst"):
        return "zstd"
    candidates: tuple[Literal["gzip", "zstd"], ...] = ("gzip", "zstd")
    for candidate in candidates:
        if Packed(file, size, candidate, begins_well, 1 << 20).find(0) < size:
            return candidate
    return ""


def codec_of(file: BinaryIO) -> Literal["gzip", "zstd", ""]:
    """How a file is compressed, by its first bytes; the position goes back to the start."""
    head = file.read(4)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstd" if _ZSTD_MAGIC.match(head) or head == _DICTIONARY_MAGIC else ""
