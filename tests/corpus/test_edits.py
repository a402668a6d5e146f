"""Edits: made, undone, and carried through one another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.edits import Edit, apply, restore, through

PIECES = st.lists(st.tuples(st.text("ab 好，。😀\n", max_size=6), st.booleans()), max_size=12)


def edits_of(pieces: list[tuple[str, bool]], replacement: str) -> tuple[str, list[Edit]]:
    """A text, and the edits that take out its marked pieces."""
    text, edits = "", []
    for piece, marked in pieces:
        start = len(text.encode())
        text += piece
        if marked and piece:
            edits.append(Edit(start, len(text.encode()), "sentence", "spam", 0.9, piece, replacement))
    return text, edits


@given(PIECES, st.sampled_from(["", "<EMAIL>", "好"]))
def test_what_is_left_and_what_was_taken_give_the_text_back(pieces: list[tuple[str, bool]], new: str) -> None:
    text, edits = edits_of(pieces, new)
    edited = apply(text, edits)
    assert edited == "".join(new if marked and piece else piece for piece, marked in pieces)
    assert "".join(piece for piece, _ in restore(edited, edits)) == text


@given(PIECES, st.data())
def test_later_edits_in_the_coordinates_of_the_first_text(
    pieces: list[tuple[str, bool]], data: st.DataObject
) -> None:
    text, first = edits_of(pieces, "")
    edited = apply(text, first)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(edited)), max_size=6, unique=True)))
    later = []
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        low, high = len(edited[:start].encode()), len(edited[:end].encode())
        later.append(Edit(low, high, "span", "email", 1.0, "", "<EMAIL>"))
    assert apply(text, through(first, later)) == apply(edited, later)


def test_overlapping_edits_are_refused() -> None:
    with pytest.raises(ValueError, match="overlaps"):
        apply("abcdef", [Edit(0, 3, "line", "spam", 1, "abc"), Edit(2, 4, "line", "spam", 1, "cd")])


def test_an_edit_beyond_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves the text"):
        apply("好", [Edit(0, 4, "line", "spam", 1, "")])
