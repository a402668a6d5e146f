"""Places in a question that its tokens do not show: quotations, the blank to be filled in, the sentence that asks.

Comes in: the text of a question and the byte spans of its tokens. Goes out: token numbers. Quoted words are
somebody else's and weak evidence; the text on both sides of a blank stands together only where the answer is
missing; the last sentence, and words such as `which` in it, are what makes a statement a question; phrases of
examiners say nothing.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from haina.corpus.dedup.shingles import tokenize_batch
from haina.corpus.utf8 import pack

Int64 = npt.NDArray[np.int64]

_QUOTED = re.compile(
    r"“[^“”]{4,}”|「[^「」]{4,}」|『[^『』]{4,}』|《[^《》]{4,}》|(?<!\w)\"[^\"\n]{12,}\"(?!\w)|‘[^‘’]{12,}’"
)
_BLANK = re.compile(r"_{2,}|[(（]\s*(?:\\?\$?\\quad\$?)?[\s　]*[)）]|[\[【]\s*[\]】]")
_SENTENCE_END = re.compile(r"[。！？!?；;]+[”’」』\"')）]*|\.(?=\s+[A-Z\"“(])|\n\s*")
_ASK_UNITS = 6


def _bytes_before(text: str, places: list[int]) -> list[int]:
    """UTF-8 bytes before each of some ascending character places."""
    out, last, total = [], 0, 0
    for place in places:
        total += len(text[last:place].encode("utf-8"))
        out.append(total)
        last = place
    return out


def quoted(text: str, starts: Int64) -> Int64:
    """Tokens inside quotation marks, unless everything is: int64."""
    spans = [match.span() for match in _QUOTED.finditer(text)]
    edges = _bytes_before(text, [edge for span in spans for edge in span])
    inside = [
        np.arange(*np.searchsorted(starts, (low, high)))
        for low, high in zip(edges[::2], edges[1::2], strict=True)
    ]
    found = np.concatenate([*inside, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    return found if len(found) < len(starts) else np.zeros(0, dtype=np.int64)


def blank_place(text: str, starts: Int64, ends: Int64) -> int:
    """The token after the first blank that is not at the end; -1 without such a blank."""
    for match in _BLANK.finditer(text):
        low, high = _bytes_before(text, list(match.span()))
        after = int(np.searchsorted(starts, high))
        if after < len(starts) and (after == 0 or ends[after - 1] <= low):
            return after
    return -1


def ask_start(text: str, starts: Int64, units: npt.NDArray[np.uint8]) -> int:
    """The token with which the last sentence of some length begins."""
    edges = _bytes_before(text, [match.end() for match in _SENTENCE_END.finditer(text)])
    for edge in reversed(edges):
        token = int(np.searchsorted(starts, edge))
        if int(units[token:].sum()) >= _ASK_UNITS:
            return token
    return 0


@cache
def _phrases(name: str) -> dict[int, list[tuple[int, ...]]]:
    """The phrases of a file as tokens, the longest first, by their first one."""
    data = yaml.safe_load(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    words = [
        *data["zh"].split(),
        *(data["en"].splitlines() if "\n" in data["en"].strip() else data["en"].split()),
    ]
    tokens = tokenize_batch(*pack(words))
    out: dict[int, list[tuple[int, ...]]] = {}
    for word in range(len(words)):
        sequence = tuple(tokens.hashes[tokens.documents[word] : tokens.documents[word + 1]].tolist())
        out.setdefault(sequence[0], []).append(sequence)
    return {first: sorted(sequences, key=len, reverse=True) for first, sequences in out.items()}


def _in_phrases(name: str, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    phrases = _phrases(name)
    found = np.zeros(len(hashes), dtype=np.bool_)
    values = hashes.tolist()
    for place in np.flatnonzero(np.isin(hashes, np.fromiter(phrases, dtype=np.uint64))).tolist():
        for sequence in phrases[values[place]]:
            if tuple(values[place : place + len(sequence)]) == sequence:
                found[place : place + len(sequence)] = True
                break
    return found


def frame_tokens(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which tokens belong to a word that asks (`frames.yaml`): bool [tokens]."""
    return _in_phrases("frames.yaml", hashes)


def habit_tokens(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which tokens belong to a phrase of examiners (`habits.yaml`): bool [tokens]."""
    return _in_phrases("habits.yaml", hashes)
