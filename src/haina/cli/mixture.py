"""`haina mixture`: learn how much of each domain to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from haina.cli.common import JsonOption, print_json, print_table

app = typer.Typer(
    no_args_is_help=True, help="Learn how much of each domain to train on, from small proxy runs."
)


@app.callback()
def _group() -> None:
    """Learn how much of each domain to train on, from small proxy runs."""


@app.command()
def fit(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="DOMAIN=PATH...",
            help="Text of each domain: Parquet or JSONL with `text`, or folders of such. With --by: paths alone.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for mixture.json and mixtures.parquet.")],
    by: Annotated[
        str | None, typer.Option("--by", metavar="COLUMN", help="Column that names a document's domain.")
    ] = None,
    proxies: Annotated[int, typer.Option(help="Proxy runs to learn from.")] = 96,
    tokens: Annotated[
        int | None,
        typer.Option(min=1000, help="Tokens a proxy reads; 500,000, or less where there is too little text."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Tokens the planned training reads; as many as the domains have, unless given."),
    ] = None,
    max_epochs: Annotated[
        float, typer.Option(help="How often a domain may be read within the budget.")
    ] = 4.0,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target", metavar="DOMAIN=WEIGHT", help="What to be good at; all domains alike unless given."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer folder to count tokens with; a small one is learned.")
    ] = None,
    law: Annotated[
        list[str] | None,
        typer.Option(
            "--law",
            metavar="LAW",
            help="power, exponential, ridge, trees: what may be chosen. Again for more.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws and the mixtures.")] = 0,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes, 0 for one a core; never changes a byte.")
    ] = 0,
    json_output: JsonOption = False,
) -> None:
    """Learn domain weights, and compare them with natural, temperature and uniform ones on text not learned from.

    Example: haina mixture fit wiki=wiki.parquet law=laws.parquet manual=manuals/ --out mixture/
    """
    import os

    from haina.corpus.mixture.domains import parse_origins
    from haina.corpus.mixture.fit import FitOptions, fit_mixture
    from haina.corpus.mixture.laws import DEFAULT_FAMILIES
    from haina.corpus.mixture.result import write_fit
    from haina.runtime.executor import LocalExecutor
    from haina.runtime.progress import default_reporter

    options = FitOptions(
        inputs,
        out,
        by,
        proxies=proxies,
        tokens=tokens,
        budget=budget,
        max_epochs=max_epochs,
        target=tuple(target or ()),
        tokenizer=tokenizer,
        laws=tuple(law or DEFAULT_FAMILIES),
        seed=seed,
    )
    reporter = default_reporter()
    with LocalExecutor(workers or os.cpu_count() or 1, reporter) as executor:
        fitted = fit_mixture(options, executor)
    description = write_fit(fitted, parse_origins(inputs, by), by, seed, out)
    if json_output:
        print_json(description)
        return
    for note in description["notes"]:
        reporter.say(note)
    _print(description, out)


def _print(description: dict[str, Any], out: Path) -> None:
    mixtures = description["mixtures"]
    names = list(mixtures)
    rows = [
        (
            name,
            f"{mixtures['natural']['weights'][name]:.1%}",
            f"{domain['weight']:.1%}",
            f"{domain['weight_90'][0]:.1%} to {domain['weight_90'][1]:.1%}",
            f"{domain['epochs']:.2f}",
            *(f"{mixtures[other]['loss'][name]:.3f}" for other in names),
        )
        for name, domain in description["domains"].items()
    ]
    means = {
        name: sum(mixture["target_loss"]) / len(mixture["target_loss"]) for name, mixture in mixtures.items()
    }
    rows.append(("target", "", "", "", "", *(f"{means[name]:.3f}" for name in names)))
    print_table(
        "bits a byte of held-out text, by mixture",
        ("domain", "natural", "weight", "90 % interval", "epochs", *names),
        rows,
        fold=False,
    )
    print(f"{out / 'mixture.json'}: weights of {len(description['weights'])} domains")
