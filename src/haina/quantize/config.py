"""What a recipe may say about quantisation. Imports nothing heavy: the command line reads it at start-up."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class QuantizeConfig(BaseModel):
    """Group-wise INT4 weights; embeddings, output head and norms stay bfloat16."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bits: Literal[4] = Field(default=4, description="bits per weight, without the scales")
    group_size: Literal[32, 64, 128] = Field(
        default=64,
        description="input weights that share one bfloat16 scale; smaller is more exact and larger on disk "
        "(32: 4.5, 64: 4.25, 128: 4.125 bits per weight); must divide the input width of every linear layer",
    )
    method: Literal["rtn"] = Field(
        default="rtn",
        description="rtn: round to nearest, the scale of each group searched for the least squared error",
    )
