"""One call of a primitive, from the tasks that are left to the last receipt.

A backend runs a few calls at a time; what comes of them comes back one by one:

    a receipt           the line goes to the manifest
    a damaged input     the task that made it runs again, then the reader; its own inputs are followed back alike
    another exception   the job ends; what is finished stays
    a lost worker       the task runs again with nothing beside it; then in pieces (`Recovery`), and what cannot be
                        split further is quarantined with its reason, counted and reported
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from haina.runtime.errors import HainaError
from haina.runtime.executor.identity import Identities
from haina.runtime.executor.locations import (
    DamagedFile,
    Location,
    piece_of,
    remove_file,
    remove_partials,
)
from haina.runtime.executor.manifest import Receipt
from haina.runtime.executor.task import (
    Call,
    Failed,
    Lost,
    Outcome,
    Recovery,
    merge_pieces,
    quarantine_item,
)
from haina.runtime.progress import Task

if TYPE_CHECKING:
    from haina.runtime.executor.engine import DurableExecutor

_REBUILDS = 3  # of one file, or of one reader's trust in it; then the disk is at fault
_BLAMELESS_LOSSES = 10  # of one task; then it is not the machines
_SPLIT_DEPTH = 40


@dataclass(frozen=True)
class Quarantined:
    """An item that could not be done, wholly or in part. `output` is the file that stands for it."""

    description: str
    output: str
    reason: str


@dataclass(eq=False)
class _Split:
    """An item in pieces: `job` waits for its `pieces`."""

    job: _Job
    pieces: list[Location]
    left: int
    reasons: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Job:
    """A call on its way.

    Attributes:
        counts: the bar waits for it. losses, blameless: workers and machines that went with it. depth: how often it
            was split. retries: how often it found a file damaged that was whole again. piece_of: the item it is a
            part of. merges: the pieces that it joins.
    """

    call: Call
    counts: bool = True
    losses: int = 0
    blameless: int = 0
    depth: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    piece_of: _Split | None = None
    merges: _Split | None = None


class Run:
    """One call of a primitive: the jobs that are ready, running, waiting for a file, or to be run alone."""

    def __init__(self, executor: DurableExecutor, description: str, bar: Task) -> None:
        self.executor, self.description, self.bar = executor, description, bar
        self.ready: deque[_Job] = deque()
        self.alone: deque[_Job] = deque()
        self.running: dict[str, _Job] = {}
        self.waiting: dict[str, list[_Job]] = {}
        self.rebuilds: Counter[str] = Counter()

    def work(self, calls: Sequence[Call]) -> None:
        """Run until nothing is left."""
        self.ready.extend(_Job(call) for call in calls)
        alone = False
        while self.ready or self.alone or self.running:
            if not self.running:
                alone = not self.ready
                self.start((self.alone if alone else self.ready).popleft())
            while not alone and self.ready and self.executor._free() > 0:
                self.start(self.ready.popleft())
            # What is finished is kept, also when something else of the same moment ends the job.
            results = self.executor._results()
            for output, outcome in sorted(results, key=lambda result: not isinstance(result[1], Receipt)):
                self.take(self.running.pop(output), outcome)

    def start(self, job: _Job) -> None:
        self.running[str(job.call.output)] = job
        self.executor._start(job.call)

    def take(self, job: _Job, outcome: Outcome) -> None:
        """Go on from what came of a job."""
        if isinstance(outcome, Receipt):
            self.finish(job, outcome)
        elif isinstance(outcome, Lost):
            self.lose(job, outcome)
        else:
            self.mend(job, outcome)

    def finish(self, job: _Job, receipt: Receipt) -> None:
        output = job.call.output
        self.executor._manifest.add(receipt)
        self.executor._verified.add(str(output))
        if receipt.quarantined and job.piece_of is None:
            found = Quarantined(self.description, str(output), receipt.quarantined)
            self.executor.quarantined.append(found)
        self.ready.extendleft(self.waiting.pop(str(output), ()))
        if job.merges is not None:
            for piece in job.merges.pieces:
                remove_file(piece)
        if job.piece_of is not None:
            self.join(job.piece_of, receipt)
        if job.counts:
            self.bar.advance()

    # Damaged files ----------------------------------------------------------------------------------------------

    def mend(self, job: _Job, failed: Failed) -> None:
        """Find the damaged inputs of a job that failed and make them again; without any, the job ends here."""
        error = failed.error
        if not isinstance(error, Exception):
            raise error
        names = list(job.call.inputs)
        if isinstance(error, DamagedFile) and error.path not in names:
            names.append(error.path)
        made = [name for name in names if name in self.executor._makers]
        # Exchange files are checked by who reads them; of others the content may have gone bad unnoticed.
        plain = {name for name in made if self.executor._makers[name].kind == "file"}
        told = {error.path} if isinstance(error, DamagedFile) else set()
        self.executor._verified -= plain | told
        faults = self.executor._faults([self.executor._makers[name].output for name in made])
        damaged = {name: fault for name, fault in zip(made, faults, strict=True) if fault}
        if not damaged and isinstance(error, DamagedFile) and error.path in self.executor._makers:
            # Another task found it first and it is whole again, or only this reader's copy was cut.
            self.count(job.retries, error.path, error)
            self.ready.append(job)
            return
        if not damaged:
            raise error
        for name, fault in damaged.items():
            if name not in self.waiting:
                self.count(self.rebuilds, name, error)
                self.executor.reporter.say(f"{name}: {fault}; it is made again")
                self.ready.appendleft(_Job(self.executor._makers[name], counts=False))
        # It waits for one of them; should another not be ready by then, it comes back here.
        first = next(iter(damaged))
        self.waiting.setdefault(first, []).append(job)
        for name in damaged:
            self.waiting.setdefault(name, [])

    def count(self, found: Counter[str], name: str, error: Exception) -> None:
        found[name] += 1
        if found[name] > _REBUILDS:
            raise HainaError(
                f"{name}: found damaged {found[name]} times ({error})",
                "check the disk; finished parts are kept",
            ) from error

    # Lost workers -----------------------------------------------------------------------------------------------

    def lose(self, job: _Job, lost: Lost) -> None:
        """Try again alone, then in pieces, then set aside."""
        remove_partials([job.call.output])
        name = job.call.output.name
        if lost.blameless and job.blameless < _BLAMELESS_LOSSES:
            job.blameless += 1
            self.ready.append(job)
            return
        job.losses += 1
        if job.losses == 1:
            self.executor.reporter.say(
                f"{self.description}: {name}: {lost.reason}; it is run again with nothing beside it"
            )
            self.alone.append(job)
            return
        recovery = job.call.recovery
        if recovery is None:
            self.give_up(job, lost)
        pieces = recovery.split(job.call.item) if job.depth < _SPLIT_DEPTH else []
        if len(pieces) <= 1:
            self.set_aside(job, recovery, lost.reason)
            return
        self.executor.reporter.say(f"{self.description}: {name}: {lost.reason}; it is split in {len(pieces)}")
        self.split(job, pieces)

    def give_up(self, job: _Job, lost: Lost) -> NoReturn:
        raise HainaError(
            f"{self.description}: {job.call.output}: a worker process died twice: {lost.reason}",
            "run again with more memory, fewer workers or more partitions; finished parts are kept",
        )

    def split(self, job: _Job, items: list[Any]) -> None:
        call = job.call
        outputs = [piece_of(call.output, number) for number in range(len(items))]
        whole = _Split(job, outputs, len(items))
        identities = Identities(self.executor._made)
        for item, output in zip(items, outputs, strict=True):
            identity, inputs = identities.of("piece", call.task, item)
            piece = replace(call, item=item, output=output, identity=identity, inputs=inputs)
            # One loss is on its account already: the next one splits it further.
            self.alone.append(_Job(piece, counts=False, losses=1, depth=job.depth + 1, piece_of=whole))

    def join(self, whole: _Split, receipt: Receipt) -> None:
        whole.left -= 1
        if receipt.quarantined:
            whole.reasons.append(receipt.quarantined)
        if whole.left:
            return
        job = whole.job
        recovery = job.call.recovery
        assert recovery is not None
        item = (recovery.merge, tuple(whole.pieces))
        reasons = "; ".join(whole.reasons)
        merge = replace(job.call, task=merge_pieces, code="", item=item, recovery=None, quarantined=reasons)
        self.alone.append(replace(job, call=merge, losses=0, merges=whole))

    def set_aside(self, job: _Job, recovery: Recovery, reason: str) -> None:
        item = (recovery.quarantine, job.call.item, reason)
        stand_in = replace(
            job.call, task=quarantine_item, code="", item=item, recovery=None, quarantined=reason
        )
        self.alone.append(replace(job, call=stand_in, losses=0))
