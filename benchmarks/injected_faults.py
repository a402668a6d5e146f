"""Claim: a NaN gradient, damaged batches, the learning rate times 100 for 10 steps: all of it is undone.

Each seed trains one small bilingual model undisturbed, then once for each fault, with the guards as they come and with
guards that decide nothing. Faults begin at two thirds of the run and come from hooks of this benchmark:

- NaN gradient: one element of one gradient, once; and in twelve batches in a row, every time these are read;
- flipped bits: in three batches, every twentieth token has a high bit flipped: no id of the vocabulary;
- garbage batches: in three batches every token is another one at random: ids of the vocabulary, no text;
- learning rate x 100: for 10 steps, once, as from a glitch of a scheduler.

A run has recovered when its held-out loss is at most 2 % above that of the undisturbed run of its seed.
Run: python benchmarks/injected_faults.py [--seeds 5] [--steps 300] [--data FOLDER] [--json FILE]; FOLDER holds
tokenizer/ and shards/, as a run folder does; without it documents are made up.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from haina.runtime.devices import describe_machine
from haina.runtime.errors import HainaError
from haina.runtime.stage import StageContext
from haina.shards.batch import Batch
from haina.train import TrainConfig, loop, run
from haina.train.guards import Guard
from haina.train.order import OrderedBatches
from haina.train.step import Stepper
from kill_training import SMALL_MODEL, make_inputs
from recipe_runs import without_nan

RECOVERED = 1.02
LARGE_RATE, RATE_STEPS, ROW_OF_NANS = 100.0, 10, 12


def configuration(steps: int, optimizer: str) -> TrainConfig:
    """A small model; a checkpoint ten times a run; guards as they come."""
    return TrainConfig.model_validate(
        {
            "model": SMALL_MODEL,
            "sequence_length": 64,
            "micro_batch_size": 8,
            "steps": steps,
            "warmup_steps": 20,
            "optimizer": optimizer,
            "learning_rate": 3e-3,
            "threads": 1,
            "device": "cpu",
            "evaluate_every": steps,
            "validation_tokens": 8192,
            "checkpoint_every": max(1, steps // 10),
        }
    )


@contextmanager
def nan_gradients(numbers: set[int], times: int) -> Iterator[None]:
    """The gradient of these batches holds a NaN, the first so many times."""
    honest, left = Stepper.gradients, dict.fromkeys(numbers, times)

    def gradients(self: Stepper, batch: Batch) -> torch.Tensor:
        loss = honest(self, batch)
        if left.get(batch.step, 0) > 0:
            left[batch.step] -= 1
            gradient = next(self.model.parameters()).grad
            assert gradient is not None
            gradient.view(-1)[7] = float("nan")
        return loss

    with mock.patch.object(Stepper, "gradients", gradients):
        yield


@contextmanager
def changed_batches(numbers: set[int], change: Callable[[Batch], Batch]) -> Iterator[None]:
    """These batches are read as `change` gives them."""
    honest = OrderedBatches.batch

    def batch(self: OrderedBatches, step: int, rank: int = 0, world: int = 1) -> Batch:
        found = honest(self, step, rank, world)
        return change(found) if found.step in numbers else found

    with mock.patch.object(OrderedBatches, "batch", batch):
        yield


def flipped(batch: Batch) -> Batch:
    """Every twentieth input with its fifteenth bit flipped, as in a damaged shard."""
    inputs = batch.inputs.copy()
    inputs.reshape(-1)[::20] ^= 1 << 14
    return replace(batch, inputs=inputs)


def garbage(vocabulary: int) -> Callable[[Batch], Batch]:
    """Other ids in every place."""

    def change(batch: Batch) -> Batch:
        rng = np.random.default_rng(batch.step)
        inputs = rng.integers(3, vocabulary, batch.inputs.shape)
        targets = np.where(batch.targets < 0, batch.targets, rng.integers(3, vocabulary, batch.targets.shape))
        return replace(batch, inputs=inputs, targets=targets)

    return change


@contextmanager
def large_rate(first: int) -> Iterator[None]:
    """The learning rate of ten steps is a hundred times what it should be, the first time they come by."""
    honest, left = loop.learning_rate, set(range(first, first + RATE_STEPS))

    def rate(step: int, config: TrainConfig) -> float:
        usual = honest(step, config)
        if step in left:
            left.remove(step)
            return LARGE_RATE * usual
        return usual

    with mock.patch.object(loop, "learning_rate", rate):
        yield


@contextmanager
def no_guards() -> Iterator[None]:
    """Every step changes the parameters, whatever it holds, and nothing is seen."""

    def judge(self: Guard, loss: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
        honest(self, torch.ones(()), torch.ones(()))
        return torch.zeros(())

    honest = Guard.judge
    with mock.patch.object(Guard, "judge", judge):
        yield


def train(inputs: Path, work: Path, config: TrainConfig, seed: int) -> dict[str, Any]:
    """Held-out loss (mean of the splits; NaN where the run ended with an error), and what the guards did."""
    folders = {"tokenizer": inputs / "tokenizer", "shards": inputs / "shards"}
    started = time.process_time()
    try:
        run(config, StageContext(work=work, inputs=folders, seed=seed))
    except HainaError as error:
        return {"loss": math.nan, "error": error.message, "guards": {}, "cpu_seconds": 0.0}
    summary = json.loads((work / "out/train/summary.json").read_text())
    losses = [found["loss"] for found in summary["validation"].values()]
    loss = math.nan if None in losses else statistics.mean(losses)
    seconds = round(time.process_time() - started, 2)
    return {"loss": loss, "guards": summary["guards"], "cpu_seconds": seconds}


def measure(inputs: Path, folder: Path, seeds: int, steps: int, optimizer: str) -> dict[str, Any]:
    """Every fault for every seed."""
    config = configuration(steps, optimizer)
    vocabulary = json.loads((inputs / "shards/shards.json").read_text())["tokenizer"]["vocab_size"]
    first = 2 * steps // 3
    three = {first, first + 1, first + 5}
    faults: dict[str, Callable[[], Any]] = {
        "NaN gradient, once": lambda: nan_gradients({first}, 1),
        f"NaN gradient, {ROW_OF_NANS} batches": lambda: nan_gradients(
            set(range(first, first + ROW_OF_NANS)), 1 << 30
        ),
        "flipped bits, 3 batches": lambda: changed_batches(three, flipped),
        "garbage tokens, 3 batches": lambda: changed_batches(three, garbage(vocabulary)),
        f"learning rate x {LARGE_RATE:.0f}, {RATE_STEPS} steps": lambda: large_rate(first),
    }
    calm, rows = [], {name: [] for name in faults}
    for seed in range(seeds):
        calm.append(train(inputs, folder / f"calm-{seed}", config, seed))
        for number, (name, fault) in enumerate(faults.items()):
            found: dict[str, Any] = {}
            for guarded in (True, False):
                # Without guards a token that is none would end the run where it is looked up.
                if not guarded and name.startswith("flipped"):
                    continue
                with ExitStack() as hooks:
                    hooks.enter_context(fault())
                    if not guarded:
                        hooks.enter_context(no_guards())
                    work = folder / f"{seed}-{number}-{guarded}"
                    found["guarded" if guarded else "unguarded"] = train(inputs, work, config, seed)
            loss = found["guarded"]["loss"]
            found["recovered"] = loss <= RECOVERED * calm[-1]["loss"]
            found["over_undisturbed"] = loss / calm[-1]["loss"] - 1
            rows[name].append(found)
            print(f"  seed {seed}: {name}: {found['over_undisturbed']:+.2%}", file=sys.stderr, flush=True)
    return {
        "seeds": seeds,
        "steps": steps,
        "optimizer": optimizer,
        "faults_begin_at": first + 1,
        "undisturbed": calm,
        "faults": rows,
        "recovered": sum(found["recovered"] for results in rows.values() for found in results),
        "runs": sum(len(results) for results in rows.values()),
        "false_alarms": sum(result["guards"].get("steps_skipped", 0) for result in calm),
        "machine": describe_machine(folder).as_dict(),
        "torch": torch.__version__,
    }


def show(result: dict[str, Any]) -> None:
    """The table."""
    losses = [item["loss"] for item in result["undisturbed"]]
    spread = statistics.stdev(losses) if len(losses) > 1 else 0.0
    print(
        f"undisturbed, {result['seeds']} seeds: held-out loss {statistics.mean(losses):.4f} +- {spread:.4f}; "
        f"steps skipped {result['false_alarms']}"
    )
    heads = (
        "fault",
        "loss",
        "over undisturbed",
        "worst",
        "skipped",
        "rollbacks",
        "recovered",
        "without guards",
    )
    print(f"{heads[0]:<32}" + "".join(f"{head:>17}" for head in heads[1:]))
    for name, results in result["faults"].items():
        over = [found["over_undisturbed"] for found in results]
        bare = [found["unguarded"]["loss"] for found in results if "unguarded" in found]
        values = (
            f"{statistics.mean(found['guarded']['loss'] for found in results):.4f}",
            f"{statistics.mean(over):+.2%}",
            f"{max(over, key=lambda value: (math.isnan(value), value)):+.2%}",
            f"{statistics.mean(found['guarded']['guards'].get('steps_skipped', 0) for found in results):.1f}",
            f"{statistics.mean(len(found['guarded']['guards'].get('rollbacks', [])) for found in results):.1f}",
            f"{sum(found['recovered'] for found in results)} of {len(results)}",
            f"{statistics.mean(bare):.4f}" if bare else "-",
        )
        print(f"{name:<32}" + "".join(f"{value:>17}" for value in values))
    print(f"recovered: {result['recovered']} of {result['runs']}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="muon")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.data is None:
            make_inputs(folder / "made")
        inputs = arguments.data or folder / "made"
        result = measure(inputs, folder, arguments.seeds, arguments.steps, arguments.optimizer)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(without_nan(result), indent=2, allow_nan=False) + "\n")
    if result["recovered"] < result["runs"]:
        raise SystemExit("not every run has recovered")


if __name__ == "__main__":
    main()
