"""Settings of a clustering, and what follows from them and the number of documents."""

from __future__ import annotations

from dataclasses import dataclass

from haina.corpus.dedup.sorting import NARROW_BITS, WIDE_BITS, none_of

SIGNATURES_PER_PARTITION = 400_000
SETS_PER_PARTITION = 50_000


def default_partitions(documents: int, exact: bool = True) -> int:
    """Partitions so that the working set of a task stays within some 300 MB, at a thousand shingles a document."""
    return max(1, -(-documents // (SETS_PER_PARTITION if exact else SIGNATURES_PER_PARTITION)))


@dataclass(frozen=True)
class ClusterConfig:
    """How to cluster.

    Attributes:
        threshold: smallest similarity of a member and its representative.
        containment: similarity is the share of the smaller set that both have, instead of Jaccard; exact only.
        recall: share of the pairs at the threshold that shall meet in some band.
        permutations: values in a signature, at least 64.
        exact: verify pairs by their shingle sets; otherwise by signatures cut to 8 bits a value.
        partitions: into how many parts keys, pairs and components are cut; it decides memory, not results.
        exchange_bytes: records of bands that may be on disk at a time; more bands go at once when it is larger.
    """

    threshold: float = 0.7
    containment: bool = False
    recall: float = 0.995
    permutations: int = 128
    exact: bool = True
    partitions: int = 16
    exchange_bytes: int = 16 << 30

    @property
    def candidate_threshold(self) -> float:
        """Jaccard similarity down to which pairs are looked for: a set within one of twice its size has half."""
        return self.threshold / 2 if self.containment else self.threshold


@dataclass(frozen=True)
class Layout:
    """Numbers that all steps share.

    Attributes:
        documents: in each partition of the input. partitions: of keys, pairs and components.
        bits: of a rank: 32, or 40 from 2^32 - 1 documents on.
    """

    documents: tuple[int, ...]
    partitions: int
    bits: int

    @property
    def total(self) -> int:
        """All documents."""
        return sum(self.documents)

    @property
    def none(self) -> int:
        """The number that is no document's rank."""
        return none_of(self.bits)


def layout_of(documents: tuple[int, ...], partitions: int) -> Layout:
    """The layout for partitions of these sizes."""
    return Layout(documents, partitions, NARROW_BITS if sum(documents) < (1 << 32) - 1 else WIDE_BITS)
