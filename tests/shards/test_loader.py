"""Batches are a pure function of seed and step and show every window once an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime.errors import HainaError
from haina.shards import IndexedDataset, PackedLoader, write_indexed
from haina.shards.indexed import token_dtype
from haina.shards.permutation import permute, permute_one


@settings(max_examples=80, deadline=None)
@given(count=st.integers(1, 700), key=st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation_and_agrees_with_the_plain_one(count: int, key: int) -> None:
    everywhere = permute(np.arange(count), count, key)
    assert sorted(everywhere.tolist()) == list(range(count))
    some = range(0, count, max(1, count // 7))
    assert [permute_one(position, count, key) for position in some] == everywhere[list(some)].tolist()


def test_permute_reaches_far_and_leaves_little_in_place() -> None:
    count = 10**12
    positions = np.arange(2000, dtype=np.int64)
    places = permute(positions, count, 42)
    assert len(set(places.tolist())) == 2000
    assert 0 <= places.min() < count // 100
    assert count * 99 // 100 < places.max() < count
    # Of a uniform permutation of 1,000, one point on average stays, and neighbours do not stay neighbours.
    small = permute(np.arange(1000), 1000, 42)
    assert (small == np.arange(1000)).sum() < 8
    assert (np.abs(np.diff(small)) == 1).sum() < 15
    # Each of eight stretches is drawn from the whole evenly: expectation 125, standard deviation below 11.
    spread = np.histogram2d(np.arange(1000) // 125, small // 125, bins=(8, 8), range=((0, 8), (0, 8)))[0]
    assert spread.min() > 0
    assert spread.max() < 35


def dataset_of(folder: Path, tokens: int) -> IndexedDataset:
    stream = np.arange(tokens) % 60_000
    write_indexed(folder / "train", np.array_split(stream, 7), token_dtype(60_000))
    return IndexedDataset(folder / "train")


def test_an_epoch_is_the_stream_cut_into_windows(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, 1003)
    loader = PackedLoader(dataset, sequence_length=10, batch_size=4, seed=1)
    assert loader.windows_per_epoch == 100
    windows = np.concatenate([loader.batch(step) for step in range(25)])
    assert windows.dtype == np.int64
    assert windows.shape == (100, 11)
    expected = np.stack([dataset.tokens[start : start + 11] for start in range(0, 1000, 10)])
    assert not np.array_equal(windows, expected)
    assert np.array_equal(windows[np.argsort(windows[:, 0])], expected)


def test_epochs_differ_and_a_batch_may_span_two(tmp_path: Path) -> None:
    loader = PackedLoader(dataset_of(tmp_path, 1003), sequence_length=10, batch_size=30, seed=1)
    numbers = np.concatenate([loader.window_numbers(step) for step in range(10)])
    epochs = numbers.reshape(3, 100)
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs.tolist())
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], epochs[2])


def test_pure_function_of_seed_and_step(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, 2000)
    loader = PackedLoader(dataset, 16, 8, seed=5)
    wanted = [loader.batch(step) for step in range(40)]
    fresh = PackedLoader(dataset, 16, 8, seed=5)
    for step in (39, 0, 17, 17):
        assert np.array_equal(fresh.batch(step), wanted[step])
    assert not np.array_equal(PackedLoader(dataset, 16, 8, seed=6).batch(0), wanted[0])
    assert PackedLoader(dataset, 16, 8, seed=-1).batch(0).shape == (8, 17)


def test_order_is_fixed_for_ever(tmp_path: Path) -> None:
    """A resumed run of next year must see the windows that this year's run would have seen."""
    loader = PackedLoader(dataset_of(tmp_path, 1003), sequence_length=10, batch_size=6, seed=0)
    assert loader.window_numbers(0).tolist() == [15, 23, 67, 78, 42, 69]
    assert loader.window_numbers(16).tolist() == [62, 19, 66, 85, 58, 86]


def test_one_window_is_enough_and_less_is_an_error(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, 11)
    assert PackedLoader(dataset, 10, 2, 0).batch(3).tolist() == [list(range(11))] * 2
    with pytest.raises(HainaError, match=r"train\.bin: 11 tokens, a window needs 12"):
        PackedLoader(dataset, 11, 2, 0)
    with pytest.raises(HainaError, match="both must be at least 1"):
        PackedLoader(dataset, 0, 2, 0)
    with pytest.raises(ValueError, match="negative"):
        PackedLoader(dataset, 10, 2, 0).batch(-1)
