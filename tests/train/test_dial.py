"""The dial: a preset and a number of tokens give a whole recipe, and every value says where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from haina.cli.app import app
from haina.model.config import preset, preset_names
from haina.recipe.dialled import dialled_recipe
from haina.runtime.errors import HainaError
from haina.runtime.files import read_json, write_json
from haina.train import TrainConfig
from haina.train.dial import Choice, Place, apply, derive, epochs_note, parse_tokens

CPU = Place("cpu", 16 << 30)
GPU = Place("cuda", 140 << 30)


def section(choices: list[Choice]) -> TrainConfig:
    return TrainConfig(**apply(choices))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("600M", 600_000_000),
        ("1.2B", 1_200_000_000),
        ("1200000", 1_200_000),
        ("1_500k", 1_500_000),
        ("2T", 2 * 10**12),
    ],
)
def test_tokens_are_read(text: str, wanted: int) -> None:
    assert parse_tokens(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "many", "-5M", "0", "1.2.3", "5X", "M", "1e6", "0.1", "9" * 400 + "T", "1001T"]
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(HainaError, match="is no number of tokens"):
        parse_tokens(text)


@pytest.mark.parametrize("place", [CPU, GPU])
@pytest.mark.parametrize("name", [name for name in preset_names() if name.startswith("ours-")])
def test_every_preset_of_the_ladder_gets_a_recipe(name: str, place: Place) -> None:
    shape = preset(name)
    tokens = 20 * shape.parameter_count
    config = section(derive(shape, tokens, place, {}))
    assert config.steps * config.tokens_per_step == pytest.approx(tokens, rel=0.02)
    assert config.sequence_length <= shape.max_position_embeddings
    assert config.optimizer == "muon"
    assert config.evaluate_every <= config.steps


def test_every_choice_has_a_reason() -> None:
    for choice in derive(preset("ours-30m"), 600_000_000, CPU, {}):
        assert choice.rule, choice
        assert choice.source or not choice.is_field, choice


def test_less_memory_means_smaller_micro_batches_and_the_same_step() -> None:
    shape = preset("ours-1b")
    large = section(derive(shape, 20 * 10**9, GPU, {}))
    small = section(derive(shape, 20 * 10**9, Place("cuda", 40 << 30), {}))
    assert small.micro_batch_size < large.micro_batch_size
    assert small.tokens_per_step == large.tokens_per_step
    assert (small.learning_rate, small.steps) == (large.learning_rate, large.steps)


def test_micro_batches_are_those_that_fit_with_what_is_set() -> None:
    shape, place = preset("ours-1b"), Place("cuda", 64 << 30)
    free = section(derive(shape, 20 * 10**9, place, {})).micro_batch_size
    for given, larger in (({"compile": False}, False), ({"recompute": "full"}, True)):
        config = section(derive(shape, 20 * 10**9, place, given))
        assert (config.micro_batch_size > free) == larger
        assert config.micro_batch_size != free


def test_what_is_set_is_taken_and_the_rules_start_from_there() -> None:
    shape = preset("ours-7m")
    free = section(derive(shape, 50_000_000, CPU, {}))
    given = {"micro_batch_size": 2, "gradient_accumulation": 1, "sequence_length": 256, "optimizer": "adamw"}
    choices = derive(shape, 50_000_000, CPU, given)
    config = section(choices)
    assert config.tokens_per_step == 512
    assert config.steps == round(50_000_000 / 512)
    assert config.optimizer == "adamw"
    assert config.learning_rate != free.learning_rate
    assert {choice.name for choice in choices if choice.source == "--set"} == set(given)


@pytest.mark.parametrize(
    ("tokens", "given"), [(100, {}), (3000, {"micro_batch_size": 8, "gradient_accumulation": 4})]
)
def test_fewer_tokens_than_a_step_are_refused(tokens: int, given: dict[str, int]) -> None:
    with pytest.raises(HainaError, match="is less than one step"):
        derive(preset("ours-1m"), tokens, CPU, given)


@pytest.mark.parametrize(
    ("tokens", "word"), [(50, "no text"), (300, "nearly as good"), (900, "bring more text")]
)
def test_epochs_are_told(tokens: int, word: str) -> None:
    note = epochs_note(tokens, 100)
    assert note.value == f"{tokens / 100:.2f}"
    assert word in note.rule


def test_overrides_reach_the_recipe() -> None:
    overrides = [
        "train.learning_rate=0.5",
        "train.loader.packing=concatenate",
        "seed=9",
        "train.model.num_hidden_layers=5",
    ]
    recipe, choices = dialled_recipe("ours-3m", 2_000_000, overrides)
    assert recipe.seed == 9
    assert recipe.train.learning_rate == 0.5
    assert recipe.train.loader.packing == "concatenate"
    assert recipe.train.model.num_hidden_layers == 5
    assert next(choice for choice in choices if choice.name == "learning_rate").source == "--set"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.micro_batch_size=0"], "train.micro_batch_size: must be >= 1"),
        (["train.lerning_rate=1"], "unknown field, did you mean learning_rate"),
        (["train.loader=5"], "train.loader"),
    ],
)
def test_wrong_overrides_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(HainaError, match=message):
        dialled_recipe("ours-3m", 2_000_000, overrides)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, HainaError), result.exception
        return 2, str(result.exception)
    return result.exit_code, result.stdout


def test_a_dry_run_needs_no_data() -> None:
    code, output = run("--preset", "ours-30m", "--tokens", "600M", "--dry-run", "--json")
    assert code == 0
    shown = json.loads(output)
    assert TrainConfig(**shown["train"]).steps == shown["train"]["steps"]
    assert {"name", "value", "rule", "source"} == set(shown["choices"][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs a recipe or --preset"),
        (("--preset", "ours-3m"), "belong together"),
        (("recipe.yaml", "--preset", "ours-3m", "--tokens", "1M"), "one of them"),
        (("recipe.yaml", "--dry-run"), "--dry-run shows"),
        (("--preset", "ours-3m", "--tokens", "1M", "--out", "x"), "--shards, --tokenizer missing"),
        (("--preset", "none-such", "--tokens", "1M", "--dry-run"), "unknown"),
    ],
)
def test_the_command_says_what_it_needs(arguments: tuple[str, ...], message: str) -> None:
    code, output = run(*arguments)
    assert code == 2
    assert message in output


def test_the_command_trains_and_writes_the_recipe_it_derived(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [
        "--preset", "ours-1m", "--tokens", "2K", "--shards", str(inputs / "shards"),
        "--tokenizer", str(inputs / "tokenizer"), "--out", str(out), "--json",
        "--set", "train.sequence_length=16", "--set", "train.device=cpu", "--set", "train.threads=1",
    ]  # fmt: skip
    code, output = run(*arguments)
    assert code == 0, output
    recipe = yaml.safe_load((out / "recipe.yaml").read_text("utf-8"))
    summary = read_json(out / "train" / "summary.json")
    assert summary["steps"] == recipe["train"]["steps"]
    assert summary["tokens"] == pytest.approx(2000, abs=200)
    assert (out / "model" / "config.json").is_file()
    shown = json.loads(output)
    assert shown == {**summary, "speed": read_json(out / "speed.json")}
    assert shown["speed"]["tokens_per_second"] > 0
    # Another run does not fit in there, and leaves the recipe of this one beside its model.
    code, output = run(*arguments, "--set", "train.steps=7")
    assert (code, yaml.safe_load((out / "recipe.yaml").read_text("utf-8"))) == (2, recipe)
    assert "already there" in output


def test_a_run_without_a_finite_score_ends_with_a_line(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from haina.cli import train
    from haina.recipe import alone

    def run_alone(*arguments: object, **named: object) -> None:
        scores = {"en": {"loss": 2.5}, "zh": {"loss": None}}
        write_json(
            tmp_path / "train" / "summary.json", {"parameters": 5000, "tokens": 70, "validation": scores}
        )
        write_json(tmp_path / "speed.json", {"tokens_per_second": None})

    monkeypatch.setattr(alone, "run_alone", run_alone)
    recipe, _ = dialled_recipe("ours-1m", 100_000)
    train._run(recipe, inputs, inputs, tmp_path, False)
    assert " ".join("".join(capsys.readouterr()).split()).endswith(
        "5,000 parameters, 70 tokens, held-out loss en 2.500"
    )
