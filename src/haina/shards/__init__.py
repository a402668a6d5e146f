"""Token shards: Megatron indexed datasets, written from documents and read as packed batches.

`IndexedDataset(prefix)`, `open_loader(folder, sequence_length, batch_size, seed)`, `PackedLoader(dataset, ...)`,
`MixtureLoader(dataset, domains, weights, ...)`, `write_indexed(prefix, sequences, dtype)`, `verify(folder)`,
`stage.run(config, context)`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haina.shards.checksums import verify
    from haina.shards.indexed import IndexedDataset, write_indexed
    from haina.shards.loader import PackedLoader
    from haina.shards.mixture import MixtureLoader, open_loader

__all__ = ["IndexedDataset", "MixtureLoader", "PackedLoader", "open_loader", "verify", "write_indexed"]

_HOME = {
    "IndexedDataset": "haina.shards.indexed",
    "MixtureLoader": "haina.shards.mixture",
    "PackedLoader": "haina.shards.loader",
    "open_loader": "haina.shards.mixture",
    "verify": "haina.shards.checksums",
    "write_indexed": "haina.shards.indexed",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
