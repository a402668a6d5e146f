"""Bytes to code points and back, against Python's own codec."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.utf8 import decode, pack

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(TEXT)
def test_code_points_and_byte_offsets(text: str) -> None:
    codes, starts = decode(np.frombuffer(text.encode(), dtype=np.uint8))
    assert codes.tolist() == [ord(character) for character in text]
    raw = text.encode()
    assert [raw[a:b].decode() for a, b in pairwise(starts)] == list(text)
    assert starts[-1] == len(raw)


@given(st.lists(TEXT, max_size=8))
def test_packed_texts_come_back(texts: list[str]) -> None:
    data, offsets = pack(texts)
    assert [data[a:b].tobytes().decode() for a, b in pairwise(offsets)] == texts


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        pack(["好", "\ud800"])
