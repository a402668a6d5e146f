"""Components: union-find, forests and table against walking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.dedup.components import (
    components_plain,
    flatten,
    read_labels,
    unite,
    write_forest,
    write_labels,
)
from haina.corpus.dedup.layout import Layout
from haina.corpus.dedup.sorting import number_type, pack_pairs

PAIRS = st.lists(
    st.tuples(st.integers(0, 29), st.integers(0, 29)).filter(lambda pair: pair[0] != pair[1]), max_size=40
)


@given(PAIRS, st.sampled_from([32, 40]))
def test_labels_are_the_smallest_number_of_each_component(pairs: list[tuple[int, int]], bits: int) -> None:
    none = np.iinfo(number_type(bits)).max
    parents = np.full(30, none, dtype=number_type(bits))
    edges = np.array(pairs, dtype=np.uint64).reshape(-1, 2)
    unite(parents, edges[:, 0].copy(), edges[:, 1].copy(), none)
    flatten(parents, none)
    expected = components_plain(pairs)
    assert parents.tolist() == [expected.get(number, none) for number in range(30)]


def test_a_chain_of_a_million_is_one_component() -> None:
    count = 1_000_000
    order = np.random.default_rng(0).permutation(count - 1).astype(np.uint64)
    parents = np.full(count, 0xFFFFFFFF, dtype=np.uint32)
    unite(parents, order, order + np.uint64(1), 0xFFFFFFFF)
    flatten(parents, 0xFFFFFFFF)
    assert not parents.any()


@pytest.mark.parametrize("bits", [32, 40])
def test_forests_of_several_files_make_the_same_table(tmp_path: Path, bits: int) -> None:
    rng = np.random.default_rng(1)
    layout = Layout((500, 500), 3, bits)
    pairs = [(int(a), int(b)) for a, b in rng.integers(0, 1000, (700, 2)) if a < b]
    forests = []
    for part in range(3):
        left, right = (
            np.array(column, dtype=np.uint64) for column in zip(*sorted(pairs[part::3]), strict=True)
        )
        file = tmp_path / f"pairs-{part}"
        file.write_bytes(pack_pairs(left, right, bits).tobytes())
        forests.append(tmp_path / f"forest-{part}")
        write_forest((file, layout), forests[-1])
        numbers = len({number for pair in pairs[part::3] for number in pair})
        assert forests[-1].stat().st_size // (bits // 32 * 8 if bits == 32 else 16) < numbers
    empty = tmp_path / "none"
    empty.touch()
    write_forest((empty, layout), tmp_path / "forest-none")
    write_labels((0, ((*forests, tmp_path / "forest-none"), layout)), tmp_path / "labels")
    expected = components_plain(pairs)
    assert read_labels(tmp_path / "labels", layout).tolist() == [
        expected.get(number, layout.none) for number in range(1000)
    ]


def test_a_forest_keeps_components_with_fewer_edges(tmp_path: Path) -> None:
    layout = Layout((10,), 1, 32)
    pairs = [(a, b) for b in range(8) for a in range(b)]
    left, right = (np.array(column, dtype=np.uint64) for column in zip(*sorted(pairs), strict=True))
    (tmp_path / "pairs").write_bytes(pack_pairs(left, right, 32).tobytes())
    write_forest((tmp_path / "pairs", layout), tmp_path / "forest")
    edges = np.fromfile(tmp_path / "forest", dtype=np.uint64).tolist()
    assert sorted(edges) == list(range(1, 8))  # 0 with each of the others


def test_no_documents_have_an_empty_table(tmp_path: Path) -> None:
    layout = Layout((), 1, 32)
    write_labels((0, ((), layout)), tmp_path / "labels")
    assert not len(read_labels(tmp_path / "labels", layout))
