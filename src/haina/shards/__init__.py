"""Token shards: Megatron indexed datasets, written from documents and read as packed batches.

`IndexedDataset(prefix)`, `PackedLoader(dataset, sequence_length, batch_size, seed)`, `write_indexed(prefix,
sequences, dtype)`, `verify(folder)`, `stage.run(config, context)`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haina.shards.checksums import verify
    from haina.shards.indexed import IndexedDataset, write_indexed
    from haina.shards.loader import PackedLoader

__all__ = ["IndexedDataset", "PackedLoader", "verify", "write_indexed"]

_HOME = {
    "IndexedDataset": "haina.shards.indexed",
    "PackedLoader": "haina.shards.loader",
    "verify": "haina.shards.checksums",
    "write_indexed": "haina.shards.indexed",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
