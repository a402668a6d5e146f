"""What is left to do: the primitives of every backend, and which of their tasks are done already.

`DurableExecutor` turns a primitive into calls, keeps those whose output is there, whole and of the same task, and
lets `Run` take the others through. A backend says where a call runs and what came of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from haina.runtime.executor.identity import Identities
from haina.runtime.executor.locations import (
    Location,
    checksum_if_readable,
    exists,
    remove_partials,
    size,
)
from haina.runtime.executor.manifest import Manifest
from haina.runtime.executor.run import Quarantined, Run
from haina.runtime.executor.task import Call, ExchangeTask, MapTask, Outcome, Recovery
from haina.runtime.files import fingerprint_bytes
from haina.runtime.progress import Reporter

_SAY_CHECKING = 2 << 30  # below that many bytes it is done before anybody asks


class DurableExecutor(ABC):
    """The primitives over durable files; a backend adds where tasks run.

    Args:
        reporter: progress and messages. state: a folder for the manifest; without one nothing outlives this object
            but the outputs, and one that is there counts as finished.
    """

    def __init__(self, reporter: Reporter, state: Location | None = None) -> None:
        self.reporter = reporter
        self.state = state
        self.quarantined: list[Quarantined] = []
        self._made: dict[str, str] = {}
        self._makers: dict[str, Call] = {}
        self._manifest = Manifest(state)
        self._verified: set[str] = set()

    # The backend ------------------------------------------------------------------------------------------------

    @abstractmethod
    def _open(self, calls: Sequence[Call]) -> None:
        """Get ready for these calls."""

    @abstractmethod
    def _free(self) -> int:
        """How many more calls can be started now."""

    @abstractmethod
    def _start(self, call: Call) -> None:
        """Start a call."""

    @abstractmethod
    def _results(self) -> list[tuple[str, Outcome]]:
        """Wait for something to come of the calls that were started: (output, outcome)."""

    @abstractmethod
    def _stop(self) -> None:
        """Stop what is running, and wait until it is."""

    @abstractmethod
    def close(self) -> None:
        """Give workers back."""

    def __enter__(self) -> DurableExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The primitives ---------------------------------------------------------------------------------------------

    def map(
        self,
        task: MapTask,
        items: Sequence[Any],
        outputs: Sequence[Location],
        *,
        description: str,
        unit: str = "parts",
        recovery: Recovery | None = None,
    ) -> None:
        """Run `task(item, temporary_path)` for each item whose output is not there yet.

        Args:
            task: a module-level function that writes exactly the file it is given.
            items: one picklable value a partition.
            outputs: the file of each partition.
            recovery: what to do with an item that is too large for the memory; without it that ends the job.
        """
        identities = Identities(self._made)
        calls = []
        for item, output in zip(items, outputs, strict=True):
            identity, inputs = identities.of("map", task, item)
            calls.append(
                Call("file", task, item, output, identity, self._code(task), inputs=inputs, recovery=recovery)
            )
        self._perform(calls, description, unit)

    def exchange(
        self,
        task: ExchangeTask,
        items: Sequence[Any],
        outputs: Sequence[Location],
        *,
        partitions: int,
        description: str,
    ) -> None:
        """Run `task(item, buckets)` for each item; it calls `buckets.add(partition, data)` as often as it likes.

        `iter_exchange` gives a reducer its partition of every file, in the order of `outputs` and of the adds.
        """
        identities = Identities(self._made)
        calls = []
        for item, output in zip(items, outputs, strict=True):
            identity, inputs = identities.of(f"exchange {partitions}", task, item)
            calls.append(
                Call(
                    "buckets",
                    task,
                    item,
                    output,
                    identity,
                    self._code(task),
                    partitions=partitions,
                    inputs=inputs,
                )
            )
        self._perform(calls, description, "parts")

    def reduce(
        self,
        task: MapTask,
        exchanged: Sequence[Location],
        outputs: Sequence[Location],
        *,
        description: str,
        argument: Any = None,
    ) -> None:
        """Run `task((partition, exchanged_files, argument), temporary_path)` for each partition."""
        files = tuple(exchanged)
        shared, inputs = Identities(self._made).of("reduce", task, (files, argument))
        calls = [
            Call(
                "file",
                task,
                (partition, files, argument),
                output,
                fingerprint_bytes(shared.encode(), str(partition).encode()),
                self._code(task),
                inputs=inputs,
            )
            for partition, output in enumerate(outputs)
        ]
        self._perform(calls, description, "parts")

    # What is there already --------------------------------------------------------------------------------------

    def _faults(self, outputs: Sequence[Location], description: str = "") -> list[str]:
        """What is wrong with each finished file, in words; empty where nothing is."""
        with ThreadPoolExecutor(max(1, min(16, len(outputs)))) as threads:
            sizes = list(threads.map(size, outputs))
        faults, unread = [], []
        for number, (output, found) in enumerate(zip(outputs, sizes, strict=True)):
            receipt = self._manifest.lines.get(str(output))
            if found is None:
                faults.append("missing")
            elif receipt is not None and found != receipt.size:
                faults.append(f"damaged ({found} bytes instead of {receipt.size})")
            else:
                faults.append("")
                # What was read or written in this job is not read again on the off chance.
                if receipt is not None and str(output) not in self._verified:
                    unread.append(number)
        total = sum(sizes[number] or 0 for number in unread)
        if description and total > _SAY_CHECKING:
            self.reporter.say(f"{description}: checking {len(unread)} finished files, {total / 1e9:,.1f} GB")
        found_sums = self._checksums([outputs[number] for number in unread])
        for number, content in zip(unread, found_sums, strict=True):
            if content != self._manifest.lines[str(outputs[number])].checksum:
                faults[number] = "damaged (other content)"
        return faults

    def _checksums(self, outputs: Sequence[Location]) -> list[str]:
        """The checksum of each file, empty where it cannot be read."""
        # Threads: reading and hashing both leave the interpreter.
        with ThreadPoolExecutor(max(1, min(8, self._parallel()))) as threads:
            return list(threads.map(checksum_if_readable, outputs))

    def _code(self, task: Callable[..., Any]) -> str:
        """What the code of a worker must be; empty when it cannot be another than this process's."""
        return ""

    def _parallel(self) -> int:
        """Threads for checking files."""
        return 1

    def _left(self, calls: Sequence[Call], description: str) -> list[Call]:
        """The calls whose output is not there, or not whole, or another task's."""
        known, others = [], 0
        for call in calls:
            receipt = self._manifest.lines.get(str(call.output))
            if receipt is None:
                known += [call] if self.state is None and exists(call.output) else []
            elif receipt.identity == call.identity:
                known.append(call)
            else:
                others += 1
        if others:
            self.reporter.say(
                f"{description}: {others} of {len(calls)} parts are of other settings or code and are made again"
            )
        whole = set()
        faults = self._faults([call.output for call in known], description)
        for call, fault in zip(known, faults, strict=True):
            if fault:
                self.reporter.say(f"{call.output}: {fault}; it is made again")
            else:
                whole.add(str(call.output))
        self._verified |= whole
        return [call for call in calls if str(call.output) not in whole]

    # The loop ---------------------------------------------------------------------------------------------------

    def _perform(self, calls: Sequence[Call], description: str, unit: str) -> None:
        if len({str(call.output) for call in calls}) != len(calls):
            raise ValueError(f"{description}: two items have the same output")
        for call in calls:
            self._made[str(call.output)] = call.identity
            self._makers[str(call.output)] = call
        left = self._left(calls, description)
        missing = {str(call.output) for call in left}
        for call in calls:
            receipt = self._manifest.lines.get(str(call.output))
            if receipt is not None and receipt.quarantined and str(call.output) not in missing:
                self.quarantined.append(Quarantined(description, receipt.output, receipt.quarantined))
        before = len(self.quarantined)
        with self.reporter.task(description, len(calls), unit, done=len(calls) - len(left)) as bar:
            if left:
                remove_partials([call.output for call in left])
                self._open(left)
                run = Run(self, description, bar)
                try:
                    run.work(left)
                except BaseException:
                    self._stop()
                    remove_partials([job.call.output for job in run.running.values()])
                    raise
                finally:
                    self._manifest.close()
        new = self.quarantined[before:]
        if new:
            self.reporter.say(
                f"{description}: {len(new)} of {len(calls)} parts could not be done, wholly or in part; "
                f"quarantined in {new[0].output}: {new[0].reason}"
            )
