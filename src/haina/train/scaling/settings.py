"""A rung of a ladder in; the settings of its training and the shape of its model out, as the dial derives them.

What a ladder sets under `train` is the same on every rung; everything else follows from the model and the tokens by the
rules of `haina.train.dial`, so that the law is one of runs that are each trained as well as the recipe can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from haina.model.config import ModelConfig, preset
from haina.runtime.errors import HainaError
from haina.train import rules
from haina.train.config import TrainConfig
from haina.train.dial import Place, apply, defaults_checked, derive
from haina.train.scaling.ladder import Ladder, Rung

CHECKPOINTS = 4


@dataclass(frozen=True)
class Pieces:
    """What a model's shape takes from the tokenizer."""

    vocab_size: int
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None


def window_of(ladder: Ladder, given: Mapping[str, Any]) -> int:
    """Tokens a row, the same on every rung: as set in `given`, or what the rule gives to the widest model."""
    if "sequence_length" in given:
        return int(given["sequence_length"])
    widest = max(
        (
            section.hidden_size or preset(section.preset).hidden_size,
            preset(section.preset).max_position_embeddings,
        )
        for section in ladder.sizes.values()
    )
    return rules.sequence_length(*widest)


def settings(rung: Rung, ladder: Ladder, pieces: Pieces, place: Place) -> tuple[TrainConfig, ModelConfig]:
    """Everything about one rung.

    Raises:
        HainaError: a setting of the ladder is unknown or out of range, or the rung is shorter than a step.
    """
    try:
        given = defaults_checked(ladder.train)
        given["sequence_length"] = window = window_of(ladder, given)
        shape = rung.model.resolve(pieces.vocab_size, window, pieces.bos_id, pieces.eos_id, pieces.pad_id)
        chosen = apply(derive(shape, rung.tokens, place, given, window))
        # One evaluation, after the last step: the losses on the way belong to no finished schedule.
        upkeep = {
            "evaluate_every": chosen["steps"],
            "checkpoint_every": max(1, chosen["steps"] // CHECKPOINTS),
            "keep_checkpoints": 1,
        }
        values: dict[str, Any] = {**chosen, **upkeep, **given, "model": rung.model}
        return TrainConfig(**values), shape
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise HainaError(
            f"rung {rung.name}: train.{where}: {first['msg']}", "mend it in the ladder"
        ) from error
