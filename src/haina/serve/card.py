"""What a client may know about the served model.

In: an engine. Out: the entry of `/v1/models`, with three fields of ours beside OpenAI's: `context_length`,
`description` and `kind`. A base model continues text; a chat model has learnt to answer. The folder says
which: `haina_kind` in generation_config.json or config.json, or else a model without a chat template is a
base model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from haina.runtime.files import read_json

if TYPE_CHECKING:
    from haina.inference import Engine

Kind = Literal["base", "chat"]


def kind_of(folder: Path) -> Kind:
    """Whether the model of `folder` is a base model or one trained to converse."""
    for name in ("generation_config.json", "config.json"):
        kind = _read(folder / name).get("haina_kind")
        if kind in {"base", "chat"}:
            return "base" if kind == "base" else "chat"
    if (folder / "chat_template.jinja").is_file() or _read(folder / "tokenizer_config.json").get(
        "chat_template"
    ):
        return "chat"
    return "base"


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def model_card(engine: Engine, name: str, created: int) -> dict[str, Any]:
    """The `/v1/models` entry. `created`: Unix seconds."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "haina",
        "context_length": engine.context_length,
        "description": engine.description,
        "kind": kind_of(engine.tokenizer.folder),
    }
