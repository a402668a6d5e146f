"""What was changed inside a document: spans of UTF-8 bytes of its extracted text, each with a reason.

Comes in: an extracted text and what sentence editing and the search for private data found in it. Goes out: the
edited text, and edits in the coordinates of the extracted one. Kept text and edits together give the extracted text
back, except for private values: those are not stored anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """One change.

    Attributes:
        start: first byte, in the UTF-8 of the extracted text.
        end: byte after the last.
        unit: `paragraph`, `line`, `sentence` or `span`.
        reason: why: `boilerplate`, `advertisement`, ... or the kind of a private value.
        score: how sure, 0 to 1.
        removed: the text that stood there; empty for a private value.
        replacement: what stands there now.
    """

    start: int
    end: int
    unit: str
    reason: str
    score: float
    removed: str
    replacement: str = ""


def apply(text: str, edits: Sequence[Edit]) -> str:
    """The text with every edit made.

    Raises:
        ValueError: edits overlap or are out of order.
    """
    raw = text.encode("utf-8")
    pieces: list[bytes] = []
    place = 0
    for edit in edits:
        if edit.start < place or edit.end < edit.start or edit.end > len(raw):
            raise ValueError(f"edit {edit.start}-{edit.end} overlaps the one before it or leaves the text")
        pieces += [raw[place : edit.start], edit.replacement.encode("utf-8")]
        place = edit.end
    return b"".join([*pieces, raw[place:]]).decode("utf-8")


def restore(edited: str, edits: Iterable[Edit]) -> Iterator[tuple[str, Edit | None]]:
    """The pieces of the extracted text in order: (kept text, None) and (removed text, its edit)."""
    raw = edited.encode("utf-8")
    before = after = 0
    for edit in edits:
        kept = edit.start - before
        if kept:
            yield raw[after : after + kept].decode("utf-8"), None
        yield edit.removed or edit.replacement, edit
        before, after = edit.end, after + kept + len(edit.replacement.encode("utf-8"))
    if after < len(raw):
        yield raw[after:].decode("utf-8"), None


def through(edits: Sequence[Edit], later: Sequence[Edit]) -> list[Edit]:
    """Edits of a text, and `later` ones found in what they left, as one list over the first text.

    A later edit that reaches over a place where something was removed also takes that: the two become one edit.
    """
    merged: list[Edit] = []
    waiting = list(edits)
    shift = 0  # what has to be added to a place in the edited text to find it in the extracted one
    for found in later:
        while waiting and waiting[0].start <= found.start + shift:
            first = waiting.pop(0)
            shift += first.end - first.start - len(first.replacement.encode("utf-8"))
            merged.append(first)
        start = found.start + shift
        while waiting and waiting[0].start < found.end + shift:
            inside = waiting.pop(0)
            shift += inside.end - inside.start - len(inside.replacement.encode("utf-8"))
        merged.append(
            Edit(
                start,
                found.end + shift,
                found.unit,
                found.reason,
                found.score,
                found.removed,
                found.replacement,
            )
        )
    return [*merged, *waiting]
