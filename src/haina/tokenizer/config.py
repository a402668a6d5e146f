"""The `tokenizer` section of a recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Weight = Annotated[float, Field(ge=0.0, le=100.0)]


class TokenizerConfig(BaseModel):
    """How the byte-level BPE vocabulary is learnt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: int = Field(
        default=8192,
        ge=512,
        le=1_000_000,
        description="number of ids, special and reserved tokens and 256 bytes included; the model's vocabulary is "
        "exactly this",
    )
    min_frequency: int = Field(
        default=2, ge=1, description="a pair of pieces is merged only if it counts at least so much"
    )
    max_token_bytes: int = Field(
        default=24, ge=4, le=128, description="longest piece in UTF-8 bytes; a Chinese character has 3"
    )
    character_coverage: float = Field(
        default=0.9995,
        ge=0.0,
        le=1.0,
        description="share of the text whose characters get a piece each, if they are not rarer than the last pair "
        "merged within words; others are written in bytes",
    )
    superword_share: float = Field(
        default=0.2,
        ge=0.0,
        le=1.0,
        description="share of the learnt pieces that may reach over spaces and marks into the next word",
    )
    max_per_passage: int = Field(
        default=2,
        ge=1,
        description="a pair counts at most so often in a passage of 4,096 characters: what one text repeats is not yet "
        "a word",
    )
    sample_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024,
        le=1 << 40,
        description="UTF-8 bytes of text learnt from for each language, at most; whole documents, chosen by a hash of "
        "their id",
    )
    chinese_share: float = Field(
        default=0.7,
        gt=0.0,
        lt=1.0,
        description="share of Chinese in the bytes of Chinese and English as they count; a character has 3 bytes",
    )
    max_repeats: float = Field(
        default=4.0,
        ge=1.0,
        le=100.0,
        description="the language that is short of its share counts up to so many times",
    )
    weights: dict[str, Weight] = Field(
        default={},
        description="how often text counts, by the name of a language (zh, en, ...) or of a `source`; 1 where none is "
        "given, 0 leaves it out",
    )
    traditional_share: float = Field(
        default=0.2,
        ge=0.0,
        le=1.0,
        description="traditional text is no more than this share of the Chinese text, because what is more also counts "
        "converted to simplified characters, and then itself less; 1: as it is",
    )
    reserved_tokens: int = Field(
        default=0, ge=0, le=4096, description="special tokens without a meaning yet, for later fine-tuning"
    )
    held_out_fraction: float = Field(
        default=0.05,
        ge=0.0,
        le=0.5,
        description="share of near-duplicate clusters not learnt from, on which compression is measured; "
        "keep it >= shards.validation_fraction so that validation text stays unseen",
    )
