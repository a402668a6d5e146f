"""`haina plan`: what something costs before it is done."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, SetOption, human_bytes, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="What a job costs before it is started.")


@app.callback()
def plan() -> None:
    """What a job costs before it is started."""


@app.command()
def corpus(
    tokens: Annotated[str, typer.Option(help="Tokens of the finished corpus: 500M, 1.2T.")],
    cores: Annotated[int, typer.Option(min=1, help="Cores that will work.")],
    source: Annotated[
        str,
        typer.Option(
            help="commoncrawl, fineweb, or the folder of a corpus curated from a sample of your pages."
        ),
    ] = "commoncrawl",
    disks: Annotated[
        float, typer.Option(min=0.01, help="Disks like this machine's that all machines have together.")
    ] = 1.0,
    bytes_per_token: Annotated[
        float,
        typer.Option(
            min=0.5, help="UTF-8 bytes of text in a token; 4.3 suits a 64k Chinese-English vocabulary."
        ),
    ] = 4.3,
    rates: Annotated[
        Path | None,
        typer.Option(
            help="JSON of rates that --json printed on another machine; without it this one is measured."
        ),
    ] = None,
    overrides: SetOption = None,
    json_output: JsonOption = False,
) -> None:
    """Predict documents, core-hours, storage and shuffle volume of a corpus, step by step, and say what bounds it.

    Example: haina plan corpus --tokens 1.2T --source commoncrawl --cores 2000 --disks 100
    """
    from haina.corpus.config import CorpusConfig
    from haina.corpus.plan.amounts import parse_amount
    from haina.corpus.plan.predict import predict
    from haina.corpus.plan.rates import measure_rates, read_rates
    from haina.corpus.plan.sources import read_yield
    from haina.recipe.schema import section_from
    from haina.runtime.progress import default_reporter

    amount = parse_amount(tokens)
    found = read_yield(source)
    config = section_from(CorpusConfig, overrides or [])
    if rates is not None:
        measured = read_rates(rates)
    else:
        measured = measure_rates(found.html_bytes_per_page, found.text_bytes_per_page, default_reporter())
    made = predict(amount, bytes_per_token, found, measured, cores, disks, config)
    if json_output:
        print_json({"plan": made.as_dict(), "source": asdict(found), "rates": asdict(measured)})
        return
    print_table(
        f"{tokens} tokens from {found.name}, {cores:,} cores",
        ("what", "amount"),
        [
            ("pages to read", f"{made.pages:,.0f}"),
            ("raw pages, stored", human_bytes(made.raw_bytes)),
            ("documents that come out", f"{made.documents:,.0f}"),
            ("their text", human_bytes(made.text_bytes)),
            ("core-hours", f"{made.core_hours:,.1f}"),
            ("hours", f"{made.hours:,.2f}"),
            ("disk at most, beside the raw pages", human_bytes(made.peak_bytes)),
        ],
    )
    print_table(
        "step by step",
        ("step", "records", "core-hours", "moved between tasks", "left on disk", "hours", "waits for"),
        [
            (
                step.name, f"{step.records:,.0f}", f"{step.core_hours:,.1f}", human_bytes(step.moved_bytes),
                human_bytes(step.stored_bytes), f"{step.hours:,.2f}", step.bound,
            )
            for step in made.steps
        ],
        fold=False,
    )  # fmt: skip
    slowest = made.slowest
    print(
        f"{slowest.name} bounds it: {slowest.hours / made.hours:.0%} of the time, waiting for {slowest.bound}."
    )
    print(f"Yields: {found.said}")
    print(
        "Rates: one core of the machine that was measured, linear in the amount; good to a factor of about two."
    )
