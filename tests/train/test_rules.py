"""The rules of the recipe: what they promise about scale."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.train import rules

TOKENS = st.integers(10_000, 10**13)


def test_the_anchor_is_where_it_was_tuned() -> None:
    assert rules.step_tokens(rules.ANCHOR_TOKENS) == rules.ANCHOR_STEP_TOKENS
    anchored = (rules.ANCHOR_TOKENS, rules.ANCHOR_STEP_TOKENS)
    assert rules.matrix_rate(*anchored) == pytest.approx(rules.MATRIX_RATE)
    assert rules.embedding_rate(*anchored) == pytest.approx(rules.EMBEDDING_RATE)


@given(tokens=TOKENS, factor=st.floats(1.1, 100))
def test_the_batch_grows_with_the_data_but_slower(tokens: int, factor: float) -> None:
    growth = rules.step_tokens(round(tokens * factor)) / rules.step_tokens(tokens)
    assert 1.0 < growth < factor


@pytest.mark.parametrize("rate", [rules.matrix_rate, rules.embedding_rate])
@given(tokens=st.integers(10_000_000, 10**13), batch=st.floats(100, 4096))
def test_a_rate_follows_the_root_of_the_batch(rate, tokens: int, batch: float) -> None:
    assert rate(tokens, batch) == pytest.approx(2 * rate(tokens, batch / 4))


@pytest.mark.parametrize("rate", [rules.matrix_rate, rules.embedding_rate])
@given(tokens=TOKENS, factor=st.floats(1, 1000))
def test_a_longer_run_gets_no_higher_rate_and_the_shortest_one_no_wild_one(
    rate, tokens: int, factor: float
) -> None:
    assert rate(round(tokens * factor), 4096) <= rate(tokens, 4096)
    anchored = rate(rules.ANCHOR_TOKENS, rules.ANCHOR_STEP_TOKENS)
    assert rate(tokens, 1e9) <= 2 * anchored * (1 + 1e-12)


@given(parameters=st.integers(10**5, 10**11), tokens=TOKENS, rate=st.floats(1e-4, 0.1))
def test_weight_decay_forgets_in_a_share_of_the_run(parameters: int, tokens: int, rate: float) -> None:
    decay = rules.weight_decay(parameters, tokens, 4096, rate)
    memory = 1 / (rate * decay) * 4096 / tokens
    assert memory == pytest.approx(1.084 * (tokens / parameters) ** -0.527)


@given(steps=st.integers(1, 10**7))
def test_warm_up_leaves_room(steps: int) -> None:
    warmup = rules.warmup_steps(steps)
    assert 0 <= warmup <= min(2000, steps // 4)
    assert warmup >= min(10, steps // 4)


@settings(deadline=None)
@given(hidden=st.integers(16, 16384), window=st.sampled_from([64, 256, 2048, 4096, 1 << 20]))
def test_a_row_keeps_attention_cheap_and_stays_in_the_window(hidden: int, window: int) -> None:
    row = rules.sequence_length(hidden, window)
    assert row <= window
    assert row <= max(2 * hidden, rules.SHORTEST_WINDOW)
    assert row & (row - 1) == 0
    assert row in (window, rules.SHORTEST_WINDOW) or row > hidden


@pytest.mark.parametrize(("value", "wanted"), [(0.2, 1), (1, 1), (1.3, 1), (1.5, 2), (5.6, 4), (5.7, 8)])
def test_powers_of_two_are_near_by_ratio(value: float, wanted: int) -> None:
    assert rules.power_of_two(value) == wanted


def test_short_runs_look_back_less() -> None:
    assert rules.matrix_momentum(195) == rules.matrix_momentum(2000) < rules.matrix_momentum(10_000)


def test_rounding_keeps_significant_digits() -> None:
    assert [rules.rounded(v) for v in (0.0123456, 1234.56, 2.0)] == [0.0123, 1230.0, 2.0]
