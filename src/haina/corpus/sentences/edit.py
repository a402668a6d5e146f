"""Take out what does not belong: bad sentences, lines and paragraphs inside good documents.

Comes in: text. Goes out: the text without them, and each removal as a span of UTF-8 bytes of the text before,
with its reason, score and unit. What is left reads on: a sentence goes with the blank behind it, a line with
its line end, and between what stood before and behind stays the wider of the two gaps. Cutting the spans out of
the bytes gives exactly the edited text. Repetition is not a matter of the model: sentences in a row that stood
in the document before go the second time, a single one only right behind itself.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    touched = np.unique(np.searchsorted(found.bounds, np.flatnonzero(suspects), side="right") - 1)
    for document in touched.tolist():
        low, high = int(found.bounds[document]), int(found.bounds[document + 1])
        raw = data[offsets[document] : offsets[document + 1]].tobytes()
        edits = _edits_of(raw, int(offsets[document]), found, low, high, scores, suspects, copies)
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


@dataclass
class _Line:
    """A line of a document: first and last sentence, whether it goes as a whole, bytes in its text."""

    first: int
    last: int
    start: int
    end: int
    gone: bool


def _edits_of(
    raw: bytes,
    base: int,
    found: Sentences,
    low: int,
    high: int,
    scores: npt.NDArray[np.float32],
    suspects: npt.NDArray[np.bool_],
    copies: npt.NDArray[np.bool_],
) -> list[Edit]:
    starts = (found.at[found.starts[low:high]].astype(np.int64) - base).tolist()
    ends = (found.at[found.ends[low:high]].astype(np.int64) - base).tolist()
    lines: list[_Line] = []
    numbers = found.lines[low:high].tolist()
    index = 0
    while index < high - low:
        last = index
        while last + 1 < high - low and numbers[last + 1] == numbers[index]:
            last += 1
        own = slice(low + index, low + last + 1)
        units = found.units[own]
        share = float(units[suspects[own]].sum()) / max(float(units.sum()), 1.0)
        rest = ~suspects[own]
        gone = share == 1.0 or (
            share >= _LINE_SHARE and bool((found.margins[own][rest] > _SURELY_GOOD).all())
        )
        lines.append(_Line(index, last, starts[index], ends[last], gone))
        index = last + 1

    def why(first: int, last: int) -> tuple[str, float]:
        """Reason and score of sentences `first` to `last`: of the surest, copies first."""
        own = slice(low + first, low + last + 1)
        if copies[own].all():
            return "repeated", 1.0
        best = low + first + int(np.argmax(scores[own]))
        if found.margins[best] < 0 and copies[best]:
            return "repeated", 1.0
        return REASONS[found.classes[best]], round(float(scores[best]), 4)

    edits: list[Edit] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        if line.gone:
            end = place
            while end + 1 < len(lines) and lines[end + 1].gone:
                end += 1
            edits += _line_edits(raw, lines, place, end, why)
            place = end + 1
            continue
        index = line.first
        while index <= line.last:
            if not suspects[low + index]:
                index += 1
                continue
            last = index
            while last < line.last and suspects[low + last + 1]:
                last += 1
            # With the blank behind it; the last of a line, with the blank before it.
            span = (starts[index], starts[last + 1]) if last < line.last else (ends[index - 1], ends[last])
            cuts = [span[0], *(starts[inner] for inner in range(index + 1, last + 1)), span[1]]
            for offset, inner in enumerate(range(index, last + 1)):
                reason, score = why(inner, inner)
                edits.append(Edit(cuts[offset], cuts[offset + 1], reason, score, "sentence"))
            index = last + 1
        place += 1
    return edits


def _line_edits(raw: bytes, lines: list[_Line], first: int, last: int, why: object) -> list[Edit]:
    """Edits of a run of lines that go, a paragraph that goes as a whole as one."""
    assert callable(why)
    before = lines[first - 1].end if first else 0
    behind = lines[last + 1].start if last + 1 < len(lines) else len(raw)
    start, end = lines[first].start, behind
    if last + 1 == len(lines) and first:
        start = before
    elif not first:
        start = 0
    elif raw.count(b"\n", lines[last].end, behind) > raw.count(b"\n", before, lines[first].start):
        start, end = before, lines[last].end

    def gap(place: int) -> bool:
        """Whether a paragraph begins at line `place`."""
        return place == 0 or raw.count(b"\n", lines[place - 1].end, lines[place].start) > 1

    groups: list[tuple[int, int, str]] = []
    place = first
    while place <= last:
        inner = place
        while inner < last and not gap(inner + 1):
            inner += 1
        whole = inner > place and gap(place) and (inner + 1 == len(lines) or gap(inner + 1))
        if whole:
            groups.append((place, inner, "paragraph"))
        else:
            groups += [(single, single, "line") for single in range(place, inner + 1)]
        place = inner + 1
    cuts = [start, *(lines[group[0]].start for group in groups[1:]), end]
    found = []
    for number, (low, high, unit) in enumerate(groups):
        reason, score = why(lines[low].first, lines[high].last)
        found.append(Edit(cuts[number], cuts[number + 1], reason, score, unit))
    return found
