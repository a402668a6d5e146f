"""Runs a recipe in a run folder: what is finished is not done again, what was interrupted goes on.

In: a recipe and the user's input files. Out: `runs/NAME/` with `recipe.yaml`, `manifest.json`, one folder a stage,
`events.jsonl`, `tensorboard/` and `report.html`. The same inputs give the same bytes whether or not the run was
killed on the way; only times differ, and those stand in the manifest, the events, TensorBoard and the report.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from haina.recipe.graph import STAGE_NAMES, STAGES, Stage
from haina.recipe.inputs import describe_source
from haina.recipe.run_folder import RunFolder, fingerprint_of
from haina.recipe.schema import Recipe, dump_recipe, load_recipe
from haina.runtime import files
from haina.runtime.devices import describe_machine
from haina.runtime.errors import HainaError, from_os_error
from haina.runtime.measure import Measurement
from haina.runtime.progress import Reporter
from haina.runtime.stage import EventLog, StageContext, StageResult


@dataclass(frozen=True)
class StageReport:
    """How one stage went: its manifest entry, and whether it was run now or found finished."""

    stage: str
    title: str
    record: dict[str, Any]
    reused: bool


def run_recipe(
    recipe: Recipe,
    sources: Sequence[Path | str],
    folder: Path,
    reporter: Reporter,
    first: str = STAGE_NAMES[0],
    last: str = STAGE_NAMES[-1],
) -> list[StageReport]:
    """Run the stages from `first` to `last`.

    Args:
        recipe: the settings.
        sources: input files and folders for the corpus stage; may be empty when `first` comes later.
        folder: the run folder, made when it is not there.
        reporter: progress.
        first, last: names of stages. Stages before `first` are used as they are and must have finished.

    Raises:
        HainaError: an unknown stage, a missing input, a folder in use, or whatever a stage reports.
    """
    for name in (first, last):
        if name not in STAGE_NAMES:
            raise HainaError(f"{name}: no such stage", f"the stages are {', '.join(STAGE_NAMES)}")
    begin, end = STAGE_NAMES.index(first), STAGE_NAMES.index(last)
    if begin > end:
        raise HainaError(f"--from {first} comes after --to {last}", f"the order is {', '.join(STAGE_NAMES)}")
    if begin == 0:
        _check_sources(sources)
    run = RunFolder(folder)
    with run.locked():
        run.settle()
        _write_recipe(folder / "recipe.yaml", recipe, STAGE_NAMES[:begin])
        events = EventLog(folder / "events.jsonl")
        reports: list[StageReport] = []
        for stage in STAGES[:begin]:
            record = run.record(stage)
            if record is None or not run.outputs_intact(stage):
                raise HainaError(
                    f"{folder}: stage {stage.name} has not finished",
                    f"run without --from, or --from {stage.name}",
                )
            reports.append(StageReport(stage.name, stage.title, record, reused=True))
        source_fingerprint = (
            files.fingerprint_bytes(*(_encoded(source) for source in sources)) if begin == 0 else ""
        )
        for number, stage in enumerate(STAGES[begin : end + 1], start=begin + 1):
            reports.append(
                _run_stage(run, stage, number, recipe, sources, source_fingerprint, reporter, events)
            )
        return reports


def _encoded(source: Path | str) -> bytes:
    return describe_source(source).encode("utf-8", "surrogateescape")


def _check_sources(sources: Sequence[Path | str]) -> None:
    if not sources:
        raise HainaError(
            "no input given", "add --input PATH, for example the folder that `haina sample` filled"
        )


def _write_recipe(path: Path, recipe: Recipe, kept: Sequence[str]) -> None:
    """Write the recipe as run; sections of stages that are kept as they are stay as they were."""
    content = recipe.model_dump(mode="json")
    if kept and path.exists():
        before = load_recipe(path).model_dump(mode="json")
        content |= {name: before[name] for name in kept if name in before}
    files.write_text(path, dump_recipe(Recipe.model_validate(content)))


def _files_named_by(config: BaseModel) -> dict[str, str]:
    """Fingerprints of files and folders that a section names, such as a suite's questions."""
    found: dict[str, str] = {}
    for _, value in config:
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, BaseModel):
                found |= _files_named_by(item)
            elif isinstance(item, Path):
                if not item.exists():
                    raise HainaError(f"{item}: no such file or folder", "check the recipe")
                found[str(item)] = files.fingerprint_tree(item)
    return found


