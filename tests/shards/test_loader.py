"""Batches are a pure function of seed and step, the same for any number of ranks, and hold what they say."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from haina.runtime.errors import HainaError
from haina.shards import Loader, LoaderSection, Prefetcher, ShardSet, open_loader
from haina.shards.batch import IGNORED, PADDING, Batch
from haina.shards.permutation import permute, permute_one, permute_position, permute_range
from haina.shards.rows import plain_rows

WriteLengths = Callable[..., Path]
PACKINGS = ("best_fit", "concatenate")


# ------------------------------------------------------------------------------------------------ permutation


@settings(max_examples=80)
@given(count=st.integers(1, 700), key=st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation_and_all_three_agree(count: int, key: int) -> None:
    everywhere = permute(np.arange(count), count, key)
    assert sorted(everywhere.tolist()) == list(range(count))
    some = range(0, count, max(1, count // 7))
    assert [permute_one(position, count, key) for position in some] == everywhere[list(some)].tolist()
    assert permute_range(0, count, count, np.uint64(key)).tolist() == everywhere.tolist()


@pytest.mark.parametrize("count", [1 << 40, (1 << 40) + 1, 10**12, (1 << 61) - 1, 1 << 62])
def test_kernel_and_plain_permutation_agree_on_what_is_large(count: int) -> None:
    for position in (0, 1, count // 3, count - 1):
        assert permute_position(position, count, np.uint64(99)) == permute_one(position, count, 99)


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


# ------------------------------------------------------------------------------------------------ rows


def lengths_of(documents: int, most: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, most, documents).tolist()


def equal(one: Batch, other: Batch) -> bool:
    names = ("inputs", "targets", "positions", "segments")
    return one.step_targets == other.step_targets and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )


@settings(max_examples=50)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=60),
    length=st.integers(1, 40),
    packing=st.sampled_from(PACKINGS),
    masked=st.booleans(),
    window=st.floats(0.01, 1.0),
    wide=st.booleans(),
)
def test_rows_are_the_plain_ones(
    write_lengths: WriteLengths,
    lengths: list[int],
    length: int,
    packing: str,
    masked: bool,
    window: float,
    wide: bool,
) -> None:
    schedule = ((2, max(1, round(window * length))),)
    section = LoaderSection(packing=packing, document_mask=masked, context_schedule=schedule)
    with tempfile.TemporaryDirectory() as work:
        folder = write_lengths(Path(work) / "s", lengths, documents_a_shard=13, wide=wide)
        targets = sum(max(0, size - 1) for size in lengths) if packing == "best_fit" else sum(lengths) - 1
        if targets < length:
            with pytest.raises(HainaError, match=r"a row takes|has no files"):
                open_loader(folder, section.with_sizes(length, 3, 5))
            return
        loader = open_loader(folder, section.with_sizes(length, 3, 5))
        for step in range(4):
            batch = loader.batch(step)
            packs = loader.order.rows(step * 3, 3)[1].tolist()
            window_now = loader.settings.window_of(step)
            expected = plain_rows(
                loader.files, loader.plan, packs, packing == "concatenate", masked, window_now
            )
            found = (batch.inputs, batch.targets, batch.positions, batch.segments, batch.pieces)
            for ours, plain in zip(found, expected, strict=True):
                assert np.array_equal(ours, plain)
            assert batch.separate == (masked or window_now < length)
            assert batch.step_targets == loader.targets(step) == (batch.targets != IGNORED).sum()


def test_a_packed_row_by_hand(write_lengths: WriteLengths, tmp_path: Path) -> None:
    """Documents of 5 and 4 tokens in a row of 8: each brings its tokens but the last, and one place is left. A third
    fills a row.
    """
    folder = write_lengths(tmp_path / "s", [5, 4, 9])
    batch = open_loader(folder, LoaderSection().with_sizes(8, 2, 0)).batch(0)
    full = int(batch.inputs[1, 0] == 2000)
    assert batch.inputs[full].tolist() == list(range(2000, 2008))
    assert batch.targets[full].tolist() == list(range(2001, 2009))
    batch = batch.rows(1 - full, 2 - full)
    at = [0, 1] if batch.inputs[0, 0] == 0 else [1, 0]
    document = [list(range(5)), list(range(1000, 1004))]
    one, two = (document[number] for number in at)
    assert batch.inputs.tolist() == [[*one[:-1], *two[:-1], 0]]
    assert batch.targets.tolist() == [[*one[1:], *two[1:], IGNORED]]
    assert batch.positions.tolist() == [[*range(len(one) - 1), *range(len(two) - 1), 0]]
    assert batch.segments.tolist() == [[0] * (len(one) - 1) + [1] * (len(two) - 1) + [PADDING]]
    assert batch.pieces.tolist() == [
        (0, 0, at[0], 0, len(one) - 1),
        (0, len(one) - 1, at[1], 0, len(two) - 1),
    ]
    assert batch.cumulative_lengths().tolist() == [0, len(one) - 1, 7, 8]
    mask = batch.attention_mask()
    assert mask.shape == (1, 1, 8, 8)
    for query in range(8):
        sees = [key for key in range(8) if mask[0, 0, query, key]]
        assert sees == [k for k in range(query + 1) if batch.segments[0, k] == batch.segments[0, query]]
    assert mask.dtype == np.bool_


def test_a_long_document_is_cut_into_whole_rows_and_a_rest(
    write_lengths: WriteLengths, tmp_path: Path
) -> None:
    loader = open_loader(write_lengths(tmp_path / "s", [24]), LoaderSection().with_sizes(10, 3, 0))
    batch = loader.batch(0)
    order = np.argsort(batch.inputs[:, 0])
    assert batch.inputs[order].tolist() == [list(range(10)), list(range(10, 20)), [20, 21, 22] + [0] * 7]
    assert batch.targets[order].tolist() == [
        list(range(1, 11)),
        list(range(11, 21)),
        [21, 22, 23] + [IGNORED] * 7,
    ]
    assert batch.positions[order, 0].tolist() == [0, 0, 0]


def test_concatenation_without_a_mask_is_the_stream(write_lengths: WriteLengths, tmp_path: Path) -> None:
    """Windows of one token more than a row, overlapping by it; positions and targets run across borders."""
    folder = write_lengths(tmp_path / "s", lengths_of(40, 50))
    section = LoaderSection(packing="concatenate", document_mask=False)
    loader = open_loader(folder, section.with_sizes(10, 4, 1))
    shards = ShardSet.open(folder, "train")
    stream = shards.tokens(0, shards.total_tokens)
    for step in range(12):
        batch = loader.batch(step)
        for row, window in enumerate(loader.order.rows(step * 4, 4)[1]):
            assert batch.inputs[row].tolist() == stream[window * 10 : window * 10 + 10].tolist()
            assert batch.targets[row].tolist() == stream[window * 10 + 1 : window * 10 + 11].tolist()
        assert (batch.positions == np.arange(10)).all()
        assert (batch.segments == 0).all()
        assert not batch.separate


def test_concatenation_with_a_mask_predicts_nothing_across_borders(
    write_lengths: WriteLengths, tmp_path: Path
) -> None:
    folder = write_lengths(tmp_path / "s", lengths_of(40, 30))
    loader = open_loader(folder, LoaderSection(packing="concatenate").with_sizes(10, 8, 1))
    for step in range(8):
        batch = loader.batch(step)
        counted = batch.targets != IGNORED
        assert (batch.targets[counted] == batch.inputs[counted] + 1).all()
        borders = batch.inputs[:, 1:] // 1000 != batch.inputs[:, :-1] // 1000
        assert (counted[:, :-1] == ~borders).all()
        assert ((np.diff(batch.segments, axis=1) != 0) == borders).all()


def test_shorter_context_cuts_documents_at_multiples_of_the_window_and_nothing_else(
    write_lengths: WriteLengths, tmp_path: Path
) -> None:
    folder = write_lengths(tmp_path / "s", lengths_of(200, 90))
    plain = open_loader(folder, LoaderSection().with_sizes(40, 4, 1))
    section = LoaderSection(context_schedule=((1, 8), (3, 16), (5, 40)))
    loader = open_loader(folder, section.with_sizes(40, 4, 1))
    for step, window in enumerate((40, 8, 8, 16, 16, 40, 40)):
        ours, whole = loader.batch(step), plain.batch(step)
        assert np.array_equal(ours.inputs, whole.inputs)
        assert np.array_equal(ours.targets, whole.targets)
        assert ours.step_targets == whole.step_targets
        for row, column, _, first, length in ours.pieces.tolist():
            stop = column + length
            starts = [0, *(place for place in range(1, length) if (first + place) % window == 0)]
            found = np.flatnonzero(np.diff(ours.segments[row, column:stop])) + 1
            assert [0, *found.tolist()] == starts
            assert ours.positions[row, column:stop].max() < window
            assert (ours.positions[row, [column + start for start in starts]] == 0).all()
            if first + length <= window:
                assert starts == [0]
        segments = np.diff(ours.cumulative_lengths())
        assert segments.max() <= max(window, (ours.segments == PADDING).sum(axis=1).max())


# ------------------------------------------------------------------------------------------------ order


@pytest.fixture(scope="module")
def folder(write_lengths: WriteLengths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = write_lengths(tmp_path_factory.mktemp("order") / "s", lengths_of(900, 120, 3))
    return path


def loader_of(folder: Path, seed: int = 5, rows: int = 16, **how: object) -> Loader:
    return open_loader(folder, LoaderSection(**how).with_sizes(64, rows, seed))  # type: ignore[arg-type]


@pytest.mark.parametrize("packing", PACKINGS)
def test_any_number_of_ranks_gives_the_same_global_batches(folder: Path, packing: str) -> None:
    loader = loader_of(folder, packing=packing)
    for step in (0, 1, 77, 10**9):
        whole = loader.batch(step)
        for world in (1, 2, 4, 8, 16):
            parts = [loader.batch(step, rank, world) for rank in range(world)]
            assert {part.step_targets for part in parts} == {whole.step_targets}
            assert sum(int((part.targets != IGNORED).sum()) for part in parts) == whole.step_targets
            for name in ("inputs", "targets", "positions", "segments"):
                joined = np.concatenate([getattr(part, name) for part in parts])
                assert np.array_equal(joined, getattr(whole, name))


@pytest.mark.parametrize("packing", PACKINGS)
def test_any_resume_point_gives_the_same_batches(folder: Path, packing: str) -> None:
    loader = loader_of(folder, packing=packing)
    rng = np.random.default_rng(0)
    wanted = [loader.batch(step) for step in range(60)]
    for _ in range(20):
        start = int(rng.integers(0, 60))
        state = loader.state(start)
        fresh = loader_of(folder, packing=packing)
        assert fresh.check_state(state) == start
        for step in range(start, min(60, start + 3)):
            assert equal(fresh.batch(step), wanted[step])
    assert not equal(loader_of(folder, 6, packing=packing).batch(0), wanted[0])


def test_a_micro_batch_is_a_part_of_its_step(folder: Path) -> None:
    loader = loader_of(folder)
    whole = loader.batch(9)
    for micro in range(4):
        part, rank = whole.rows(4 * micro, 4 * micro + 4), loader.batch(9, micro, 4)
        assert equal(part, rank)
        assert np.array_equal(part.pieces, rank.pieces)


def test_prefetching_gives_the_same_batches_in_any_number_of_threads(folder: Path) -> None:
    loader = loader_of(folder)
    for threads, depth in ((1, 1), (4, 6)):
        with Prefetcher(loader, 3, 40, 1, 2, threads, depth) as batches:
            for step, batch in zip(range(3, 40), batches, strict=True):
                assert equal(batch, loader.batch(step, 1, 2))


def test_an_epoch_reads_everything_once_and_the_next_in_another_order(folder: Path) -> None:
    loader = loader_of(folder, rows=1)
    packs = loader.rows_per_epoch
    drawn = loader.order.rows(0, 3 * packs)[1].reshape(3, packs)
    assert all(sorted(epoch) == list(range(packs)) for epoch in drawn.tolist())
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])
    assert loader.epochs(2 * packs) == {"": 2.0}
    predicted = np.concatenate([loader.batch(step).targets.ravel() for step in range(packs)])
    shards = ShardSet.open(folder, "train")
    expected = [token for number in range(len(shards)) for token in shards[number][1:].tolist()]
    assert sorted(predicted[predicted != IGNORED].tolist()) == sorted(expected)


def test_order_is_fixed_for_ever(write_lengths: WriteLengths, tmp_path: Path) -> None:
    """A resumed run of next year must see the rows that this year's run would have seen."""
    folder = write_lengths(tmp_path / "s", [143] * 6 + [145])
    loader = open_loader(folder, LoaderSection(packing="concatenate").with_sizes(10, 6, 0))
    assert loader.rows_per_epoch == 100
    assert loader.order.rows(0, 6)[1].tolist() == [15, 23, 67, 78, 42, 69]
    assert loader.order.rows(96, 6)[1].tolist() == [62, 19, 66, 85, 58, 86]
    packed = open_loader(
        write_lengths(tmp_path / "p", lengths_of(60, 40)), LoaderSection().with_sizes(32, 4, 0)
    )
    assert packed.rows_per_epoch == 38
    assert packed.batch(3).inputs[:, 0].tolist() == [24000, 10000, 55000, 12000]
    assert packed.batch(30).inputs[:, 0].tolist() == [13000, 10000, 55032, 55000]


