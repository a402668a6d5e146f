"""Best-fit decreasing: the kernel is the plain one, rows are never overfull, and real lengths leave no room."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.shards.packing import best_fit, group_by_row, plain_best_fit

ROOMS = st.sampled_from([1, 2, 3, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 9000])


@settings(max_examples=120)
@given(room=ROOMS, data=st.data())
def test_the_kernel_is_the_plain_one(room: int, data: st.DataObject) -> None:
    largest = data.draw(st.sampled_from([room, max(1, room // 2), max(1, room // 7)]))
    sizes = data.draw(st.lists(st.integers(1, largest), max_size=70))
    rows, left = best_fit(np.array(sizes, np.int32), room)
    assert rows.tolist() == plain_best_fit(sizes, room)
    filled = np.bincount(rows, weights=sizes, minlength=len(left)).astype(int)
    assert (filled + left == room).all()
    assert (filled <= room).all()
    assert set(rows.tolist()) == set(range(len(left)))


@pytest.mark.parametrize(
    ("sizes", "room", "rows"),
    [
        ([], 8, []),
        ([8], 8, [0]),
        # Of two rows with the same room the one that came to it last is taken.
        ([5, 5, 3, 3, 2], 8, [0, 1, 1, 0, 2]),
        # 2 fits the rows of 6 (room 2) and of 5 (room 3): the closest is taken.
        ([2, 5, 6], 8, [0, 1, 0]),
        ([1] * 9, 4, [0, 0, 0, 0, 1, 1, 1, 1, 2]),
    ],
)
def test_by_hand(sizes: list[int], room: int, rows: list[int]) -> None:
    assert best_fit(np.array(sizes, np.int32), room)[0].tolist() == rows


def test_many_documents_leave_little_room() -> None:
    rng = np.random.default_rng(0)
    short = np.minimum(4096, rng.lognormal(5, 1.2, 60_000).astype(np.int32) + 1)
    rows, left = best_fit(short, 4096)
    assert left.sum() / (len(left) * 4096) < 0.001
    # No packing has fewer rows than the tokens fill.
    assert len(left) == -(-int(short.sum()) // 4096)
    assert len(rows) == len(short)


@settings(max_examples=60)
@given(rows=st.lists(st.integers(0, 6), max_size=40), chosen=st.sets(st.integers(0, 6)))
def test_items_of_rows_stay_in_order(rows: list[int], chosen: set[int]) -> None:
    names = {row: number for number, row in enumerate(sorted(chosen))}
    new = np.array([names.get(row, -1) for row in range(7)], np.int32)
    items, sizes = group_by_row(np.array(rows, np.int32), new, len(chosen))
    expected = [[item for item, row in enumerate(rows) if row == wanted] for wanted in sorted(chosen)]
    assert sizes.tolist() == [len(part) for part in expected]
    assert items.tolist() == [item for part in expected for item in part]
