"""Settings of `haina dedup` and of the corpus stage's search for duplicates."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Level = Literal["document", "paragraph", "sentence"]
LEVELS: tuple[Level, ...] = ("document", "paragraph", "sentence")


class DedupConfig(BaseModel):
    """What counts as a duplicate, and in how many pieces the work is done."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(
        0.7,
        ge=0.3,
        le=1.0,
        description="Jaccard similarity of shingles from which a text is a near-duplicate, 0.3 to 1",
    )
    measure: Literal["jaccard", "containment"] = Field(
        "jaccard",
        description="jaccard: shared of all shingles; containment: shared of the shorter text's, up to twice as long",
    )
    level: Level = Field("document", description="what is compared: document, paragraph or sentence")
    recall: float = Field(
        0.995,
        ge=0.5,
        lt=1.0,
        description="share of the pairs just at the threshold that shall be found; higher costs time",
    )
    shingle_tokens: int = Field(
        5, ge=1, le=64, description="tokens in a shingle; a Han character is one token, otherwise a word is"
    )
    permutations: int = Field(128, ge=64, le=1024, description="values in a MinHash signature")
    min_tokens: int = Field(
        10, ge=1, description="paragraphs and sentences of fewer tokens are left alone; documents never are"
    )
    block_bytes: int = Field(
        64 << 20, ge=1 << 10, description="text that one task holds, in bytes; also the size of output files"
    )
