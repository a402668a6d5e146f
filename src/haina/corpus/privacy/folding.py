"""Full-width forms, exotic hyphens and spaces made plain, one character for one.

Comes in: text or UTF-8 bytes. Goes out: ASCII where a character stands for one, the character itself otherwise;
lengths in characters never change, so offsets hold. Forms: U+FF01 to U+FF5E (１ ＠ ： （ ...), the hyphens U+2010 to
U+2015 and U+2212, and the spaces U+00A0, U+2002, U+2003, U+2009, U+202F and U+3000.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

HYPHENS = (0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2015, 0x2212)
SPACES = (0xA0, 0x2002, 0x2003, 0x2009, 0x202F, 0x3000)
TRANSLATION = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(HYPHENS, 0x2D),
    **dict.fromkeys(SPACES, 0x20),
}
FOREIGN = 0x80


def fold(text: str) -> str:
    """The text with its full-width forms made plain; of the same length."""
    return text if text.isascii() else text.translate(TRANSLATION)


@nb.njit(cache=True, nogil=True)
def fold_at(data: npt.NDArray[np.uint8], place: int) -> tuple[int, int]:  # noqa: PLR0911 - one a form
    """(ASCII code, bytes) of the character that starts at `place`; FOREIGN for one that stands for no ASCII."""
    first = data[place]
    if first < 0x80:
        return int(first), 1
    left = len(data) - place
    if first == 0xC2 and left >= 2:
        return (0x20 if data[place + 1] == 0xA0 else FOREIGN), 2
    if first < 0xE0:
        return FOREIGN, min(2, left)
    if first >= 0xF0:
        return FOREIGN, min(4, left)
    if left < 3:
        return FOREIGN, left
    code = (int(first) & 0x0F) << 12 | (int(data[place + 1]) & 0x3F) << 6 | (int(data[place + 2]) & 0x3F)
    if 0xFF01 <= code <= 0xFF5E:
        return code - 0xFEE0, 3
    if first == 0xE2:
        if 0x2010 <= code <= 0x2015 or code == 0x2212:
            return 0x2D, 3
        if code in (0x2002, 0x2003, 0x2009, 0x202F):
            return 0x20, 3
    return (0x20 if code == 0x3000 else FOREIGN), 3
