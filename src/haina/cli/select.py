"""`haina select`: which documents a training run reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, existing, print_json, print_table


def select(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN.parquet...", help="Documents with columns `id` and `text`; files or folders."
        ),
    ],
    tokens: Annotated[
        str, typer.Option("--tokens", metavar="N", help="Tokens to take: 500000, 10M, 3B, 1.2T.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    clusters: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of `haina cluster`: topics of the documents.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Weights take quality to the power 1 / temperature; lower prefers the best.")
    ] = 0.5,
    share: Annotated[
        list[str] | None,
        typer.Option(metavar="LANG=SHARE", help="Share of the tokens, as zh=0.5. May be given again."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with a tokenizer.json that counts tokens; else estimated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")] = 0,
    json_output: JsonOption = False,
) -> None:
    """Choose documents by quality and diversity to a budget of tokens, with the reason for each in its columns.

    Example: haina select corpus/documents --out chosen --tokens 10M --share zh=0.5 --clusters topics
    """
    from haina.corpus.selection.config import SelectionConfig, parse_shares, parse_tokens
    from haina.corpus.selection.stage import run
    from haina.recipe.alone import run_alone
    from haina.recipe.schema import section_from
    from haina.runtime.files import read_json

    config = section_from(
        SelectionConfig,
        [
            f"tokens={parse_tokens(tokens)}",
            f"temperature={temperature}",
            f"shares={json.dumps(parse_shares(share or []))}",
        ],
    )
    given = {"clusters": clusters, "tokenizer": tokenizer}
    folders = {name: path for name, path in given.items() if path is not None}
    existing(list(folders.values()))
    run_alone(
        run, config, {"selection": out}, inputs=folders, sources=existing(inputs), seed=seed, workers=workers
    )
    found = read_json(out / "summary.json")
    if json_output:
        print_json(found)
        return
    print_table(
        f"{found['tokens_out']:,} of {found['tokens_in']:,} tokens taken into {out}/documents",
        (
            "language",
            "documents",
            "taken",
            "tokens",
            "taken",
            "mean quality",
            "taken",
            "with copies",
            "taken",
        ),
        [
            (
                name,
                f"{row['documents_in']:,}",
                f"{row['documents_out']:,}",
                f"{row['tokens_in']:,}",
                f"{row['tokens_out']:,}",
                _score(row["quality_in"]),
                _score(row["quality_out"]),
                f"{row['copied_in']:,}",
                f"{row['copied_out']:,}",
            )
            for name, row in found["by_language"].items()
        ],
        fold=False,
    )
    if found["topics_in"]:
        print(f"topics: {found['topics_out']:,} of {found['topics_in']:,}")
        print(f"dropped for a similar meaning: {found['similar_meaning']:,}")
    if found["measured_now"]:
        print(f"measured from the text, for want of columns: {', '.join(found['measured_now'])}")
    for line in (*found["absent"], *found["notes"]):
        print(f"note: {line}")


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