def test_states_of_something_else_are_refused(
    folder: Path, write_lengths: WriteLengths, tmp_path: Path
) -> None:
    state = loader_of(folder).state(12)
    assert all(isinstance(state[name], int) for name in ("step", "seed", "rows", "sequence_length"))
    for other, what in (
        (loader_of(folder, seed=6), "seed"),
        (loader_of(folder, rows=8), "rows"),
        (loader_of(folder, packing="concatenate"), "packing, rows_of_domains|packing"),
        (loader_of(folder, document_mask=False), "document_mask"),
        (loader_of(write_lengths(tmp_path / "s", lengths_of(900, 120, 4))), "shards"),
    ):
        with pytest.raises(HainaError, match=f"of another ({what})"):
            other.check_state(state)
    with pytest.raises(HainaError, match="not a state of the loader"):
        loader_of(folder).check_state({"step": 3})


# ------------------------------------------------------------------------------------------------ bad input


def test_too_little_text_is_named(write_lengths: WriteLengths, tmp_path: Path) -> None:
    folder = write_lengths(tmp_path / "s", [11])
    for packing in PACKINGS:
        section = LoaderSection(packing=packing)
        loader = open_loader(folder, section.with_sizes(10, 2, 0))
        assert loader.batch(3).inputs.tolist() == [list(range(10))] * 2
        with pytest.raises(HainaError, match=r"tokens to train on in 1 documents, a row takes 12"):
            open_loader(folder, section.with_sizes(11, 2, 0))
    with pytest.raises(HainaError, match="no files"):
        open_loader(write_lengths(tmp_path / "none", []), LoaderSection().with_sizes(11, 2, 0))


