"""`haina cluster`: documents by meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, existing, print_json, print_table


def cluster(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="IN.parquet|DIR...", help="Documents with `text`, or folders of such files."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    topics: Annotated[
        int | None, typer.Option(min=1, help="Topics; by the number of documents when not given.")
    ] = None,
    clusters_per_topic: Annotated[
        int | None, typer.Option("--clusters-per-topic", min=1, help="Clusters in a topic, likewise.")
    ] = None,
    duplicates: Annotated[
        float, typer.Option(metavar="SIMILARITY", help="From here on two documents say the same.")
    ] = 0.95,
    encoder: Annotated[
        str, typer.Option(help="whole: all of a text. exact: its first 128 pieces, slower.")
    ] = "whole",
    workers: Annotated[int, typer.Option(min=1, help="Processes; changes no byte of the result.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the k-means.")] = 0,
    json_output: JsonOption = False,
) -> None:
    """Group documents by meaning in topics and clusters, name them, and mark near-duplicates.

    Example: haina cluster corpus/documents --out clusters --topics 20
    """
    from haina.corpus.semantic import ClusterOptions
    from haina.corpus.semantic import cluster as run
    from haina.corpus.semantic.names import name_of
    from haina.runtime.executor import LocalExecutor
    from haina.runtime.progress import default_reporter

    options = ClusterOptions(topics, clusters_per_topic, duplicates, encoder, seed)
    with LocalExecutor(workers, default_reporter(), out / "scratch" / "state") as executor:
        found = run(existing(inputs), out, options, executor)
    if json_output:
        print_json({**found, "out": str(out)})
        return
    held = max(found["documents"] - found["apart"], 1)
    print_table(
        f"{out}: {found['documents']:,} documents, {found['duplicates']:,} near-duplicates, "
        f"{found['apart']:,} apart",
        ("topic", "share", "documents", "duplicates", "clusters", "about", "for example"),
        [
            (
                str(topic["topic"]),
                f"{topic['size'] / held:.1%}",
                f"{topic['size']:,}",
                f"{topic['duplicates']:,}",
                str(len(topic["clusters"])),
                _fitted(name_of(topic["terms"]), 64),
                _fitted(topic["examples"][0]["title"] if topic["examples"] else "", 28),
            )
            for topic in found["topics"]
        ],
        fold=False,
    )


def _fitted(text: str, cells: int) -> str:
    """The beginning of a text that takes no more than `cells` columns of a terminal; a Han character takes two."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1).rstrip() + "…"
