"""The language that a document is counted and held out for.

In: the column `lang`, whatever wrote it, and the text where it says nothing. Out: a short name for each document that
is safe in a file name: `zh`, `en`, or the language's own.
"""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from haina.runtime.documents import LANGUAGE_GROUPS
from haina.runtime.parquet_rows import packed_strings

# A Chinese page keeps more than this among code, numbers and foreign names; English that quotes Chinese has less.
HAN_SHARE = 0.1
_NAME = re.compile(r"[a-z0-9]{1,16}")
_WORDS = {"zho": "zh", "chi": "zh", "cmn": "zh", "chinese": "zh", "eng": "en", "english": "en"}


def group_of(lang: str) -> str:
    """`zh`, `en`, or the language's own name: the first part of its tag (BCP 47); `other` for what is no tag."""
    if lang in LANGUAGE_GROUPS:
        return LANGUAGE_GROUPS[lang]
    first = re.split(r"[-_.@ ]", lang.strip().lower(), maxsplit=1)[0]
    name = LANGUAGE_GROUPS.get(first) or _WORDS.get(first, first)
    return name if _NAME.fullmatch(name) else "other"


def han_shares(texts: pa.Array) -> NDArray[np.float64]:
    """Share of the characters of each text [rows] that are Han: U+3400 to U+9FFF and U+20000 to U+3FFFF; 0 for an
    empty one."""
    data, places = packed_strings(texts)
    data, places = data[places[0] : places[-1]], places - places[0]
    # The lead byte of UTF-8 tells the block: E3 90 is U+3400, E4 to E9 are U+4000 to U+9FFF, F0 A0 is U+20000.
    han = (data >= 0xE4) & (data <= 0xE9)
    han[:-1] |= (data[:-1] == 0xE3) & (data[1:] >= 0x90)
    han[:-1] |= (data[:-1] == 0xF0) & (data[1:] >= 0xA0)
    first = (data & 0xC0) != 0x80
    runs = list(pairwise(places.tolist()))
    counts = np.array([[np.count_nonzero(mask[start:end]) for start, end in runs] for mask in (han, first)])
    return counts[0] / np.maximum(1, counts[1])


def languages(lang: pa.Array, texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """`lang` with what was null or empty decided from the text, and the group of each document; both strings [rows]."""
    unknown = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(lang), ""), True)
    if unknown.true_count:
        chinese = han_shares(texts.filter(unknown)) >= HAN_SHARE
        decided = pa.array(np.where(chinese, "zh", "en").tolist(), pa.string())
        lang = pc.replace_with_mask(lang, unknown, decided)
    coded = lang.dictionary_encode()
    groups = pa.array([group_of(name) for name in coded.dictionary.to_pylist()], pa.string())
    return lang, groups.take(coded.indices)
