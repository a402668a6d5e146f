"""Batches of packed windows, drawn from domains by weight.

In: an indexed dataset, the domain of each of its documents, a weight for each domain. Out: batch number `step`,
computed from `(seed, step)` alone, as `PackedLoader` does: resuming is asking for the next step. The documents of a
domain are one token stream, cut into windows, and a domain walks through all of its windows before it sees one again,
at its own pace. Which domain sample s comes from follows a schedule of `PERIOD` samples, in which every domain has its
share and its samples are evenly spaced, so that after any number of samples no domain is more than a few windows from
its share.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.runtime.files import read_json
from haina.shards.indexed import IndexedDataset
from haina.shards.loader import PackedLoader
from haina.shards.permutation import mix, permute

PERIOD = 1 << 16


def period_counts(weights: NDArray[np.float64], period: int = PERIOD) -> NDArray[np.int64]:
    """Samples of each domain [domains] in a period: by weight, at least one, together exactly `period`."""
    exact = weights / weights.sum() * period
    counts = np.maximum(1, np.floor(exact).astype(np.int64))
    # What is left goes to the largest remainders; what the ones of tiny domains took comes from the largest domains.
    while (short := period - int(counts.sum())) != 0:
        order = np.argsort(counts - exact, kind="stable") if short > 0 else np.argsort(-counts, kind="stable")
        counts[order[: abs(short)]] += 1 if short > 0 else -1
    return counts


def schedule(counts: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Domain [period] of each sample of a period, and how many of that domain came before it in the period.

    The k-th of n samples of a domain is due at (k + 1/2) / n of the period; samples are taken in the order in which
    they are due, ties by the number of the domain.
    """
    domains = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    due = (numbers + 0.5) / counts[domains]
    order = np.lexsort((domains, due))
    return domains[order], numbers[order]


