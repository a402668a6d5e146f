"""Which documents are kept away from training.

In: the near-duplicate cluster and language of every document. Out: the set of held-out clusters. The choice
is a hash of the cluster's name and nothing else, so two documents that share text are always on the same
side, and a larger fraction holds out everything that a smaller one does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from haina.runtime.documents import language_group


def split_position(cluster_id: str) -> float:
    """A fixed point in [0, 1) for a cluster; uniform over clusters."""
    digest = hashlib.blake2b(cluster_id.encode("utf-8"), digest_size=8, person=b"haina.split")
    return int.from_bytes(digest.digest(), "big") / 2.0**64


def held_out_clusters(documents: Iterable[tuple[str, str]], fraction: float) -> frozenset[str]:
    """Clusters whose documents must not be trained on.

    A cluster is held out when its position is below `fraction`. So that a small corpus still has something to
    be measured on, the cluster with the smallest position of each language is held out too, when the language
    has two clusters or more.

    Args:
        documents: (cluster id, language) of every document, in any order.
        fraction: expected share of clusters, in [0, 1).
    """
    held: set[str] = set()
    smallest: dict[str, tuple[float, str]] = {}
    several: set[str] = set()
    for cluster_id, lang in documents:
        group = language_group(lang)
        position = split_position(cluster_id)
        if position < fraction:
            held.add(cluster_id)
        known = smallest.get(group)
        if known is not None and known[1] != cluster_id:
            several.add(group)
        if known is None or (position, cluster_id) < known:
            smallest[group] = (position, cluster_id)
    held.update(smallest[group][1] for group in several)
    return frozenset(held)
