"""Generation and scoring: a model folder in, text and log-probabilities out.

`Engine.load(folder)` opens a bf16 or an INT4 folder alike; `load_model` gives the bare transformer. torch is
imported on first use only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from haina.inference.parameters import SamplingParameters

if TYPE_CHECKING:
    from haina.inference.cache import ContiguousCache
    from haina.inference.engine import Completion, Delta, Engine
    from haina.inference.loading import load_model

__all__ = ["Completion", "ContiguousCache", "Delta", "Engine", "SamplingParameters", "load_model"]

_HOME = {
    "Completion": "haina.inference.engine",
    "ContiguousCache": "haina.inference.cache",
    "Delta": "haina.inference.engine",
    "Engine": "haina.inference.engine",
    "load_model": "haina.inference.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
