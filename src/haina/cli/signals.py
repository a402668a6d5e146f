"""`haina signals` and `haina threshold`: measure documents, and decide by the measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, SetOption, print_json, print_table


def signals(
    source: Annotated[Path, typer.Argument(metavar="IN.parquet", help="Documents with a column `text`.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="File to write.")],
    json_output: JsonOption = False,
) -> None:
    """Add a `signal.*` column for every signal, keeping all other columns; nothing is decided.

    Example: haina signals documents.parquet scored.parquet
    """
    from haina.corpus.signals.files import add_signals
    from haina.corpus.signals.names import SIGNALS
    from haina.runtime.progress import default_reporter

    documents = add_signals(source, target, default_reporter())
    if json_output:
        print_json({"documents": documents, "signals": len(SIGNALS), "out": str(target)})
    else:
        print(f"{target}: {documents:,} documents with {len(SIGNALS)} signals")


def threshold(
    source: Annotated[
        Path, typer.Argument(metavar="SCORED.parquet", help="Documents with `lang` and `signal.*` columns.")
    ],
    preset: Annotated[
        str,
        typer.Option(
            "--preset", metavar="NAME|FILE", help="Bounds: default, gopher, c4, fineweb, or a YAML file."
        ),
    ] = "default",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Write the rows that stay here, and NAME.dropped.parquet beside it."
        ),
    ] = None,
    overrides: SetOption = None,
    json_output: JsonOption = False,
) -> None:
    """Hold signals against bounds, without reading the text: how many documents each bound takes.

    Example: haina threshold scored.parquet --preset gopher --set zh.words.min=20 --out kept.parquet
    """
    from dataclasses import asdict

    from haina.corpus.signals.files import apply_preset
    from haina.corpus.signals.presets import load_preset, override
    from haina.runtime.progress import default_reporter

    bounds = override(load_preset(preset), overrides or [])
    decided = apply_preset(source, bounds, out, default_reporter())
    if json_output:
        print_json({**asdict(decided), "dropped": decided.documents - decided.kept})
        return
    print_table(
        f"{decided.kept:,} of {decided.documents:,} documents stay",
        ("language", "signal", "min", "max", "break it", "dropped for it", "only it"),
        [
            (
                taken.group,
                taken.signal,
                "" if taken.bound.min is None else f"{taken.bound.min:g}",
                "" if taken.bound.max is None else f"{taken.bound.max:g}",
                f"{taken.breaks:,}",
                f"{taken.takes:,}",
                f"{taken.alone:,}",
            )
            for taken in decided.taken
        ],
        fold=False,
    )
