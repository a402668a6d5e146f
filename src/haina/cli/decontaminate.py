"""`haina decontaminate`: evaluation items in documents, and documents without them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, existing, print_json, print_table


def decontaminate(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="IN.parquet...", help="Documents with a column `text`; files or folders."),
    ],
    against: Annotated[
        list[Path],
        typer.Option(
            "--against",
            metavar="FILE",
            help="Evaluation items: CSV, TSV, JSON, JSON lines, Parquet, a zip or folder of them. May be given again.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")] = 0,
    json_output: JsonOption = False,
) -> None:
    """Drop the documents that hold a question of an evaluation, and say where each stands.

    Example: haina decontaminate corpus/documents --against ceval.zip --against mmlu.zip --out clean/
    """
    from haina.corpus.blocks import parquet_files
    from haina.corpus.decontaminate.config import DecontaminateConfig
    from haina.corpus.decontaminate.stage import run as run_decontaminate
    from haina.recipe.alone import run_alone
    from haina.runtime.files import read_json

    benchmarks = {f"against-{number:04d}": path for number, path in enumerate(existing(against))}
    run_alone(
        run_decontaminate,
        DecontaminateConfig(),
        {"decontaminated": out},
        inputs=benchmarks,
        sources=tuple(parquet_files(existing(inputs))),
        workers=workers,
    )
    summary = read_json(out / "summary.json")
    if json_output:
        print_json(summary)
        return
    print(
        f"{summary['documents_in']:,} documents: {summary['documents']:,} kept, {summary['dropped']:,} dropped"
    )
    print_table(
        f"evaluation items found; spans in {out}/matches.parquet",
        ("benchmark", "items", "found", "documents", "too short", "unreadable", "example"),
        [
            (
                name,
                f"{row['items']:,}",
                f"{row['items_found']:,}",
                f"{row['documents']:,}",
                f"{row['too_short']:,}",
                f"{row['unreadable_rows']:,}",
                _example(row["example"]),
            )
            for name, row in summary["benchmarks"].items()
        ],
    )


def _example(match: dict[str, object] | None) -> str:
    if match is None:
        return "-"
    text = " ".join(str(match["text"]).split())
    return f"{match['id']} [{match['start']}:{match['end']}] {text[:60]}"
