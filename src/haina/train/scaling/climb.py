"""A ladder, shards and a tokenizer in; a folder of finished runs out, unattended, and resumed where it was stopped.

Every rung is an ordinary training in `OUT/RUNG/` with `train/` and `model/`. `rung.json` says with which settings and
on which shards; a rung that is finished is not trained again, one that was interrupted goes on from its checkpoint, and
one that was made with other settings is refused. Rungs come in the order of their cost, so that a law can be fitted
before the last one ends; one that fails does not keep the others from being trained. Several processes may climb one
ladder: each takes rungs that no other one holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haina.model.config import ModelConfig
from haina.runtime.errors import HainaError
from haina.runtime.files import read_json, write_json
from haina.runtime.lock import exclusive
from haina.runtime.progress import Reporter
from haina.train.config import TrainConfig
from haina.train.interrupts import ending_on_sigterm
from haina.train.scaling.curves import short
from haina.train.scaling.ladder import Ladder, Rung, rungs

RUNG = "rung.json"

# A rung's settings and shape.
Derive = Callable[[Rung], tuple[TrainConfig, ModelConfig]]
# Trains one rung into its folder.
Train = Callable[[TrainConfig, int, Path], None]


@dataclass(frozen=True)
class Step:
    """One rung with all that is known before it is trained.

    Attributes:
        config: of the train stage. shape: of its model.
    """

    rung: Rung
    config: TrainConfig
    shape: ModelConfig

    @property
    def tokens(self) -> int:
        """What is really read: whole steps."""
        return self.config.steps * self.config.tokens_per_step

    @property
    def flops(self) -> float:
        """Model FLOPs of its training."""
        return float(self.shape.flops_per_token(self.config.sequence_length)) * self.tokens


def plan(ladder: Ladder, derive: Derive) -> tuple[list[Step], list[Step]]:
    """The steps to train, cheapest first, and those that cost more than the ladder allows.

    Raises:
        HainaError: two rungs have one name, or the settings of one do not fit together.
    """
    steps = []
    for rung in rungs(ladder):
        config, shape = derive(rung)
        steps.append(Step(rung, config, shape))
    names = [step.rung.name for step in steps]
    for name in names:
        if names.count(name) > 1:
            raise HainaError(
                f"two rungs of the ladder are named {name}",
                "give tokens that differ in three digits, and each seed once",
            )
    steps.sort(key=lambda step: (step.flops, step.rung.name))
    most = ladder.most_flops or float("inf")
    return [step for step in steps if step.flops <= most], [step for step in steps if step.flops > most]


def describe(step: Step, data: Mapping[str, Any]) -> dict[str, Any]:
    """What `rung.json` says. Where plans of the loader are kept changes nothing."""
    return {
        "config": step.config.model_dump(mode="json", exclude={"loader": {"plans"}}),
        "seed": step.rung.seed,
        "data": dict(data),
    }


def finished(folder: Path) -> bool:
    """Whether the rung in `folder` has been trained."""
    return (folder / "train" / "summary.json").is_file()


def climb(
    steps: Sequence[Step], out: Path, data: Mapping[str, Any], train: Train, reporter: Reporter
) -> list[Path]:
    """Train what has not been trained; the folders of the rungs that are finished.

    Args:
        out: folder of the ladder.
        data: fingerprints of shards and tokenizer.
        train: trains a rung; interrupted and called again, it goes on.

    Raises:
        HainaError: a rung is there that was made otherwise; or, after all others, some rungs failed.
        KeyboardInterrupt: Ctrl-C, after a checkpoint.
        SystemExit: SIGTERM, after a checkpoint; its code is 0.
    """
    for step in steps:
        mark = out / step.rung.name / RUNG
        if mark.exists() and read_json(mark) != describe(step, data):
            raise HainaError(
                f"{mark.parent}: was trained with other settings or on other shards",
                "choose another --out, or remove that folder",
            )
    failed: dict[str, HainaError] = {}
    whole = sum(step.flops for step in steps) / 1e9
    with ending_on_sigterm(), reporter.task("ladder", whole, "GFLOP") as task:
        for number, step in enumerate(steps, 1):
            label = f"rung {number} of {len(steps)}: {step.rung.name}"
            error = _train_one(step, out / step.rung.name, describe(step, data), train, reporter, label)
            if error is not None:
                failed[step.rung.name] = error
                reporter.say(f"{label}: {error}")
            task.advance(step.flops / 1e9, step.rung.name)
    if failed:
        name, first = next(iter(failed.items()))
        raise HainaError(
            f"{len(failed)} of {len(steps)} rungs failed ({', '.join(failed)}); {name}: {first.message}",
            first.hint or "the others are finished; run the same command to try again",
        )
    return [out / step.rung.name for step in steps if finished(out / step.rung.name)]


def _train_one(
    step: Step, folder: Path, description: Mapping[str, Any], train: Train, reporter: Reporter, label: str
) -> HainaError | None:
    """Train a rung, unless it is finished or held by another process; gives the error that it failed with."""
    if finished(folder):
        return None
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(folder, "it is left to that process"))
        except HainaError as error:
            reporter.say(f"{label}: {error}")
            return None
        # Another process may have finished it between the two looks.
        if finished(folder):
            return None
        write_json(folder / RUNG, description)
        reporter.say(f"{label}, {short(step.shape.parameter_count)} parameters, {short(step.tokens)} tokens")
        try:
            train(step.config, step.rung.seed, folder)
        except HainaError as error:
            return error
    return None
