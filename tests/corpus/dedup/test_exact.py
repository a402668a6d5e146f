"""Copies: kernel against a dictionary; across partitions in `test_clusters`."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.dedup.exact import best_of_key, best_of_key_plain

KEYS = st.one_of(
    st.binary(min_size=16, max_size=16), st.sampled_from([bytes(16), bytes(8) + b"\1" * 8, b"\1" * 16])
)


@given(st.lists(st.tuples(KEYS, st.booleans()), max_size=40), st.randoms())
def test_the_best_of_a_key_is_found(documents: list[tuple[bytes, bool]], rng: object) -> None:
    ranks = list(range(len(documents)))
    rng.shuffle(ranks)  # type: ignore[attr-defined]
    keys = [key for key, _ in documents]
    living = [alive for _, alive in documents]
    words = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2)
    found = best_of_key(words, np.array(ranks, dtype=np.uint64), np.array(living, dtype=np.bool_))
    assert found.tolist() == best_of_key_plain(keys, ranks, living)


def test_copies_cost_no_more_than_other_documents() -> None:
    rng = np.random.default_rng(3)
    count = 400_000
    ranks = rng.permutation(count).astype(np.uint64)
    living = np.ones(count, dtype=np.bool_)
    other = rng.integers(0, 2**64, (count, 2), dtype=np.uint64)
    seconds = {}
    for name, keys in (
        ("warm", other[:9]),
        ("other", other),
        ("copies", np.repeat(other[:1], count, axis=0)),
    ):
        start = time.process_time()
        found = best_of_key(keys, ranks[: len(keys)], living[: len(keys)])
        seconds[name] = time.process_time() - start
    assert (found == int(np.argmin(ranks))).all()
    assert seconds["copies"] < 3 * seconds["other"] + 0.05
