"""Token shards: Megatron indexed datasets, written from documents and read as packed batches.

`ShardSet.open(folder, split)`, `IndexedDataset(prefix)`, `open_loader(folder, settings, cache)`,
`LoaderSection(...).with_sizes(...)`, `Prefetcher(loader, start, stop)`, `write_indexed(prefix, sequences, dtype)`,
`write_arrays(folder, splits, tokenizer, dtype)`, `verify(folder)`,
`stage.run(config, context)`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from haina.runtime.kernel_cache import use_kernel_cache

if TYPE_CHECKING:
    from haina.shards.checksums import verify
    from haina.shards.indexed import IndexedDataset, write_indexed
    from haina.shards.loader import Loader, open_loader
    from haina.shards.loader_settings import LoaderSection, LoaderSettings
    from haina.shards.prefetch import Prefetcher
    from haina.shards.shard_set import ShardSet, write_arrays

__all__ = [
    "IndexedDataset",
    "Loader",
    "LoaderSection",
    "LoaderSettings",
    "Prefetcher",
    "ShardSet",
    "open_loader",
    "verify",
    "write_arrays",
    "write_indexed",
]

# Before any module of this package that holds a kernel.
use_kernel_cache()

_HOME = {
    "IndexedDataset": "haina.shards.indexed",
    "Loader": "haina.shards.loader",
    "LoaderSection": "haina.shards.loader_settings",
    "LoaderSettings": "haina.shards.loader_settings",
    "Prefetcher": "haina.shards.prefetch",
    "ShardSet": "haina.shards.shard_set",
    "open_loader": "haina.shards.loader",
    "verify": "haina.shards.checksums",
    "write_arrays": "haina.shards.shard_set",
    "write_indexed": "haina.shards.indexed",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
