"""The corpus section of a recipe: how pages are split over tasks, which languages stay, when two texts are
the same.

Thresholds over signals are data: the preset stands in `thresholds.yaml`, and `thresholds` here changes single
values.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

Language = Literal["zh-Hans", "zh-Hant", "en"]
LANGUAGES: tuple[Language, ...] = ("zh-Hans", "zh-Hant", "en")


class Bounds(BaseModel):
    """Smallest and largest value of a signal that a document may have; None leaves that side open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float | None = Field(None, description="smallest value allowed, None for no lower bound")
    max: float | None = Field(None, description="largest value allowed, None for no upper bound")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


@cache
def preset_thresholds() -> dict[str, dict[str, Bounds]]:
    """The bounds of `thresholds.yaml`: group (`zh` or `en`) -> signal -> bounds."""
    data = yaml.safe_load(Path(__file__).with_name("thresholds.yaml").read_text(encoding="utf-8"))
    return {
        group: {name: Bounds(**bounds) for name, bounds in signals.items()} for group, signals in data.items()
    }


class CorpusConfig(BaseModel):
    """What the corpus stage does with the pages it is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: int = Field(
        32,
        ge=1,
        le=4096,
        description="independent tasks the input is split into; also the number of output files",
    )
    languages: tuple[Language, ...] = Field(
        LANGUAGES, min_length=1, description="languages that stay: zh-Hans, zh-Hant, en"
    )
    min_language_confidence: float = Field(
        0.3, ge=0.0, le=1.0, description="pages whose language is less certain than this are dropped, 0 to 1"
    )
    min_record_bytes: int = Field(1, ge=0, description="smallest raw record that is read, in bytes")
    max_record_bytes: int = Field(
        16 << 20,
        ge=1024,
        le=1 << 30,
        description="largest raw record that is read, in bytes; larger ones are quarantined",
    )
    thresholds: dict[Literal["zh", "en"], dict[str, Bounds]] = Field(
        default_factory=dict,
        description="bounds that replace those of the preset: language group (zh or en) -> signal -> "
        "{min, max}; empty bounds switch a signal off",
    )
    shingle_tokens: int = Field(
        5, ge=1, le=64, description="tokens in a shingle; a Han character is one token, otherwise a word is"
    )
    permutations: int = Field(128, ge=16, le=1024, description="values in a MinHash signature")
    near_duplicate_rows: int = Field(
        4,
        ge=1,
        le=64,
        description="signature values in one band when near-duplicates are looked for; fewer finds more",
    )
    split_rows: int = Field(
        3,
        ge=1,
        le=64,
        description="signature values in one band when clusters for the held-out split are built",
    )
    near_duplicate_similarity: float = Field(
        0.8,
        gt=0.0,
        le=1.0,
        description="Jaccard similarity of shingles from which a document is a near-duplicate, 0 to 1",
    )
    split_similarity: float = Field(
        0.5,
        gt=0.0,
        le=1.0,
        description="estimated Jaccard similarity from which documents share a cluster, 0 to 1",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("near_duplicate_rows", "split_rows"):
            if getattr(self, name) > self.permutations:
                raise ValueError(f"{name} must not be larger than permutations ({self.permutations})")
        if self.split_similarity > self.near_duplicate_similarity:
            raise ValueError("split_similarity must not be above near_duplicate_similarity")
        known = {name for signals in preset_thresholds().values() for name in signals} | set(SIGNAL_NAMES)
        for group, signals in self.thresholds.items():
            for name in signals:
                if name not in known:
                    raise ValueError(
                        f"thresholds.{group}.{name}: no such signal; one of {', '.join(SIGNAL_NAMES)}"
                    )
        return self

    def bounds(self, language: str) -> dict[str, Bounds]:
        """The bounds in force for a language code, in the order of the signals."""
        group: Literal["zh", "en"] = "zh" if language.startswith("zh") else "en"
        merged = {**preset_thresholds().get(group, {}), **self.thresholds.get(group, {})}
        return {name: merged[name] for name in SIGNAL_NAMES if name in merged}


SIGNAL_NAMES: tuple[str, ...] = (
    "bytes",
    "characters",
    "words",
    "lines",
    "mean_line_characters",
    "mean_word_characters",
    "han_share",
    "latin_share",
    "digit_share",
    "symbol_share",
    "punctuation_share",
    "stop_word_share",
    "duplicate_line_share",
    "duplicate_line_character_share",
    "top_2gram_share",
    "short_line_share",
    "compression_ratio",
)
COUNT_SIGNALS = frozenset({"bytes", "characters", "words", "lines"})