class MixtureLoader:
    """Windows of `sequence_length + 1` tokens, each from one domain, in the proportions of `weights`.

    Args:
        dataset: the tokens.
        domains: int [documents], the domain of each sequence of the dataset; -1 leaves it out.
        weights: share of the tokens that each domain shall have; positive, any sum.
        sequence_length: tokens the model reads at once.
        batch_size: windows in a batch.
        seed: fixes the order; another seed is another order.

    Attributes:
        windows: int64 [domains], windows of each domain.
        counts: int64 [domains], samples of each domain in a period of `PERIOD`.

    Raises:
        HainaError: a domain with a weight is shorter than one window, or a size is not positive.
    """

    def __init__(
        self,
        dataset: IndexedDataset,
        domains: NDArray[np.integer],
        weights: Mapping[str, float],
        sequence_length: int,
        batch_size: int,
        seed: int,
    ) -> None:
        if sequence_length < 1 or batch_size < 1:
            raise HainaError(
                f"sequence_length {sequence_length} and batch_size {batch_size}", "both must be at least 1"
            )
        self.dataset, self.seed = dataset, seed
        self.sequence_length, self.batch_size = sequence_length, batch_size
        self.names = list(weights)
        self.documents = [np.flatnonzero(domains == number) for number in range(len(self.names))]
        # ends[d][i]: tokens of domain d up to and with its i-th document.
        self.ends = [
            np.cumsum(dataset.sequence_lengths[documents], dtype=np.int64) for documents in self.documents
        ]
        tokens = np.array([int(ends[-1]) if len(ends) else 0 for ends in self.ends], np.int64)
        self.windows: NDArray[np.int64] = np.maximum(0, (tokens - 1) // sequence_length)
        for name, count, windows in zip(self.names, tokens, self.windows, strict=True):
            if windows == 0:
                raise HainaError(
                    f"{dataset.bin_path}: domain {name!r} has {count:,} tokens, a window needs "
                    f"{sequence_length + 1:,}",
                    "give it weight 0, shorten the training sequence or bring more of its text",
                )
        self.counts = period_counts(np.array(list(weights.values()), np.float64))
        self.schedule, self.numbers = schedule(self.counts)
        self._keys = [mix(mix(seed) ^ mix(number + 1)) for number in range(len(self.names))]

    @property
    def windows_per_epoch(self) -> int:
        """Windows in all domains together."""
        return int(self.windows.sum())

    def samples(self, step: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Domain [batch_size] and window number within the domain [batch_size] of each row of batch `step`."""
        samples = np.arange(step * self.batch_size, (step + 1) * self.batch_size, dtype=np.int64)
        periods, places = np.divmod(samples, PERIOD)
        domains = self.schedule[places]
        drawn = periods * self.counts[domains] + self.numbers[places]
        numbers = np.empty_like(drawn)
        for domain in np.unique(domains):
            of_domain, windows = domains == domain, int(self.windows[domain])
            epochs, positions = np.divmod(drawn, windows)
            for epoch in np.unique(epochs[of_domain]):
                rows = of_domain & (epochs == epoch)
                numbers[rows] = permute(positions[rows], windows, self._keys[domain] ^ int(epoch))
        return domains, numbers

    def batch(self, step: int) -> NDArray[np.int64]:
        """Batch `step` (>= 0): int64 [batch_size, sequence_length + 1]."""
        if step < 0:
            raise ValueError(f"step {step} is negative")
        result = np.empty((self.batch_size, self.sequence_length + 1), np.int64)
        for row, domain, window in zip(result, *self.samples(step), strict=True):
            self._read(int(domain), int(window) * self.sequence_length, row)
        return result

    def epochs(self, steps: int) -> dict[str, float]:
        """How often each domain has been read after `steps` batches."""
        shares = self.counts / PERIOD * steps * self.batch_size / self.windows
        return {name: float(share) for name, share in zip(self.names, shares, strict=True)}

    def _read(self, domain: int, start: int, row: NDArray[np.int64]) -> None:
        """Fill `row` with the tokens of a domain's stream from `start` on."""
        ends, documents = self.ends[domain], self.documents[domain]
        number = int(np.searchsorted(ends, start, side="right"))
        filled = 0
        while filled < len(row):
            tokens = self.dataset[int(documents[number])]
            skipped = start + filled - (int(ends[number]) - len(tokens))
            piece = tokens[skipped : skipped + len(row) - filled]
            row[filled : filled + len(piece)] = piece
            filled += len(piece)
            number += 1


def open_loader(
    shards: Path, sequence_length: int, batch_size: int, seed: int
) -> PackedLoader | MixtureLoader:
    """The loader of a shards folder's `train` split: by weight where `shards.json` has a `mixture`, else in its own
    proportions.

    Raises:
        HainaError: too little text for a window, or the table of documents does not agree with the tokens.
    """
    dataset = IndexedDataset(shards / "train")
    description: dict[str, Any] = read_json(shards / "shards.json")
    mixture = description.get("mixture")
    if mixture is None:
        return PackedLoader(dataset, sequence_length, batch_size, seed)
    weights = {name: weight for name, weight in mixture["weights"].items() if weight > 0}
    domains = document_domains(shards / description["documents"], list(weights), len(dataset))
    return MixtureLoader(dataset, domains, weights, sequence_length, batch_size, seed)


def document_domains(path: Path, names: list[str], documents: int) -> NDArray[np.int32]:
    """Place in `names` of the domain of each document [documents] of `train`; -1 for a domain without weight.

    Raises:
        HainaError: the table is not about these documents.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["shard", "index", "domain"])
    except (pa.ArrowException, OSError) as error:
        raise HainaError(
            f"{path}: no readable column `domain` ({error})", "run the shards stage again"
        ) from error
    table = table.filter(pc.equal(table["shard"], "train"))
    index = table["index"].to_numpy()
    if len(index) != documents or not np.array_equal(np.sort(index), np.arange(documents)):
        raise HainaError(
            f"{path}: {len(index):,} documents, the train shard has {documents:,}",
            "run the shards stage again",
        )
    places = pc.fill_null(pc.index_in(table["domain"], pa.array(names, pa.string())), -1)
    result = np.empty(documents, np.int32)
    result[index] = places.to_numpy()
    return result
