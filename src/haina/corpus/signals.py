"""Measurements of a document, and which bounds it breaks.

Comes in: text and its language. Goes out: one number per signal of `SIGNAL_NAMES`, and the first bound that
does not hold. Signals are measurements, never decisions: they are written beside every document, so a
threshold can be changed later by reading Parquet. Most follow Gopher (Rae et al. 2021, appendix A) and
RedPajama-V2, with words counted so that Chinese has them: a Han character is a word, elsewhere a run of
letters and digits is.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from haina.corpus.characters import (
    CLASSES,
    DIGIT,
    HAN,
    HAN_CLASS,
    LATIN,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    classes_of,
    code_points,
)
from haina.corpus.config import SIGNAL_NAMES, Bounds

_WORD = re.compile(f"[{HAN_CLASS}]|[^\\W_{HAN_CLASS}]+")
# A line shorter than this says little: Han characters count double.
_SHORT_LINE = 30


@cache
def stop_words() -> dict[str, frozenset[str]]:
    """The words of `stop_words.yaml` by language group."""
    data = yaml.safe_load(Path(__file__).with_name("stop_words.yaml").read_text(encoding="utf-8"))
    return {group: frozenset(words.split()) for group, words in data.items()}


@cache
def _stop_characters() -> npt.NDArray[np.uint32]:
    return np.array(sorted(ord(word) for word in stop_words()["zh"]), dtype=np.uint32)


def words_of(text: str) -> list[str]:
    """Han characters one by one, otherwise runs of letters and digits: `用Python写` -> 用, Python, 写."""
    return _WORD.findall(text)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _line_signals(lines: list[str]) -> dict[str, float]:
    """Signals of the non-empty lines; a repeated line counts from its second time on."""
    counts = Counter(lines)
    characters = sum(map(len, lines))
    repeated = sum(count - 1 for count in counts.values())
    repeated_characters = sum(len(line) * (count - 1) for line, count in counts.items())
    short = sum(
        len(line) + (0 if line.isascii() else len(_HAN.findall(line))) < _SHORT_LINE for line in lines
    )
    return {
        "lines": len(lines),
        "mean_line_characters": _share(characters, len(lines)),
        "duplicate_line_share": _share(repeated, len(lines)),
        "duplicate_line_character_share": _share(repeated_characters, characters),
        "short_line_share": _share(short, len(lines)),
    }


_HAN = re.compile(f"[{HAN_CLASS}]")


def measure(text: str, language: str) -> dict[str, float]:
    """Every signal of a text; shares are of its characters without white space unless their meaning says
    otherwise.

    Args:
        text: the document.
        language: code that chooses the list of stop words: zh-* the Chinese one, any other the English one.
    """
    raw = text.encode("utf-8")
    codes = code_points(text)
    kinds = classes_of(codes)
    counts = np.bincount(kinds, minlength=CLASSES)
    visible = len(codes) - int(counts[SPACE])
    words = words_of(text)
    lowered = [word.lower() for word in words]
    # A pair that occurs once repeats nothing.
    top_pair = max(Counter(pairwise(lowered)).values(), default=0)
    top_pair = top_pair if top_pair > 1 else 0
    han = int(counts[HAN])
    if language.startswith("zh"):
        stop_share = _share(int(np.isin(codes, _stop_characters()).sum()), han)
    else:
        stop_share = _share(sum(word in stop_words()["en"] for word in lowered), len(words))
    values: dict[str, float] = {
        "bytes": len(raw),
        "characters": len(text),
        "words": len(words),
        "mean_word_characters": _share(sum(map(len, words)), len(words)),
        "han_share": _share(han, visible),
        "latin_share": _share(int(counts[LATIN]), visible),
        "digit_share": _share(int(counts[DIGIT]), visible),
        "symbol_share": _share(int(counts[SYMBOL]), visible),
        "punctuation_share": _share(int(counts[PUNCTUATION]), visible),
        "stop_word_share": stop_share,
        "top_2gram_share": _share(top_pair, max(1, len(words) - 1)),
        "compression_ratio": _share(len(raw), len(zlib.compress(raw, 1))),
        **_line_signals([line for line in map(str.strip, text.split("\n")) if line]),
    }
    return {name: values[name] for name in SIGNAL_NAMES}


def first_broken(values: dict[str, float], bounds: dict[str, Bounds]) -> tuple[str, str] | None:
    """(signal, evidence) of the first bound that does not hold, as ("characters", "12 < 50"), or None."""
    for name, bound in bounds.items():
        value = values[name]
        if bound.min is not None and value < bound.min:
            return name, f"{value:.4g} < {bound.min:g}"
        if bound.max is not None and value > bound.max:
            return name, f"{value:.4g} > {bound.max:g}"
    return None
