"""A Llama written for reading: configuration, transformer, and the Hugging Face folder it is kept in.

`haina.model.load(folder)` and `haina.model.save(model, folder)` are the two doors. torch is imported on
first use only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from haina.model.config import ModelConfig, preset, preset_names

if TYPE_CHECKING:
    from haina.model.attention import ConcatenatedCache, KeyValueCache
    from haina.model.huggingface import load, read_config, save
    from haina.model.transformer import Transformer

__all__ = [
    "ConcatenatedCache",
    "KeyValueCache",
    "ModelConfig",
    "Transformer",
    "load",
    "preset",
    "preset_names",
    "read_config",
    "save",
]

_HOME = {
    "ConcatenatedCache": "haina.model.attention",
    "KeyValueCache": "haina.model.attention",
    "Transformer": "haina.model.transformer",
    "load": "haina.model.huggingface",
    "read_config": "haina.model.huggingface",
    "save": "haina.model.huggingface",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
