"""A ladder in: sizes, numbers of tokens and seeds; the rungs to train, cheapest first, out.

sizes:
  tiny:  {preset: ours-1m, hidden_size: 64}
  small: {preset: ours-1m}
tokens: [1M, 2M, 4M]
seeds: [0]
train: {sequence_length: 256}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from haina.runtime.errors import HainaError, os_errors_about
from haina.train.config import ModelSection
from haina.train.scaling.curves import short
from haina.train.scaling.describe import quantity


def _tokens(value: Any) -> int:
    try:
        return round(quantity(str(value), "tokens"))
    except HainaError as error:
        raise ValueError(str(error)) from error


Tokens = Annotated[int, BeforeValidator(_tokens), Field(ge=1)]


class Ladder(BaseModel):
    """Every size is trained on every number of tokens with every seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sizes: dict[str, ModelSection] = Field(
        min_length=1, description="models by name, fields as in train.model"
    )
    tokens: list[Tokens] = Field(min_length=1, description="tokens to read, such as 4M")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1, description="one run a seed")
    most_flops: float | None = Field(
        default=None, gt=0, description="rungs that cost more are not trained; null: all are"
    )
    train: dict[str, Any] = Field(
        default={},
        description="settings of train that are the same on every rung, in place of the derived ones",
    )

    @field_validator("sizes")
    @classmethod
    def _safe_names(cls, sizes: dict[str, ModelSection]) -> dict[str, ModelSection]:
        for name in sizes:
            if not name or name.startswith(".") or any(mark in name for mark in "/\\ "):
                raise ValueError(f"{name!r} cannot be part of a folder's name")
        return sizes

    @field_validator("train")
    @classmethod
    def _only_common(cls, train: dict[str, Any]) -> dict[str, Any]:
        for name in ("model", "steps"):
            if name in train:
                raise ValueError(f"{name} differs from rung to rung; use sizes and tokens")
        return train


@dataclass(frozen=True)
class Rung:
    """One run of a ladder.

    Attributes:
        name: of its folder.
        model: its shape.
        tokens: to read, about: whole steps are trained.
        seed: of weights and order.
    """

    name: str
    model: ModelSection
    tokens: int
    seed: int


def read_ladder(path: Path) -> Ladder:
    """The ladder in a YAML file.

    Raises:
        HainaError: it is not there, is no YAML, or a field is wrong; the message names the field.
    """
    with os_errors_about(path):
        data = path.read_bytes()
    try:
        values = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise HainaError(f"{path}: not valid YAML ({str(error).splitlines()[0]})", "mend the file") from error
    if not isinstance(values, dict):
        raise HainaError(f"{path}: not a ladder", "it needs `sizes` and `tokens`")
    try:
        return Ladder.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise HainaError(f"{path}: {where}: {first['msg']}", "see docs/guide/scaling.md") from error


def rungs(ladder: Ladder) -> list[Rung]:
    """All rungs, in the order of the file."""
    many = len(ladder.seeds) > 1
    return [
        Rung(f"{name}-{short(tokens)}{f'-seed{seed}' if many else ''}", model, tokens, seed)
        for name, model in ladder.sizes.items()
        for tokens in ladder.tokens
        for seed in ladder.seeds
    ]
