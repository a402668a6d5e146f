"""The training loop: a model and batches in, a trained model and its metrics out, exactly the same ones
however often it is killed on the way.

A step is a pure function of the step number and the state in the newest checkpoint: batches come from a loader without
state, the learning rate from a formula, nothing draws random numbers, and what the guards decide follows from what
they have seen. So a resumed run repeats the lost steps bit for bit, and `metrics.jsonl` - which each checkpoint
carries with it - ends up byte-identical.

    batch -> step (on the device) -> row of numbers, read a few steps later -> guards: go on, or back to a checkpoint
                                                                           -> metrics, events, TensorBoard
    after the step, where it is due: evaluation, checkpoint
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from haina.model.transformer import Transformer
from haina.runtime.files import write_text
from haina.runtime.progress import Task
from haina.runtime.stage import StageContext
from haina.shards.batch import Batch
from haina.shards.prefetch import BatchSource, Prefetcher
from haina.train.checkpoint import METRICS_FILE, checkpoint_path, list_checkpoints, step_of, tensors_of
from haina.train.checkpoint_writer import BESIDES_TENSORS, CheckpointWriter, check_room, tensor_bytes
from haina.train.config import TrainConfig
from haina.train.evaluation import evaluate
from haina.train.guards import NOT_FINITE, Guard
from haina.train.hardware import Hardware
from haina.train.held_out import HeldOut
from haina.train.interrupts import Preempted, interruptible
from haina.train.keeping import Keeping
from haina.train.monitor import Monitor
from haina.train.optimizer import OptimizerParts
from haina.train.order import OrderedBatches, tokens_outside
from haina.train.progress import Progress
from haina.train.quarantine import Quarantine, finite
from haina.train.readback import Readback
from haina.train.resume import Checkpoints
from haina.train.schedule import learning_rate
from haina.train.step import Stepper
from haina.train.watch import Reading, Trouble, Watch


@dataclass(frozen=True)
class _Sent:
    """What the host knows of a step whose numbers are on their way."""

    step: int
    batch: Batch
    rate: float
    damaged: int
    writes: bool


@dataclass
class Trainer:
    """One run.

    Attributes:
        model, optimizer, hardware, config: what is trained and how.
        loader: the rows of any step, a pure function.
        validation: held-out documents.
        folder: where `metrics.jsonl` and `checkpoints/` go.
        identity: JSON values that a checkpoint must share to be continued here.
        context: progress and messages.
        monitor: events and figures.
        quarantine: where batches go that break a step.
        first_weights: each parameter and its value before the first step.
    """

    model: Transformer
    optimizer: OptimizerParts
    hardware: Hardware
    config: TrainConfig
    loader: BatchSource
    validation: Sequence[HeldOut]
    folder: Path
    identity: Mapping[str, Any]
    context: StageContext
    monitor: Monitor
    quarantine: Quarantine
    first_weights: Callable[[], Iterable[tuple[nn.Parameter, Tensor]]]
    progress: Progress = field(default_factory=Progress, init=False)
    _note: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.guard = Guard(self.config.guards, self.hardware.device)
        self.watch = Watch(self.config.guards)
        self.stepper = Stepper(self.model, self.optimizer, self.guard, self.hardware, self.config)
        self.readback: Readback[_Sent] = Readback(self.hardware.device)
        self.keeping = Keeping(self.config, self.checkpoints.folder)
        self.writer = CheckpointWriter(self.checkpoints.folder, self._committed)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        machine = {
            "device": self.hardware.device.type,
            "precision": self.hardware.precision,
            "threads": self.hardware.threads,
            "torch": torch.__version__,
        }
        return Checkpoints(self.folder / "checkpoints", self.identity, machine, self.context.reporter)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Everything on the device that a checkpoint holds."""
        return tensors_of(self.model, self.optimizer, self.guard.tensors)

    def run(self) -> Progress:
        """Train from the newest good checkpoint to the last step.

        Raises:
            HainaError: training goes wrong again and again, a checkpoint cannot be written or none can be read.
            KeyboardInterrupt: Ctrl-C, after the step in hand is finished and kept.
            Preempted: SIGTERM, after the same.
        """
        config, checkpoints = self.config, self.checkpoints
        self._take(checkpoints.newest(self.tensors) or Progress())
        self.keeping.prune(self.watch.horizon)
        if self.progress.step < config.steps:
            check_room(checkpoints.folder, tensor_bytes(self.tensors) + BESIDES_TENSORS)
        try:
            with (
                interruptible() as asked,
                self.monitor,
                self.context.reporter.task("train", config.steps, "steps", self.progress.step) as bar,
            ):
                while self.progress.step < config.steps:
                    self.monitor.begin(self.progress.step)
                    trouble = self._train(asked, bar)
                    if trouble is not None:
                        self._go_back(trouble, bar)
                self.writer.wait()
                self.monitor.finish(self.watch.record.summary())
        finally:
            self.writer.close()
        write_text(self.folder / METRICS_FILE, self.progress.metrics)
        self.keeping.prune(0)
        self.context.reporter.say(f"trained {config.steps:,} steps: {self.watch.record.sentence()}")
        return self.progress

    def _take(self, progress: Progress) -> None:
        self.progress, self.watch.record = progress, progress.record

    def _train(self, asked: Callable[[], int | None], bar: Task) -> Trouble | None:
        """Steps up to the last one, or up to trouble."""
        config, progress = self.config, self.progress
        order = OrderedBatches(self.loader, tuple(progress.record.left_out))
        with Prefetcher(order, progress.step, config.steps) as batches:
            while progress.step < config.steps:
                self.monitor.trace.before(progress.step + 1)
                self.monitor.speed.start()
                self._step(next(batches))
                evaluates = progress.step % config.evaluate_every == 0 or progress.step == config.steps
                keeps = progress.step in self.keeping.due
                trouble = self._read(batches, everything=evaluates or keeps)
                self.monitor.speed.stop()
                self.monitor.trace.after(progress.step)
                bar.advance(1, self._note)
                signalled = asked() if progress.step < config.steps else None
                if signalled is not None and trouble is None:
                    trouble = self._read(batches, everything=True)
                if trouble is not None:
                    return trouble
                if evaluates:
                    self._evaluate()
                if keeps or signalled is not None:
                    self._keep(now=signalled is not None)
                if signalled is not None:
                    self._stop(signalled)
                self.writer.poll()
        return None

    def _step(self, batch: Batch) -> None:
        """Give one step to the device."""
        progress, config = self.progress, self.config
        rate = learning_rate(progress.step, config)
        progress.step += 1
        writes = progress.step % config.log_every == 0 or progress.step == config.steps
        damaged = tokens_outside(batch, self.model.config.vocab_size)
        row = self.stepper(batch, rate, damaged > 0, writes)
        self.readback.push(_Sent(progress.step, batch, rate, damaged, writes), row)

    def _read(self, batches: Prefetcher, everything: bool) -> Trouble | None:
        """Take in the numbers that have arrived, in the order of their steps; what they mean, if it is trouble."""
        progress = self.progress
        for sent, row in self.readback.read(everything):
            reading = Reading.of(sent.step, sent.batch.step, row, sent.damaged)
            progress.count(reading)
            trouble = self.watch.read(reading)
            self._note = f"loss {reading.loss:.2f}, {self.monitor.speed.rate:,.0f} tokens/s"
            if reading.reasons:
                self._bad(reading, sent)
            if sent.writes:
                tokens = sent.step * self.config.tokens_per_step
                line = progress.line_of(reading, tokens, sent.rate, row[-1])
                progress.write(line)
                self.monitor.line(line, batches.waits, batches.waited_seconds)
                self.monitor.guards(sent.step, progress.record)
            if trouble is not None:
                self.readback.clear()
                return trouble
        return None

    def _bad(self, reading: Reading, sent: _Sent) -> None:
        """Tell of a step that changed nothing or moved too far; keep the batch of one that was not finite."""
        record, saved = self.watch.record, None
        if reading.reasons & NOT_FINITE:
            seen = {
                "because": reading.named,
                "loss": finite(reading.loss),
                "gradient_norm": finite(reading.gradient_norm),
                "learning_rate": sent.rate,
            }
            saved = self.quarantine.save(reading.step, sent.batch, seen, record)
            self.context.reporter.say(
                f"step {reading.step}: {', '.join(reading.named)}; it changed nothing"
                + ("" if saved is None else f", and its batch is in {saved.relative_to(self.folder)}")
            )
        self.monitor.bad_step(reading, saved)

    def _evaluate(self) -> None:
        config, progress = self.config, self.progress
        scores = evaluate(
            self.model, self.validation, config.micro_batch_size, config.loss_chunk_tokens, self.hardware
        )
        if not scores:
            return
        progress.validation = {name: found.as_dict() for name, found in scores.items()}
        keys = {"validation": "loss", "bits_per_byte": "bits_per_byte", "groups": "groups"}
        by_split = {
            name: {split: found[key] for split, found in progress.validation.items()}
            for name, key in keys.items()
        }
        progress.write({"step": progress.step, **by_split})
        self.monitor.scores(progress.step, scores)

    def _keep(self, now: bool) -> None:
        """Begin a checkpoint, or make it at once."""
        progress, checkpoints = self.progress, self.checkpoints
        counters = {
            **progress.counters(),
            "identity": dict(checkpoints.identity),
            "machine": dict(checkpoints.machine),
        }
        self.writer.save(progress.step, self.tensors, progress.metrics, counters, now=now)

    def _committed(self, step: int, metrics: str, seconds: float) -> None:
        """A checkpoint is whole; called by whoever has written it."""
        write_text(self.folder / METRICS_FILE, metrics)
        self.keeping.prune(self.watch.horizon)
        self.monitor.event("checkpoint", step=step, seconds=round(seconds, 3))

    def _go_back(self, trouble: Trouble, bar: Task) -> None:
        """Read an earlier state, and leave out what led to the trouble."""
        self.writer.wait()
        here = self.progress.step
        kept = [step_of(path) for path in list_checkpoints(self.checkpoints.folder)]
        choices = self.watch.go_back(trouble, [step for step in kept if step in self.keeping.due])
        progress = self.checkpoints.first_whole(choices, self.tensors)
        if progress is None:
            self.optimizer.restart(self.first_weights())
            self.guard.reset()
            progress = Progress()
        entry = self.watch.went_back(trouble, progress.step, progress.record)
        progress.record = self.watch.record
        progress.write({"step": progress.step, "rollback": entry})
        self.checkpoints.remove_after(progress.step)
        self._take(progress)
        self.monitor.event("rollback", **entry)
        self.context.reporter.say(
            f"step {trouble.step}: {trouble.why}; going back to step {progress.step} without "
            f"{len(trouble.batches)} batches"
        )
        bar.advance(progress.step - here)

    def _stop(self, signalled: int) -> None:
        """Say how to go on, and go."""
        path = checkpoint_path(self.checkpoints.folder, self.progress.step)
        self.context.reporter.say(
            f"stopped after step {self.progress.step} of {self.config.steps}, kept in {path.name}; "
            "run the same command again to go on"
        )
        self.monitor.event("stopped", step=self.progress.step, signal=signal.Signals(signalled).name)
        raise Preempted if signalled == signal.SIGTERM else KeyboardInterrupt
