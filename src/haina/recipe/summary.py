"""What a finished run says at the end: a continuation in each language, and what to try next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from haina.runtime.files import read_json


@dataclass(frozen=True)
class SampleText:
    """A prompt and how the model went on."""

    language: str
    prompt: str
    text: str


def samples_of(folder: Path, model: str = "bf16") -> list[SampleText]:
    """The continuations that the evaluate stage kept, the first of each language."""
    path = folder / "evaluate" / "summary.json"
    if not path.exists():
        return []
    found: dict[str, SampleText] = {}
    for item in read_json(path)["samples"]:
        if item["model"] == model:
            found.setdefault(item["lang"], SampleText(item["lang"], item["prompt"], item["text"]))
    return list(found.values())


def next_commands(folder: Path) -> list[str]:
    """Three commands to try, for the parts that the run folder has."""
    lines = []
    if (folder / "model").exists():
        lines += [f"haina chat {folder}/model", f"haina serve {folder}/model"]
    if (folder / "report.html").exists():
        lines.append(f"haina inspect {folder}        # the report: {folder}/report.html")
    return ["Next:", *(f"  {line}" for line in lines)] if lines else []
