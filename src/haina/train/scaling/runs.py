"""Folders of finished training in; sizes, tokens and held-out losses that may be fitted together out.

A run is read from `summary.json` of its train folder. What it was trained on and which shape it had stands there, in
the newest checkpoint or in the model folder beside it. Refused are runs that have not finished and losses that are no
numbers; whether runs belong together is a question of `together.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from haina.model.config import ModelConfig
from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import read_json

SUMMARY = "summary.json"
# How a model's size may be counted; the first is what is used unless another one is asked for.
SIZES = {
    "matmul": "weights that a token is multiplied with: blocks and output head",
    "flops": "training FLOPs of a token / 6: matmul and attention",
    "blocks": "weights of the blocks, without embedding and head",
    "total": "all parameters",
}
DEFAULT_SIZE = "matmul"
# Differences in these would make two runs two families of models.
SAME = (
    "optimizer",
    "schedule",
    "decay_share",
    "initialisation",
    "z_loss",
    "precision",
    "loader",
)


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        name: short, unique among the runs.
        sizes: the model's size by the names of `SIZES`, or `given` alone for a row of a table.
        tokens: read in training.
        losses: held-out loss by set, nats a token.
        flops: of the training, model FLOPs.
        seed: of the run; None where it is not known.
        shape: the model's; None for a row of a table.
        same: what has to be the same in all runs, by name; absent where the run does not say.
        alike: what had better be the same.
        epochs: how often the most repeated text was read.
    """

    name: str
    sizes: Mapping[str, float]
    tokens: float
    losses: Mapping[str, float]
    flops: float
    seed: int | None = None
    shape: ModelConfig | None = None
    same: Mapping[str, Any] = field(default_factory=dict)
    alike: Mapping[str, Any] = field(default_factory=dict)
    epochs: float = 0.0

    @property
    def cell(self) -> tuple[tuple[float, ...], float]:
        """Runs with the same one differ in their seed alone."""
        return tuple(self.sizes.values()), self.tokens


def check_size(size: str) -> None:
    """Refuse a way to count that is none of `SIZES`.

    Raises:
        HainaError: it is none.
    """
    if size not in SIZES:
        raise HainaError(f"size {size!r} is unknown", f"choose one of: {', '.join(SIZES)}")


