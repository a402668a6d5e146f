"""Worker processes on this machine that outlive a task and may die in one.

Each has a pipe of its own, so the death of one - the kernel kills processes when memory runs out - is the loss of
one task. Everybody who waits sleeps in the kernel. Workers end with their parent, however that ends, and leave
Ctrl-C to it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from haina.runtime.executor.task import Lost, Outcome, execute, unpack

# spawn: a forked child inherits the locks of numba's and torch's threads in whatever state they were.
_CONTEXT = multiprocessing.get_context("spawn")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(connection: Connection) -> None:
    """A worker's life: take a task, run it, say what came of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):
        # When memory runs out, a worker goes before the process that knows what to do next.
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            connection.send_bytes(execute(connection.recv_bytes()))


class _Worker:
    def __init__(self) -> None:
        self.connection, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.key: str | None = None

    def send(self, payload: bytes) -> None:
        # A worker that is gone is noticed by whoever waits for it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(payload)

    def receive(self) -> Outcome:
        try:
            return unpack(self.connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            self.process.join()
            return Lost(_how_it_ended(self.process.exitcode))

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        memory = ", as the kernel does when memory runs out" if -code == signal.SIGKILL else ""
        return f"its worker process was ended by {name}{memory}"
    return f"its worker process exited with code {code}"


class WorkerPool:
    """At most `limit` workers, started when there is work for them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._workers: list[_Worker] = []

    def _busy(self) -> Iterator[_Worker]:
        return (worker for worker in self._workers if worker.key is not None)

    def free(self) -> int:
        """How many more tasks can be started now."""
        return self.limit - sum(1 for _ in self._busy())

    def start(self, key: str, payload: bytes) -> None:
        """Give a task to a free worker."""
        for worker in list(self._workers):
            if worker.key is None and not worker.process.is_alive():
                self._drop(worker)
        if all(worker.key is not None for worker in self._workers):
            self._workers.append(_Worker())
        worker = next(worker for worker in self._workers if worker.key is None)
        worker.key = key
        worker.send(payload)

    def results(self) -> list[tuple[str, Outcome]]:
        """Wait until something came of at least one task."""
        busy: dict[Any, _Worker] = {worker.connection: worker for worker in self._busy()}
        found = []
        for connection in wait(list(busy)):
            worker = busy[connection]
            outcome = worker.receive()
            assert worker.key is not None
            found.append((worker.key, outcome))
            worker.key = None
            if not worker.process.is_alive():
                self._drop(worker)
        return found

    def _drop(self, worker: _Worker) -> None:
        worker.end()
        self._workers.remove(worker)

    def stop_running(self) -> None:
        """End the workers that are in the middle of a task."""
        for worker in list(self._busy()):
            self._drop(worker)

    def close(self) -> None:
        """End all workers."""
        for worker in list(self._workers):
            self._drop(worker)
