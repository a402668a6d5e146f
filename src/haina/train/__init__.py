"""Token shards in, a trained model folder out: loss, optimizer, schedule, checkpoints, and the loop.

`haina.train.stage.run(config, context)` is the door. torch is imported on first use only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from haina.train.config import ModelSection, TrainConfig

if TYPE_CHECKING:
    from haina.train.stage import run

__all__ = ["ModelSection", "TrainConfig", "run"]


def __getattr__(name: str) -> Any:
    if name != "run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from haina.train.stage import run

    return run
