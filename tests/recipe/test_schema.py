"""Recipes: overrides, and one line for every mistake."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from haina.recipe.schema import Recipe, build_recipe, dump_recipe, load_recipe
from haina.runtime.errors import HainaError

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_shipped_recipes_load_and_survive_a_round_trip(path: Path) -> None:
    recipe = load_recipe(path)
    assert Recipe.model_validate(yaml.safe_load(dump_recipe(recipe))) == recipe


def test_overrides_reach_nested_fields() -> None:
    recipe = build_recipe(
        {"name": "a"}, ["tokenizer.vocab_size=1024", "seed=7", "description=中文 description"], "test"
    )
    assert (recipe.tokenizer.vocab_size, recipe.seed, recipe.description) == (1024, 7, "中文 description")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tokenizer.vocab_size=0"], r"tokenizer\.vocab_size: must be >= \d+ \(got 0\)"),
        (["tokenizer.vocab_sise=900"], r"tokenizer\.vocab_sise: unknown field, did you mean vocab_size\?"),
        (["tokeniser.vocab_size=900"], r"tokeniser: unknown field, did you mean tokenizer\?"),
        (["seed=abc"], r"seed: must be a valid integer.*got 'abc'"),
        (["seed.deep=1", "seed=2", "seed.deep=1"], r"seed is not a section"),
        (["seed"], r"must look like section\.field=value"),
        (["=3"], r"must look like section\.field=value"),
        (["quantize.bits=3"], r"quantize\.bits: must be 4 \(got 3\)"),
        (["name=../up"], r"name: .*got '\.\./up'"),
        (["seed=[1"], r"the value is not valid YAML"),
    ],
)
def test_mistakes_are_one_line_that_names_the_field(overrides: list[str], message: str) -> None:
    with pytest.raises(HainaError, match=message) as caught:
        build_recipe({"name": "a"}, overrides, "recipe a.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: [1", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"- a\n- b\n", "must be a mapping"),
        (b"", "is empty"),
        (b"# nothing but a comment\n", "is empty"),
        (b"seed: -1\n", r"seed: must be >= 0 \(got -1\)"),
    ],
)
def test_damaged_recipe_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(HainaError, match=message) as caught:
        load_recipe(path)
    assert "bad.yaml" in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match=r"none\.yaml: no such file"):
        load_recipe(tmp_path / "none.yaml")


def test_an_empty_mapping_is_all_defaults_and_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"{}\n")
    assert load_recipe(path) == Recipe(name="mine")


@given(st.text(max_size=40))
def test_no_override_escapes_as_another_exception(text: str) -> None:
    with contextlib.suppress(HainaError):
        assert build_recipe({"name": "a"}, [text], "test").name


def test_a_name_too_long_for_a_folder_is_refused_in_a_short_line(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text("name: " + "x" * 100_000 + "\n")
    with pytest.raises(HainaError, match="name: string should have at most 100 characters") as caught:
        load_recipe(path, [])
    assert len(str(caught.value)) < 400
