"""What a stage is given and what it gives back.

A stage is a function `run(config, context) -> StageResult`. It reads the folders of earlier stages, writes
its own outputs below `context.out(NAME)`, and may keep finished pieces below `context.scratch` to go on
from after a kill. Nothing it writes is visible to others until the runner publishes the whole.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from haina.runtime.errors import HainaError
from haina.runtime.executor import Executor, LocalExecutor, Location, local_copy, local_path
from haina.runtime.files import atomic_path
from haina.runtime.progress import Reporter, SilentProgress


class EventLog:
    """Appends one JSON object a line to `events.jsonl`: what happened when. The only place for wall-clock times."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, event: str, **fields: Any) -> None:
        if self.path is None:
            return
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@dataclass(frozen=True)
class StageContext:
    """Where a stage reads, writes and reports.

    Attributes:
        work: this stage's private folder; it outlives a kill and is handed to the next attempt with the same
            fingerprint, so finished pieces need not be made again.
        inputs: folder of each earlier output, by name (`corpus`, `tokenizer`, `shards`, `train`, `model`,
            `model-int4`, ...).
        sources: the user's input files, folders, patterns and addresses, which the corpus stage reads.
        seed: the recipe's seed.
        workers: processes to use; must not change a byte of what comes out.
        reporter: progress and messages.
        events: the run's event log.
        tensorboard: folder for TensorBoard files, None to write none.
        shared: a folder that all machines of the executor see, a path or a `UPath`, for what tasks read and write; None
            where they see `work`.
        executor: where tasks over partitions run; `workers` processes on this machine by default. Its manifest lies
            in `scratch`, so that nothing of it is published. Where it is several machines, `work` is on a path that
            all of them see or a `UPath` of an object store.
    """

    work: Path
    inputs: Mapping[str, Path] = field(default_factory=dict)
    sources: tuple[Path | str, ...] = ()
    seed: int = 0
    workers: int = 1
    reporter: Reporter = field(default_factory=SilentProgress)
    events: EventLog = field(default_factory=lambda: EventLog(None))
    tensorboard: Path | None = None
    executor: Executor = field(default=cast(Executor, None), compare=False)
    shared: Location | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "work", local_path(self.work) or self.work)
        if cast(Any, self.executor) is None:
            local = LocalExecutor(self.workers, self.reporter, self.work / "scratch" / "executor")
            object.__setattr__(self, "executor", local)

    def out(self, name: str) -> Path:
        """The folder for output `name`, made on first use."""
        path = self.work / "out" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def scratch(self) -> Path:
        """A folder for unfinished pieces, removed when the stage is published."""
        path: Path = (self.work if self.shared is None else self.shared) / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def pieces(self, name: str) -> Path:
        """The folder in which tasks write the files of output `name`; `collect` brings them to `out(name)`."""
        return self.out(name) if self.shared is None else self.shared / "out" / name

    def collect(self, name: str) -> None:
        """Bring the files that tasks wrote for output `name` to this machine."""
        if self.shared is None:
            return
        home, away = self.out(name), self.pieces(name)
        for location in sorted(away.rglob("*"), key=str):
            if location.is_file():
                target = home / location.relative_to(away).as_posix()
                with local_copy(location) as copy, atomic_path(target) as temporary:
                    shutil.copyfile(copy, temporary)

    def input(self, name: str) -> Path:
        """The folder of an earlier output; a missing one is a `HainaError`."""
        path = self.inputs.get(name)
        if path is None or not path.exists():
            raise HainaError(
                f"{path or name}: the {name} output is missing", f"run the stage that makes {name} first"
            )
        return path


@dataclass(frozen=True)
class StageResult:
    """What a stage did.

    Attributes:
        records_in, records_out, records_dropped: `records_in == records_out + records_dropped`; the runner
        checks it. unit: what a record is (`pages`, `documents`, ...). metrics: a few numbers for the
        manifest and the closing table; JSON values only, no times.
    """

    records_in: int
    records_out: int
    records_dropped: int
    unit: str
    metrics: dict[str, Any] = field(default_factory=dict)
