"""`haina train`: the train stage alone, from a recipe or from the one dial."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haina.cli.common import JsonOption, SetOption, console, print_json, print_table

if TYPE_CHECKING:
    from haina.recipe.schema import Recipe
    from haina.train.dial import Choice


def train(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="A recipe; its train section and seed are used.")
    ] = None,
    shards: Annotated[Path | None, typer.Option(help="Token shards.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="The tokenizer that made them.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write: model/ and train/ below it.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Instead of a recipe: a model preset, such as ours-30m.")
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(help="With --preset: how many tokens to train on, such as 600M; all else follows."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --preset: show the settings and where they come from.")
    ] = False,
    overrides: SetOption = None,
    json_output: JsonOption = False,
) -> None:
    """Train a model on token shards; interrupted, the same command goes on from the last checkpoint.

    Example: haina train --preset ours-30m --tokens 600M --shards shards/ --tokenizer tokenizer/ --out trained/
    Example: haina train recipes/quickstart.yaml --shards runs/a/shards --tokenizer runs/a/tokenizer --out trained/
    """
    from haina.recipe.dialled import dialled_recipe
    from haina.recipe.schema import dump_recipe, load_recipe
    from haina.runtime.errors import HainaError
    from haina.runtime.files import write_text
    from haina.train.dial import parse_tokens

    if (recipe is None) == (preset is None):
        raise HainaError("train: needs a recipe or --preset, one of them", "haina train --help shows both")
    if (preset is None) != (tokens is None):
        raise HainaError("train: --preset and --tokens belong together", "for example --tokens 600M")
    if dry_run and preset is None:
        raise HainaError("train: --dry-run shows what --preset and --tokens derive", "give those two")
    if preset is not None and tokens is not None:
        settings, choices = dialled_recipe(preset, parse_tokens(tokens), overrides or [], shards, tokenizer)
        if dry_run:
            _show(settings, choices, json_output)
            return
        if not json_output:
            _show(settings, choices, json_output)
    else:
        assert recipe is not None
        settings = load_recipe(recipe, overrides or [])
    if shards is None or tokenizer is None or out is None:
        missing = [
            name
            for name, path in (("--shards", shards), ("--tokenizer", tokenizer), ("--out", out))
            if not path
        ]
        raise HainaError(f"train: {', '.join(missing)} missing", "name what to train on and where to write")
    # Beside a model that is there already stands the recipe that made it; the stage will say so and refuse.
    if preset is not None and not (out / "train" / "summary.json").exists():
        write_text(out / "recipe.yaml", dump_recipe(settings))
    _run(settings, shards, tokenizer, out, json_output)


def _run(settings: Recipe, shards: Path, tokenizer: Path, out: Path, json_output: bool) -> None:
    from haina.recipe.alone import run_alone
    from haina.runtime.files import read_json
    from haina.train.stage import run as run_train

    run_alone(
        run_train,
        settings.train,
        {"train": out / "train", "model": out / "model"},
        inputs={"shards": shards, "tokenizer": tokenizer},
        seed=settings.seed,
        tensorboard=out / "tensorboard",
    )
    summary, speed = read_json(out / "train" / "summary.json"), read_json(out / "speed.json")
    if json_output:
        # What the clock says is no part of `train/`, which is the same bytes for every run.
        print_json({**summary, "speed": speed})
        return
    parts = [f"{summary['parameters']:,} parameters", f"{summary['tokens']:,} tokens"]
    if speed["tokens_per_second"] is not None:
        parts.append(f"{speed['tokens_per_second']:,.0f} tokens/s")
    known = {
        name: found["loss"] for name, found in summary["validation"].items() if found["loss"] is not None
    }
    if known:
        parts.append("held-out loss " + " ".join(f"{name} {loss:.3f}" for name, loss in known.items()))
    console().print(f"{out}/model: {', '.join(parts)}", markup=False)


def _show(settings: Recipe, choices: list[Choice], json_output: bool) -> None:
    if json_output:
        print_json(
            {
                "train": settings.train.model_dump(mode="json"),
                "choices": [choice.__dict__ for choice in choices],
            }
        )
        return
    rows = [(choice.name.strip("()"), _text(choice.value), choice.rule, choice.source) for choice in choices]
    print_table(settings.name, ("setting", "value", "rule", "source"), rows)


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
