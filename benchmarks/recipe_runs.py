"""Training runs for experiments on recipes: a list of jobs in, a JSON file of each with its held-out scores out.

A job is a `train` section and a seed. It reads the rows that the loader gives for its seed, as `haina train` does, and
is measured on whole held-out documents, Chinese and English apart, in bits a byte and nats a token. What is finished is
never run again: an experiment that was interrupted goes on with the jobs that are missing. Jobs run side by side in
`--processes` processes, which share the cores.

Another trainer takes part by giving a `Learner`: it reads the same rows in the same order and is measured on the same
documents.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

import training_data
from haina.model.config import ModelConfig
from haina.model.training import training_states
from haina.model.transformer import Transformer
from haina.runtime.devices import physical_cores
from haina.runtime.files import write_json
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards.batch import Batch
from haina.shards.loader import open_loader
from haina.train.config import TrainConfig
from haina.train.evaluation import document_nats
from haina.train.hardware import Hardware, choose
from haina.train.held_out import HeldOut, Rows, read_held_out
from haina.train.loss import linear_cross_entropy
from haina.train.optimizer import build_optimizer, set_learning_rate
from haina.train.schedule import learning_rate

HELD_OUT_TOKENS = 131_072  # of each language
CHUNK = 512


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        name: of its result file; says what it is.
        train: fields of TrainConfig.
        seed: of weights and of the order of the rows.
        learner: "haina", or the name of another trainer that the experiment knows.
        options: what that one needs.
    """

    name: str
    train: dict[str, Any]
    seed: int
    learner: str = "haina"
    options: dict[str, Any] = field(default_factory=dict)


class Learner(Protocol):
    """A model and its training, one step at a time."""

    parameters: int

    def step(self, number: int, batch: Batch) -> float:
        """One optimizer step on the rows of the whole batch; gives the loss before it, nats a token."""
        ...

    def nats(self, rows: Rows, documents: int) -> NDArray[np.float64]:
        """Cost of each held-out document, as `document_nats`."""
        ...


def model_of(config: TrainConfig, tokenizer: Path) -> ModelConfig:
    """The shape that a job trains."""
    file = TokenizerFile(tokenizer)
    return config.model.resolve(
        file.vocab_size, config.sequence_length, file.bos_id, file.eos_id, file.pad_id
    )


class Haina:
    """Our model, optimizer, schedule and loss, without guards, checkpoints and logs."""

    def __init__(self, config: TrainConfig, shape: ModelConfig, seed: int) -> None:
        self.config, self.hardware = config, choose(config)
        self.model = Transformer(shape)
        self.model.initialize(seed, config.initialisation)
        self.model.to(self.hardware.device).train()
        self.optimizer = build_optimizer(self.model, config)
        self.parameters = shape.parameter_count

    def step(self, number: int, batch: Batch) -> float:
        config, dtype, device = self.config, self.hardware.dtype, self.hardware.device
        set_learning_rate(self.optimizer, learning_rate(number, config))
        total = torch.zeros((), device=device)
        for start in range(0, config.rows_per_step, config.micro_batch_size):
            part = batch.rows(start, start + config.micro_batch_size)
            inputs, targets, positions, segments = (
                torch.from_numpy(array).to(device)
                for array in (part.inputs, part.targets, part.positions, part.segments)
            )
            hidden = training_states(self.model, inputs, positions, segments, dtype=dtype)
            objective, loss = linear_cross_entropy(
                hidden.flatten(0, 1),
                self.model.head_weight(),
                targets.reshape(-1),
                chunk=CHUNK,
                dtype=dtype,
                total=batch.step_targets,
                z_loss=config.z_loss,
            )
            objective.backward()
            total += loss
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(total)

    def nats(self, rows: Rows, documents: int) -> NDArray[np.float64]:
        size = self.config.micro_batch_size
        found: NDArray[np.float64] = document_nats(self.model, rows, documents, size, CHUNK, self.hardware)
        return found


Factory = Callable[[Job, TrainConfig, ModelConfig, Hardware], Learner]


def held_out_scores(learner: Learner, held_out: Sequence[HeldOut]) -> dict[str, dict[str, float]]:
    """Of each language: nats a token and bits a byte."""
    scores = {}
    for split in held_out:
        nats = float(learner.nats(split.rows, split.documents).sum())
        if split.bytes is None:
            raise SystemExit("the shards do not know the bytes of their documents; write them again")
        scores[split.name] = {
            "loss": nats / int(split.tokens.sum()),
            "bits_per_byte": nats / math.log(2) / int(split.bytes.sum()),
        }
    return scores


def mean_loss(result: dict[str, Any]) -> float:
    """Held-out loss of a result, nats a token: Chinese and English count the same; infinite where it diverged."""
    return _mean(result, "loss")


def mean_bits(result: dict[str, Any]) -> float:
    """Held-out bits a byte of a result: Chinese and English count the same; infinite where it diverged."""
    return _mean(result, "bits_per_byte")


def _mean(result: dict[str, Any], key: str) -> float:
    if not result["held_out"]:
        return math.inf
    return statistics.fmean(score[key] for score in result["held_out"].values())


