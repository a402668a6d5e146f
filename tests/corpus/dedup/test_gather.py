"""Records of any length, and ids of any Arrow array."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.dedup.gather import Ids, ids_of, pack_records, record_places

RECORDS = st.lists(
    st.tuples(st.tuples(*[st.integers(0, 2**64 - 1)] * 3), st.integers(0, 3), st.text(max_size=12)),
    max_size=20,
)


def strings(ids: Ids) -> list[str]:
    cuts = ids.offsets.tolist()
    return [bytes(ids.data[a:b]).decode() for a, b in pairwise(cuts)]


@given(RECORDS, st.randoms())
def test_records_come_back(records: list[tuple[tuple[int, ...], int, str]], rng: object) -> None:
    order = list(range(len(records)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    heads = np.array([head for head, _, _ in records], dtype=np.uint64).reshape(-1, 3)
    sizes = [8 * words for _, words, _ in records]
    payload = np.random.default_rng(0).integers(0, 256, sum(sizes)).astype(np.uint8)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    ids = ids_of(pa.array([text for _, _, text in records], pa.string()))
    data, places = pack_records(
        np.array(order, dtype=np.int64),
        heads,
        payload,
        starts,
        ids.data,
        ids.offsets,
        np.arange(len(records)),
    )
    words = data.view(np.uint64)
    assert record_places(words, 3).tolist() == (places // 8).tolist()
    for place, document in zip((places // 8).tolist(), order, strict=False):
        head, size, text = records[document]
        assert tuple(words[place : place + 3].tolist()) == head
        lengths = int(words[place + 3])
        assert (lengths >> 32, lengths & 0xFFFFFFFF) == (size, len(text.encode()))
        rest = data[8 * (place + 4) :]
        assert bytes(rest[: 8 * size]) == bytes(payload[starts[document] : starts[document + 1]])
        assert bytes(rest[8 * size :][: len(text.encode())]).decode() == text


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_ids_of_every_kind_of_array(kind: pa.DataType) -> None:
    texts = ["甲", "", "doc-2", "文档三", "e"]
    array = pa.array(texts, kind)
    assert strings(ids_of(array)) == texts
    assert strings(ids_of(array[1:4])) == texts[1:4]
    assert strings(ids_of(pa.chunked_array([array[:2], array[2:]]))) == texts
    assert strings(ids_of(pa.chunked_array([], type=kind))) == []
    assert strings(ids_of(array[:0])) == []
