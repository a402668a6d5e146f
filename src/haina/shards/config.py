"""The `shards` section of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class MixtureSection(BaseModel):
    """How much of each domain training reads, written out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: str = Field(default="lang", description="column of the documents that names the domain")
    weights: dict[str, Weight] = Field(
        min_length=1, description="share of the tokens of each domain, any sum; 0 leaves a domain out"
    )
    sources: dict[str, list[str]] | None = Field(
        default=None,
        description="for each domain the values of the column that belong to it, or the folders that begin them; "
        "null: a value is its own domain",
    )


class ShardsConfig(BaseModel):
    """How documents become token shards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    validation_fraction: float = Field(
        default=0.02,
        ge=0.0,
        le=0.5,
        description="share of near-duplicate clusters kept for validation, chosen by a hash of the cluster's "
        "id; at least one of each language that has two or more",
    )
    mixture: Path | MixtureSection | None = Field(
        default=None,
        description="how much of each domain training reads: a mixture.json of `haina mixture fit`, or `by` and "
        "`weights`; null: as the text lies",
    )
    shard_bytes: int = Field(
        default=64 << 20,
        ge=1 << 10,
        description="tokens of a shard, in bytes of its .bin, at most; a longer document has a shard to itself",
    )
    block_bytes: int = Field(
        default=16 << 20, ge=1 << 10, description="text that one task encodes, in bytes, about"
    )
