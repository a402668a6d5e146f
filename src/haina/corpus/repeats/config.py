"""What counts as a repeat, and what is done about it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from haina.corpus.repeats.windows import SHORTEST
from haina.runtime.errors import HainaError

Level = Literal["line", "paragraph", "sentence", "substring"]
LEVELS: tuple[Level, ...] = ("line", "paragraph", "sentence", "substring")

# (documents, tokens) from which a repeat is removed. The shorter a unit, the more documents have to hold it before it
# is boilerplate and not what many people have to say; a copied paragraph or 50 tokens in a row are a copy the second
# time already, and the substring may stand in one document.
DEFAULTS: dict[Level, tuple[int, int]] = {
    "line": (4, 10),
    "sentence": (6, 10),
    "paragraph": (2, 20),
    "substring": (1, 50),
}


class RepeatsConfig(BaseModel):
    """Settings of the search for repeats.

    The rule: a unit of at least `min_tokens` tokens that stands in at least `min_documents` documents is removed from
    all of them but the best, where its first occurrence stays (`keep: first`), or from all (`keep: none`). The best
    document is the one with the highest `priority`; ties fall to a hash of the id, so that the order of the input does
    not matter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Level = Field("line", description="What is compared: line, paragraph, sentence or substring.")
    min_documents: int | None = Field(
        None,
        ge=1,
        description="Documents that have to hold a unit. None: by level; 1 also takes repeats within one.",
    )
    min_tokens: int | None = Field(
        None,
        ge=1,
        description="Shorter units are counted and stay; for substrings, the length of a window. None: by level.",
    )
    keep: Literal["first", "none"] = Field(
        "first", description="What stays: the first occurrence in the best document, or none."
    )
    priority: str = Field(
        "", description="A column of numbers: documents with higher ones are better. Empty: all are equal."
    )
    block_bytes: int = Field(
        32 << 20,
        ge=1 << 10,
        description="Text that one task holds; about 40 times that is its memory at worst.",
    )
    partitions: int | None = Field(
        None, ge=1, le=4096, description="Shares of the keys. None: one for every 64 MB of text."
    )

    @model_validator(mode="after")
    def _long_enough(self) -> RepeatsConfig:
        if self.level == "substring" and self.tokens < SHORTEST:
            raise ValueError(f"min_tokens: must be >= {SHORTEST} for substrings (got {self.tokens})")
        return self

    @property
    def documents(self) -> int:
        """`min_documents`, or that of the level."""
        return DEFAULTS[self.level][0] if self.min_documents is None else self.min_documents

    @property
    def tokens(self) -> int:
        """`min_tokens`, or that of the level."""
        return DEFAULTS[self.level][1] if self.min_tokens is None else self.min_tokens


def read_config(**settings: Any) -> RepeatsConfig:
    """Settings from a command line; the first wrong one is a `HainaError` that names it."""
    try:
        return RepeatsConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        given = f" (got {first['input']!r})" if name else ""
        raise HainaError(
            f"{name + ': ' if name else ''}{first['msg'].removeprefix('Value error, ')}{given}",
            "change the setting",
        ) from error
