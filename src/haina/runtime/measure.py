"""Seconds and peak memory of a piece of work, worker processes included."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType

import psutil

INTERVAL_S = 0.1


def tree_memory_bytes() -> int:
    """Resident memory of this process and its descendants, bytes."""
    process = psutil.Process()
    total: int = process.memory_info().rss
    for child in process.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.Error:  # the child ended between the listing and the look
            continue
    return total


@dataclass
class Measurement:
    """A context manager: wall seconds and the peak of `tree_memory_bytes`, sampled ten times a second."""

    seconds: float = 0.0
    peak_memory_bytes: int = 0

    def __enter__(self) -> Measurement:
        self._start = time.monotonic()
        self._stop = threading.Event()
        self.peak_memory_bytes = tree_memory_bytes()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="haina-memory")
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self.peak_memory_bytes = max(self.peak_memory_bytes, tree_memory_bytes())

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.peak_memory_bytes = max(self.peak_memory_bytes, tree_memory_bytes())
        self.seconds = time.monotonic() - self._start
