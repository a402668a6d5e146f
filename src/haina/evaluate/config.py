"""What the evaluate stage measures: its section of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Language = Literal["zh", "en"]


class SuiteConfig(BaseModel):
    """One multiple-choice suite on files of the user's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: Literal["ceval", "cmmlu", "mmlu"] = Field(
        ..., description="which suite; its prompts are in evaluate/suites/*.yaml"
    )
    data: Path = Field(
        ..., description="folder or .zip with the suite's CSV files, as its authors publish them"
    )
    shots: int = Field(
        default=5,
        ge=0,
        le=5,
        description="solved examples before each question, the first of the dev split (0 to 5)",
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description="at most this many questions, taken evenly over the subjects; null for all of them",
    )


class SamplesConfig(BaseModel):
    """Texts that the models write, to be read by a person."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: dict[Language, tuple[str, ...]] = Field(
        default={
            "zh": ("要打开一个文件，请", "操作系统是", "这个命令的作用是"),
            "en": ("To open a file,", "An operating system is", "This command is used to"),
        },
        description="beginnings for the models to continue, by language",
    )
    max_tokens: int = Field(default=96, ge=1, description="length of a continuation, in tokens")
    temperature: float = Field(default=0.8, ge=0, le=2, description="0 always takes the likeliest token")
    top_k: int = Field(default=50, ge=0, description="choose among the k likeliest tokens; 0 for all")
    top_p: float = Field(
        default=0.95, gt=0, le=1, description="choose among tokens that together reach this probability"
    )
    repetition_penalty: float = Field(
        default=1.1, gt=0, description="above 1, tokens already there become less likely"
    )


class EvaluateConfig(BaseModel):
    """Held-out bits per byte, multiple-choice suites and samples, for the bf16 model and its INT4 form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    languages: tuple[Language, ...] = Field(
        default=("zh", "en"), description="validation shards to measure, each by itself"
    )
    max_documents: int | None = Field(
        default=1000, ge=1, description="validation documents per language; null for all"
    )
    max_tokens: int | None = Field(
        default=100_000,
        ge=1,
        description="validation tokens per language: no further document is begun beyond; null for all",
    )
    window: int | None = Field(
        default=None,
        ge=2,
        description="longest piece of a document scored at once, in tokens; null for the model's own context",
    )
    suites: tuple[SuiteConfig, ...] = Field(
        default=(), description="multiple-choice suites on files given by path"
    )
    samples: SamplesConfig = Field(default_factory=SamplesConfig, description="texts that the models write")

    @model_validator(mode="after")
    def _each_suite_once(self) -> EvaluateConfig:
        asked = [(suite.suite, suite.shots) for suite in self.suites]
        if twice := next((item for item in asked if asked.count(item) > 1), None):
            raise ValueError(f"suites: {twice[0]} with {twice[1]} shots is listed twice")
        return self