def test_ranks_and_steps_out_of_range(folder: Path) -> None:
    loader = loader_of(folder)
    with pytest.raises(HainaError, match="16 rows of a step cannot be dealt out to 3 ranks"):
        loader.batch(0, 0, 3)
    for rank, world in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(HainaError, match=f"rank {rank} of {world}"):
            loader.batch(0, rank, world)
    for step in (-1, 1 << 58):
        with pytest.raises(HainaError, match="is out of range"):
            loader.batch(step)
    loader.batch((1 << 58) - 1)


@pytest.mark.parametrize(
    ("values", "sizes", "named"),
    [
        ({}, (0, 4, 0), "sequence_length"),
        ({}, (8, 0, 0), "rows"),
        ({}, (8, 4, 1 << 64), "seed"),
        ({"packing": "worst_fit"}, (8, 4, 0), "packing"),
        ({"context_schedule": [(0, 9)]}, (8, 4, 0), "window 9 is longer"),
        ({"context_schedule": [(0, 4), (0, 8)]}, (8, 4, 0), "steps must rise"),
        ({"context_schedule": [(0, 0)]}, (8, 4, 0), "at least 1"),
        ({"weights": {"en": 1}, "epochs": {"en": 1}}, (8, 4, 0), "give one of them"),
        ({"weights": {"en": 0}}, (8, 4, 0), "not all may be 0"),
        ({"weights": {"en": -1}}, (8, 4, 0), "weights.en"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, object], sizes: tuple[int, ...], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        LoaderSection(**values).with_sizes(*sizes)  # type: ignore[arg-type]
