"""Which document goes to which shard.

In: the pieces of all blocks and what was counted in them. Out: for each split its shards, each a list of stretches of
pieces, of bounded size. The division depends on the documents and their order alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haina.runtime.executor import Location
from haina.shards.pieces import Rule, piece_rows
from haina.shards.shard_set import TRAIN, shard_name
from haina.shards.tally import Tally


@dataclass(frozen=True)
class Stretch:
    """Documents `start` to `stop` of a split among those that a piece has of it."""

    piece: Location
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """A file of a split.

    Attributes:
        split, number: name it. rule: finds its documents. stretches: where they lie.
        documents, tokens: how many it has.
    """

    split: str
    number: int
    rule: Rule
    stretches: tuple[Stretch, ...]
    documents: int
    tokens: int

    @property
    def name(self) -> str:
        return shard_name(self.split, self.number)


def piece_lengths(piece: Location, rule: Rule, split: str) -> NDArray[np.int64]:
    """Tokens of each document that a piece has of a split, int64 [documents]."""
    rows = piece_rows(piece, ("position", "cluster_id", "group", "length"))
    lengths: NDArray[np.int64] = rows["length"].to_numpy()[rule.splits(rows) == split]
    return lengths


class _Filling:
    """Shards of a split, filled one after another up to `limit` tokens; a document is never in two."""

    def __init__(self, split: str, rule: Rule, limit: int) -> None:
        self.split, self.rule, self.limit = split, rule, limit
        self.shards: list[Shard] = []
        self._stretches: list[Stretch] = []
        self._documents = self._tokens = 0

    def add(
        self, piece: Location, documents: int, tokens: int, lengths: Callable[[], NDArray[np.int64]]
    ) -> None:
        """The documents of one piece; `lengths` reads those of each when a shard ends among them."""
        if self._tokens + tokens <= self.limit:
            self._take(piece, 0, documents, tokens)
            return
        ends = np.cumsum(lengths())
        start = 0
        while start < documents:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + self.limit - self._tokens, side="right"))
            if stop == start and not self._documents:
                stop = start + 1
            if stop > start:
                self._take(piece, start, stop, int(ends[stop - 1]) - before)
            if stop < documents:
                self.close()
            start = stop

    def _take(self, piece: Location, start: int, stop: int, tokens: int) -> None:
        self._stretches.append(Stretch(piece, start, stop))
        self._documents += stop - start
        self._tokens += tokens

    def close(self) -> None:
        """End the shard that is being filled."""
        if self._documents:
            stretches = tuple(self._stretches)
            self.shards.append(
                Shard(self.split, len(self.shards), self.rule, stretches, self._documents, self._tokens)
            )
        self._stretches, self._documents, self._tokens = [], 0, 0


def divide(
    pieces: Sequence[Location], tallies: Sequence[Tally], rule: Rule, shard_tokens: int
) -> dict[str, list[Shard]]:
    """The shards of each split, `train` first, the others by name: at most `shard_tokens` tokens each, but for a
    document that is longer.

    Args:
        tallies: of each piece, under `rule`.
    """
    names = sorted(
        {name for tally in tallies for name in tally.splits}, key=lambda name: (name != TRAIN, name)
    )
    divided = {}
    for name in names:
        filling = _Filling(name, rule, shard_tokens)
        for piece, tally in zip(pieces, tallies, strict=True):
            if (split := tally.splits.get(name)) is not None:

                def lengths(piece: Location = piece, name: str = name) -> NDArray[np.int64]:
                    return piece_lengths(piece, rule, name)

                filling.add(piece, split.documents, split.tokens, lengths)
        filling.close()
        divided[name] = filling.shards
    return divided
