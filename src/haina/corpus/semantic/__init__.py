"""Documents by meaning: embeddings, topics and clusters, near-duplicates inside clusters, names for reading."""

from __future__ import annotations

from haina.corpus.semantic.encoder import Encoder, load_encoder
from haina.corpus.semantic.run import ClusterOptions, cluster

__all__ = ["ClusterOptions", "Encoder", "cluster", "load_encoder"]
