"""What a run shows while it goes: events, TensorBoard, Weights & Biases where asked, a profiler trace where asked.

In: readings of the guards, lines of `metrics.jsonl`, scores. Out: figures with names that say what they are. Nothing
here changes a byte of the model, and all that depends on the clock stays here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psutil
import torch

from haina.runtime.errors import HainaError
from haina.runtime.files import write_json
from haina.runtime.rates import measure_matmul
from haina.runtime.stage import StageContext
from haina.train.config import TrainConfig
from haina.train.evaluation import Score, Scores
from haina.train.hardware import Hardware
from haina.train.progress import number
from haina.train.trace import Trace
from haina.train.watch import Reading, Record

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CEILING_SECONDS = 0.3
# Model FLOPs: what PaLM (arXiv 2204.02311, appendix B) counts. The name goes wherever the number goes.
CONVENTION = "model: 6 per matmul weight + 12 * layers * width * sequence, full attention"
TFLOPS_TAG = "model_tflops/6_per_matmul_weight_plus_full_attention"


class Speed:
    """Tokens a second: over the last ten steps or so, and over all of this process, without evaluations and waits for
    checkpoints.
    """

    def __init__(self, tokens_per_step: int) -> None:
        self.tokens_per_step = tokens_per_step
        self.steps = 0
        self.seconds = 0.0
        self._recent = 0.0
        self._started = 0.0

    def start(self) -> None:
        """A step begins."""
        self._started = time.perf_counter()

    def stop(self) -> None:
        """It has ended."""
        last = time.perf_counter() - self._started
        self.steps += 1
        # The first step also pays for warming up.
        if self.steps > 1:
            self.seconds += last
        self._recent = last if self.steps <= 2 else 0.9 * self._recent + 0.1 * last

    @property
    def rate(self) -> float:
        """Of the last steps."""
        return self.tokens_per_step / self._recent if self._recent else 0.0

    @property
    def mean(self) -> float | None:
        """Of all steps but the first; None where there is no other."""
        return self.tokens_per_step * (self.steps - 1) / self.seconds if self.seconds else None


def memory_bytes(device: torch.device) -> int:
    """Most that was allocated so far on a GPU, or resident now of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def open_wandb(project: str, folder: Path, name: str, config: Mapping[str, Any]) -> Any:
    """A run of Weights & Biases that is continued where it has the same name.

    Raises:
        HainaError: the package is not installed, or does not let us in.
    """
    try:
        wandb = import_module("wandb")
    except ImportError as error:
        raise HainaError(
            f"train.monitor.wandb: {project}: the package wandb is not installed",
            "pip install 'haina[wandb]', or take train.monitor.wandb out of the recipe",
        ) from error
    try:
        run = wandb.init(project=project, id=name, dir=str(folder), config=dict(config), resume="allow")
        # Steps may go back with a rollback, which the package's own counter refuses.
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
    except Exception as error:  # the package has many of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HainaError(
            f"train.monitor.wandb: {project}: {reason}",
            "`wandb login`, or WANDB_MODE=offline to write the figures to the run folder only",
        ) from error
    return run


