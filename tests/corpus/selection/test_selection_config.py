"""Numbers from the command line."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from haina.corpus.selection.config import SelectionConfig, parse_shares, parse_tokens
from haina.runtime.errors import HainaError


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("500", 500), ("10M", 10_000_000), ("1.2T", 1_200_000_000_000), ("3b", 3_000_000_000), ("0.5k", 500)],
)
def test_tokens_with_suffix(text: str, tokens: int) -> None:
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["0", "0.0001k", "2000T", "-5", "ten", "1e9", "nan", "", "10 M", "M"])
def test_other_numbers_are_refused_with_a_hint(text: str) -> None:
    with pytest.raises(HainaError) as caught:
        parse_tokens(text)
    assert f"--tokens {text}" in caught.value.message
    assert caught.value.hint


def test_shares_by_language() -> None:
    assert parse_shares(["zh=0.5", "en=.25"]) == {"zh": 0.5, "en": 0.25}
    assert parse_shares([]) == {}


@pytest.mark.parametrize(
    "texts",
    [
        ["zh"],
        ["=1"],
        ["zh=x"],
        ["zh=nan"],
        ["zh=-0.1"],
        ["zh=1.1"],
        ["zh=0.2", "zh=0.3"],
        ["zh=0.6", "en=0.6"],
    ],
)
def test_other_shares_are_refused(texts: list[str]) -> None:
    with pytest.raises(HainaError, match="--share"):
        parse_shares(texts)


@pytest.mark.parametrize(
    "settings", [{"tokens": 0}, {"tokens": 5, "temperature": 0.0}, {"tokens": 5, "temperature": float("nan")}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SelectionConfig(**settings)
