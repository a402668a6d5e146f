"""Lines and passages of text files, plain or compressed, in bounded memory.

Comes in: a file and a range of its bytes. Goes out: the lines that begin in the range (JSON lines), or the passages
that do (plain text). Where a line or passage begins depends on the file alone, so ranges can be read in any order by
anyone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from haina.runtime.errors import HainaError, from_os_error, os_errors_about

LINE_LIMIT = 256 << 20  # a longer line is counted, not held
PASSAGE_BYTES = 16 << 20
_LOOK_AHEAD = 1 << 20  # how far behind its due place a passage may end, to end with a line
_CHUNK = 1 << 20
_CODECS = {".gz": "gzip", ".zst": "zstd"}


class Stream(Protocol):
    """Bytes one after another."""

    def read(self, size: int) -> bytes: ...


def codec_of(path: Path) -> str | None:
    """The compression that a file's name tells, None for a plain file."""
    return _CODECS.get(path.suffix.lower())


@contextmanager
def open_stream(path: Path, start: int = 0) -> Iterator[Stream]:
    """The unpacked bytes of a file from `start` on; a compressed file is read from its beginning.

    Raises:
        HainaError: missing, not what its name says, or broken off; names the byte in the file near which that is.
    """
    with os_errors_about(path):
        path.open("rb").close()
    codec = codec_of(path)
    raw = pa.OSFile(str(path), "rb")
    try:
        if codec is None:
            raw.seek(start)
        yield raw if codec is None else pa.CompressedInputStream(raw, codec)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise from_os_error(error, path) from error
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise HainaError(
            f"{path}: near byte {raw.tell():,} of {raw.size():,}: {what}", "copy or compress the file again"
        ) from error
    finally:
        raw.close()


def read_lines(
    path: Path, start: int = 0, stop: int | None = None, limit: int = LINE_LIMIT
) -> Iterator[tuple[int, bytes | None, int]]:
    """(offset, line, bytes) of the lines that begin in bytes `start` to `stop` of the unpacked file, line feeds left
    out; `line` is None where it has more than `limit` bytes."""
    # The byte before tells whether a line begins at `start`.
    offset = max(0, start - 1)
    kept, length, line_start = bytearray(), 0, offset
    whole = start == 0
    with open_stream(path, offset) as stream:
        while chunk := stream.read(_CHUNK):
            at = 0
            while at < len(chunk):
                end = chunk.find(b"\n", at)
                piece = chunk[at : len(chunk) if end < 0 else end]
                length += len(piece)
                if whole and length <= limit:
                    kept += piece
                if end < 0:
                    break
                at = end + 1
                if whole:
                    yield line_start, bytes(kept) if length <= limit else None, length
                whole, line_start = True, offset + at
                kept, length = bytearray(), 0
                if stop is not None and line_start >= stop:
                    return
            offset += len(chunk)
        if whole and length:
            yield line_start, bytes(kept) if length <= limit else None, length


def _character_start(data: bytearray, place: int) -> int:
    while place < len(data) and data[place] & 0xC0 == 0x80:
        place += 1
    return place


def read_passages(path: Path, first: int = 0, count: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of passages `first` to `first + count` of the unpacked file.

    Passage n begins behind the first line end that follows byte n * PASSAGE_BYTES within `_LOOK_AHEAD` bytes; where
    there is none, at the first character from that byte on. A shorter file is one passage.
    """
    base = first * PASSAGE_BYTES
    with open_stream(path, base) as stream:
        data = bytearray()

        def place_of(due: int) -> int | None:
            """Where the passage due at `due` begins in `data`, None where the file ends before."""
            while len(data) < due + _LOOK_AHEAD and (chunk := stream.read(_CHUNK)):
                data.extend(chunk)
            if len(data) <= due:
                return None
            found = data.find(b"\n", due, due + _LOOK_AHEAD) + 1
            return found or _character_start(data, due)

        begin = 0 if first == 0 else place_of(0)
        number = first
        while begin is not None and (count is None or number < first + count):
            number += 1
            end = place_of(number * PASSAGE_BYTES - base)
            passage = bytes(data[begin:end])
            if passage:
                yield base + begin, passage
            if end is None:
                return
            del data[:end]
            base, begin = base + end, 0
