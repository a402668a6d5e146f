"""Take spans out of texts so that what is left reads on.

Comes in: texts, and spans of their UTF-8 bytes: units, or runs of tokens. Goes out: the texts without them, and every
change as an edit in the coordinates of the text before. A unit goes with the white space on one side of it, the
narrower gap: between what stood before and behind stays the wider one, so paragraphs stay apart. A run of
tokens also takes the marks that close it. Two words that would run together get a space.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from haina.corpus.characters import HAN_CLASS
from haina.corpus.edits import Edit, apply
from haina.corpus.repeats.units import BLANKS, NEWLINES

REASON = "repeated"
# What `haina.corpus.edits` calls the units of each level.
EDIT_UNITS = {"line": "line", "paragraph": "paragraph", "sentence": "sentence", "substring": "span"}

_WHITE = sorted({character.encode("utf-8") for character in BLANKS + NEWLINES}, key=len)
_WHITE_SET = frozenset(_WHITE)
_GAP = re.compile(b"(?:" + b"|".join(map(re.escape, _WHITE)) + b")*")
_LINE_END = re.compile(b"\r\n|" + b"|".join(re.escape(character.encode("utf-8")) for character in NEWLINES))
_HAN = re.compile(f"[{HAN_CLASS}]")


class Span(NamedTuple):
    """Bytes `start` to `end` of a text that are to go, and why.

    Attributes:
        score: how sure, 0 to 1: 1 for exact copies, the similarity for near ones.
        reason: for the edit.
    """

    start: int
    end: int
    score: float = 1.0
    reason: str = REASON


@dataclass(frozen=True)
class Removed:
    """A text after removal.

    Attributes:
        text: what is left.
        edits: what was done, in order, in UTF-8 bytes of the text before.
    """

    text: str
    edits: list[Edit]

    @property
    def is_empty(self) -> bool:
        """Whether no letter, digit or Han character is left."""
        return not any(character.isalnum() for character in self.text)


def _gap_before(raw: bytes, place: int) -> int:
    """Where the white space that ends at `place` begins."""
    while True:
        for size in (1, 2, 3):
            if place >= size and raw[place - size : place] in _WHITE_SET:
                place -= size
                break
        else:
            return place


def _gap_end(raw: bytes, place: int) -> int:
    """Where the white space that begins at `place` ends."""
    found = _GAP.match(raw, place)
    return found.end() if found else place


def _character(raw: bytes, place: int) -> str:
    """The character that starts at a byte, empty at the end."""
    return raw[place : place + 4].decode("utf-8", "ignore")[:1]


def _character_before(raw: bytes, place: int) -> str:
    begin = place - 1
    while begin > 0 and raw[begin] & 0xC0 == 0x80:
        begin -= 1
    return raw[max(begin, 0) : place].decode("utf-8")


def _is_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] == "M" if character else False


def _with_marks(raw: bytes, span: Span, limit: int) -> Span:
    """A run of tokens with the opening marks before its first and the marks behind its last that open nothing."""
    start, end = span.start, span.end
    while end < limit:
        character = _character(raw, end)
        if (
            _is_word(character)
            or character in BLANKS + NEWLINES
            or unicodedata.category(character) in ("Ps", "Pi")
        ):
            break
        end += len(character.encode("utf-8"))
    while start > 0:
        character = _character_before(raw, start)
        if unicodedata.category(character) not in ("Ps", "Pi"):
            break
        start -= len(character.encode("utf-8"))
    return span._replace(start=start, end=end)


def _runs_together(before: str, behind: str) -> bool:
    return _is_word(before) and _is_word(behind) and not (_HAN.match(before) or _HAN.match(behind))


def _weight(gap: bytes) -> tuple[int, int]:
    return len(_LINE_END.findall(gap)), len(gap)


def _groups(raw: bytes, spans: Sequence[Span], unit: str) -> list[list[Span]]:
    """Spans with nothing but white space between them together; runs of tokens with their marks."""
    groups: list[list[Span]] = []
    place = 0
    for index, given in enumerate(spans):
        if given.start < place or given.end <= given.start or given.end > len(raw):
            raise ValueError(f"span {given.start}-{given.end} overlaps the one before it or leaves the text")
        place = given.end
        span = given
        if unit == "span":
            span = _with_marks(raw, given, spans[index + 1].start if index + 1 < len(spans) else len(raw))
        last = groups[-1][-1].end if groups else 0
        if groups and span.start < last:
            span = span._replace(start=last)
        if groups and _gap_end(raw, last) >= span.start:
            groups[-1].append(span)
        else:
            groups.append([span])
    return groups


def _extent(raw: bytes, start: int, end: int) -> tuple[int, int, str]:
    """What to take out with `start` to `end`, and what to put there."""
    before, behind = _gap_before(raw, start), _gap_end(raw, end)
    if before == 0:
        return 0, behind, ""
    if behind == len(raw):
        return before, behind, ""
    if before == start and behind == end:
        apart = _runs_together(_character_before(raw, start), _character(raw, end))
        return start, end, " " if apart else ""
    if _weight(raw[before:start]) >= _weight(raw[end:behind]):
        return start, behind, ""
    return before, end, ""


def removal_edits(raw: bytes, spans: Sequence[Span], unit: str) -> list[Edit]:
    """Edits that take spans out of a text, one a span.

    Args:
        raw: UTF-8 of the text.
        spans: in order, not overlapping; each begins and ends at a character.
        unit: `line`, `paragraph`, `sentence` or `span` (see `haina.corpus.edits.Edit`).

    Raises:
        ValueError: spans overlap, are out of order or leave the text.
    """
    edits: list[Edit] = []
    for group in _groups(raw, spans, unit):
        start, end, replacement = _extent(raw, group[0].start, group[-1].end)
        # The gap before may have gone with the group before.
        start = max(start, edits[-1].end) if edits else start
        cuts = [start, *(span.start for span in group[1:]), end]
        for index, span in enumerate(group):
            low, high = cuts[index], cuts[index + 1]
            stands = replacement if index + 1 == len(group) else ""
            removed = raw[low:high].decode("utf-8")
            edits.append(Edit(low, high, unit, span.reason, span.score, removed, stands))
    return edits


def remove_units(texts: Sequence[str], spans: Sequence[Sequence[Span]], unit: str) -> list[Removed]:
    """Take units out of texts.

    Args:
        texts: any texts without lone surrogates.
        spans: of each text, see `removal_edits`.
        unit: `line`, `paragraph`, `sentence` or `span`.

    Raises:
        ValueError: not as many lists of spans as texts, or spans that overlap.
    """
    results = []
    for text, own in zip(texts, spans, strict=True):
        edits = removal_edits(text.encode("utf-8"), own, unit)
        results.append(Removed(apply(text, edits) if edits else text, edits))
    return results
