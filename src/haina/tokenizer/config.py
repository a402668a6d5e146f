"""The `tokenizer` section of a recipe."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TokenizerConfig(BaseModel):
    """How the byte-level BPE vocabulary is learnt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: int = Field(
        default=8192,
        ge=512,
        le=1_000_000,
        description="number of ids, the 5 special tokens and 256 bytes included; the model's vocabulary is "
        "exactly this",
    )
    min_frequency: int = Field(
        default=2, ge=1, description="a pair of pieces is merged only if it occurs at least so many times"
    )
    max_token_bytes: int = Field(
        default=24, ge=4, le=256, description="longest piece in UTF-8 bytes; a Chinese character has 3"
    )
    sample_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1024,
        description="UTF-8 bytes of text learnt from for each of Chinese and English, at most; "
        "whole documents, chosen by a hash of their id",
    )
    max_repeats: int = Field(
        default=4,
        ge=1,
        le=100,
        description="the language with less text counts up to so many times, to come level with the other",
    )
    held_out_fraction: float = Field(
        default=0.05,
        ge=0.0,
        le=0.5,
        description="share of near-duplicate clusters not learnt from, on which compression is measured; "
        "keep it >= shards.validation_fraction so that validation text stays unseen",
    )