def sizes_of(shape: ModelConfig, window: int) -> dict[str, float]:
    """The size of a model, counted in every way of `SIZES`.

    Args:
        window: tokens a training row has; attention's FLOPs grow with it.
    """
    blocks = shape.num_hidden_layers * shape.block_parameters
    return {
        "matmul": float(blocks + shape.vocab_size * shape.hidden_size),
        "flops": shape.flops_per_token(window) / 6.0,
        "blocks": float(blocks),
        "total": float(shape.parameter_count),
    }


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Every run of `paths`: train folders, folders that hold one as `train/`, folders of such, or tables.

    Returns:
        the runs, and the names of those that have not finished where a folder of runs was named.

    Raises:
        HainaError: one of the paths is none of these, or its run has not finished or has no usable loss.
    """
    from haina.train.scaling.table import read_table

    found: list[Run] = []
    unfinished: list[str] = []
    for path in paths:
        if path.suffix == ".csv":
            found += read_table(path)
        elif path.is_dir() and not _train_folder(path):
            with os_errors_about(path):
                folders = {child: _train_folder(child) for child in sorted(path.iterdir()) if child.is_dir()}
            runs = {child: folder for child, folder in folders.items() if folder}
            if not runs:
                raise HainaError(
                    f"{path}: no train/{SUMMARY} there",
                    "name folders that `haina train` or `haina run` wrote",
                )
            unfinished += [child.name for child, folder in runs.items() if not (folder / SUMMARY).is_file()]
            found += [
                _read_folder(folder, child.name)
                for child, folder in runs.items()
                if (folder / SUMMARY).is_file()
            ]
        else:
            found.append(_read_one(path))
    names = [run.name for run in found]
    for name in names:
        if names.count(name) > 1:
            raise HainaError(f"two runs are named {name}", "name the folder of each run once")
    return found, unfinished


def _train_folder(path: Path) -> Path | None:
    """The train folder that `path` is or holds, finished or not."""
    if (path / SUMMARY).is_file() or path.resolve().name == "train":
        return path
    return next((path / name for name in ("train", "train.work") if (path / name).is_dir()), None)


def _read_one(path: Path) -> Run:
    folder = _train_folder(path)
    if folder is None:
        raise HainaError(
            f"{path}: no such run folder", "name folders that `haina train` or `haina run` wrote"
        )
    if not (folder / SUMMARY).is_file():
        raise HainaError(
            f"{path}: the run has not finished (no {SUMMARY})", "run its command again, or leave it out"
        )
    place = folder.resolve()
    return _read_folder(folder, place.parent.name if place.name == "train" else place.name)


def _read_folder(folder: Path, name: str) -> Run:
    path = folder / SUMMARY
    summary = read_json(path)
    if not isinstance(summary, dict):
        raise HainaError(f"{path}: not the summary of a training", "train again, or leave it out")
    made = _made_with(folder, summary)
    settings = made["configuration"] if isinstance(made.get("configuration"), dict) else {}
    steps, planned = summary.get("steps"), settings.get("steps")
    if isinstance(planned, int) and isinstance(steps, int) and steps < planned:
        raise HainaError(
            f"{path}: stopped at step {steps} of {planned}", "run its command again, or leave it out"
        )
    shape = _shape(folder, made)
    window = settings.get("sequence_length", shape.max_position_embeddings)
    if not isinstance(window, int) or window < 1:
        raise HainaError(
            f"{path}: sequence_length is {window!r}, not a number above 0",
            "train again, or leave the run out",
        )
    tokens = _number(path, "tokens", summary.get("tokens"))
    sizes = sizes_of(shape, window)
    same = {
        "shards": made.get("shards"),
        "tokenizer": made.get("tokenizer"),
        "vocabulary": shape.vocab_size,
        "window": window,
        "validation_tokens": settings.get("validation_tokens"),
    }
    epochs = summary["epochs"] if isinstance(summary.get("epochs"), dict) else {}
    return Run(
        name,
        sizes,
        tokens,
        _losses(path, summary.get("validation")),
        6.0 * sizes["flops"] * tokens,
        made.get("seed"),
        shape,
        {key: value for key, value in same.items() if value is not None},
        {key: settings[key] for key in SAME if key in settings},
        max(epochs.values(), default=0.0),
    )


def _made_with(folder: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration, model, shards and seed of a run, as far as it says: in its summary, or its newest checkpoint."""
    made: dict[str, Any] = {}
    states = sorted(folder.glob("checkpoints/step-*/state.json"))
    if states:
        state = read_json(states[-1])
        identity = state.get("identity") if isinstance(state, dict) else None
        made |= identity if isinstance(identity, dict) else {}
    keys = ("configuration", "model", "shards", "tokenizer", "seed")
    return made | {key: summary[key] for key in keys if summary.get(key) is not None}


def _shape(folder: Path, made: Mapping[str, Any]) -> ModelConfig:
    if isinstance(made.get("model"), dict):
        try:
            return ModelConfig(**made["model"])
        except ValueError as error:
            raise HainaError(f"{folder}: its model is none of ours ({error})", "leave the run out") from error
    beside = folder.parent / "model"
    if not beside.is_dir():
        raise HainaError(
            f"{folder}: neither a checkpoint nor {beside} says which model it trained",
            "keep the model folder beside the train folder",
        )
    from haina.model.families import read_config

    return read_config(beside)


def _number(path: Path, name: str, value: Any) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or value <= 0
    ):
        raise HainaError(
            f"{path}: {name} is {value}, not a number above 0", "train again, or leave the run out"
        )
    return float(value)


def _losses(path: Path, validation: Any) -> dict[str, float]:
    """Held-out loss of each set."""
    if not isinstance(validation, dict) or not validation:
        raise HainaError(
            f"{path}: no held-out loss", "the shards need a validation split: see shards.validation_fraction"
        )
    losses = {}
    for name, value in validation.items():
        loss = value.get("loss") if isinstance(value, dict) else value
        losses[name] = _number(path, f"the held-out loss of {name}", loss)
    return losses
