"""`haina run` and `haina sample`: the whole river, and something to pour into it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import (
    JsonOption,
    SetOption,
    console,
    human_bytes,
    human_seconds,
    print_json,
    print_table,
)


class SampleSource(StrEnum):
    """Where sample pages come from."""

    AUTO = "auto"
    DEBIAN = "debian"
    WIKIPEDIA = "wikipedia"
    LOCAL = "local"


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe: YAML, one section a stage.")],
    input_paths: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="PATH",
            help="Pages: WARC, HTML, zip, JSONL, Parquet or text files, folders, patterns or addresses (s3://...).",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", "-n", help="Run folder below --runs; the recipe's name by default.")
    ] = "",
    first: Annotated[
        str, typer.Option("--from", metavar="STAGE", help="Begin here; earlier stages must be there.")
    ] = "corpus",
    last: Annotated[str, typer.Option("--to", metavar="STAGE", help="Stop after this stage.")] = "report",
    overrides: SetOption = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of all runs.")] = Path("runs"),
    json_output: JsonOption = False,
) -> None:
    """Run a recipe: pages to documents, tokenizer, shards, model, INT4 model, scores, report.

    Finished stages are kept, an interrupted run goes on where it was.

    Example: haina run recipes/quickstart.yaml --input sample/ --set train.steps=200
    """
    from haina.recipe.inputs import page_inputs
    from haina.recipe.runner import run_recipe
    from haina.recipe.schema import load_recipe
    from haina.recipe.summary import next_commands, samples_of
    from haina.runtime.errors import HainaError
    from haina.runtime.progress import default_reporter

    settings = load_recipe(recipe, overrides or [])
    if name in (".", "..") or "/" in name:
        raise HainaError(
            f"--name {name}: must be a folder name, not a path", "use --runs for the folder around it"
        )
    folder = runs / (name or settings.name)
    reports = run_recipe(settings, page_inputs(input_paths or []), folder, default_reporter(), first, last)
    if json_output:
        print_json(
            {
                "run": str(folder),
                "stages": {item.stage: {**item.record, "reused": item.reused} for item in reports},
            }
        )
        return
    rows = []
    for item in reports:
        records = item.record["records"]
        rows.append(
            (
                item.stage,
                f"{records['in']:,} {records['unit']}",
                f"{records['out']:,}",
                f"{records['dropped']:,}",
                human_seconds(item.record["seconds"]),
                human_bytes(item.record["peak_memory_bytes"]),
                "kept" if item.reused else "",
            )
        )
    print_table("", ("stage", "in", "out", "dropped", "time", "peak memory", ""), rows, fold=False)
    out = console()
    for sample_text in samples_of(folder) if last == "report" else []:
        out.print(f"{sample_text.language}  {sample_text.prompt}", markup=False, style="bold", end="")
        joint = " " if sample_text.text[:1].isspace() else ""
        out.print(joint + " ".join(sample_text.text.split()), style="cyan", markup=False)
    for line in next_commands(folder):
        out.print(line, markup=False)


def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to fill.")],
    source: Annotated[
        SampleSource, typer.Option(help="Where from; auto takes the first that answers.")
    ] = SampleSource.AUTO,
    json_output: JsonOption = False,
) -> None:
    """Fetch real bilingual pages to try things with, their licences beside them.

    Example: haina sample sample/
    """
    from haina.corpus.sample import fetch_sample
    from haina.runtime.progress import default_reporter

    report = fetch_sample(folder, source.value, default_reporter())
    if json_output:
        print_json(
            {
                "folder": str(folder),
                "source": report.source,
                "files": report.files,
                "bytes": report.bytes,
                "note": report.note,
            }
        )
        return
    out = console()
    out.print(
        f"{folder}: {report.files:,} files, {human_bytes(report.bytes)}, from {report.source}", markup=False
    )
    if report.note:
        out.print(report.note, markup=False)
    out.print(f"Next: haina run recipes/quickstart.yaml --input {folder}", markup=False)
