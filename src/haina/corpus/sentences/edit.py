"""Take out what does not belong: bad sentences, lines and paragraphs inside good documents.

Comes in: text. Goes out: the text without them, and each removal as a span of UTF-8 bytes of the text before,
with its reason, score and unit. What is left reads on: a sentence goes with the blank behind it, a line with
its line end, and between what stood before and behind stays the wider of the two gaps. Cutting the spans out of
the bytes gives exactly the edited text. Repetition is not a matter of the model: sentences in a row that stood
in the document before go the second time, a single one only right behind itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from haina.corpus.sentences.model import CONTEXT, REASONS, SentenceModel, Sentences, shipped
from haina.corpus.utf8 import pack

# Bytes from which two sentences said again are a copy, not a refrain or cells of a table, and from which one said twice
# in a row is. Bytes, since a Han character (three) carries about what half an English word does.
_COPY_BYTES, _ECHO_BYTES = 96, 24
# A line is one thing: with this share of its units bad, and the rest not surely good, all of it goes.
_LINE_SHARE, _SURELY_GOOD = 0.6, -2.0
_BATCH_BYTES = 4_000_000  # bounds memory: about 40 bytes of working arrays a byte of text


class Edit(NamedTuple):
    """One removal.

    Attributes:
        byte_start, byte_end: bytes of the text before editing.
        reason: `boilerplate`, `navigation`, `advertisement`, `spam`, `garbled` or `repeated`.
        score: how sure, 0 to 1.
        unit: `sentence`, `line` or `paragraph`.
    """

    byte_start: int
    byte_end: int
    reason: str
    score: float
    unit: str


@dataclass(frozen=True)
class Edited:
    """A text after editing, and what was taken out of it, in order."""

    text: str
    edits: list[Edit]


def edit_document(text: str, language: str = "", *, model: SentenceModel | None = None) -> Edited:
    """Take bad sentences, lines and paragraphs out of one text; see `edit_documents`."""
    return edit_documents([text], [language], model=model)[0]


def edit_documents(
    texts: Sequence[str], languages: Sequence[str] | None = None, *, model: SentenceModel | None = None
) -> list[Edited]:
    """Take bad sentences, lines and paragraphs out of many texts.

    Args:
        texts: texts without lone surrogates.
        languages: of each text, as `identify_language` names it; texts in neither Chinese nor English
            (nor `mixed` or "", unknown) are left as they are: the model has not learnt them.
        model: another than the shipped one.

    Raises:
        ValueError: not as many languages as texts.
    """
    if languages is not None and len(languages) != len(texts):
        raise ValueError(f"{len(texts)} texts with {len(languages)} languages")
    chosen = model or shipped()
    results = [Edited(text, []) for text in texts]
    batch: list[int] = []
    size = 0
    for index, text in enumerate(texts):
        if languages is None or _known(languages[index]):
            batch.append(index)
            size += len(text)
        if batch and (size >= _BATCH_BYTES // 2 or index + 1 == len(texts)):
            for place, edited in _edit_batch([texts[place] for place in batch], chosen):
                results[batch[place]] = edited
            batch, size = [], 0
    if batch:
        for place, edited in _edit_batch([texts[place] for place in batch], chosen):
            results[batch[place]] = edited
    return results


def _known(language: str) -> bool:
    return language in ("", "en", "yue", "mixed") or language.startswith("zh")


def _edit_batch(texts: Sequence[str], model: SentenceModel) -> list[tuple[int, Edited]]:
    """The texts that change, by index."""
    data, offsets = pack(texts)
    found = model.measure(data, offsets)
    scores = model.score(found)
    bad = scores >= model.threshold
    copies = _copies(found)
    suspects = bad | copies
    changed = []
    lines = _lines_of(found, suspects)
    touched = np.unique(np.searchsorted(found.bounds, np.flatnonzero(suspects), side="right") - 1)
    for document in touched.tolist():
        low, high = np.searchsorted(lines.first, found.bounds[document : document + 2]).tolist()
        raw = data[offsets[document] : offsets[document + 1]].tobytes()
        edits = _edits_of(raw, int(offsets[document]), found, lines, low, high, scores, suspects, copies)
        place, kept = 0, []
        for edit in edits:
            kept.append(raw[place : edit.byte_start])
            place = edit.byte_end
        kept.append(raw[place:])
        changed.append((document, Edited(b"".join(kept).decode("utf-8"), edits)))
    return changed


def _copies(found: Sentences) -> npt.NDArray[np.bool_]:
    """Which sentences repeat earlier ones of their document: bool [sentences].

    One right behind itself, or a run of at least two that stood there in the same order: laws repeat single sentences.
    """
    count = len(found.starts)
    index = np.arange(count)
    if count < 2:
        return np.zeros(count, dtype=np.bool_)
    document = np.searchsorted(found.bounds, index, side="right") - 1
    order = np.lexsort((index, found.hashes, document))
    before = np.full(count, -1, dtype=np.int64)  # the last sentence like this one
    same = (found.hashes[order][1:] == found.hashes[order][:-1]) & (
        document[order][1:] == document[order][:-1]
    )
    before[order[1:][same]] = order[:-1][same]
    closed = found.context[:, CONTEXT.index("open")] == 0  # code and tables repeat lines, but end them openly
    sizes = found.at[found.ends] - found.at[found.starts]
    echo = (before == index - 1) & (before >= 0) & (sizes >= _ECHO_BYTES) & closed
    onward = np.zeros(count, dtype=np.bool_)  # this one and the next repeat two that follow each other
    onward[:-1] = (
        (before[:-1] >= 0)
        & (before[1:] == before[:-1] + 1)
        & (sizes[:-1] + sizes[1:] >= _COPY_BYTES)
        & (before[1:] != index[:-1])
        & closed[:-1]
        & closed[1:]
    )
    copies = onward.copy()
    copies[1:] |= onward[:-1]
    return np.asarray(copies | echo)


@dataclass(frozen=True)
class _Lines:
    """The lines of a batch that have sentences.

    Attributes:
        first, last: int64 [lines], their first and last sentence.
        start, end: int64 [lines], bytes of the batch.
        hit: bool [lines], whether any sentence is suspect.
        gone: bool [lines], whether the line goes as a whole.
    """

    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    hit: npt.NDArray[np.bool_]
    gone: npt.NDArray[np.bool_]


def _lines_of(found: Sentences, suspects: npt.NDArray[np.bool_]) -> _Lines:
    if not len(found.lines):
        none = np.zeros(0, dtype=np.int64)
        return _Lines(none, none, none, none, none.astype(np.bool_), none.astype(np.bool_))
    first = np.flatnonzero(np.concatenate([[True], np.diff(found.lines) != 0]))
    last = np.append(first[1:], len(found.lines)) - 1
    units = np.maximum(found.units, 0).astype(np.int64)
    bad = np.add.reduceat(np.where(suspects, units, 0), first)
    whole = np.logical_and.reduceat(suspects, first)
    # The surest good sentence of the line must not be sure.
    surest = np.minimum.reduceat(np.where(suspects, np.inf, found.margins), first)
    mostly = bad >= _LINE_SHARE * np.maximum(np.add.reduceat(units, first), 1)
    return _Lines(
        first,
        last,
        found.at[found.starts[first]].astype(np.int64),
        found.at[found.ends[last]].astype(np.int64),
        np.logical_or.reduceat(suspects, first),
        whole | (mostly & (surest > _SURELY_GOOD)),
    )


def _edits_of(
    raw: bytes,
    base: int,
    found: Sentences,
    lines: _Lines,
    low: int,
    high: int,
    scores: npt.NDArray[np.float32],
    suspects: npt.NDArray[np.bool_],
    copies: npt.NDArray[np.bool_],
) -> list[Edit]:
    """Edits of a document, whose lines are `low` to `high`."""
    starts, ends = (lines.start[low:high] - base).tolist(), (lines.end[low:high] - base).tolist()
    gone = lines.gone[low:high].tolist()

    def why(first: int, last: int) -> tuple[str, float]:
        """Reason and score of sentences `first` to `last`: of the surest, copies first."""
        own = slice(first, last + 1)
        if copies[own].all():
            return "repeated", 1.0
        best = first + int(np.argmax(scores[own]))
        if found.margins[best] < 0 and copies[best]:
            return "repeated", 1.0
        return REASONS[found.classes[best]], round(float(scores[best]), 4)

    def byte(points: npt.NDArray[np.int32], index: int) -> int:
        """Where a sentence starts or ends."""
        return int(found.at[points[index]]) - base

    edits: list[Edit] = []
    done = -1  # the last line that is dealt with
    for place in np.flatnonzero(lines.hit[low:high]).tolist():
        if place <= done:
            continue
        done = place
        first, end = int(lines.first[low + place]), int(lines.last[low + place])
        if gone[place]:
            while done + 1 < len(gone) and gone[done + 1]:
                done += 1
            groups = [
                (int(lines.first[low + line]), int(lines.last[low + line])) for line in range(place, done + 1)
            ]
            edits += _line_edits(raw, starts, ends, place, groups, why)
            continue
        index = first
        while index <= end:
            if not suspects[index]:
                index += 1
                continue
            last = index
            while last < end and suspects[last + 1]:
                last += 1
            # With the blank behind it; the last of a line, with the blank before it.
            if last < end:
                span = (byte(found.starts, index), byte(found.starts, last + 1))
            else:
                span = (byte(found.ends, index - 1), byte(found.ends, last))
            cuts = [span[0], *(byte(found.starts, inner) for inner in range(index + 1, last + 1)), span[1]]
            for offset, inner in enumerate(range(index, last + 1)):
                reason, score = why(inner, inner)
                edits.append(Edit(cuts[offset], cuts[offset + 1], reason, score, "sentence"))
            index = last + 1
    return edits


def _line_edits(
    raw: bytes,
    starts: list[int],
    ends: list[int],
    first: int,
    sentences: list[tuple[int, int]],
    why: Callable[[int, int], tuple[str, float]],
) -> list[Edit]:
    """Edits of a run of lines that go, a paragraph that goes as a whole as one.

    Args:
        raw: the document.
        starts, ends: bytes of each of its lines.
        first: of the lines that go.
        sentences: first and last sentence of each of them.
        why: reason and score of sentences first to last.
    """
    last = first + len(sentences) - 1
    before = ends[first - 1] if first else 0
    behind = starts[last + 1] if last + 1 < len(starts) else len(raw)
    start, end = starts[first], behind
    if last + 1 == len(starts) and first:
        start = before
    elif not first:
        start = 0
    elif raw.count(b"\n", ends[last], behind) > raw.count(b"\n", before, starts[first]):
        start, end = before, ends[last]

    def gap(place: int) -> bool:
        """Whether a paragraph begins at line `place`."""
        return place == 0 or raw.count(b"\n", ends[place - 1], starts[place]) > 1

    groups: list[tuple[int, int, str]] = []
    place = first
    while place <= last:
        inner = place
        while inner < last and not gap(inner + 1):
            inner += 1
        whole = inner > place and gap(place) and (inner + 1 == len(starts) or gap(inner + 1))
        if whole:
            groups.append((place, inner, "paragraph"))
        else:
            groups += [(single, single, "line") for single in range(place, inner + 1)]
        place = inner + 1
    cuts = [start, *(starts[group[0]] for group in groups[1:]), end]
    found = []
    for number, (low, high, unit) in enumerate(groups):
        reason, score = why(sentences[low - first][0], sentences[high - first][1])
        found.append(Edit(cuts[number], cuts[number + 1], reason, score, unit))
    return found
