"""Bands of signatures: documents that agree in all rows of a band meet in a bucket.

Comes in: signatures, ranks, copies. Goes out: one record a document and band, (key | rank, sketch), in the partition of
its bucket. A pair of similarity J meets in some of b bands of r rows with probability 1 - (1 - J^r)^b (Leskovec,
Rajaraman, Ullman, "Mining of Massive Datasets", 3.4). Documents of few shingles need no bands of their own:
densification fills each row from a bin of its own choice, and the measured recall at J = 0.7 in 20 bands of 4 rows
is 1.000 up to 128 shingles and 0.997 at 1,000 (3,000 pairs each).
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.dedup.flow import Flow, Step
from haina.corpus.dedup.layout import ClusterConfig, Layout
from haina.corpus.dedup.minhash import sketch64
from haina.corpus.dedup.order import read_numbers
from haina.corpus.dedup.sorting import Words, mix, send_rows, share_of
from haina.corpus.dedup.sources import Source
from haina.runtime.errors import HainaError
from haina.runtime.executor import Buckets

RECORD_BYTES = 16


class Banding(NamedTuple):
    """How signatures are cut: `bands` bands of `rows` values each."""

    bands: int
    rows: int

    def meets(self, similarity: float) -> float:
        """Probability that two documents of a Jaccard similarity share a bucket."""
        return 1.0 - (1.0 - similarity**self.rows) ** self.bands


def choose_banding(threshold: float, recall: float, permutations: int) -> Banding:
    """The banding with the fewest false candidates that finds pairs at `threshold` with probability `recall`.

    False candidates are measured by the area below the curve of `Banding.meets` up to the threshold. Each number of
    rows gets as many bands as the recall needs and no more.

    Raises:
        HainaError: no banding of so few values reaches the recall.
    """
    best: tuple[float, Banding] | None = None
    similarities = np.linspace(0.0, threshold, 201)
    for rows in range(1, permutations + 1):
        missed = math.log1p(-(threshold**rows)) if threshold < 1 else -math.inf
        bands = max(1, math.ceil(math.log(1.0 - recall) / missed - 1e-9)) if missed else permutations + 1
        if bands * rows > permutations:
            break
        found = Banding(bands, rows)
        area = float(np.mean([found.meets(float(value)) for value in similarities]))
        if best is None or area < best[0]:
            best = area, found
    if best is None:
        raise HainaError(
            f"{permutations} signature values are too few to find pairs at a similarity of {threshold} "
            f"with probability {recall}",
            "raise the number of permutations or lower the recall",
        )
    return best[1]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def band_records(
    signatures: npt.NDArray[np.uint32],
    sketches: Words,
    ranks: Words,
    first: int,
    last: int,
    rows: int,
    bits: int,
    partitions: int,
    records: Words,
    partition: npt.NDArray[np.int64],
) -> None:
    """Records of the bands [first, last) of documents, a document's after another's.

    `records[:, 0]` holds the low bits of the band's hash above the `bits` of the rank, `records[:, 1]` the sketch. The
    high bits of the hash choose the partition. All bands share one space of hashes: that two documents agree in
    different bands is as unlikely as by chance in one.
    """
    place = 0
    for document in range(len(signatures)):
        for band in range(first, last):
            state = np.uint64(band + 1) * np.uint64(0x9E3779B97F4A7C15)
            for row in range(band * rows, (band + 1) * rows):
                state = (state ^ np.uint64(signatures[document, row])) * np.uint64(0xD6E8FEB86659FD93)
                state ^= state >> np.uint64(32)
            state = mix(state)
            partition[place] = share_of(state, partitions)
            records[place, 0] = (state << np.uint64(bits)) | ranks[document]
            records[place, 1] = sketches[document]
            place += 1


def send_bands(
    task: tuple[tuple[Source, Path, Path], tuple[Layout, Banding, int, int]], buckets: Buckets
) -> None:
    """Task: the records of some bands of a partition's documents that have tokens and are no copies."""
    (source, ranks_path, copies_path), (layout, banding, first, last) = task
    ranks, copies = read_numbers(ranks_path, layout), read_numbers(copies_path, layout)
    moved = (copies == layout.none) | (copies == ranks)
    start = 0
    for block in source.blocks():
        end = start + len(block.sizes)
        chosen = moved[start:end] & (block.sizes > 0)
        signatures = block.signatures if chosen.all() else block.signatures[chosen]
        count = len(signatures) * (last - first)
        records = np.empty((count, 2), dtype=np.uint64)
        partition = np.empty(count, dtype=np.int64)
        band_records(
            np.ascontiguousarray(signatures), sketch64(signatures), ranks[start:end][chosen].astype(np.uint64),
            first, last, banding.rows, layout.bits, layout.partitions, records, partition,
        )  # fmt: skip
        send_rows(buckets, records, partition)
        start = end


def band_groups(bands: int, documents: int, limit: int) -> list[tuple[int, int]]:
    """Bands [first, last) that go together so that their records take at most `limit` bytes, one band at least."""
    together = max(1, min(bands, limit // max(1, documents * RECORD_BYTES)))
    groups = -(-bands // together)
    cuts = [bands * group // groups for group in range(groups + 1)]
    return list(pairwise(cuts))


def band_steps(
    flow: Flow, sources: list[Source], ranks: Step, copies: Step, layout: Layout, config: ClusterConfig
) -> list[Step]:
    """Declare one exchange for each group of bands."""
    banding = choose_banding(config.candidate_threshold, config.recall, config.permutations)
    items = list(zip(sources, ranks.files, copies.files, strict=True))
    return [
        flow.step(
            f"bands {first + 1} to {last}", send_bands, items, shared=(layout, banding, first, last),
            needs=[ranks, copies], partitions=layout.partitions,
        )
        for first, last in band_groups(banding.bands, layout.total, config.exchange_bytes)
    ]  # fmt: skip
