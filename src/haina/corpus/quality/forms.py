"""The same good text in another outward form: wrapped, listed, lower case, without its last full stop.

Comes in: a good passage. Goes out: the same words in a form that says nothing about quality. A training pair is given
one form before its bad half is made, so that a model cannot lean on what is only a habit of the sources it saw.
"""

from __future__ import annotations

import random
import re
import textwrap
from collections.abc import Callable

from haina.corpus.characters import HAN_CLASS
from haina.corpus.quality.corruptions import sentences

_HALF_WIDTH = str.maketrans("，。！？；：（）", ",.!?;:()")
_PLAIN_SHARE = 0.45


def _wrapped(text: str, language: str, rng: random.Random) -> str:
    if language == "en":
        return "\n".join(textwrap.fill(line, rng.choice((50, 64, 72, 80))) for line in text.split("\n"))
    width = rng.choice((20, 32, 40))
    return "\n".join(
        "\n".join(line[start : start + width] for start in range(0, len(line), width))
        for line in text.split("\n")
    )


def _joined(text: str, language: str, rng: random.Random) -> str:
    return re.sub(r"\s*\n\s*", "" if language == "zh" else " ", text)


def _one_a_line(text: str, language: str, rng: random.Random) -> str:
    return "\n".join(piece.strip() for piece in sentences(text, language) if piece.strip())


def _lower(text: str, language: str, rng: random.Random) -> str:
    return text.lower()


def _open_ended(text: str, language: str, rng: random.Random) -> str:
    return "\n".join(line.rstrip("。.；;！!") for line in text.split("\n"))


def _listed(text: str, language: str, rng: random.Random) -> str:
    mark = rng.choice(("- ", "• ", "* ", "{}. ", "({}) ", "{}、"))
    return "\n".join(
        mark.format(number) + line
        for number, line in enumerate(_one_a_line(text, language, rng).split("\n"), 1)
    )


def _other_width(text: str, language: str, rng: random.Random) -> str:
    if language == "zh":
        return text.translate(_HALF_WIDTH)
    return text.replace("'", "’") if rng.random() < 0.5 else text.replace(". ", ".  ")


def _headed(text: str, language: str, rng: random.Random) -> str:
    pieces = [piece.strip() for piece in re.split(r"[，。！？；,.!?;\n]", text) if len(piece.strip()) > 1]
    if not pieces:
        return text
    size = rng.randint(4, 16) if language == "zh" else rng.randint(15, 60)
    heading = rng.choice(pieces)[:size].strip()
    return f"{rng.choice(('', '', '# ', '1. ', '2.3. '))}{heading}\n{text}"


def _lively(text: str, language: str, rng: random.Random) -> str:
    marks = "！？" if language == "zh" else "!?"
    end = "。" if language == "zh" else r"\.(?=\s|$)"
    return re.sub(end, lambda match: rng.choice(marks) if rng.random() < 0.3 else match.group(), text)


def _spaced(text: str, language: str, rng: random.Random) -> str:
    return (
        text.replace("\n", "\n\n")
        if rng.random() < 0.5
        else re.sub(r"\n", "\n　　" if language == "zh" else "\n    ", text)
    )


def _lettered(text: str, language: str, rng: random.Random) -> str:
    """Names as letters, abbreviations and figures, as in exercises and technical text."""
    names = rng.sample(
        ("A", "B", "X", "Y", "K", "M", "API", "USB", "GDP", "Linux", "3", "12", "2008", "DNA", "T1", "iOS"), 4
    )
    pattern = (
        f"(?<=[{HAN_CLASS}])[{HAN_CLASS}]{{2}}(?=[{HAN_CLASS}])" if language == "zh" else r"\b[a-z]{6,}\b"
    )
    rate = rng.choice((0.03, 0.06, 0.12))
    return re.sub(pattern, lambda match: rng.choice(names) if rng.random() < rate else match.group(), text)


FORMS: tuple[Callable[[str, str, random.Random], str], ...] = (
    _wrapped,
    _joined,
    _one_a_line,
    _lower,
    _open_ended,
    _listed,
    _other_width,
    _headed,
    _lively,
    _spaced,
    _lettered,
    _lettered,
)


def restyled(text: str, language: str, rng: random.Random) -> str:
    """The text as it is, or in one or two other forms."""
    if rng.random() < _PLAIN_SHARE:
        return text
    for form in rng.sample(FORMS, rng.choice((1, 1, 2))):
        text = form(text, language, rng)
    return text.strip()
