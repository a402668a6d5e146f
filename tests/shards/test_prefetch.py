"""Prefetching: the batches of the loader in order, ahead by a bounded number, errors where they belong, nobody left."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from haina.runtime.errors import HainaError
from haina.shards.batch import BATCH_PIECE, Batch
from haina.shards.prefetch import Prefetcher


def batch_of(step: int) -> Batch:
    square = np.full((2, 4), step, np.int64)
    narrow = square.astype(np.int32)
    return Batch(step, square, square, narrow, narrow, np.empty(0, BATCH_PIECE), False, 8)


class Source:
    """Makes batches, notes how many are asked for, and does `act(step)` first."""

    def __init__(self, act=lambda step: None):
        self.act, self.asked, self.lock = act, [], threading.Lock()

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        with self.lock:
            self.asked.append((step, rank, world))
        self.act(step)
        return batch_of(step)


@pytest.mark.parametrize(("threads", "depth"), [(1, 1), (1, 4), (4, 1), (4, 9), (8, 3)])
def test_all_batches_in_order_however_many_threads(threads: int, depth: int) -> None:
    rng = np.random.default_rng(threads)
    pauses = rng.uniform(0, 0.002, 80)
    source = Source(lambda step: time.sleep(pauses[step]))
    with Prefetcher(source, 5, 80, 1, 2, threads, depth) as batches:
        assert [batch.step for batch in batches] == list(range(5, 80))
        assert next(batches, None) is None
    assert sorted(source.asked) == [(step, 1, 2) for step in range(5, 80)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_never_further_ahead_than_its_depth() -> None:
    source = Source()
    with Prefetcher(source, 0, 100, threads=3, depth=5) as batches:
        deadline = time.monotonic() + 10
        while len(source.asked) < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.03)
        assert sorted(source.asked) == [(step, 0, 1) for step in range(5)]
        next(batches)
        while len(source.asked) < 6 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.03)
        assert len(source.asked) == 6


def test_an_error_comes_at_its_step_and_ends_the_threads() -> None:
    def fail(step: int) -> None:
        if step == 3:
            raise HainaError("shard gone")

    with Prefetcher(Source(fail), 0, 10, threads=2, depth=4) as batches:
        assert [next(batches).step for _ in range(3)] == [0, 1, 2]
        with pytest.raises(HainaError, match="shard gone"):
            next(batches)
        assert next(batches, None) is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_leaving_early_waits_for_nobody() -> None:
    started = time.monotonic()
    with Prefetcher(Source(), 0, 10**9, threads=4, depth=8) as batches:
        next(batches)
    assert time.monotonic() - started < 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_waiting_is_counted_and_only_waiting() -> None:
    gate = threading.Event()
    source = Source(lambda step: gate.wait() if step == 2 else None)
    with Prefetcher(source, 0, 4, depth=2) as batches:
        deadline = time.monotonic() + 10
        while len(source.asked) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        next(batches), next(batches)
        assert (batches.waits, batches.waited_seconds) == (0, 0.0)
        threading.Timer(0.05, gate.set).start()
        assert next(batches).step == 2
        assert batches.waits == 1
        assert 0.03 < batches.waited_seconds < 10


def test_nothing_to_do_and_nonsense() -> None:
    with Prefetcher(Source(), 4, 4) as batches:
        assert list(batches) == []
    with pytest.raises(HainaError, match="depth 0"):
        Prefetcher(Source(), 0, 1, depth=0)
    with pytest.raises(HainaError, match="0 threads"):
        Prefetcher(Source(), 0, 1, threads=0)
