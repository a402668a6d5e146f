"""`haina inspect`: look at anything that Haina reads or writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haina.cli.common import JsonOption, console, print_json, print_table

if TYPE_CHECKING:
    from haina.corpus.look import Sample, Spread

_SHOWN_CHARACTERS = 300


def inspect(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A folder or file that Haina wrote, a Parquet file, a page."),
    ],
    rows: Annotated[int, typer.Option("--rows", min=0, help="Documents to show.")] = 5,
    signal: Annotated[
        str | None,
        typer.Option(
            help="Show documents on both sides of this measure's bounds; `list` names the measures."
        ),
    ] = None,
    document: Annotated[
        str | None,
        typer.Option(help="Show one document whole, with its measures and cuts: its id or the start of it."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page: of a corpus to choose thresholds by reading, of --batch its rows."),
    ] = None,
    token: Annotated[
        int | None, typer.Option(metavar="N", help="Shards: show token N, its document and its page.")
    ] = None,
    split: Annotated[str, typer.Option(help="Shards: the split that --token counts in.")] = "train",
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Shards: their tokenizer; a run folder has it beside them."),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Shards: look the document up there; a run folder has it too."),
    ] = None,
    pages: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT",
            help="Shards: what the corpus was made from, to show the page; may be given again.",
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="STEP", help="Shards: draw the packed batch of this step.")
    ] = None,
    sequence_length: Annotated[int, typer.Option(min=1, help="Of --batch: tokens of a row.")] = 2048,
    batch_size: Annotated[int, typer.Option(min=1, help="Of --batch: rows of a step, over all ranks.")] = 8,
    seed: Annotated[int, typer.Option(help="Of --batch: the seed of the run.")] = 0,
    packing: Annotated[
        str, typer.Option(metavar="best_fit|concatenate", help="Of --batch: how documents become rows.")
    ] = "best_fit",
    json_output: JsonOption = False,
) -> None:
    """Explain a run, corpus, shards, tokenizer, model or checkpoint folder, a Parquet file or an HTML page.

    Example: haina inspect runs/quickstart/shards --token 12345
    """
    if token is not None:
        from haina.cli.inspect_shards import show_token

        show_token(path, split, token, tokenizer, corpus, pages or (), json_output)
    elif batch is not None:
        from haina.cli.inspect_shards import show_batch

        show_batch(path, batch, sequence_length, batch_size, seed, packing, tokenizer, html, json_output)
    elif document is not None:
        _document(path, document, json_output)
    elif signal is not None:
        _signal(path, signal, rows, json_output)
    elif html is not None:
        _page(path, html)
    else:
        _describe(path, rows, json_output)


def _describe(path: Path, rows: int, json_output: bool) -> None:
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


def _page(path: Path, html: Path) -> None:
    from haina.corpus.look import bounds_of, collect, meanings, render
    from haina.runtime.files import write_text

    look = collect(path, bounds_of(path))
    write_text(html, render(look, str(path), meanings()))
    console().print(
        f"{html}: {sum(look.documents.values()):,} measured documents, {len(look.samples):,} of them to read",
        markup=False,
    )


def _signal(path: Path, name: str, rows: int, json_output: bool) -> None:
    from dataclasses import asdict

    from haina.corpus.look import bounds_of, collect

    look = collect(path, bounds_of(path), () if name == "list" else (name,))
    if json_output:
        print_json({group: [asdict(spread) for spread in spreads] for group, spreads in look.spreads.items()})
        return
    for group, spreads in look.spreads.items():
        print_table(
            f"{group}: {look.documents[group]:,} measured documents",
            ("measure", "5 %", "median", "95 %", "low", "taken", "high", "taken"),
            [_spread_row(spread) for spread in spreads],
        )
        for spread in spreads if name != "list" else ():
            middle = spread.low if spread.low is not None else spread.high
            at = spread.quantiles[50] if middle is None else middle
            below = [item for item in spread.shown if item[1] < at][-rows:]
            above = [item for item in spread.shown if item[1] >= at][:rows]
            for key, value in [*below, *above]:
                _print_sample(
                    look.samples[key], f"{spread.name} {value:.4g} {'<' if value < at else '>='} {at:.4g}"
                )


def _spread_row(spread: Spread) -> tuple[str, ...]:
    def bound(value: float | None, taken: int) -> tuple[str, str]:
        return ("", "") if value is None else (f"{value:g}", f"{taken:,}")

    percentiles = tuple(f"{spread.quantiles[at]:.4g}" for at in (5, 50, 95))
    return (spread.name, *percentiles, *bound(spread.low, spread.below), *bound(spread.high, spread.above))


def _document(path: Path, identity: str, json_output: bool) -> None:
    from dataclasses import asdict

    from haina.corpus.look import find_document, meanings

    sample = find_document(path, identity)
    if json_output:
        print_json(asdict(sample))
        return
    _print_sample(sample, sample.id, whole=True)
    known = meanings()
    print_table(
        "measures",
        ("measure", "value", "meaning"),
        [(name, f"{value:.6g}", known.get(name, "")) for name, value in sample.measured.items()],
    )


def _print_sample(sample: Sample, heading: str, *, whole: bool = False) -> None:
    """A document on the terminal, its cuts struck through with their reason behind them."""
    from rich.text import Text

    out = console()
    out.print(heading, markup=False, style="bold")
    for name, value in sample.facts.items():
        out.print(f"  {name}: {value}", markup=False, style="dim")
    text = Text()
    for piece, reason in sample.pieces:
        text.append(piece, style="strike red" if reason else "")
        if reason:
            text.append(f"[{reason}]", style="dim")
    out.print(text if whole else text[:_SHOWN_CHARACTERS], soft_wrap=True)
    out.print()
