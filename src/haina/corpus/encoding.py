"""Bytes of a page to text.

Comes in: bytes, and what the transport said about them. Goes out: text and the name of the encoding, or
`Undecodable`.
Order: byte-order mark, HTTP header, `<meta charset>`, strict UTF-8, detection. A declared encoding that does
    not decode falls through to the next. Labels as the WHATWG Encoding Standard reads them: gb2312 and gbk
    are GB18030, iso-8859-1 is windows-1252. Detection decodes strictly with each candidate and takes the most
    plausible text.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from haina.corpus.characters import (
    HAN,
    HANGUL,
    KANA,
    LATIN,
    LETTER,
    OTHER,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    classes_of,
    code_points,
)
from haina.corpus.mojibake import repair_mojibake

_ALIASES = {
    "gb2312": "gb18030", "gbk": "gb18030", "gb_2312-80": "gb18030", "x-gbk": "gb18030", "cp936": "gb18030",
    "windows-936": "gb18030", "chinese": "gb18030", "hz-gb-2312": "hz", "big5": "big5hkscs", "big5-hkscs":
    "big5hkscs", "x-x-big5": "big5hkscs", "cn-big5": "big5hkscs", "cp950": "big5hkscs", "iso-8859-1":
    "cp1252", "iso8859-1": "cp1252", "latin1": "cp1252", "latin-1": "cp1252", "ascii": "cp1252", "us-ascii":
    "cp1252", "windows-1252": "cp1252", "iso-8859-15": "iso8859-15", "utf8": "utf-8", "unicode": "utf-16-le",
    "utf-16": "utf-16-le", "shift_jis": "cp932", "x-sjis": "cp932", "sjis": "cp932", "ks_c_5601-1987":
    "cp949", "euc-kr": "cp949",
}  # fmt: skip
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
          (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip
_CANDIDATES = ("gb18030", "big5hkscs", "utf-16-le", "utf-16-be", "cp932", "euc_jp", "cp949", "cp1252")
_META = re.compile(rb"""<meta[^>]{0,300}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.\-]{2,40})""", re.IGNORECASE)
_XML = re.compile(
    rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_:.\-]{2,40})["']""", re.IGNORECASE
)
# Detection needs no more than this to choose; the whole must then decode.
_PROBE_BYTES = 64 << 10
# Share of replaced characters: a wrong guess at UTF-8 replaces half of them, one at GBK or Big5 a few in a hundred.
_TOLERATED_DAMAGE = {"utf-8": 0.02}
_TOLERATED_ELSE = 0.005
# A declaration is believed unless another encoding makes this much more sense of the bytes.
_DOUBT = 0.3
_PLAUSIBLE = 0.3
_SENSIBLE = 0.8
_SINGLE_BYTE = ("cp1252", "iso8859-15")


class UndecodableError(ValueError):
    """No encoding turns the bytes into plausible text."""


@dataclass(frozen=True)
class Decoded:
    """Text, the Python name of the encoding it was in, and whether mojibake in it was repaired."""

    text: str
    encoding: str
    repaired: bool = False


def codec_name(label: str) -> str | None:
    """Python codec for a charset label, None for an unknown one: `GBK` -> `gb18030`."""
    label = label.strip().lower()
    name = _ALIASES.get(label, label)
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    return _ALIASES.get(info.name, info.name) if info._is_text_encoding else None


def declared_in(data: bytes) -> str | None:
    """Charset label that the first 4 KiB of a page declare in `<meta>` or the XML declaration."""
    match = _META.search(data[:4096]) or _XML.match(data[:200])
    return match[1].decode("ascii") if match else None


@cache
def _common_han() -> npt.NDArray[np.bool_]:
    """Whether a code point is among the everyday characters of GB 2312 or Big5: bool [0x10000]."""
    table = np.zeros(0x10000, dtype=bool)
    for leads, trails, codec in (
        (range(0xB0, 0xD8), range(0xA1, 0xFF), "gb2312"),
        (range(0xA4, 0xC7), range(0x40, 0xFF), "big5"),
    ):
        raw = b"".join(
            bytes((lead, trail)) for lead in leads for trail in trails if not 0x7F <= trail <= 0xA0
        )
        table[[ord(character) for character in raw.decode(codec, "ignore") if ord(character) >= 0x4E00]] = (
            True
        )
    return table


