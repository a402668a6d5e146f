"""Progress of long work: a bar with rate, time left and the number that matters.

On a terminal the bars are drawn by rich; into a file or a pipe one plain line is written every few seconds
and one at the end, so that a log stays readable. `SilentProgress` is for tests and for workers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Task(Protocol):
    """One bar."""

    def advance(self, amount: float = 1, note: str = "") -> None:
        """`amount` more units are done; `note` is the number that matters now, such as `loss 3.21`."""


class Reporter(Protocol):
    """Where long work says how far it is."""

    def task(
        self, description: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Task]:
        """A context manager giving a `Task` of `total` units (None when unknown), `done` of them already."""

    def say(self, message: str) -> None:
        """One line for the reader, above the bars."""


class _Silent:
    def advance(self, amount: float = 1, note: str = "") -> None:
        return


class SilentProgress:
    """Says nothing."""

    @contextmanager
    def task(self, description: str, total: float | None, unit: str, done: float = 0) -> Iterator[Task]:
        yield _Silent()

    def say(self, message: str) -> None:
        return


class _PlainTask:
    def __init__(self, stream: TextIO, description: str, total: float | None, unit: str, done: float) -> None:
        self.stream, self.description, self.total, self.unit = stream, description, total, unit
        self.done = self.start_done = done
        self.note = ""
        self.start = self.last_line = time.monotonic()

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.done += amount
        self.note = note or self.note
        if time.monotonic() - self.last_line >= 5.0:
            self.line()

    def line(self) -> None:
        now = time.monotonic()
        self.last_line = now
        rate = (self.done - self.start_done) / max(now - self.start, 1e-9)
        text = f"  {self.description}: {self.done:,.0f}"
        if self.total is not None:
            text += f"/{self.total:,.0f}"
        text += f" {self.unit}, {rate:,.1f}/s"
        if self.total is not None and rate > 0 and self.done < self.total:
            text += f", {(self.total - self.done) / rate:,.0f} s left"
        print(text + (f", {self.note}" if self.note else ""), file=self.stream, flush=True)


class PlainProgress:
    """One line every five seconds, for files and pipes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr

    @contextmanager
    def task(self, description: str, total: float | None, unit: str, done: float = 0) -> Iterator[Task]:
        task = _PlainTask(self.stream, description, total, unit, done)
        try:
            yield task
        finally:
            task.line()

    def say(self, message: str) -> None:
        print(message, file=self.stream, flush=True)


class _RichTask:
    def __init__(self, progress: Progress, task_id: TaskID, unit: str, done: float) -> None:
        self.progress, self.task_id, self.unit, self.done = progress, task_id, unit, 0.0
        self.note = ""
        self.start = time.monotonic()

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.done += amount
        rate = self.done / max(time.monotonic() - self.start, 1e-9)
        self.note = note or self.note
        self.progress.update(self.task_id, advance=amount, rate=f"{rate:,.0f} {self.unit}/s", note=self.note)


class RichProgress:
    """Bars on a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    @contextmanager
    def task(self, description: str, total: float | None, unit: str, done: float = 0) -> Iterator[Task]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="cyan", markup=False),
        )
        with Progress(*columns, console=self.console) as progress:
            whole = None if total is None else int(total)
            task_id = progress.add_task(description, total=whole, completed=int(done), rate="", note="")
            yield _RichTask(progress, task_id, unit, done)

    def say(self, message: str) -> None:
        # Paths may hold square brackets, which rich would read as its markup.
        self.console.print(message, highlight=False, markup=False)


def default_reporter() -> Reporter:
    """Bars when standard error is a terminal, plain lines otherwise."""
    return RichProgress() if sys.stderr.isatty() else PlainProgress()
