"""The recipe: one YAML file that is the documentation of a run.

A recipe has one section a stage, each a pydantic model owned by that stage's package. `load_recipe` reads the
file, applies `--set a.b=c` overrides and turns every mistake into one line that names the field, what it takes and
what it got.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from haina.corpus.config import CorpusConfig
from haina.evaluate.config import EvaluateConfig
from haina.quantize.config import QuantizeConfig
from haina.runtime.errors import HainaError, os_errors_about
from haina.shards.config import ShardsConfig
from haina.tokenizer.config import TokenizerConfig
from haina.train.config import TrainConfig


class Recipe(BaseModel):
    """A whole run, from pages to a measured INT4 model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="name of the run folder below runs/, unless --name is given",
    )
    description: str = Field("", description="one line for the reader and the report")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of everything random")
    workers: int = Field(
        0, ge=0, description="worker processes, 0 for one a core; never changes a byte of the output"
    )
    corpus: CorpusConfig = Field(default=CorpusConfig())
    tokenizer: TokenizerConfig = Field(default=TokenizerConfig())
    shards: ShardsConfig = Field(default=ShardsConfig())
    train: TrainConfig = Field(default=TrainConfig())
    quantize: QuantizeConfig = Field(default=QuantizeConfig())
    evaluate: EvaluateConfig = Field(default=EvaluateConfig())


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply overrides.

    Args:
        path: a YAML file.
        overrides: `a.b=c` strings; the value is YAML.

    Raises:
        HainaError: the file is missing, is not YAML, or a field is unknown or out of range.
    """
    label = f"recipe {path.name}"
    with os_errors_about(path):
        data = path.read_bytes()
    try:
        content = yaml.safe_load(data.decode("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        where = " ".join(str(error).split())
        raise HainaError(
            f"{label}: not valid YAML: {where}",
            "mend the file; recipes/quickstart.yaml is a complete example",
        ) from error
    if content is None:
        raise HainaError(f"{label}: is empty", "recipes/quickstart.yaml is a complete example")
    if not isinstance(content, dict):
        raise HainaError(
            f"{label}: must be a mapping of sections", "recipes/quickstart.yaml is a complete example"
        )
    content.setdefault("name", path.stem)
    return build_recipe(content, overrides, label)


def build_recipe(content: dict[str, Any], overrides: Sequence[str], label: str) -> Recipe:
    """A recipe from plain values; `label` names their source in errors."""
    for override in overrides:
        apply_override(content, override)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = [describe_error(details, Recipe) for details in error.errors(include_url=False)]
        raise HainaError(f"{label}: " + "; ".join(lines)) from error


def section_from(
    model: type[BaseModel], overrides: Sequence[str], values: dict[str, Any] | None = None
) -> Any:
    """One stage's configuration from its defaults, `values` and `--set field=value` overrides."""
    content = dict(values or {})
    for override in overrides:
        apply_override(content, override)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [describe_error(details, model) for details in error.errors(include_url=False)]
        raise HainaError("settings: " + "; ".join(lines)) from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every default written out, as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), allow_unicode=True, sort_keys=False, width=110)


def apply_override(content: dict[str, Any], override: str) -> None:
    """Put `a.b=c` into plain values, in place.

    Raises:
        HainaError: it does not look like that, or `a` is no section.
    """
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise HainaError(
            f"--set {override}: must look like section.field=value", "for example --set train.steps=200"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise HainaError(f"--set {override}: the value is not valid YAML", "quote it") from error
    node = content
    for depth, key in enumerate(keys[:-1]):
        child = node.get(key)
        if child is None:
            child = {}
        if not isinstance(child, dict):
            raise HainaError(
                f"--set {override}: {'.'.join(keys[: depth + 1])} is not a section", "set that field itself"
            )
        node[key] = dict(child)
        node = node[key]
    node[keys[-1]] = value


# Characters of a wrong value that its message repeats.
LONGEST_SHOWN = 120
_BOUNDS = {
    "greater_than_equal": (">=", "ge"),
    "greater_than": (">", "gt"),
    "less_than_equal": ("<=", "le"),
    "less_than": ("<", "lt"),
}


def _shown(value: Any) -> str:
    """A value as Python writes it, the beginning of a long one."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."


def describe_error(details: ErrorDetails, model: type[BaseModel]) -> str:
    """`train.micro_batch_size: must be >= 1 (got 0)` from a pydantic error."""
    location = ".".join(str(part) for part in details["loc"])
    kind, value = details["type"], details["input"]
    context = details.get("ctx", {})
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(
            str(details["loc"][-1]), _fields_at(model, details["loc"][:-1]), n=1
        )
        return f"{location}: unknown field" + (f", did you mean {close[0]}?" if close else "")
    if kind == "missing":
        return f"{location}: missing, and it has no default"
    if kind in _BOUNDS:
        sign, key = _BOUNDS[kind]
        return f"{location}: must be {sign} {context[key]} (got {_shown(value)})"
    if kind == "literal_error":
        return f"{location}: must be {context['expected']} (got {_shown(value)})"
    if kind == "value_error":
        return f"{location}: {context['error']}" if location else str(context["error"])
    message = details["msg"][0].lower() + details["msg"][1:]
    message = message.replace("input should be", "must be")
    return f"{location}: {message} (got {_shown(value)})"


def _fields_at(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    current: Any = model
    for part in location:
        fields = getattr(current, "model_fields", {})
        if part not in fields:
            return []
        current = fields[part].annotation
    return list(getattr(current, "model_fields", {}))
