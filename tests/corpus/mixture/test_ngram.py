"""The n-gram kernels against dictionaries of tuples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.mixture.ngram import bits_of, distribution, plain_chance, train_ngrams

STREAMS = st.lists(
    st.tuples(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 3)), min_size=1, max_size=4
)


@settings(max_examples=60)
@given(streams=STREAMS, context=st.lists(st.integers(0, 6), max_size=6), order=st.integers(2, 5))
def test_kernel_is_the_plain_model_and_sums_to_one(
    streams: list[tuple[list[int], int]], context: list[int], order: int
) -> None:
    vocabulary, separator = 8, 7
    model = train_ngrams(
        [(np.array(s, np.int32), copies) for s, copies in streams], vocabulary, separator, order
    )
    plain = plain_chance(streams, vocabulary, separator, order)
    chances = distribution(model, context, separator)
    assert chances.sum() == pytest.approx(1.0, abs=1e-9)
    assert chances.tolist() == pytest.approx([plain(context, token) for token in range(vocabulary)], rel=1e-9)
    bits = -sum(np.log2(plain(context[:place], token)) for place, token in enumerate(context))
    assert bits_of(model, np.array(context, np.int32), separator) == pytest.approx(bits, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("海纳百川，有容乃大。" * 40, "壁立千仞，無欲則剛。" * 40),
        ("All rivers run. " * 40, "Sea is not full. " * 40),
    ],
)
def test_learns_what_it_read(text: str, other: str) -> None:
    """In both languages: read text costs few bits, unread text many, and the order of reading does not matter."""
    read, unread = (np.frombuffer(item.encode(), np.uint8).astype(np.int32) for item in (text, other))
    model = train_ngrams([(read, 1), (read[:20], 2)], 257, 256)
    assert bits_of(model, read, 256) / len(read) < 0.2
    assert bits_of(model, unread, 256) / len(unread) > 4
    turned = train_ngrams([(read[:20], 2), (read, 1)], 257, 256)
    assert bits_of(turned, unread, 256) == bits_of(model, unread, 256)


def test_untrained_is_uniform() -> None:
    model = train_ngrams([(np.zeros(5, np.int32), 0)], 8, 7)
    assert bits_of(model, np.arange(4, dtype=np.int32), 7) == pytest.approx(12.0)
