"""Names of clusters: the terms that set their documents apart.

Comes in: texts. Goes out: terms, and for each cluster its best ones in Chinese and in English. A term of a Chinese text
is one to three neighbouring pieces of the encoder's unigram segmentation, two to four Han characters together: the
vocabulary is a word list that is always at hand, and how often a longer term is met tells whether a shorter one is only
a part of it. A term of an English text is a word. Traditional
characters are folded, so 電腦 and 电脑 are one term. The score is class-based TF-IDF (Grootendorst 2022,
arXiv:2203.05794) in shares of documents: the share of a class's documents that hold the term, times the logarithm of
how many times the share elsewhere that is. One long list does not name a cluster.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from haina.corpus.semantic.pieces import pieces_of_texts, read_piece_model, read_pieces
from haina.corpus.semantic.weights import resources
from haina.corpus.semantic.whole import simplified_characters
from haina.corpus.utf8 import pack

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, Language] = ("zh", "en")

READ_CHARACTERS = 1000
_LONGEST = 4
_JOINED = 3  # pieces in a term
_CANDIDATES = 60
_SAME = 0.75  # of the documents with a part hold the whole: the part is no term
_SPACE = "\u2581"
_WORD = re.compile(r"[a-z]+(?:['’-][a-z]+)*")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]+")


@lru_cache(maxsize=1)
def _tables() -> tuple[Any, list[str], Any]:
    """The piece model, the text of each piece without its space, and the simplified forms of traditional characters."""
    simplified = simplified_characters()
    fold = {code: int(other) for code, other in enumerate(simplified) if code != other}
    path = resources() / "sp.model"
    return read_piece_model(path), [piece.lstrip(_SPACE) for piece in read_pieces(path)], fold


@lru_cache(maxsize=1)
def _stop_words() -> dict[str, frozenset[str]]:
    """The lists of `stop_words.yaml`."""
    lists = yaml.safe_load((Path(__file__).parent / "stop_words.yaml").read_text(encoding="utf-8"))
    return {name: frozenset(words.split()) for name, words in lists.items()}


def is_chinese(text: str) -> bool:
    """Whether a text is to be named in Chinese: a Han character for every four Latin letters at least."""
    data = np.frombuffer(text.encode("utf-8", "ignore"), dtype=np.uint8)
    # The first of three bytes of U+4000 to U+9FFF; a letter of either case.
    han = int(np.count_nonzero((data >= 0xE4) & (data <= 0xE9)))
    latin = int(np.count_nonzero(((data | 0x20) >= ord("a")) & ((data | 0x20) <= ord("z"))))
    return han > 0 and 4 * han >= latin


def terms_of(texts: Sequence[str]) -> list[tuple[Language, set[str]]]:
    """The language and the terms of the beginning of each text."""
    model, names, fold = _tables()
    stop = _stop_words()
    out: list[tuple[Language, set[str]]] = []
    chinese: list[tuple[int, str]] = []
    for text in texts:
        start = text[:READ_CHARACTERS].encode("utf-8", "ignore").decode("utf-8")
        if is_chinese(start):
            chinese.append((len(out), start.translate(fold)))
            out.append(("zh", set()))
        else:
            words = {word for word in _WORD.findall(start.lower()) if len(word) > 2}
            out.append(("en", words - stop["en"]))
    if chinese:
        data, offsets = pack([text for _, text in chinese])
        pieces, starts = pieces_of_texts(data, offsets, model)
        for (place, _), first, end in zip(chinese, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            found = _chinese_terms([names[piece] for piece in pieces[first:end].tolist()], stop["zh_edges"])
            out[place] = ("zh", found - stop["zh"])
    return out


def _chinese_terms(pieces: Iterable[str], stop: frozenset[str]) -> set[str]:
    """Terms of two to four Han characters made of one to three pieces in a row."""
    found: set[str] = set()
    before: list[str] = []
    for piece in pieces:
        if not _HAN.fullmatch(piece):
            before = []
            continue
        before = [*before[1 - _JOINED :], piece]
        for start in range(len(before)):
            term = "".join(before[start:])
            if 2 <= len(term) <= _LONGEST and term[0] not in stop and term[-1] not in stop:
                found.add(term)
    return found


def best_terms(
    counts: dict[str, int], documents: int, all_counts: dict[str, int], all_documents: int, most: int
) -> list[str]:
    """Terms by score, equal ones in order of code points; none that is part of another or holds one.

    Args:
        counts: documents of the class that hold each term, of `documents`.
        all_counts: the same over all classes together, of `all_documents`.
        most: how many at most.
    """
    others = all_documents - documents
    scored = sorted(
        (-_score(count, documents, all_counts[term] - count, others), term)
        for term, count in counts.items()
        if count > 1 or documents <= 2
    )
    names = [term for _, term in scored[:_CANDIDATES]]
    chosen: list[str] = []
    for term in names:
        if len(chosen) == most:
            break
        if any(term in other and term != other and counts[other] >= _SAME * counts[term] for other in names):
            continue
        if not any(term in other or other in term for other in chosen):
            chosen.append(term)
    return chosen


def _score(count: int, documents: int, elsewhere: int, others: int) -> float:
    # Half a document more on either side, so that one chance meeting is no proof.
    inside, outside = (count + 0.5) / (documents + 1), (elsewhere + 0.5) / (others + 1)
    return count / documents * math.log(inside / outside)