def without_nan(value: Any) -> Any:
    """For JSON: numbers that are not finite become null."""
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def train(
    job: Job, shards: Path, tokenizer: Path, threads: int, factory: Factory | None = None
) -> dict[str, Any]:
    """Run one job.

    Returns:
        JSON values: the job, `parameters`, `tokens`, `held_out` scores (null where it diverged), `losses` of all steps,
        seconds of the training.
    """
    torch.set_num_threads(threads)
    config = TrainConfig(**job.train)
    shape = model_of(config, tokenizer)
    loader = open_loader(
        shards, config.loader.with_sizes(config.sequence_length, config.rows_per_step, job.seed)
    )
    held_out = read_held_out(shards, config.sequence_length, HELD_OUT_TOKENS)
    learner: Learner = (
        Haina(config, shape, job.seed)
        if job.learner == "haina" or factory is None
        else factory(job, config, shape, choose(config))
    )
    began, processor = time.perf_counter(), time.process_time()
    losses: list[float] = []
    for step in range(config.steps):
        losses.append(learner.step(step, loader.batch(step)))
        if not math.isfinite(losses[-1]):
            break
        if (step + 1) * 10 // config.steps > step * 10 // config.steps:
            rate = (step + 1) * config.tokens_per_step / (time.perf_counter() - began)
            recent = statistics.fmean(losses[-20:])
            print(
                f"{job.name}: step {step + 1}/{config.steps} loss {recent:.3f}, {rate:,.0f} tokens/s",
                flush=True,
            )
    seconds = time.perf_counter() - began
    processor = time.process_time() - processor
    scores = held_out_scores(learner, held_out) if math.isfinite(losses[-1]) else {}
    # The last step's update may have been what broke the model.
    finite = bool(scores) and all(
        math.isfinite(value) for score in scores.values() for value in score.values()
    )
    return {
        "job": job.__dict__,
        "parameters": learner.parameters,
        "tokens": len(losses) * config.tokens_per_step,
        "held_out": scores if finite else None,
        "losses": [round(loss, 5) if math.isfinite(loss) else None for loss in losses],
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "threads": threads,
        "precision": choose(config).precision,
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }


def _key(job: Job, shards: Path) -> str:
    """What a result depends on: equal for equal work. The code is not part of it: who changes training takes another
    `--out`.
    """
    described = {**job.__dict__, "shards": json.loads((shards / "shards.json").read_text("utf-8"))["splits"]}
    return hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=8).hexdigest()


def _finished(path: Path, key: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found if found.get("key") == key else None


def _work(arguments: tuple[Job, Path, Path, Path, int, Factory | None]) -> None:
    job, shards, tokenizer, out, threads, factory = arguments
    result = train(job, shards, tokenizer, threads, factory)
    write_json(out / f"{job.name}.json", {"key": _key(job, shards), **result})


@dataclass(frozen=True)
class Bench:
    """Where an experiment reads and writes, and how much runs at once."""

    shards: Path
    tokenizer: Path
    out: Path
    processes: int

    @classmethod
    def of(cls, given: argparse.Namespace) -> Bench:
        """From the options of `add_arguments`; makes data and folder where they are missing."""
        shards, tokenizer = training_data.folders(given.shards, given.tokenizer)
        given.out.mkdir(parents=True, exist_ok=True)
        return cls(shards, tokenizer, given.out, given.processes)

    def results(self, jobs: Sequence[Job], factory: Factory | None = None) -> list[dict[str, Any]]:
        """Of all jobs in their order; those that are missing are run first."""
        missing = [
            job for job in jobs if _finished(self.out / f"{job.name}.json", _key(job, self.shards)) is None
        ]
        if missing:
            tokens = sum(_tokens(job) for job in missing)
            print(
                f"{len(jobs) - len(missing)} of {len(jobs)} runs are there, {tokens / 1e6:.1f}M tokens to train",
                flush=True,
            )
        threads = max(1, physical_cores() // self.processes)
        arguments = [(job, self.shards, self.tokenizer, self.out, threads, factory) for job in missing]
        # Every run in a process of its own, with its own threads from the start.
        with ProcessPoolExecutor(
            self.processes, mp_context=get_context("spawn"), max_tasks_per_child=1
        ) as pool:
            for done, _ in enumerate(pool.map(_work, arguments), 1):
                print(f"{done} of {len(missing)} runs finished", flush=True)
        return [json.loads((self.out / f"{job.name}.json").read_text("utf-8")) for job in jobs]


def _tokens(job: Job) -> int:
    return TrainConfig(**job.train).tokens_per_step * int(job.train["steps"])


def add_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Options that all experiments share; results go to `build/OUT`."""
    training_data.add_arguments(parser)
    here = Path(__file__).resolve().parents[1] / "build" / out
    parser.add_argument("--out", type=Path, default=here, help="a JSON file of every run")
    parser.add_argument(
        "--processes",
        type=int,
        default=min(2, os.cpu_count() or 1),
        help="runs at once; they share the cores",
    )
    parser.add_argument("--json", type=Path, help="write the figures")
