"""Which pack is row number n of a run: a function of the seed and n.

In: how many packs each domain has, and the share of the rows that each shall have. Out: the pack of any row, without
state and without a table as long as the corpus. Which domain a row comes from follows a schedule of `PERIOD` rows, in
which every domain has its share and its rows are evenly spaced, so that after any number of rows no domain is more than
a few rows from its share. A domain walks through all of its packs, in an order that each of its epochs has for itself,
before it sees one again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from haina.shards.permutation import MASK, mix, permute_one, permute_position

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


@dataclass(frozen=True)
class Order:
    """The order of all rows.

    Attributes:
        packs: int64 [domains], packs of each domain.
        first_packs: int64 [domains], number of the first of them.
        counts: int64 [domains], rows of each domain in a period.
        domains: int32 [period], numbers: int64 [period]: as `schedule` gives them.
        keys: uint64 [domains], of the permutations.
    """

    packs: NDArray[np.int64]
    first_packs: NDArray[np.int64]
    counts: NDArray[np.int64]
    domains: NDArray[np.int32]
    numbers: NDArray[np.int64]
    keys: NDArray[np.uint64]

    @classmethod
    def of(
        cls,
        packs: NDArray[np.int64],
        first_packs: NDArray[np.int64],
        shares: NDArray[np.float64] | None,
        seed: int,
    ) -> Order:
        """The order for domains that shall have `shares` [domains] of the rows, any sum; None: there is one domain."""
        if shares is None:
            counts = np.ones(1, np.int64)
            keys = [mix(seed)]
        else:
            counts = period_counts(shares)
            keys = [mix(mix(seed) ^ mix(number + 1)) for number in range(len(packs))]
        return cls(packs, first_packs, counts, *schedule(counts), np.array(keys, np.uint64))

    @property
    def period(self) -> int:
        return len(self.domains)

    def rows(self, first: int, count: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Domain [count] and pack [count] of rows `first` ... `first + count - 1`."""
        return _rows(
            first, count, self.domains, self.numbers, self.counts, self.packs, self.first_packs, self.keys
        )

    def plain_row(self, row: int) -> tuple[int, int]:
        """`rows` for one row, written plainly; the tests hold the two together."""
        period, place = divmod(row, self.period)
        domain = int(self.domains[place])
        drawn = period * int(self.counts[domain]) + int(self.numbers[place])
        epoch, position = divmod(drawn, int(self.packs[domain]))
        key = (int(self.keys[domain]) ^ epoch) & MASK
        return domain, int(self.first_packs[domain]) + permute_one(position, int(self.packs[domain]), key)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _rows(
    first: int,
    count: int,
    schedule: NDArray[np.int32],
    numbers: NDArray[np.int64],
    counts: NDArray[np.int64],
    packs: NDArray[np.int64],
    first_packs: NDArray[np.int64],
    keys: NDArray[np.uint64],
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    domains, result = np.empty(count, np.int32), np.empty(count, np.int64)
    period = len(schedule)
    for place in range(count):
        row = first + place
        domain = schedule[row % period]
        drawn = row // period * counts[domain] + numbers[row % period]
        epoch, position = drawn // packs[domain], drawn % packs[domain]
        domains[place] = domain
        result[place] = first_packs[domain] + permute_position(
            position, packs[domain], keys[domain] ^ np.uint64(epoch)
        )
    return domains, result
