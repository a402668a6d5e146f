"""`haina shards`: write token shards, and hold them against their checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from haina.cli.common import (
    ExecutorOption,
    JsonOption,
    RayAddressOption,
    SetOption,
    SharedOption,
    executor_choice,
    existing,
    human_bytes,
    print_json,
    print_table,
)

app = typer.Typer(no_args_is_help=True, help="Write token shards (Megatron .bin/.idx) and verify them.")


@app.command()
def write(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN.parquet...",
            help="Documents: Parquet, JSON lines or text, plain, .gz or .zst; files or folders.",
        ),
    ],
    tokenizer: Annotated[
        Path, typer.Option("--tokenizer", "-t", metavar="DIR", help="Folder with tokenizer.json.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    validation_fraction: Annotated[
        float, typer.Option(help="Share of the clusters of documents kept for validation.")
    ] = 0.02,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")] = 0,
    executor: ExecutorOption = "local",
    ray_address: RayAddressOption = None,
    shared: SharedOption = None,
    overrides: SetOption = None,
    json_output: JsonOption = False,
) -> None:
    """Encode documents, and write them as token shards that Megatron-LM and `haina train` read.

    Example: haina shards write corpus/documents --tokenizer tokenizer/ --out shards/
    """
    from haina.recipe.alone import run_alone
    from haina.recipe.schema import section_from
    from haina.shards.config import ShardsConfig
    from haina.shards.shard_set import read_description
    from haina.shards.stage import run

    settings = [f"validation_fraction={validation_fraction}", *(overrides or [])]
    config = section_from(ShardsConfig, settings)
    choice = executor_choice(executor, ray_address, shared)
    run_alone(
        run,
        config,
        {"shards": out},
        inputs={"tokenizer": existing([tokenizer])[0]},
        sources=existing(inputs),
        workers=workers,
        executor=choice,
    )
    _show(f"shards in {out}", read_description(out), json_output)


@app.command()
def verify(
    shards: Annotated[Path, typer.Argument(metavar="DIR", help="A folder made by `haina shards write`.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", "-t", metavar="DIR", help="Also check that it is the shards' tokenizer."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Read every byte of token shards and hold it against their index, their checksums and their tokenizer.

    Example: haina shards verify shards/
    """
    from haina.runtime.progress import default_reporter
    from haina.shards.checksums import verify as verify_shards

    description = verify_shards(shards, tokenizer, default_reporter())
    _show(f"{shards}: nothing wrong", description, json_output)


def _show(title: str, description: dict[str, Any], json_output: bool) -> None:
    if json_output:
        print_json(description)
        return
    rows = [
        (
            name,
            f"{len(split['files']):,}",
            f"{split['documents']:,}",
            f"{split['tokens']:,}",
            human_bytes(sum(entry["bytes"]["bin"] for entry in split["files"])),
            ", ".join(
                f"{lang} {count:,}" for lang, count in split.get("tokens_by", {}).get("language", {}).items()
            ),
        )
        for name, split in description["splits"].items()
    ]
    print_table(title, ("split", "shards", "documents", "tokens", "size", "tokens by language"), rows)
    dropped = description.get("dropped", {}).get("documents", {})
    if dropped:
        reasons = [(reason, f"{count:,}") for reason, count in dropped.items()]
        print_table("rows that are no documents", ("reason", "rows"), reasons)