# The most frequent characters count twice: wrong decodings give everyday characters too, but seldom these.
_FREQUENT = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么"
    "去法学如都同现当没动面起看定天分还进好小部其些主样理心本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又"
    "關點業見兩間樣與開問進動還點這個們來為國時說會對過發後裡經麼學現當沒從無長機數據設選項檔案"
)  # fmt: skip


def plausibility(text: str) -> float:
    """How much a text looks like one that somebody wrote: about 1 for prose, below 0 for a wrong decoding.

    The mean over characters of a weight: everyday Han 1, frequent Han 2, ASCII 1, rare Han -1, private use,
    control and unassigned -4, replacement characters -4; a Latin letter beyond ASCII 1 between ASCII letters
    and -1 beside another.
    """
    if not text:
        return 0.0
    codes = code_points(text)
    kinds = classes_of(codes)
    weight = np.where(kinds == LETTER, 0.6, 0.0)
    low = np.minimum(codes, 0xFFFF)
    weight[kinds == HAN] = -1.0
    common = (kinds == HAN) & _common_han()[low] & (codes <= 0xFFFF)
    weight[common] = 1.0
    weight[np.isin(codes, np.array(sorted(ord(character) for character in _FREQUENT), dtype=np.uint32))] = 2.0
    weight[(kinds == KANA) & ((codes < 0xFF66) | (codes > 0xFF9F))] = 1.0
    weight[(kinds == HANGUL) & (codes >= 0xAC00)] = 0.8
    weight[codes < 0x80] = 1.0
    weight[((codes >= 0x2010) & (codes <= 0x2026)) | ((codes >= 0x3000) & (codes <= 0x3011))] = 1.0
    weight[(codes >= 0xFF01) & (codes <= 0xFF5E)] = 0.8
    far_latin = (codes >= 0xA0) & (codes < 0x250) & np.isin(kinds, (LATIN, PUNCTUATION, SYMBOL, SPACE))
    beside = np.zeros(len(codes), dtype=bool)
    beside[1:] |= far_latin[:-1]
    beside[:-1] |= far_latin[1:]
    weight[far_latin] = np.where(beside[far_latin], -1.0, 0.8)
    weight[(kinds == OTHER) | (codes == 0xFFFD)] = -4.0
    return float(weight.mean())


