"""Batches made ahead of the step that needs them.

Threads make batches in the order of the steps, at most `depth` ahead; kernels and copies release Python's lock, so they
work while the step computes. Who waits sleeps: a thread without room, a consumer without a batch. What the consumer had
to wait is counted, so that a starving step shows.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Protocol

from haina.runtime.errors import HainaError
from haina.shards.batch import Batch


class BatchSource(Protocol):
    """What is prefetched from: a pure function, safe to call from several threads."""

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch: ...


class Prefetcher:
    """Iterates over the batches of steps `start` ... `stop` - 1; a context manager.

    Args:
        loader: where batches come from.
        start, stop: steps.
        rank, world: as in `Loader.batch`.
        threads: that make batches.
        depth: batches that are ready or in the making, at most.

    Attributes:
        waits: how often the consumer found no batch ready.
        waited_seconds: for how long in all.

    Raises:
        HainaError: threads or depth below 1.
    """

    def __init__(
        self,
        loader: BatchSource,
        start: int,
        stop: int,
        rank: int = 0,
        world: int = 1,
        threads: int = 1,
        depth: int = 2,
    ) -> None:
        if threads < 1 or depth < 1:
            raise HainaError(f"prefetch: {threads} threads, depth {depth}", "both must be at least 1")
        self.loader, self.stop, self.rank, self.world, self.depth = loader, stop, rank, world, depth
        self.waits, self.waited_seconds = 0, 0.0
        self._next_made = self._next_taken = start
        self._ready: dict[int, Batch | BaseException] = {}
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"prefetch-{number}", daemon=True)
            for number in range(min(threads, depth, max(0, stop - start)))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Prefetcher:
        return self

    def __next__(self) -> Batch:
        """The next batch; what went wrong while it was made is raised here, at its step."""
        with self._changed:
            if self._closed or self._next_taken >= self.stop:
                raise StopIteration
            step = self._next_taken
            if step not in self._ready:
                started = time.perf_counter()
                self._changed.wait_for(lambda: step in self._ready)
                self.waits += 1
                self.waited_seconds += time.perf_counter() - started
            result = self._ready.pop(step)
            self._next_taken += 1
            self._changed.notify_all()
        if isinstance(result, BaseException):
            self.close()
            raise result
        return result

    def close(self) -> None:
        """Stop the threads and wait until they have; may be called again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._ready.clear()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                if self._closed or self._next_made >= self.stop:
                    return
                step = self._next_made
                self._next_made += 1
            result: Batch | BaseException
            try:
                result = self.loader.batch(step, self.rank, self.world)
            except BaseException as error:  # it belongs to the consumer, whatever it is
                result = error
            with self._changed:
                self._ready[step] = result
                self._changed.notify_all()

    def _has_work(self) -> bool:
        return self._closed or self._next_made >= self.stop or self._next_made < self._next_taken + self.depth
