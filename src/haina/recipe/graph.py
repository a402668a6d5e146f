"""The seven stages, in order: what each reads, what it writes, whose code it is.

Stages meet on disk only: an input is the name of an earlier stage's output folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from haina.runtime.stage import StageContext, StageResult

StageFunction = Callable[[Any, StageContext], StageResult]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: its name on the command line and its section in the recipe.
        title: what it does, for the reader.
        inputs: outputs of earlier stages that it reads.
        outputs: files or folders it writes below the run folder.
        packages: packages below `haina` whose source decides its result; a change there makes the stage run again.
        module: where its `run` lives.
    """

    name: str
    title: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    packages: tuple[str, ...]
    module: str

    def load(self) -> StageFunction:
        """The stage's `run` function, imported now: heavy libraries stay out until they are needed."""
        function: StageFunction = importlib.import_module(self.module).run
        return function


STAGES: tuple[Stage, ...] = (
    Stage("corpus", "pages to curated documents", (), ("corpus",), ("corpus",), "haina.corpus.stage"),
    Stage(
        "tokenizer",
        "documents to a vocabulary",
        ("corpus",),
        ("tokenizer",),
        ("tokenizer",),
        "haina.tokenizer.stage",
    ),
    Stage(
        "shards",
        "documents to token shards",
        ("corpus", "tokenizer"),
        ("shards",),
        ("shards",),
        "haina.shards.stage",
    ),
    Stage(
        "train",
        "token shards to a model",
        ("shards", "tokenizer"),
        ("train", "model"),
        ("train", "model", "shards"),
        "haina.train.stage",
    ),
    Stage(
        "quantize",
        "the model in INT4",
        ("model",),
        ("model-int4",),
        ("quantize", "model"),
        "haina.quantize.stage",
    ),
    Stage(
        "evaluate",
        "what the models can do",
        ("model", "model-int4", "shards"),
        ("evaluate",),
        ("evaluate", "inference", "quantize", "model", "shards"),
        "haina.evaluate.stage",
    ),
    Stage(
        "report",
        "the run on one page",
        ("corpus", "tokenizer", "shards", "train", "model-int4", "evaluate"),
        ("report.html",),
        ("recipe",),
        "haina.recipe.report.stage",
    ),
)

STAGE_NAMES: tuple[str, ...] = tuple(stage.name for stage in STAGES)


def stage_named(name: str) -> Stage:
    """The stage called `name`."""
    return STAGES[STAGE_NAMES.index(name)]
