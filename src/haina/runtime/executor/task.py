"""One task, wherever it runs: call the function, make its file whole and visible, say what came of it."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from haina.runtime.errors import HainaError
from haina.runtime.executor.exchange import Buckets, BucketWriter
from haina.runtime.executor.identity import code_of, name_of
from haina.runtime.executor.locations import Location, checksum, local_copy, new_file
from haina.runtime.executor.manifest import Receipt

MapTask = Callable[[Any, Path], None]
ExchangeTask = Callable[[Any, Buckets], None]


@dataclass(frozen=True)
class Recovery:
    """What to do with an item whose task the kernel kills for memory, or that kills its worker.

    All three are module-level functions. `split` runs in the main process and should be cheap.

    Attributes:
        split: the item as a list of smaller ones, or as a list of itself when it cannot be made smaller.
        merge: joins the outputs of the pieces, in order, to the output of the item.
        quarantine: writes the output that stands for an item that could not be done, given the reason.
    """

    split: Callable[[Any], list[Any]]
    merge: Callable[[list[Path], Path], None]
    quarantine: Callable[[Any, str, Path], None]


@dataclass(frozen=True, eq=False)
class Call:
    """A task with everything that a worker needs.

    Attributes:
        kind: whether the task writes a file or fills buckets. partitions: of the exchange.
        identity: of the task, see `identity`. code: what the worker's own code must be; empty on one machine.
        inputs: the known files that it reads. recovery: for the main process.
    """

    kind: Literal["file", "buckets"]
    task: Callable[[Any, Any], None]
    item: Any
    output: Location
    identity: str
    code: str = ""
    partitions: int = 0
    inputs: tuple[str, ...] = ()
    recovery: Recovery | None = None
    quarantined: str = ""


@dataclass(frozen=True)
class Failed:
    """A task raised an exception."""

    error: BaseException


@dataclass(frozen=True)
class Lost:
    """A worker is gone, and a task with it.

    Attributes:
        reason: in words. blameless: the machine went, whatever the task did.
    """

    reason: str
    blameless: bool = False


Outcome = Receipt | Failed | Lost


_OTHER_CODE = Failed(
    HainaError(
        "a worker has another version of haina than the main process",
        "install the same version on every machine",
    )
)


class WorkerTracebackError(Exception):
    """Where an exception came from, in the process that raised it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def run_call(call: Call) -> Receipt:
    """Run a task in this process."""
    with new_file(call.output) as temporary:
        if call.kind == "buckets":
            buckets = BucketWriter(temporary, call.partitions)
            call.task(call.item, buckets)
            buckets.finish()
        else:
            call.task(call.item, temporary)
        if not temporary.is_file():
            raise RuntimeError(f"{name_of(call.task)} did not write the file it was given ({call.output})")
        size, content = temporary.stat().st_size, checksum(temporary)
    return Receipt(str(call.output), size, content, call.identity, call.quarantined)


def execute(payload: bytes) -> bytes:
    """Run a pickled `Call`; give the pickled `Outcome` back, exceptions included."""
    try:
        call: Call = pickle.loads(payload)
        outcome: Outcome
        outcome = run_call(call) if call.code in ("", code_of(call.task)) else _OTHER_CODE
    except MemoryError as error:
        outcome = Lost(f"out of memory ({error})" if str(error) else "out of memory")
    except Exception as error:
        return _pack_error(error)
    return pickle.dumps(outcome)


def _pack_error(error: Exception) -> bytes:
    text = "".join(traceback.format_exception(error))
    if not isinstance(error, HainaError):
        error.__cause__ = WorkerTracebackError(text)
    try:
        packed = pickle.dumps((Failed(error), text))
        pickle.loads(packed)
    except Exception:  # an exception that cannot travel
        packed = pickle.dumps((Failed(RuntimeError(f"{type(error).__qualname__}: {error}")), text))
    return packed


def unpack(data: bytes) -> Outcome:
    """The outcome that `execute` packed; exceptions get their traceback back, which pickling drops."""
    outcome = pickle.loads(data)
    if isinstance(outcome, tuple):
        failed, text = outcome
        if not isinstance(failed.error, HainaError):
            failed.error.__cause__ = WorkerTracebackError(text)
        return Failed(failed.error)
    return outcome


def merge_pieces(item: tuple[Callable[[list[Path], Path], None], tuple[Location, ...]], output: Path) -> None:
    """Task: join the outputs of the pieces of a split item."""
    merge, pieces = item
    with ExitStack() as stack:
        merge([stack.enter_context(local_copy(piece)) for piece in pieces], output)


def quarantine_item(item: tuple[Callable[[Any, str, Path], None], Any, str], output: Path) -> None:
    """Task: write what stands for an item that could not be done."""
    quarantine, of, reason = item
    quarantine(of, reason, output)
