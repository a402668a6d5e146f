"""Exchange files: what is added comes back, bounded in memory, and damage is never taken for data."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime.errors import HainaError
from haina.runtime.executor import DamagedFile, iter_blocks, iter_exchange, read_exchange
from haina.runtime.executor.exchange import PIECE_BYTES, BucketWriter

TEXTS = ["海纳百川", "river", "", "有容乃大" * 50, "a\0b", "\U00020000漢"]


def write(path: Path, adds: list[tuple[int, bytes]], partitions: int, buffer: int = 1 << 20) -> None:
    writer = BucketWriter(path, partitions, buffer)
    for partition, data in adds:
        writer.add(partition, data)
    writer.finish()


ADDS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(TEXTS).map(str.encode) | st.binary(max_size=40)))


@settings(max_examples=60, deadline=None)
@given(adds=ADDS, buffer=st.sampled_from([1, 50, 1 << 20]))
def test_adds_come_back_in_order_whatever_was_spilled(
    tmp_path_factory: pytest.TempPathFactory, adds: list[tuple[int, bytes]], buffer: int
) -> None:
    path = tmp_path_factory.mktemp("exchange") / "x"
    write(path, adds, 5, buffer)
    for partition in range(5):
        expected = [data for number, data in adds if number == partition]
        assert [bytes(piece) for piece in iter_exchange([path, path], partition)] == expected * 2
        assert read_exchange([path, path], partition) == [b"".join(expected)] * 2
        assert b"".join(iter_blocks([path], partition)) == b"".join(expected)


def test_spilling_bounds_the_memory_and_reading_holds_one_piece(tmp_path: Path) -> None:
    path, record, rounds = tmp_path / "x", bytes(range(200)) * 50, 4_000
    tracemalloc.start()
    write(path, [(number % 3, record) for number in range(rounds)], 3, 2 << 20)
    written = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    read = sum(len(block) for block in iter_blocks([path], 1))
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == sum(len(record) for number in range(rounds) if number % 3 == 1)
    assert path.stat().st_size > 40_000_000
    assert written < 10 << 20
    assert held < 4 * PIECE_BYTES


def test_arrays_are_taken_as_their_bytes(tmp_path: Path) -> None:
    rows = np.array([(1, 2.5), (3, 4.5)], [("a", "<u8"), ("b", "<f4")])
    arrays = [rows, rows[:0], np.arange(6, dtype=np.uint64).reshape(3, 2), bytearray("海".encode())]
    writer = BucketWriter(tmp_path / "x", 1)
    for array in arrays:
        writer.add(0, array)
    writer.finish()
    assert [bytes(piece) for piece in iter_exchange([tmp_path / "x"], 0)] == [
        bytes(memoryview(array).tobytes()) for array in arrays
    ]


def test_nothing_of_the_spill_has_a_name(tmp_path: Path) -> None:
    writer = BucketWriter(tmp_path / "x", 2, 10)
    for _ in range(9):
        writer.add(1, b"0123456789")
    assert not list(tmp_path.iterdir())
    writer.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_cut_or_changed_file_is_named_or_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("exchange") / "x"
    adds = [(0, "一".encode()), (2, b"two"), (0, b"three"), (2, b"")]
    write(path, adds, 3, data.draw(st.sampled_from([1, 1000])))
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
        for partition in range(3):
            with pytest.raises(DamagedFile, match="x: not a whole exchange file"):
                list(iter_exchange([path], partition))
        return
    path.write_bytes(
        whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    )
    found = 0
    for partition in range(3):
        expected = [piece for number, piece in adds if number == partition]
        try:
            assert [bytes(piece) for piece in iter_exchange([path], partition)] == expected
        except DamagedFile:
            found += 1
    assert found


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="gone: no such file") as caught:
        list(iter_exchange([tmp_path / "gone"], 0))
    assert caught.value.path == str(tmp_path / "gone")


def test_partitions_are_checked(tmp_path: Path) -> None:
    writer = BucketWriter(tmp_path / "x", 2)
    for partition in (-1, 2):
        with pytest.raises(IndexError, match="of 2"):
            writer.add(partition, b"")
    writer.finish()
    with pytest.raises(HainaError, match="holds 2 partitions, not number 2"):
        read_exchange([tmp_path / "x"], 2)
    with pytest.raises(ValueError, match="at least one"):
        BucketWriter(tmp_path / "y", 0)
