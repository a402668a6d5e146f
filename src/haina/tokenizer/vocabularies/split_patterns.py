"""The table of expressions that cut text before byte-pair merges, by name."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    text = files("haina.tokenizer.vocabularies").joinpath("split_patterns.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """Every known name -> the name its expressions are listed under."""
    table = _table()
    known = {name: name for name in table["patterns"]}
    for name, others in table["names"].items():
        known.update(dict.fromkeys(others, name))
    return known


def pattern_names() -> list[str]:
    """All known names, sorted."""
    return sorted(_names())


def expressions(name: str) -> list[str] | None:
    """The expressions of `name`, applied one after another; None when the name is not known."""
    found = _names().get(name)
    return None if found is None else list(_table()["patterns"][found])


def ignores_merges(name: str) -> bool:
    """Whether a cut that is a whole piece is taken without merging."""
    return name in _table()["ignore_merges"]
