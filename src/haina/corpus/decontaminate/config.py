"""The settings of decontamination."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DecontaminateConfig(BaseModel):
    """How the work is split. What counts as an item is in `rules.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    part_bytes: int = Field(
        128 << 20,
        ge=1,
        description="uncompressed bytes of the row groups that one task reads, at least one group",
    )
