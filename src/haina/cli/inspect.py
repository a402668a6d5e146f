"""`haina inspect`: look at anything that Haina reads or writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, console, print_json, print_table


def inspect(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A folder or file that Haina wrote, a Parquet file, a page."),
    ],
    rows: Annotated[int, typer.Option("--rows", min=0, help="Documents to show.")] = 5,
    json_output: JsonOption = False,
) -> None:
    """Explain a run, corpus, shards, tokenizer, model or checkpoint folder, a Parquet file or an HTML page.

    Example: haina inspect runs/quickstart/corpus --rows 3
    """
    from haina.recipe.describe import describe

    found = describe(path, rows)
    if json_output:
        print_json(found.as_dict())
        return
    out = console()
    out.print(f"{path}: {found.kind}", markup=False, style="bold")
    for name, value in found.facts.items():
        out.print(f"  {name}: {value}", markup=False)
    for table in found.tables:
        print_table(table.title, table.columns, table.rows)
    if found.text:
        out.print(found.text, markup=False)
