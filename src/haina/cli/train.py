"""`haina train`: the train stage alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, SetOption, console, print_json


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A recipe; its train section and seed are used.")
    ],
    shards: Annotated[Path, typer.Option(help="Token shards.")],
    tokenizer: Annotated[Path, typer.Option(help="The tokenizer that made them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write: model/ and train/ below it.")],
    overrides: SetOption = None,
    json_output: JsonOption = False,
) -> None:
    """Train a model on token shards; interrupted, the same command goes on from the last checkpoint.

    Example: haina train recipes/quickstart.yaml --shards runs/a/shards --tokenizer runs/a/tokenizer --out trained/
    """
    from haina.recipe.alone import run_alone
    from haina.recipe.schema import load_recipe
    from haina.runtime.files import read_json
    from haina.train.stage import run as run_train

    settings = load_recipe(recipe, overrides or [])
    run_alone(
        run_train,
        settings.train,
        {"train": out / "train", "model": out / "model"},
        inputs={"shards": shards, "tokenizer": tokenizer},
        seed=settings.seed,
        tensorboard=out / "tensorboard",
    )
    summary = read_json(out / "train" / "summary.json")
    if json_output:
        print_json(summary)
        return
    losses = ", ".join(f"{lang} {item['loss']:.3f}" for lang, item in summary["validation"].items())
    console().print(
        f"{out}/model: {summary['parameters']:,} parameters, {summary['tokens']:,} tokens; held-out loss {losses}",
        markup=False,
    )
