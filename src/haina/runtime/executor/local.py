"""Processes on this machine."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Sequence

from haina.runtime.executor.engine import DurableExecutor
from haina.runtime.executor.locations import Location
from haina.runtime.executor.task import Call, Failed, Lost, Outcome, run_call
from haina.runtime.executor.workers import WorkerPool
from haina.runtime.progress import Reporter, SilentProgress


class LocalExecutor(DurableExecutor):
    """Processes on this machine, kept from one call to the next.

    Args:
        workers: processes; 1 runs every task in this process, unless a recovery asks for one that may die.
        reporter, state: see `DurableExecutor`.
    """

    def __init__(
        self, workers: int = 1, reporter: Reporter | None = None, state: Location | None = None
    ) -> None:
        super().__init__(reporter or SilentProgress(), state)
        self.workers = workers
        self._pool = WorkerPool(max(1, workers))
        self._inline: Call | None = None
        self._in_process = True
        self._finalizer = weakref.finalize(self, self._pool.close)

    def _open(self, calls: Sequence[Call]) -> None:
        few = self.workers <= 1 or len(calls) <= 1
        self._in_process = few and all(call.recovery is None for call in calls)

    def _parallel(self) -> int:
        return self.workers

    def _free(self) -> int:
        if self._in_process:
            return int(self._inline is None)
        return self._pool.free()

    def _start(self, call: Call) -> None:
        if self._in_process:
            self._inline = call
        else:
            self._pool.start(str(call.output), pickle.dumps(call))

    def _results(self) -> list[tuple[str, Outcome]]:
        if not self._in_process:
            return self._pool.results()
        call, self._inline = self._inline, None
        assert call is not None
        try:
            outcome: Outcome = run_call(call)
        except MemoryError as error:
            outcome = Lost(f"out of memory ({error})")
        except Exception as error:
            outcome = Failed(error)
        return [(str(call.output), outcome)]

    def _stop(self) -> None:
        self._inline = None
        self._pool.stop_running()

    def close(self) -> None:
        """End the worker processes; the next call starts new ones."""
        self._pool.close()