def _strict(data: bytes, encoding: str) -> str | None:
    """Text if every byte decodes; a last character cut in half by truncation does not count against it."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    try:
        text = decoder.decode(data, final=False)
    except (UnicodeError, ValueError):
        return None
    # In a text that is ASCII otherwise, half a character at the end is a whole one of another encoding.
    return None if text.isascii() and decoder.getstate()[0] else text


def _utf16_order(data: bytes) -> str | None:
    """Byte order of UTF-16 without a mark, by where the zero bytes of its ASCII part stand."""
    probe = np.frombuffer(data[: min(len(data), _PROBE_BYTES) & ~1], dtype=np.uint8)
    if len(probe) < 4:
        return None
    even, odd = float((probe[::2] == 0).mean()), float((probe[1::2] == 0).mean())
    if odd > 0.1 and odd > 4 * even:
        return "utf-16-le"
    return "utf-16-be" if even > 0.1 and even > 4 * odd else None


def _strangeness(text: str, encoding: str) -> float:
    """0.5 for Chinese without the words that all Chinese has: Japanese or Korean bytes give everyday characters too."""
    if encoding not in ("gb18030", "big5hkscs"):
        return 0.0
    han = [character for character in text if "\u4e00" <= character <= "\u9fff"]
    return 0.5 if len(han) >= 20 and sum(map(_FREQUENT.__contains__, han)) < 0.04 * len(han) else 0.0


def _detect(data: bytes) -> Decoded | None:
    """The most plausible of the candidates, if it is plausible at all."""
    best: tuple[float, Decoded] | None = None
    for encoding in _CANDIDATES:
        if encoding.startswith("utf-16") and len(data) % 2:
            continue
        if _strict(data[: _PROBE_BYTES & ~1], encoding) is None:
            continue
        text = _strict(data, encoding)
        if text is None:
            continue
        score = plausibility(text[:_PROBE_BYTES]) - _strangeness(text[:_PROBE_BYTES], encoding)
        if best is None or score > best[0]:
            best = (score, Decoded(text, encoding))
    return best[1] if best and best[0] >= _PLAUSIBLE else None


def _tolerant(data: bytes, encodings: list[str]) -> Decoded | None:
    """A text with a few damaged bytes (at most 2 % of its characters in UTF-8, 0.5 % else), which become U+FFFD."""
    for encoding in encodings:
        text = data.decode(encoding, "replace")
        damaged = text.count("\ufffd")
        foreign = sum(character > "\x7f" for character in text[:_PROBE_BYTES])
        if (
            damaged <= _TOLERATED_DAMAGE.get(encoding, _TOLERATED_ELSE) * len(text)
            and damaged * 4 <= foreign
            and plausibility(text[:_PROBE_BYTES]) >= _PLAUSIBLE
        ):
            return Decoded(text, encoding)
    return None


def decode(data: bytes, charset: str | None = None, *, is_html: bool = True) -> Decoded:
    """Text of a page's bytes; mojibake that was in them is repaired where that is provable.

    Args:
        data: the page.
        charset: label from the HTTP header, if there was one.
        is_html: whether to look for a declaration inside.

    Raises:
        UndecodableError: no encoding gives plausible text.
    """
    found = _decoded(data, charset, is_html)
    text, repaired = repair_mojibake(found.text)
    return replace(found, text=text, repaired=True) if repaired else found


def _decoded(data: bytes, charset: str | None, is_html: bool) -> Decoded:  # noqa: PLR0911, PLR0912 - one step a source
    for mark, encoding in _MARKS:
        if data.startswith(mark) and (text := _strict(data[len(mark) :], encoding)) is not None:
            return Decoded(text, encoding)
    declared: list[str] = []
    for label in (charset, declared_in(data) if is_html else None):
        name = codec_name(label) if label else None
        # A page that could be read far enough to find the declaration is not in UTF-16 (WHATWG: treat as
        # UTF-8).
        if name is not None and name.startswith("utf-16") and label is not charset:
            name = "utf-8"
        if name is not None and name not in declared:
            declared.append(name)
    utf8 = _strict(data, "utf-8")
    if utf8 is not None and "\0" in utf8 and (order := _utf16_order(data)):
        text = _strict(data, order)
        if text is not None and plausibility(text[:_PROBE_BYTES]) >= _PLAUSIBLE:
            return Decoded(text, order)
    for name in declared:
        # Valid UTF-8 is never an accident; every other label may be one (only the 7-bit ones leave pure ASCII).
        if utf8 is not None and (not utf8.isascii() or name in _SINGLE_BYTE):
            continue
        text = _strict(data, name)
        if text is None:
            continue
        sense = plausibility(text[:_PROBE_BYTES])
        if name not in _SINGLE_BYTE and sense >= _SENSIBLE:
            return Decoded(text, name)
        if name in _SINGLE_BYTE and sense < _PLAUSIBLE:
            continue
        other = _detect(data)
        if other is None or plausibility(other.text[:_PROBE_BYTES]) < sense + _DOUBT:
            return Decoded(text, name)
        return other
    if utf8 is not None and utf8.count("\0") <= len(utf8) // 10:
        return Decoded(utf8, "utf-8")
    found = (
        _tolerant(data, ["utf-8"]) or _detect(data) or _tolerant(data, [*declared, "gb18030", "big5hkscs"])
    )
    if found is None:
        raise UndecodableError(
            f"{len(data)} bytes, declared {' and '.join(declared) or 'nothing'}, fit no encoding"
        )
    return found
