"""The `shards` section of a recipe."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
