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

from haina.serve.errors import ApiError

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


def _stopping() -> ApiError:
    return ApiError("the server is stopping", status=503, code="server_stopping")


class Generator:
    """Runs requests one at a time in the order they came.

    Attributes:
        closing: once set, the running request ends at its next token and the waiting ones do not begin.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="haina-generate")
        self.closing = threading.Event()

    def close(self) -> None:
        """End all requests and the thread."""
        self.closing.set()
        self.executor.shutdown(wait=False, cancel_futures=True)

    def _check_open(self) -> None:
        if self.closing.is_set():
            raise _stopping()

    async def stream(self, jobs: Sequence[Job]) -> AsyncGenerator[tuple[int, Delta], None]:
        """Yield `(index, delta)` of each job, job after job.

        Raises:
            ApiError: the server stops.
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
                    self._check_open()
                    deltas = self.engine.stream(job.prompt, job.parameters)
                    try:
                        for delta in deltas:
                            if cancelled.is_set():
                                return
                            self._check_open()
                            put((job.index, delta))
                    finally:
                        deltas.close()  # type: ignore[attr-defined]
            except BaseException as error:
                put(error)
            finally:
                put(None)

        self._check_open()
        future = self.executor.submit(work)
        # A request that still waits when the server stops never gets to run.
        future.add_done_callback(lambda ended: put(_stopping()) if ended.cancelled() else None)
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            cancelled.set()
            future.cancel()
