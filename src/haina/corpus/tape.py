"""Bytes by position, for readers that sometimes have to look back.

Comes in: a file that can seek, or a function that draws chunks. Goes out: `at(offset, count)`. A drawn tape keeps
what lies after the last `forget`, so its memory is what the reader still needs: one record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

CHUNK = 64 << 10
_WINDOW = 1 << 20
_OVERLAP = 8 << 10
_GLANCE = 16


class Tape:
    """Random access to bytes; give `file` or `draw`.

    Attributes:
        seekable: whether any offset may be asked for; otherwise only those after the last `forget`.
    """

    def __init__(self, file: BinaryIO | None = None, draw: Callable[[], bytes] | None = None) -> None:
        self.file = file
        self.draw = draw
        self.seekable = file is not None
        self._buffer = bytearray()
        self._base = 0
        self._size = file.seek(0, 2) if file is not None else 0

    def at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer only at the end."""
        if self.file is not None:
            return self._at_file(self.file, offset, count)
        assert self.draw is not None
        want = offset + count - self._base
        while len(self._buffer) < want and (chunk := self.draw()):
            self._buffer += chunk
        return bytes(memoryview(self._buffer)[offset - self._base : max(0, want)])

    def _at_file(self, file: BinaryIO, offset: int, count: int) -> bytes:
        start = offset - self._base
        if start < 0 or start + count > len(self._buffer):
            if offset >= self._size:
                return b""
            file.seek(offset)
            # A look elsewhere must not cost the buffer that reading goes on in.
            if count > CHUNK or count <= _GLANCE:
                return file.read(count)
            self._buffer, self._base, start = bytearray(file.read(4 * CHUNK)), offset, 0
        return bytes(memoryview(self._buffer)[start : start + count])

    def forget(self, offset: int) -> None:
        """Nothing before `offset` will be asked for again."""
        drop = offset - self._base
        # Moving the rest down costs its length, so it waits until more is dropped than moved.
        if self.draw is not None and drop > max(CHUNK, len(self._buffer) - drop):
            del self._buffer[:drop]
            self._base = offset

    def find(self, pattern: re.Pattern[bytes], start: int, stop: int | None = None) -> int | None:
        """Offset of the first match of `pattern` (at most 8 KiB long) that begins in `start..stop`.

        Of a drawn tape everything before the place looked at is forgotten.
        """
        position, window = start, 2 * _OVERLAP
        while stop is None or position < stop:
            data = self.at(position, window)
            if (match := pattern.search(data)) and (match.end() < len(data) or len(data) < window):
                found = position + match.start()
                return found if stop is None or found < stop else None
            if len(data) < window:
                return None
            position += len(data) - _OVERLAP
            # The next start is near as a rule; where it is not, large steps are quicker.
            window = min(_WINDOW, 4 * window)
            self.forget(position)
        return None

    def skip_to(self, end: int) -> int:
        """Draw up to `end` without keeping; the offset that was reached, less than `end` at the end of the tape."""
        if self.seekable:
            return min(end, self._size)
        position = self._base
        while position < end:
            data = self.at(position, min(CHUNK, end - position))
            if not data:
                break
            position += len(data)
            self.forget(position)
        return position
