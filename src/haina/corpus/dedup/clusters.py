"""Near-duplicate clusters of a corpus of any size, from signatures to one verdict a document.

Comes in: sources, one a partition. Goes out: one file of verdicts a partition (`VERDICTS_SCHEMA` of
`verdicts`). All steps are tasks over files, so they run on any executor, go on after a kill, and need memory for one
task a worker:

    facts, ranks          a distributed sort by (priority, tie)
    copies                the best of each exact key stays for its copies
    bands, pairs          buckets of signatures, a group of bands at a time; candidate pairs
    components            labels by union-find; the one table over all documents, 4 bytes each
    members, clusters     what has to be compared moves once; verified pairs, clusters around representatives
    verdicts              back to the rows, in order
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from haina.corpus.dedup.bands import band_steps
from haina.corpus.dedup.candidates import candidate_step
from haina.corpus.dedup.components import component_step
from haina.corpus.dedup.exact import exact_step
from haina.corpus.dedup.flow import Flow
from haina.corpus.dedup.gather import gather_steps
from haina.corpus.dedup.layout import ClusterConfig, layout_of
from haina.corpus.dedup.order import order_steps
from haina.corpus.dedup.sources import Source
from haina.corpus.dedup.verdicts import verdict_step
from haina.runtime.executor import Executor


def cluster_documents(
    executor: Executor, work: Path, sources: Sequence[Source], config: ClusterConfig
) -> list[Path]:
    """Cluster the documents of all sources.

    Args:
        executor: runs the tasks. work: a folder for their files; only the verdicts stay in it.
        sources: one a partition of the input, in order. config: how to cluster.

    Returns:
        The verdict file of each source.
    """
    inputs = list(sources)
    layout = layout_of(tuple(source.rows() for source in inputs), config.partitions)
    flow = Flow(executor, work)
    facts, ranks = order_steps(flow, inputs, layout)
    copies = exact_step(flow, facts, ranks, layout)
    bands = band_steps(flow, inputs, ranks, copies, layout, config)
    pairs = candidate_step(flow, bands, layout, config)
    labels = component_step(flow, pairs, layout)
    members, together = gather_steps(flow, inputs, ranks, copies, pairs, labels, layout, config)
    verdicts = verdict_step(flow, ranks, copies, members, together, layout, config)
    flow.make(verdicts)
    flow.clean()
    return list(verdicts.files)
