"""What the loader is asked for: the `train.loader` section of a recipe, and the whole of it with the sizes of a run.

Imports neither torch nor numba, so that the command line can check a recipe at start-up.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
LARGEST_SEED = (1 << 64) - 1


class LoaderSection(BaseModel):
    """How documents become rows, and in which proportions they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    packing: Literal["best_fit", "concatenate"] = Field(
        default="best_fit",
        description="best_fit: whole documents side by side, cut only where longer than the window; "
        "concatenate: one stream of all documents, cut into windows that overlap by one token",
    )
    document_mask: bool = Field(
        default=True,
        description="tokens attend within their own document only, positions restart in each, and nothing is predicted "
        "across a border",
    )
    context_schedule: tuple[tuple[int, int], ...] = Field(
        default=(),
        description="pairs [from_step, window], steps rising: from that step on, attention reaches over at most so "
        "many tokens of a document; before the first pair and where there is none: the whole sequence",
    )
    by: Literal["domain", "lang", "source"] = Field(
        default="domain", description="column of the documents that weights and epochs speak of"
    )
    weights: dict[str, Share] | None = Field(
        default=None,
        description="share of the tokens of each value of the column, any sum; 0 leaves one out; null: the mixture of "
        "the shards if they have one, else as the text lies",
    )
    epochs: dict[str, Share] | None = Field(
        default=None,
        description="how often each value of the column is read in the time that the others (1.0 where nothing is "
        "said) are read once; instead of weights",
    )

    plans: Path | None = Field(
        default=None,
        description="folder of packing plans that runs and ranks share; null: the plan is made anew for each run",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> LoaderSection:
        if self.weights is not None and self.epochs is not None:
            raise ValueError("weights and epochs say the same thing twice: give one of them")
        for name in ("weights", "epochs"):
            given = getattr(self, name)
            if given is not None and not any(given.values()):
                raise ValueError(f"{name} must name something, and not all may be 0")
        steps = [step for step, _ in self.context_schedule]
        if any(step < 0 for step in steps) or any(a >= b for a, b in itertools.pairwise(steps)):
            raise ValueError("context_schedule: steps must rise from 0 on")
        if any(window < 1 for _, window in self.context_schedule):
            raise ValueError("context_schedule: a window must be at least 1")
        return self

    def with_sizes(self, sequence_length: int, rows: int, seed: int) -> LoaderSettings:
        """The settings of a run.

        Raises:
            pydantic.ValidationError: a size or the seed is out of range, or a window of the schedule is longer than a
                row.
        """
        return LoaderSettings(**self.model_dump(), sequence_length=sequence_length, rows=rows, seed=seed)


class LoaderSettings(LoaderSection):
    """A `LoaderSection` with the sizes of a run.

    Attributes:
        sequence_length: tokens of a row that the model reads at once.
        rows: rows of a step over all ranks and micro-batches: the global batch.
        seed: fixes the order; another seed is another order.
    """

    sequence_length: int = Field(ge=1, lt=1 << 30, description="tokens of a row")
    rows: int = Field(ge=1, lt=1 << 30, description="rows of a global batch")
    seed: int = Field(default=0, ge=-(1 << 63), le=LARGEST_SEED, description="fixes the order")

    @model_validator(mode="after")
    def _windows_fit(self) -> LoaderSettings:
        for _, window in self.context_schedule:
            if window > self.sequence_length:
                raise ValueError(
                    f"context_schedule: window {window} is longer than the sequence of {self.sequence_length}"
                )
        return self

    def window_of(self, step: int) -> int:
        """Tokens of a document that attention reaches over at `step`."""
        window = self.sequence_length
        for start, size in self.context_schedule:
            if step >= start:
                window = size
        return window
