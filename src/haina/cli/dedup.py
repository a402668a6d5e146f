"""`haina dedup`: near-duplicates of finished documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import (
    ExecutorOption,
    JsonOption,
    RayAddressOption,
    SetOption,
    SharedOption,
    executor_choice,
    existing,
    print_json,
    print_table,
)


def dedup(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN.parquet...", help="Documents with columns `id` and `text`; files or folders."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    threshold: Annotated[
        float, typer.Option(help="Jaccard similarity from which a text is a near-duplicate.")
    ] = 0.7,
    level: Annotated[
        str, typer.Option(metavar="document|paragraph|sentence", help="What is compared.")
    ] = "document",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")] = 0,
    executor: ExecutorOption = "local",
    ray_address: RayAddressOption = None,
    shared: SharedOption = None,
    overrides: SetOption = None,
    json_output: JsonOption = False,
) -> None:
    """Find texts that say the same, keep the best of each cluster, and say which stands for which.

    Example: haina dedup corpus/documents --out deduplicated --threshold 0.8
    """
    from haina.corpus.dedup.config import DedupConfig
    from haina.corpus.dedup.stage import run
    from haina.recipe.alone import run_alone
    from haina.recipe.schema import section_from
    from haina.runtime.files import read_json

    config = section_from(DedupConfig, [f"threshold={threshold}", f"level={level}", *(overrides or [])])
    choice = executor_choice(executor, ray_address, shared)
    run_alone(run, config, {"dedup": out}, sources=existing(inputs), workers=workers, executor=choice)
    found = read_json(out / "summary.json")
    if json_output:
        print_json(found)
        return
    rows = [
        ("documents in", f"{found['documents_in']:,}"),
        (f"{level}s compared", f"{found['compared']:,}"),
        ("clusters of two and more", f"{found['clusters']:,}"),
        ("largest cluster", f"{found['largest_cluster']:,}"),
        ("exact copies", f"{found['exact']:,}"),
        (f"near-duplicates, {threshold:g} and above", f"{found['near']:,}"),
        ("documents dropped", f"{found['dropped']:,}"),
        ("documents kept", f"{found['documents_out']:,}"),
    ]
    print_table(f"duplicates in {out}", ("what", "count"), rows)
