"""The training loop: a model and batches in, a trained model and its metrics out, exactly the same ones
however often it is killed on the way.

A step is a pure function of the step number and the state in the newest checkpoint: batches come from a
loader without state, the learning rate from a formula, and nothing draws random numbers. So a resumed run
repeats the lost steps bit for bit, and `metrics.jsonl` - which each checkpoint carries with it - ends up
byte-identical.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from haina.model.transformer import Transformer
from haina.runtime.errors import HainaError
from haina.runtime.files import remove, write_text
from haina.runtime.stage import StageContext
from haina.shards.batch import Batch
from haina.shards.prefetch import BatchSource, Prefetcher
from haina.train.checkpoint import (
    METRICS_FILE,
    checkpoint_path,
    list_checkpoints,
    load_tensors,
    newest_checkpoint,
    prune,
    save_checkpoint,
    step_of,
    tensors_of,
)
from haina.train.config import TrainConfig
from haina.train.evaluation import held_out_loss
from haina.train.hardware import Hardware
from haina.train.loss import chunked_loss
from haina.train.optimizer import OptimizerParts, set_learning_rate
from haina.train.schedule import learning_rate

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass
class Progress:
    """Where a run stands; everything a checkpoint keeps besides tensors.

    Attributes:
        step: optimizer steps done.
        loss_sum, loss_count: of the steps since the last line of `metrics.jsonl`.
        final_loss: of the last line written, nats a token.
        validation: newest held-out loss of each language, nats a token.
        lines: of `metrics.jsonl`.
    """

    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    final_loss: float = math.nan
    validation: dict[str, float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def counters(self) -> dict[str, Any]:
        """JSON values for `state.json`; Python writes floats so that they read back bit for bit."""
        final = None if math.isnan(self.final_loss) else self.final_loss
        return {
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "final_loss": final,
            "validation": self.validation,
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any], metrics: str) -> Progress:
        """The inverse of `counters`, with the text of `metrics.jsonl`."""
        final = math.nan if state["final_loss"] is None else state["final_loss"]
        return cls(
            state["step"],
            state["loss_sum"],
            state["loss_count"],
            final,
            dict(state["validation"]),
            metrics.splitlines(),
        )

    @property
    def metrics(self) -> str:
        return "".join(line + "\n" for line in self.lines)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Inside the block the first Ctrl-C sets a flag, which the yielded function reads; the second one
    stops at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass
class Trainer:
    """One run.

    Attributes:
        model, optimizer, hardware, config: what is trained and how.
        loader: the rows of any step, a pure function.
        validation: held-out windows of each language.
        folder: where `metrics.jsonl` and `checkpoints/` go.
        identity: JSON values that a checkpoint must share to be continued here.
        context: progress, events, TensorBoard.
    """

    model: Transformer
    optimizer: OptimizerParts
    hardware: Hardware
    config: TrainConfig
    loader: BatchSource
    validation: Mapping[str, list[NDArray[np.int64]]]
    folder: Path
    identity: Mapping[str, Any]
    context: StageContext

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def run(self) -> Progress:
        """Train from the newest good checkpoint to the last step.

        Raises:
            HainaError: the loss or the gradient is no longer finite, a checkpoint cannot be written or none
                can be read.
            KeyboardInterrupt: Ctrl-C, after the step in hand is finished and kept.
        """
        progress = self._resume()
        board = self._tensorboard(progress.step)
        try:
            with (
                _interruptible() as interrupted,
                Prefetcher(self.loader, progress.step, self.config.steps) as batches,
                self.context.reporter.task("train", self.config.steps, "steps", progress.step) as bar,
            ):
                speed = _Speed(self.config.tokens_per_step, batches)
                while progress.step < self.config.steps:
                    speed.start()
                    loss = self._step(next(batches), progress, board, speed)
                    bar.advance(1, f"loss {loss:.2f}, {speed.rate:,.0f} tokens/s")
                    self._evaluate(progress, board)
                    stop = interrupted() and progress.step < self.config.steps
                    if progress.step in self._scheduled or stop:
                        self._keep(progress)
                    if stop:
                        self._say_how_to_go_on(progress)
                        raise KeyboardInterrupt
        finally:
            if board is not None:
                board.close()
        write_text(self.folder / METRICS_FILE, progress.metrics)
        prune(self.checkpoints, self._scheduled, self.config.keep_checkpoints)
        return progress

    @property
    def _scheduled(self) -> set[int]:
        every, steps = self.config.checkpoint_every, self.config.steps
        return {*range(every, steps + 1, every), steps}

    def _resume(self) -> Progress:
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        found = newest_checkpoint(self.checkpoints)
        if found is None:
            prune(self.checkpoints, self._scheduled, self.config.keep_checkpoints)
            return Progress()
        path, state, complaints = found
        for complaint in complaints:
            self.context.reporter.say(f"{complaint}; going on from {path.name} instead")
        if state["identity"] != dict(self.identity):
            changed = sorted(key for key in self.identity if state["identity"].get(key) != self.identity[key])
            raise HainaError(
                f"checkpoint {path}: was made with another {', '.join(changed)}",
                f"delete {self.checkpoints} to train from the beginning",
            )
        here, there = self._machine(), state["machine"]
        if here != there:
            self.context.reporter.say(
                f"checkpoint {path.name} comes from {there}, this run uses {here}: "
                "the result will not be bit-identical"
            )
        load_tensors(path, tensors_of(self.model, self.optimizer))
        for moments in self.optimizer.state.values():
            if "step" in moments:
                moments["step"].fill_(float(state["step"]))
        # Damaged ones must not count as kept; they are made again on the way.
        for later in list_checkpoints(self.checkpoints):
            if step_of(later) > state["step"]:
                remove(later)
        prune(self.checkpoints, self._scheduled, self.config.keep_checkpoints)
        return Progress.restore(state, (path / METRICS_FILE).read_text("utf-8"))

    def _machine(self) -> dict[str, Any]:
        return {
            "device": self.hardware.device.type,
            "precision": self.hardware.precision,
            "threads": self.hardware.threads,
            "torch": torch.__version__,
        }

    def _tensorboard(self, step: int) -> SummaryWriter | None:
        if self.context.tensorboard is None:
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.context.tensorboard), purge_step=step + 1 if step else None)

    def _step(self, batch: Batch, progress: Progress, board: SummaryWriter | None, speed: _Speed) -> float:
        """One optimizer step; returns its loss in nats a token."""
        config = self.config
        rate = learning_rate(progress.step, config)
        set_learning_rate(self.optimizer, rate)
        loss = 0.0
        for start in range(0, config.rows_per_step, config.micro_batch_size):
            loss += self._backward(batch.rows(start, start + config.micro_batch_size))
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._diverged(progress.step + 1, loss, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        speed.stop()
        progress.step += 1
        progress.loss_sum += loss
        progress.loss_count += 1
        if progress.step % config.log_every == 0 or progress.step == config.steps:
            self._log(progress, rate, norm, board, speed)
        return loss

    def _backward(self, batch: Batch) -> float:
        """Add the gradient of one micro-batch to that of the step; returns its part of the step's loss."""
        device = self.hardware.device
        inputs, targets = (torch.from_numpy(array).to(device) for array in (batch.inputs, batch.targets))
        positions = segments = None
        if batch.separate:
            positions, segments = (
                torch.from_numpy(array).to(device) for array in (batch.positions, batch.segments)
            )
        with self.hardware.autocast():
            hidden = self.model.hidden_states(inputs, None, positions, segments)
        loss = chunked_loss(
            hidden.flatten(0, 1),
            self.model.lm_head.weight,
            targets.reshape(-1),
            self.config.loss_chunk_tokens,
            self.hardware.dtype,
            batch.step_targets,
        )
        loss.backward()
        return float(loss.item())

    def _diverged(self, step: int, loss: float, norm: float) -> HainaError:
        kept = list_checkpoints(self.checkpoints)
        last = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
        return HainaError(
            f"training step {step}: loss {loss}, gradient norm {norm} - not finite; {last}",
            "lower train.learning_rate or raise train.warmup_steps",
        )

    def _log(
        self, progress: Progress, rate: float, norm: float, board: SummaryWriter | None, speed: _Speed
    ) -> None:
        progress.final_loss = progress.loss_sum / progress.loss_count
        progress.loss_sum, progress.loss_count = 0.0, 0
        line = {
            "step": progress.step,
            "tokens": progress.step * self.config.tokens_per_step,
            "loss": progress.final_loss,
            "learning_rate": rate,
            "gradient_norm": norm,
        }
        self._write(progress, line)
        self.context.events.write(
            "train.step",
            **line,
            tokens_per_second=round(speed.rate, 1),
            loader_waits=speed.batches.waits,
            loader_wait_seconds=round(speed.batches.waited_seconds, 3),
        )
        if board is not None:
            for name, value in (
                ("loss/train", progress.final_loss),
                ("learning_rate", rate),
                ("gradient_norm", norm),
                ("tokens_per_second", speed.rate),
            ):
                board.add_scalar(name, value, progress.step)

    def _evaluate(self, progress: Progress, board: SummaryWriter | None) -> None:
        if progress.step % self.config.evaluate_every and progress.step != self.config.steps:
            return
        config = self.config
        size, chunk = config.micro_batch_size, config.loss_chunk_tokens
        start_id = self.model.config.bos_token_id if config.loader.document_mask else None
        progress.validation = {
            lang: held_out_loss(self.model, windows, size, chunk, self.hardware, start_id)
            for lang, windows in self.validation.items()
        }
        if not progress.validation:
            return
        self._write(progress, {"step": progress.step, "validation": progress.validation})
        self.context.events.write("train.validation", step=progress.step, **progress.validation)
        if board is not None:
            for lang, value in progress.validation.items():
                board.add_scalar(f"loss/validation-{lang}", value, progress.step)

    def _write(self, progress: Progress, line: Mapping[str, Any]) -> None:
        progress.lines.append(json.dumps(line))

    def _keep(self, progress: Progress) -> None:
        started = time.perf_counter()
        write_text(self.folder / METRICS_FILE, progress.metrics)
        save_checkpoint(
            self.checkpoints,
            progress.step,
            tensors_of(self.model, self.optimizer),
            progress.metrics,
            {**progress.counters(), "identity": dict(self.identity), "machine": self._machine()},
        )
        prune(self.checkpoints, self._scheduled, self.config.keep_checkpoints)
        seconds = round(time.perf_counter() - started, 3)
        self.context.events.write("train.checkpoint", step=progress.step, seconds=seconds)

    def _say_how_to_go_on(self, progress: Progress) -> None:
        self.context.reporter.say(
            f"stopped after step {progress.step} of {self.config.steps}, kept in "
            f"{checkpoint_path(self.checkpoints, progress.step).name}; "
            "run the same command again to go on from there"
        )


class _Speed:
    """Tokens a second of the last steps: evaluations and checkpoints are not counted, waiting for `batches` is."""

    def __init__(self, tokens_per_step: int, batches: Prefetcher) -> None:
        self.tokens_per_step, self.batches = tokens_per_step, batches
        self.started = 0.0
        self.seconds = 0.0

    def start(self) -> None:
        self.started = time.perf_counter()

    def stop(self) -> None:
        last = time.perf_counter() - self.started
        # The first step also pays for warming up; from then on a mean with a memory of about ten steps.
        self.seconds = last if self.seconds == 0.0 else 0.9 * self.seconds + 0.1 * last

    @property
    def rate(self) -> float:
        return self.tokens_per_step / self.seconds if self.seconds else 0.0
