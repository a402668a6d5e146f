"""What single characters tell about a language, as tables that kernels index by code point.

Comes in: OpenCC's conversions, Python's codecs for the national character sets and `markers.yaml`. Goes out: int8
tables. Nothing here is counted from a corpus but `shared_variants.yaml`, whose head says how.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

TABLE_SIZE = 0x32400
# A character that one script never uses is that many times the unit of `shared_variants.yaml` (one nat).
STRONG = 4
_HAN = (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *range(0x20000, 0x31350))


@cache
def markers() -> dict[str, str]:
    """The lists of `markers.yaml`."""
    data: dict[str, str] = yaml.safe_load(
        Path(__file__).with_name("markers.yaml").read_text(encoding="utf-8")
    )
    return data


@cache
def variant_table() -> npt.NDArray[np.int8]:
    """+1 for characters that only traditional text uses, -1 for simplified ones, 0 for those of both: int8
    [0x32400].

    A character that OpenCC changes on the way to simplified and leaves alone on the way to traditional is a
    traditional one, and the other way round. Those changed both ways (干, 后, 里, ...) tell nothing by themselves.
    """
    from opencc import OpenCC

    characters = "\n".join(map(chr, _HAN))
    to_simplified = OpenCC("t2s").convert(characters).split("\n")
    to_traditional = OpenCC("s2t").convert(characters).split("\n")
    table = np.zeros(TABLE_SIZE, dtype=np.int8)
    for code, simplified, traditional in zip(_HAN, to_simplified, to_traditional, strict=True):
        if simplified != chr(code) and traditional == chr(code):
            table[code] = 1
        elif simplified == chr(code) and traditional != chr(code):
            table[code] = -1
    table.setflags(write=False)
    return table


@cache
def script_weights() -> npt.NDArray[np.int8]:
    """Log-odds of traditional against simplified for each character, in nats: int8 [0x32400].

    What `variant_table` knows for sure, times `STRONG`, and how much more often the characters of both stand in one.
    """
    table: npt.NDArray[np.int8] = (variant_table() * np.int8(STRONG)).astype(np.int8)
    shared: dict[str, int] = yaml.safe_load(
        Path(__file__).with_name("shared_variants.yaml").read_text(encoding="utf-8")
    )
    for character, weight in shared.items():
        table[ord(character)] = weight
    table.setflags(write=False)
    return table


def _encodable(character: str, codec: str) -> bool:
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


@cache
def japanese_table() -> npt.NDArray[np.int8]:
    """+1 for characters that only Japanese text uses, -1 for those it does not, else 0: int8 [0x32400].

    The national character sets know: a kanji of JIS X 0208 that neither GB 2312 nor Big5 has (気, 図, 働, 込, 峠, and
    々) is Japanese. One that JIS X 0208 lacks is not, and neither is the old form of a character that Japan has
    simplified (會, 國, 氣): it stands in names and old books only.
    """
    from opencc import OpenCC

    to_new_form = OpenCC("t2jp")
    table = np.zeros(TABLE_SIZE, dtype=np.int8)
    for code in _HAN:
        character = chr(code)
        if not _encodable(character, "shift_jis"):
            table[code] = -1
        elif not _encodable(character, "gb2312") and not _encodable(character, "big5"):
            table[code] = 1
        elif to_new_form.convert(character) != character:
            table[code] = -1
    table[0x3005] = 1
    table.setflags(write=False)
    return table


@cache
def cantonese_table() -> npt.NDArray[np.int8]:
    """+1 for characters of written Cantonese, -1 for function characters of Mandarin, else 0: int8 [0x32400]."""
    table = np.zeros(TABLE_SIZE, dtype=np.int8)
    table[[ord(character) for character in markers()["cantonese_characters"]]] = 1
    table[[ord(character) for character in markers()["mandarin_characters"]]] = -1
    table.setflags(write=False)
    return table


@cache
def cantonese_words() -> npt.NDArray[np.int64]:
    """The Cantonese words of two characters, `first << 21 | second`, sorted: int64 [words]."""
    words = [word[:2] for word in markers()["cantonese_words"].split()]
    return np.unique(np.array([ord(word[0]) << 21 | ord(word[1]) for word in words], dtype=np.int64))


@cache
def cantonese_starts() -> npt.NDArray[np.bool_]:
    """Whether a character starts a word of `cantonese_words`: bool [0x32400]."""
    table = np.zeros(TABLE_SIZE, dtype=np.bool_)
    table[cantonese_words() >> 21] = True
    table.setflags(write=False)
    return table


def word_key(word: str) -> int:
    """A word of up to twelve small letters as one number, 5 bits a letter."""
    key = 0
    for letter in word:
        key = key << 5 | (ord(letter) - 96)
    return key


def _keys(name: str) -> npt.NDArray[np.int64]:
    words = markers()[name].split()
    return np.unique(np.array([word_key(word) for word in words if word.isalpha()], dtype=np.int64))


@cache
def english_words() -> npt.NDArray[np.int64]:
    """Keys of English function words, sorted: int64 [words]."""
    return _keys("english_words")


@cache
def english_core() -> npt.NDArray[np.int64]:
    """Keys of those that no other language shares, sorted: int64 [words]."""
    return _keys("english_core")


@cache
def latin_languages() -> frozenset[str]:
    """ISO codes of lid.176's languages in Latin letters."""
    return frozenset(markers()["latin_languages"].split())


class Tables(NamedTuple):
    """All that the counting kernel reads."""

    classes: npt.NDArray[np.uint8]
    scripts: npt.NDArray[np.int8]
    japanese: npt.NDArray[np.int8]
    cantonese: npt.NDArray[np.int8]
    cantonese_starts: npt.NDArray[np.bool_]
    cantonese_words: npt.NDArray[np.int64]
    english_words: npt.NDArray[np.int64]
    english_core: npt.NDArray[np.int64]


@cache
def tables() -> Any:
    """The tables, made once."""
    from haina.corpus.characters import class_table

    return Tables(
        class_table(),
        script_weights(),
        japanese_table(),
        cantonese_table(),
        cantonese_starts(),
        cantonese_words(),
        english_words(),
        english_core(),
    )
