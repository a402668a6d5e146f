"""The corpus section of a recipe: how pages are split over tasks, which languages stay, what is cut, when two
texts are the same.

Thresholds over signals are data: `preset` names a set of them (`signals/presets.yaml`), and `thresholds` changes
single values.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from haina.corpus.signals.names import SIGNALS, Group, language_group
from haina.corpus.signals.presets import load_preset, preset_names

Language = Literal["zh-Hans", "zh-Hant", "yue", "en", "mixed"]
LANGUAGES: tuple[Language, ...] = ("zh-Hans", "zh-Hant", "yue", "en", "mixed")


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
        LANGUAGES,
        min_length=1,
        description="languages that stay: zh-Hans, zh-Hant, yue, en; mixed for documents in two of them",
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
    preset: str = Field("default", description="bounds over signals by name: default, gopher, c4 or fineweb")
    thresholds: dict[Group, dict[str, Bounds]] = Field(
        default_factory=dict,
        description="bounds that replace those of the preset: language group (zh or en) -> signal -> "
        "{min, max}; empty bounds switch a signal off",
    )
    min_quality: float = Field(
        0.02, ge=0.0, le=1.0, description="documents whose quality score is lower are dropped, 0 to 1"
    )
    edit_sentences: bool = Field(
        True, description="take boilerplate, advertisements and spam out of documents that stay"
    )
    replace_private: bool = Field(
        True,
        description="put placeholders for e-mail addresses, phone, identity and card numbers, and the like",
    )
    shingle_tokens: int = Field(
        5, ge=1, le=64, description="tokens in a shingle; a Han character is one token, otherwise a word is"
    )
    permutations: int = Field(128, ge=64, le=1024, description="values in a MinHash signature")
    duplicate_recall: float = Field(
        0.995,
        ge=0.5,
        lt=1.0,
        description="share of the near-duplicate pairs just at the threshold that shall be found; higher costs time",
    )
    near_duplicate_similarity: float = Field(
        0.8,
        ge=0.3,
        le=1.0,
        description="Jaccard similarity of shingles from which a document is a near-duplicate, 0 to 1",
    )
    split_similarity: float = Field(
        0.5,
        ge=0.3,
        le=1.0,
        description="estimated Jaccard similarity from which documents share a cluster, 0 to 1",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.split_similarity > self.near_duplicate_similarity:
            raise ValueError("split_similarity must not be above near_duplicate_similarity")
        if self.preset not in preset_names():
            raise ValueError(f"preset: {self.preset!r} is none of {', '.join(preset_names())}")
        for group, signals in self.thresholds.items():
            for name in signals:
                if name not in SIGNALS:
                    near = get_close_matches(name, SIGNALS, 1)
                    hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(SIGNALS)}"
                    raise ValueError(f"thresholds.{group}.{name}: no such signal; {hint}")
        return self

    def bounds(self, language: str) -> dict[str, Bounds]:
        """The bounds in force for a language code or group, in the order of the signals."""
        group = language_group(language)
        shipped = {name: Bounds(min=b.min, max=b.max) for name, b in load_preset(self.preset)[group].items()}
        merged = {**shipped, **self.thresholds.get(group, {})}
        return {name: merged[name] for name in SIGNALS if name in merged}
