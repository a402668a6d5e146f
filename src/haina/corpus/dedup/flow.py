"""Steps that are made only when what follows needs them, and whose files go when nothing needs them any more.

Clustering moves much more data than it leaves: all records of all bands for a few pairs. All steps are declared first;
`Flow.make` then goes back from the last one. A step whose files are whole asks nothing of those before it, so a killed
job goes on where it was although most of its files are gone already; a file that is damaged or missing is made
again from its inputs, and those from theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from haina.runtime.executor import Executor
from haina.runtime.executor.identity import Identities
from haina.runtime.executor.locations import remove_file
from haina.runtime.executor.task import Call
from haina.runtime.files import fingerprint_bytes


@dataclass(eq=False)
class Step:
    """Tasks of one kind, with the steps that read their files.

    Attributes:
        name: for the progress bar. calls: one a file. needs: steps whose files these read. kept: whether files stay.
    """

    name: str
    calls: list[Call]
    needs: Sequence[Step]
    kept: bool
    made: bool = False
    readers: list[Step] = field(default_factory=list)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file of each task."""
        return tuple(call.output for call in self.calls)


class Flow:
    """Declared steps over an executor.

    Args:
        executor: makes the files. folder: where they go.
    """

    def __init__(self, executor: Executor, folder: Path) -> None:
        self.executor, self.folder = executor, folder
        self.steps: list[Step] = []

    def step(
        self,
        name: str,
        task: Callable[[Any, Any], None],
        items: Sequence[Any],
        *,
        shared: Any = None,
        needs: Sequence[Step] = (),
        partitions: int = 0,
        kept: bool = False,
    ) -> Step:
        """Declare one task an item: `task((item, shared), temporary_path)`, or `task((item, shared), buckets)`.

        Args:
            name: words; the files are named after them.
            items, shared: what the tasks are given; `shared` is the same for all of them.
            needs: steps whose files they read.
            partitions: for an exchange; 0 for tasks that write a file.
            kept: the files outlive the job.
        """
        identities = Identities(self.executor._made)
        common, inputs = identities.of(f"step {partitions}", task, shared)
        calls = []
        for number, item in enumerate(items):
            identity, own = identities.of("item", task, item)
            output = self.folder / f"{name.replace(' ', '-')}-{number:05d}"
            calls.append(
                Call(
                    kind="buckets" if partitions else "file",
                    task=task,
                    item=(item, shared),
                    output=output,
                    identity=fingerprint_bytes(common.encode(), identity.encode()),
                    code=self.executor._code(task),
                    partitions=partitions,
                    inputs=inputs + own,
                )
            )
        for call in calls:
            self.executor._made[str(call.output)] = call.identity
            self.executor._makers[str(call.output)] = call
        step = Step(name, calls, needs, kept)
        for other in needs:
            other.readers.append(step)
        self.steps.append(step)
        return step

    def make(self, step: Step) -> None:
        """Make the files of a step, and what has to be made before; remove what only that needed."""
        if not step.made:
            if self.executor._left(step.calls, step.name):
                for other in step.needs:
                    self.make(other)
                self.executor._perform(step.calls, step.name, "parts")
            step.made = True
        for other in step.needs:
            if not other.kept and all(reader.made for reader in other.readers):
                for path in other.files:
                    remove_file(path)

    def clean(self) -> None:
        """Remove the files of all steps that are not kept."""
        for step in self.steps:
            if not step.kept:
                for path in step.files:
                    remove_file(path)
