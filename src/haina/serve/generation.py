"""One thread that generates, request after request, so that the event loop stays free.

In: prompts with their sampling parameters. Out: an asynchronous stream of (choice, delta). Leaving the stream
early - a client that hangs up, a server that stops - ends the work behind it at the next token.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from haina.inference import Delta, Engine, SamplingParameters


@dataclass(frozen=True)
class Job:
    """One choice to generate.

    Attributes:
        index: its place in the response's `choices`.
        prompt: token ids.
        parameters: how to sample.
    """

    index: int
    prompt: list[int]
    parameters: SamplingParameters


class Generator:
    """Runs requests one at a time in the order they came."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="haina-generate")
        self.closing = threading.Event()

    def close(self) -> None:
        """End the running request at its next token and forget the waiting ones."""
        self.closing.set()
        self.executor.shutdown(wait=False, cancel_futures=True)

    async def stream(self, jobs: Sequence[Job]) -> AsyncGenerator[tuple[int, Delta], None]:
        """Yield `(index, delta)` of each job, job after job.

        Raises:
            Exception: whatever the engine raised.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[int, Delta] | BaseException | None] = asyncio.Queue()
        cancelled = threading.Event()

        def put(item: tuple[int, Delta] | BaseException | None) -> None:
            with suppress(RuntimeError):  # the loop has gone: nobody waits any more
                loop.call_soon_threadsafe(queue.put_nowait, item)

        def work() -> None:
            try:
                for job in jobs:
                    deltas = self.engine.stream(job.prompt, job.parameters)
                    try:
                        for delta in deltas:
                            if cancelled.is_set() or self.closing.is_set():
                                return
                            put((job.index, delta))
                    finally:
                        deltas.close()  # type: ignore[attr-defined]
            except BaseException as error:
                put(error)
            finally:
                put(None)

        future = self.executor.submit(work)
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            cancelled.set()
            future.cancel()
