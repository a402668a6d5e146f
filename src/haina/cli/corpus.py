"""`haina curate`: the corpus stage alone."""

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
    print_json,
    print_table,
)


def curate(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="WARC, HTML, zip, JSONL, Parquet or text files, folders, patterns or addresses (s3://...).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")] = 0,
    executor: ExecutorOption = "local",
    ray_address: RayAddressOption = None,
    shared: SharedOption = None,
    overrides: SetOption = None,
    json_output: JsonOption = False,
) -> None:
    """Turn raw pages into curated documents, with every dropped page and its reason in a table beside them.

    Example: haina curate crawl.warc.gz pages/ --out corpus/
    """
    from haina.corpus.config import CorpusConfig
    from haina.corpus.stage import run as run_corpus
    from haina.recipe.alone import run_alone
    from haina.recipe.inputs import page_inputs
    from haina.recipe.schema import section_from
    from haina.runtime.files import read_json

    config = section_from(CorpusConfig, overrides or [])
    choice = executor_choice(executor, ray_address, shared)
    run_alone(
        run_corpus, config, {"corpus": out}, sources=page_inputs(inputs), workers=workers, executor=choice
    )
    summary = read_json(out / "summary.json")
    if json_output:
        print_json(summary)
        return
    print_table(
        "pages left after each step",
        ("step", "pages"),
        [(item["step"], f"{item['remaining']:,}") for item in summary["funnel"]],
    )
    print_table(
        "dropped",
        ("stage", "reason", "pages"),
        [(item["stage"], item["reason"], f"{item['count']:,}") for item in summary["by_reason"]],
    )
    print_table(
        f"documents in {out}/documents",
        ("language", "documents", "characters"),
        [
            (lang, f"{item['documents']:,}", f"{item['characters']:,}")
            for lang, item in summary["by_language"].items()
        ],
    )
