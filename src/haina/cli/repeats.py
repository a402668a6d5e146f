"""`haina repeats`: lines, paragraphs, sentences and substrings that stand more than once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, existing, human_bytes, print_json, print_table


def repeats(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN.parquet...", help="Documents with columns `id` and `text`; files or folders."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    level: Annotated[
        str, typer.Option("--level", metavar="line|paragraph|sentence|substring", help="What is compared.")
    ] = "line",
    min_documents: Annotated[
        int | None,
        typer.Option("--min-documents", help="Remove what stands in so many documents. Default: by level."),
    ] = None,
    min_tokens: Annotated[
        int | None,
        typer.Option(
            "--min-tokens", help="Only what is so long: Han characters and words. Default: by level."
        ),
    ] = None,
    keep: Annotated[
        str, typer.Option("--keep", metavar="first|none", help="What stays: the first occurrence, or none.")
    ] = "first",
    priority: Annotated[
        str,
        typer.Option("--priority", metavar="COLUMN", help="Numbers; the document with the highest is first."),
    ] = "",
    removal: Annotated[
        bool, typer.Option("--remove/--count-only", help="Write documents without the copies, or only count.")
    ] = True,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    json_output: JsonOption = False,
) -> None:
    """Find what stands more than once in a corpus, exactly but for script, width, case and punctuation, and remove the
    copies.

    Example: haina repeats documents/*.parquet --level substring --min-tokens 50 --out deduplicated
    """
    from haina.corpus.blocks import parquet_files
    from haina.corpus.repeats.config import read_config
    from haina.corpus.repeats.run import run_repeats
    from haina.runtime.executor import LocalExecutor
    from haina.runtime.progress import default_reporter

    config = read_config(
        level=level, min_documents=min_documents, min_tokens=min_tokens, keep=keep, priority=priority
    )
    with LocalExecutor(workers, default_reporter()) as executor:
        found = run_repeats(executor, parquet_files(existing(inputs)), config, out, removal=removal)
    if json_output:
        print_json({**found, "out": str(out)})
        return
    rows = [
        ("documents", f"{found['documents']:,}"),
        ("text", human_bytes(found["text_bytes"])),
        (f"different {level}s that repeat", f"{found['repeated']:,}"),
        ("their occurrences", f"{found['occurrences']:,}"),
        (
            f"in {found['min_documents']}+ documents, {found['min_tokens']}+ tokens, copies",
            f"{found['to_remove']:,}",
        ),
    ]
    if removal:
        share = found["removed_bytes"] / max(1, found["text_bytes"])
        rows += [
            ("removed", f"{human_bytes(found['removed_bytes'])} ({share:.2%})"),
            ("documents kept", f"{found['documents_out']:,}"),
            ("documents dropped, nothing left", f"{found['dropped']:,}"),
        ]
    print_table(f"repeats in {out}", ("what", "count"), rows)
    if found["top"]:
        print_table(
            "most repeated tokens",
            ("documents", "occurrences", "tokens", "text"),
            [
                (f"{unit['documents']:,}", f"{unit['occurrences']:,}", f"{unit['tokens']:,}", unit["text"])
                for unit in found["top"][:10]
            ],
        )
