"""What a run folder holds, read once and made safe to show.

In: the run folder. Out: a `RunData` whose parts are present, absent or damaged, each saying which; a report
never fails because a stage has not run yet or a file was cut short. Strings lose what no page can show
(lone surrogates, control characters), numbers that are not finite become None.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haina.runtime.errors import HainaError
from haina.runtime.files import read_json

# What HTML and JSON cannot carry, and the bidirectional controls that reorder the text around them.
UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
LONGEST_STRING = 20_000


class PartMissingError(Exception):
    """A part of the run folder is absent; the message is the name of the stage that makes it."""


@dataclass(frozen=True)
class Part:
    """One file of the run folder: its value, or why there is none (`problem` "" means simply absent)."""

    stage: str
    value: Any = None
    problem: str = ""

    def need(self) -> Any:
        """The value; `PartMissingError` when absent, `HainaError` when damaged."""
        if self.problem:
            raise HainaError(self.problem)
        if self.value is None:
            raise PartMissingError(self.stage)
        return self.value

    def get(self) -> dict[str, Any]:
        """The value as a dictionary, empty when there is none."""
        return self.value if isinstance(self.value, dict) else {}


@dataclass(frozen=True)
class RunData:
    """All parts of a run that the report shows."""

    name: str
    manifest: Part
    recipe: Part
    corpus: Part
    tokenizer: Part
    shards: Part
    train: Part
    metrics: Part
    quantize: Part
    evaluate: Part

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The manifest's stages in the order they were finished."""
        stages = self.manifest.get().get("stages")
        if not isinstance(stages, dict):
            return {}
        return {name: stage for name, stage in stages.items() if isinstance(stage, dict)}


def clean(value: Any) -> Any:
    """`value` with every string showable and every number finite or None."""
    if isinstance(value, str):
        return UNSHOWABLE.sub("\ufffd", value[:LONGEST_STRING].replace("\r\n", "\n"))
    if isinstance(value, dict):
        return {clean(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _json_part(stage: str, path: Path) -> Part:
    if not path.is_file():
        return Part(stage)
    name = f"{path.parent.name}/{path.name}"
    try:
        value = clean(read_json(path))
    except HainaError as error:
        # The folder may have moved since, and the report may be mailed: no absolute path is shown.
        return Part(stage, problem=error.message.replace(str(path), name))
    except RecursionError:
        return Part(stage, problem=f"{name}: nested too deeply")
    if not isinstance(value, dict):
        return Part(stage, problem=f"{name}: does not hold a JSON object")
    return Part(stage, value)


def _text_part(stage: str, path: Path) -> Part:
    if not path.is_file():
        return Part(stage)
    try:
        return Part(stage, clean(path.read_text(encoding="utf-8", errors="replace")))
    except OSError as error:
        return Part(stage, problem=f"{path.name} cannot be read ({error.strerror})")


def _lines_part(stage: str, path: Path) -> Part:
    """JSON lines; what is not JSON is left out: the last line of a run in progress may be half written."""
    text = _text_part(stage, path)
    if text.value is None:
        return text
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(clean(row))
    return Part(stage, rows)


def read_run(folder: Path) -> RunData:
    """Read whichever parts of the run folder exist."""
    manifest = _json_part("run", folder / "manifest.json")
    return RunData(
        name=clean(str(manifest.get().get("name") or folder.resolve().name)),
        manifest=manifest,
        recipe=_text_part("run", folder / "recipe.yaml"),
        corpus=_json_part("corpus", folder / "corpus" / "summary.json"),
        tokenizer=_json_part("tokenizer", folder / "tokenizer" / "summary.json"),
        shards=_json_part("shards", folder / "shards" / "shards.json"),
        train=_json_part("train", folder / "train" / "summary.json"),
        metrics=_lines_part("train", folder / "train" / "metrics.jsonl"),
        quantize=_json_part("quantize", folder / "model-int4" / "quantize.json"),
        evaluate=_json_part("evaluate", folder / "evaluate" / "summary.json"),
    )
