"""Text as arrays: UTF-8 bytes, code points and where each starts.

Comes in: texts, or an Arrow string array. Goes out: one buffer of bytes with offsets (the Arrow layout), and from
it code points with their byte offsets. Kernels downstream work on these arrays and never on Python strings.
Format: RFC 3629. Input is what `str.encode` gives, so it is valid; a lone surrogate must be cleaned away first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np
import numpy.typing as npt


def pack(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """UTF-8 bytes of all texts in one buffer: uint8 [bytes], and int64 [texts + 1] offsets into it.

    Raises:
        UnicodeEncodeError: a text holds a lone surrogate.
    """
    encoded = [text.encode("utf-8") for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(item) for item in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


@nb.njit(cache=True, nogil=True)
def decode_into(
    data: npt.NDArray[np.uint8], codes: npt.NDArray[np.uint32], starts: npt.NDArray[np.int32]
) -> int:
    """Decode `data` (uint8 [bytes], valid UTF-8); how many code points there were.

    `codes` and `starts` need room for as many entries as there are bytes, `starts` for one more: it is closed
    with the length of `data`.
    """
    count, place, size = 0, 0, len(data)
    while place < size:
        starts[count] = place
        first = np.uint32(data[place])
        if first < 0x80:
            codes[count] = first
            place += 1
        elif first < 0xE0:
            codes[count] = ((first & 0x1F) << 6) | (np.uint32(data[place + 1]) & 0x3F)
            place += 2
        elif first < 0xF0:
            codes[count] = (
                ((first & 0x0F) << 12)
                | ((np.uint32(data[place + 1]) & 0x3F) << 6)
                | (np.uint32(data[place + 2]) & 0x3F)
            )
            place += 3
        else:
            codes[count] = (
                ((first & 0x07) << 18)
                | ((np.uint32(data[place + 1]) & 0x3F) << 12)
                | ((np.uint32(data[place + 2]) & 0x3F) << 6)
                | (np.uint32(data[place + 3]) & 0x3F)
            )
            place += 4
        count += 1
    starts[count] = size
    return count


def decode(data: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32]]:
    """Code points uint32 [characters] of valid UTF-8, and byte offsets int32 [characters + 1], the end too."""
    codes = np.empty(len(data), dtype=np.uint32)
    starts = np.empty(len(data) + 1, dtype=np.int32)
    count = decode_into(data, codes, starts)
    return codes[:count], starts[: count + 1]
