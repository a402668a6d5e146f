"""Where in a text which language stands.

Comes in: text. Goes out: contiguous spans of characters that cover it. Each piece says how likely it is in each
language; the best sequence of languages is found by Viterbi's algorithm with a price on every change, so a name or a
short line between two Chinese paragraphs stays with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from haina.corpus.language.identify import LANGUAGES, weigh
from haina.corpus.language.pieces import VISIBLE

# A change of language costs as much as so many letters of certain evidence; a piece speaks for at most MOST letters.
CHANGE = 16.0
MOST = 80.0


@dataclass(frozen=True)
class Segment:
    """Characters `start` to `end` of a text and their language (one of `LANGUAGES`), confidence 0 to 1."""

    start: int
    end: int
    language: str
    confidence: float


def identify_segments(text: str) -> list[Segment]:
    """Spans in one language each, in order, from 0 to len(text); an empty text has none."""
    if not text:
        return []
    evidence = weigh(text, every_piece=True)
    shares, starts = evidence.shares, evidence.starts
    letters = np.maximum(
        evidence.weights,
        np.where(shares[:, LANGUAGES.index("code")] > 0.5, 1.0, 0.0) * evidence.rows[:, VISIBLE],
    )
    letters = np.where(shares.sum(axis=1) > 0, np.minimum(letters, MOST), 0.0)
    if not letters.any():
        return [Segment(0, len(text), "other", 0.5)]
    gains = shares * letters[:, None]
    pieces, languages = gains.shape
    back = np.zeros((pieces, languages), dtype=np.int8)
    best = gains[0].copy()
    for piece in range(1, pieces):
        top = int(best.argmax())
        changed = best[top] - CHANGE
        stays = best >= changed
        back[piece] = np.where(stays, np.arange(languages), top)
        best = np.where(stays, best, changed) + gains[piece]
    path = np.zeros(pieces, dtype=np.int64)
    path[-1] = int(best.argmax())
    for piece in range(pieces - 1, 0, -1):
        path[piece - 1] = back[piece, path[piece]]
    borders = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), pieces]
    found = []
    for low, high in pairwise(borders):
        language = int(path[low])
        total = float(letters[low:high].sum())
        sure = float(gains[low:high, language].sum()) / total if total else 0.0
        found.append(Segment(int(starts[low]), int(starts[high]), LANGUAGES[language], min(1.0, sure)))
    return found
