"""One proxy run: a mixture in, the held-out loss of every domain out.

A proxy reads exactly as many tokens as it is told, split by the mixture. Within the bounds on repetition it reads new
text only; a mixture that goes beyond them repeats text. The slice says which part of a domain's pool is read, so that
the same mixture can be measured on other text. What a proxy is, is a function; the n-gram model is the built-in one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from haina.corpus.mixture.ngram import bits_of, train_ngrams
from haina.corpus.mixture.pools import Pools, read_pools
from haina.runtime.files import write_json

SLICES = 4
Streams = list[tuple[NDArray[np.int32], int]]
Losses = NDArray[np.float64]
ProxyModel = Callable[[Pools, Streams, str, int], Losses]


@dataclass(frozen=True)
class ProxyRun:
    """Task: one proxy.

    Attributes:
        names, files: the pools.
        limits: tokens of each domain that can be read before they come again.
        counts: tokens to read of each domain.
        slice: which part of each domain's pool is read, 0 ... SLICES - 1; also the seed of the model's own draws.
        side: `validation` or `test`, what is measured.
        model: a module-level function `(pools, streams, side, seed) -> losses [domains]`.
    """

    names: tuple[str, ...]
    files: tuple[Path, ...]
    limits: tuple[int, ...]
    counts: tuple[int, ...]
    slice: int
    side: str
    model: ProxyModel


@lru_cache(maxsize=2)
def _pools(names: tuple[str, ...], files: tuple[Path, ...]) -> Pools:
    return read_pools(names, files)


def read_streams(
    pools: Pools, limits: Sequence[int], counts: Sequence[int], number: int
) -> list[tuple[NDArray[np.int32], int]]:
    """(tokens, times read) that make up exactly `counts[d]` tokens of each domain d.

    Slice `number` of a pool begins at that share of it and goes on from the front when the pool ends.
    """
    streams: Streams = []
    for pool, limit, count in zip(pools.train, limits, counts, strict=True):
        start = len(pool) * number // SLICES
        part = np.concatenate([pool[start : start + limit], pool[: max(0, start + limit - len(pool))]])
        whole, rest = divmod(count, limit)
        streams += [(part[:rest], whole + 1), (part[rest:], whole)]
    return streams


def ngram_losses(pools: Pools, streams: Streams, side: str, seed: int) -> Losses:
    """Bits a UTF-8 byte of each domain's held-out text [domains] under an n-gram model; nothing is drawn."""
    model = train_ngrams(streams, pools.vocabulary, pools.separator)
    bits = [bits_of(model, stream, pools.separator) for stream in pools.held_out[side]]
    return np.array(bits) / pools.held_bytes[side]


def run_proxy(run: ProxyRun, output: Path) -> None:
    """Train, measure, write the losses."""
    pools = _pools(run.names, run.files)
    streams = read_streams(pools, run.limits, run.counts, run.slice)
    losses = run.model(pools, streams, run.side, run.slice)
    write_json(output, [float(loss) for loss in losses])