def _config_of(recipe: Recipe, stage: Stage) -> Any:
    return getattr(recipe, stage.name, None)


def _run_stage(
    run: RunFolder,
    stage: Stage,
    number: int,
    recipe: Recipe,
    sources: Sequence[Path | str],
    source_fingerprint: str,
    reporter: Reporter,
    events: EventLog,
) -> StageReport:
    config = _config_of(recipe, stage)
    stages = run.manifest()["stages"]
    made = {
        name: output["fingerprint"]
        for record in stages.values()
        for name, output in record["outputs"].items()
    }
    inputs = {name: made[name] for name in stage.inputs if name in made}
    missing = [name for name in stage.inputs if name not in made]
    if missing:
        raise HainaError(
            f"stage {stage.name}: {', '.join(missing)} is missing", "run the earlier stages first"
        )
    if not stage.inputs:
        inputs = {"sources": source_fingerprint}
    if config is not None:
        inputs |= _files_named_by(config)
    # What is watched changes nothing that comes out.
    settings = {} if config is None else config.model_dump(mode="json", exclude={"monitor"})
    if stage.name == "report":
        settings = recipe.model_dump(mode="json")
    fingerprint = fingerprint_of(stage, settings, recipe.seed, inputs)
    heading = f"[{number}/{len(STAGES)}] {stage.name}: {stage.title}"
    record = run.record(stage)
    if record is not None and record["fingerprint"] == fingerprint and run.outputs_intact(stage):
        reporter.say(f"{heading} - finished before, kept")
        return StageReport(stage.name, stage.title, record, reused=True)
    reporter.say(heading)
    work = run.work(stage, fingerprint)
    context = StageContext(
        work=work,
        inputs={"run": run.path, **{name: run.path / name for name in made}},
        sources=tuple(sources),
        seed=recipe.seed,
        workers=recipe.workers or os.cpu_count() or 1,
        reporter=reporter,
        events=events,
        tensorboard=run.path / "tensorboard",
    )
    events.write("stage_started", stage=stage.name, fingerprint=fingerprint)
    with Measurement() as measurement:
        result = _call(stage, config, context)
    if result.records_in != result.records_out + result.records_dropped:
        raise RuntimeError(
            f"stage {stage.name}: {result.records_in} {result.unit} in, but {result.records_out} out "
            f"and {result.records_dropped} dropped"
        )
    record = {
        "fingerprint": fingerprint,
        "records": {
            "in": result.records_in,
            "out": result.records_out,
            "dropped": result.records_dropped,
            "unit": result.unit,
        },
        "metrics": result.metrics,
        "seconds": round(measurement.seconds, 2),
        "peak_memory_bytes": measurement.peak_memory_bytes,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    run.commit(stage, record, describe_machine(run.path).as_dict())
    events.write(
        "stage_finished",
        stage=stage.name,
        seconds=record["seconds"],
        peak_memory_bytes=record["peak_memory_bytes"],
    )
    return StageReport(stage.name, stage.title, run.manifest()["stages"][stage.name], reused=False)


def _call(stage: Stage, config: Any, context: StageContext) -> StageResult:
    try:
        return stage.load()(config, context)
    except OSError as error:
        context.events.write("stage_failed", stage=stage.name, error=str(error))
        raise from_os_error(error) from error
    except (HainaError, KeyboardInterrupt, SystemExit) as error:  # SystemExit: SIGTERM, taken in order
        context.events.write("stage_stopped", stage=stage.name, error=str(error))
        raise