@dataclass
class Monitor:
    """A context manager around the steps of a run.

    Attributes:
        context, config, hardware: of the run. flops_per_token: model FLOPs.
        name: the same for every process of this run, another one for another run.
    """

    context: StageContext
    config: TrainConfig
    hardware: Hardware
    flops_per_token: int
    name: str
    ceiling: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.speed = Speed(self.config.tokens_per_step)
        self.started = time.perf_counter()
        self._board: SummaryWriter | None = None
        self._wandb: Any = None
        self.trace = Trace(self.config.monitor.profile_steps, self.folder / "profile", self.hardware.device)

    @property
    def folder(self) -> Path:
        """The run folder: where TensorBoard's is; the stage's own where there is none."""
        board = self.context.tensorboard
        return self.context.work if board is None else board.parent

    def __enter__(self) -> Monitor:
        if self.config.monitor.wandb is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            settings = self.config.model_dump(mode="json")
            self._wandb = open_wandb(self.config.monitor.wandb, self.folder, self.name, settings)
        if self.context.tensorboard is not None or self._wandb is not None:
            dtype = "bfloat16" if self.hardware.precision == "bf16" else "float32"
            self.ceiling = measure_matmul(dtype, CEILING_SECONDS, self.hardware.device.type).median
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.trace.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if error is None else 1)

    def begin(self, step: int) -> None:
        """Steps from `step` + 1 on follow; what TensorBoard has of them is void."""
        if self._board is not None:
            self._board.close()
        if self.context.tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            purge = step + 1 if step else None
            self._board = SummaryWriter(str(self.context.tensorboard), purge_step=purge)

    def event(self, name: str, **fields: Any) -> None:
        """A line of `events.jsonl`."""
        self.context.events.write(f"train.{name}", **fields)

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Figures of a step; what is None is left out."""
        there = {name: value for name, value in values.items() if value is not None}
        if self._board is not None:
            for name, value in there.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log({"step": step, **there})

    def line(self, line: Mapping[str, Any], waits: int, waited_seconds: float) -> None:
        """A line of `metrics.jsonl`, and what the clock says beside it."""
        rate = self.speed.rate
        memory = memory_bytes(self.hardware.device)
        self.event(
            "step",
            **line,
            tokens_per_second=round(rate, 1),
            memory_bytes=memory,
            loader_waits=waits,
            loader_wait_seconds=round(waited_seconds, 3),
        )
        kind = "allocated_peak" if self.hardware.device.type == "cuda" else "resident"
        self.scalars(
            line["step"],
            {
                "loss/train": line.get("loss"),
                "learning_rate": line["learning_rate"],
                "norm/gradient": line.get("gradient_norm"),
                "norm/update": line.get("update_norm"),
                "norm/parameters": line.get("parameter_norm"),
                "tokens_per_second": rate,
                f"memory_gib/{kind}": memory / 2**30,
                **self._work(rate),
            },
        )

    def _work(self, rate: float) -> dict[str, float]:
        work = rate * self.flops_per_token
        found = {TFLOPS_TAG: work / 1e12}
        if self.ceiling:
            found[f"share_of_measured_matmul/{self.hardware.precision}"] = work / self.ceiling
        return found

    def bad_step(self, reading: Reading, saved: Path | None) -> None:
        """A step that changed nothing, or moved further than usual."""
        self.event(
            "step_skipped" if reading.bad else "update_alarm",
            step=reading.step,
            batch=reading.batch,
            because=reading.named,
            loss=number(reading.loss),
            gradient_norm=number(reading.gradient_norm),
            update_norm=number(reading.update_norm),
            limits=[number(limit) for limit in reading.limits],
            **({} if saved is None else {"quarantine": saved.name}),
        )

    def scores(self, step: int, scores: Mapping[str, Scores]) -> None:
        """Held-out scores."""
        self.event("validation", step=step, **{name: score.whole.as_dict() for name, score in scores.items()})
        flat: dict[str, Score] = {}
        for name, score in scores.items():
            flat[name] = score.whole
            for column, groups in score.groups.items():
                flat |= {f"{name}/{column}/{value}": found for value, found in groups.items()}
        values: dict[str, float | None] = {}
        for name, found in flat.items():
            values[f"loss/validation-{name}"] = found.loss
            values[f"bits_per_byte/validation-{name}"] = found.bits_per_byte
        self.scalars(step, values)

    def guards(self, step: int, record: Record) -> None:
        """Counts so far."""
        counts = {
            "steps_skipped": record.skipped_steps,
            "batches_quarantined": record.quarantined,
            "update_norm_alarms": record.update_alarms,
            "rollbacks": len(record.rollbacks),
        }
        self.scalars(step, {f"guards/{name}": float(value) for name, value in counts.items()})

    def finish(self, record: Mapping[str, Any]) -> None:
        """The run is done: its speed to `speed.json` of the run folder and to the events."""
        mean = self.speed.mean
        work = None if mean is None else mean * self.flops_per_token
        fields = {
            "tokens_per_second": None if mean is None else round(mean, 1),
            "model_tflops": None if work is None else round(work / 1e12, 6),
            "flops_convention": CONVENTION,
            "measured_matmul_tflops": None if self.ceiling is None else round(self.ceiling / 1e12, 6),
            "share_of_measured_matmul": None
            if not self.ceiling or work is None
            else round(work / self.ceiling, 4),
            "precision": self.hardware.precision,
            "device": self.hardware.device.type,
            "threads": self.hardware.threads,
            "memory_bytes": memory_bytes(self.hardware.device),
            "steps_of_this_process": self.speed.steps,
            "seconds_of_this_process": round(time.perf_counter() - self.started, 2),
        }
        self.event("finished", **fields, guards=dict(record))
        path = self.folder / "speed.json"
        # An attempt that found all steps done knows nothing of their speed.
        if self.context.tensorboard is not None and (self.speed.steps or not path.exists()):
            write_json(path, fields)
