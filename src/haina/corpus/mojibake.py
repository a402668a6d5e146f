"""Text that was decoded with the wrong encoding once, turned back where that is provable.

Comes in: text. Goes out: the text, repaired or as it was, and whether it was. Two ways to go wrong are turned back:
UTF-8 read as Latin-1 or Windows-1252 (`ä½ å¥½`, `donâ€™t`), found and decoded by ftfy (Speer 2019), and UTF-8 read as
GBK (`浣犲ソ`). What counts as proof:

1. the wrong text, encoded again, is valid UTF-8 over the whole of each piece that is changed;
2. decoding the result the wrong way gives exactly the wrong text again, so nothing is guessed;
3. the result is more plausible than what was there, by a margin, and holds no control or unassigned characters;
4. it is a habit of the document, not an example quoted in it: for GBK most of its foreign characters, for Latin-1 at
   least two pieces.

Correct text in Chinese, French, German or Vietnamese fails the first test: its bytes in those encodings are no UTF-8.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import numba as nb
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

# A first byte of UTF-8 and a following one, as Windows-1252 and Latin-1 show them.
_LATIN_PAIR = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d"
    "\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
)
# The commonest Han characters and full-width marks in UTF-8 begin with bytes that GBK shows as these.
_GBK_MARKS = "銆锛鐨涓鏄鍦浣鎴鏂鍥绗杩鏈浠缁鐢鍜濂鍙璇瀛鍚鏁"
_FOREIGN = re.compile("[^\x00-\x7f]+")
_GAIN = 0.3
_MIN_PIECES = 2


@cache
def _gbk_marks() -> npt.NDArray[np.bool_]:
    """Whether a code point is one of `_GBK_MARKS`: bool [0x10000]."""
    table = np.zeros(0x10000, dtype=np.bool_)
    table[[ord(mark) for mark in _GBK_MARKS]] = True
    return table


@nb.njit(cache=True, nogil=True)
def count_marks(data: npt.NDArray[np.uint8], marks: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """(characters U+00C0 to U+00FF, characters of `marks`) in valid UTF-8: whole pages pass here, and nearly all have
    too few of both to be looked at again."""
    latin = gbk = 0
    for place in range(len(data)):
        if data[place] == 0xC3:
            latin += 1
        elif data[place] & 0xF0 == 0xE0 and place + 2 < len(data):
            code = (
                ((np.uint32(data[place]) & 0x0F) << 12)
                | ((np.uint32(data[place + 1]) & 0x3F) << 6)
                | (np.uint32(data[place + 2]) & 0x3F)
            )
            gbk += marks[code]
    return latin, gbk


@cache
def _config() -> TextFixerConfig:
    """ftfy's settings without whatever guesses at bytes that are gone."""
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_encoding=True,
        restore_byte_a0=False,
        replace_lossy_sequences=False,
        decode_inconsistent_utf8=False,
        fix_c1_controls=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )


def _is_clean(text: str) -> bool:
    return not any(
        character < "\t"
        or "\x7f" <= character < "\xa0"
        or "\ue000" <= character <= "\uf8ff"
        or character == "\ufffd"
        for character in text
    )


def _more_plausible(repaired: str, before: str, gain: float) -> bool:
    from haina.corpus.encoding import plausibility

    return _is_clean(repaired) and plausibility(repaired) >= plausibility(before) + gain


def _from_latin(line: str) -> str:
    """A line with UTF-8 that was read as Latin-1 or Windows-1252 turned back, or the line as it was."""
    import ftfy

    repaired = ftfy.fix_encoding(line, _config())
    if repaired == line:
        return line
    wrong = repaired.encode("utf-8")
    for encoding in ("sloppy-windows-1252", "latin-1"):
        if wrong.decode(encoding) == line:
            return repaired if _more_plausible(repaired, line, 0.0) else line
    return line


def _repair_latin(text: str) -> str:
    pieces = _LATIN_PAIR.findall(text)
    if len(pieces) < _MIN_PIECES:
        return text
    return "".join(
        _from_latin(line) if _LATIN_PAIR.search(line) else line for line in text.splitlines(keepends=True)
    )


def _from_gbk(run: str) -> str | None:
    """A run of foreign characters with UTF-8 that was read as GBK turned back, None when it is not that."""
    try:
        wrong = run.encode("gb18030")
        repaired = wrong.decode("utf-8")
    except UnicodeError:
        return None
    if wrong.decode("gb18030") != run or not _more_plausible(repaired, run, _GAIN):
        return None
    return repaired


def _repair_gbk(text: str) -> str:
    parts: list[str] = []
    position = changed = foreign = 0
    for match in _FOREIGN.finditer(text):
        foreign += len(match[0])
        repaired = _from_gbk(match[0])
        if repaired is None:
            continue
        changed += len(match[0])
        parts += [text[position : match.start()], repaired]
        position = match.end()
    return "".join([*parts, text[position:]]) if changed * 2 > foreign and changed >= 3 else text


def repair_mojibake(text: str) -> tuple[str, bool]:
    """(text, whether it was repaired); text that is not provably mojibake comes back as it is."""
    if text.isascii():
        return text, False
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
    latin, gbk = count_marks(data, _gbk_marks())
    repaired = _repair_latin(text) if latin >= _MIN_PIECES else text
    if gbk >= _MIN_PIECES:
        repaired = _repair_gbk(repaired)
    return repaired, repaired != text
