"""What clustering needs of documents: one source a partition, read in blocks.

A source is a picklable object; the executor passes it to worker processes. It is read several times (once for facts,
once for each group of bands, once for what has to be compared), so blocks should come from files, not from text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Block(Protocol):
    """Some consecutive documents of a partition. Attributes may be computed when they are asked for."""

    @property
    def signatures(self) -> npt.NDArray[np.uint32]:
        """MinHash signatures: uint32 [documents, permutations]."""

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Shingles, 0 for documents without tokens: int64 [documents]."""

    @property
    def keys(self) -> npt.NDArray[Any]:
        """16 bytes that identical documents share: any array of 16 bytes a document."""

    @property
    def priority(self) -> npt.NDArray[np.uint64]:
        """Smaller is better: uint64 [documents]."""

    @property
    def tie(self) -> npt.NDArray[np.uint64]:
        """Decides between equal priorities, smaller is better: uint64 [documents]."""


class Source(Protocol):
    """The documents of one partition, in order."""

    def rows(self) -> int:
        """How many there are."""

    def blocks(self) -> Iterator[Block]:
        """All of them, in blocks of a few thousand."""

    def ids(self) -> Any:
        """Their ids: a pyarrow array of strings, chunked or not."""

    def shingle_sets(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Sorted shingle sets of some rows (ascending): all hashes, and where each set begins, and the end.

        Needed only where pairs are verified exactly.
        """


@dataclass(frozen=True)
class MemoryBlock:
    """A block whose arrays are there already; see `Block`."""

    signatures: npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.int64]
    keys: npt.NDArray[Any]
    priority: npt.NDArray[np.uint64]
    tie: npt.NDArray[np.uint64]


@dataclass(frozen=True)
class MemorySource:
    """A partition that is small enough to be sent along with its tasks.

    Attributes:
        block: all documents. names: their ids, a pyarrow array of strings.
        shingles, starts: their shingle sets, one after the other, and where each begins, and the end; empty where
            signatures decide.
    """

    block: MemoryBlock
    names: Any
    shingles: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.int64]

    def rows(self) -> int:
        """How many documents there are."""
        return len(self.block.sizes)

    def blocks(self) -> Iterator[Block]:
        """All documents at once."""
        yield self.block

    def ids(self) -> Any:
        """Their ids."""
        return self.names

    def shingle_sets(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Sorted shingle sets of some rows."""
        sizes = self.starts[rows + 1] - self.starts[rows]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        inside = np.arange(starts[-1]) - np.repeat(starts[:-1], sizes) + np.repeat(self.starts[rows], sizes)
        return self.shingles[inside], starts
