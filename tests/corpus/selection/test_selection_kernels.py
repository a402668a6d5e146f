"""Weights, ranks, draws and budgets as functions: bounds, order, equality with plain Python."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.selection.budget import Mass, find_scales, probability, split_budget
from haina.corpus.selection.richness import (
    DIRECTIONS,
    SignalStatistics,
    StratumStatistics,
    length_bin,
    middle_ranks,
    richness_factor,
)
from haina.corpus.selection.tokens import estimate_tokens, language_group
from haina.corpus.selection.weights import QualityStatistics, quality_factor, uniform_draws
from haina.runtime.errors import HainaError

DOCUMENTS = st.lists(
    st.tuples(
        st.floats(1e-9, 1e3),  # weight
        st.floats(1e-12, 1.0, exclude_max=True),  # draw
        st.integers(1, 10_000),  # tokens
    ),
    min_size=1,
    max_size=60,
)


def plain_selection(documents: list[tuple[float, float, int]], budget: int) -> list[int]:
    """Sequential Poisson sampling: documents in the order of draw / weight, until the next does not fit."""
    order = sorted(range(len(documents)), key=lambda place: documents[place][1] / documents[place][0])
    taken, held = [], 0
    for place in order:
        held += documents[place][2]
        if held > budget:
            break
        taken.append(place)
    return sorted(taken)


def taken_by_scale(documents: list[tuple[float, float, int]], budget: int, blocks: int) -> list[int]:
    weight, draw, tokens = (np.array(column) for column in zip(*documents, strict=True))

    def arrays() -> Iterator[Any]:
        for rows in np.array_split(np.arange(len(documents)), blocks):
            yield np.zeros(len(rows), np.int32), weight[rows], draw[rows], tokens[rows]

    scale = find_scales(arrays, {0: budget})[0]
    return np.flatnonzero(draw < probability(weight, scale)).tolist()


@given(DOCUMENTS, st.integers(0, 300_000), st.integers(1, 4))
def test_the_scale_takes_what_plain_sequential_sampling_takes(
    documents: list[tuple[float, float, int]], budget: int, blocks: int
) -> None:
    ratios = sorted(draw / weight for weight, draw, _ in documents)
    if any(high - low <= 1e-12 * high for low, high in pairwise(ratios)):
        return  # ties have no order by draw / weight alone; the next test is about them
    expected = plain_selection(documents, budget)
    assert taken_by_scale(documents, budget, blocks) == expected


@given(DOCUMENTS, st.integers(1, 9), st.integers(1, 300_000))
def test_documents_with_the_same_draw_and_weight_are_in_or_out_together(
    documents: list[tuple[float, float, int]], copies: int, budget: int
) -> None:
    taken = taken_by_scale([item for item in documents for _ in range(copies)], budget, 2)
    held = sum(documents[place // copies][2] for place in taken)
    assert held <= budget
    by_document = [sum(place // copies == number for place in taken) for number in range(len(documents))]
    assert set(by_document) <= {0, copies}


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=30), st.floats(0.05, 20.0))
def test_weight_rises_with_quality(scores: list[float], temperature: float) -> None:
    factors = quality_factor(np.sort(np.array(scores)), temperature)
    assert (np.diff(factors) >= 0.0).all()
    assert (factors > 0.0).all()
    assert (factors <= 1.0).all()


def test_temperature_sets_how_strongly_the_best_are_preferred() -> None:
    scores = np.array([0.4, 0.8])
    ratios = [
        float(np.divide(*quality_factor(scores, temperature)[::-1])) for temperature in (0.25, 0.5, 1.0, 1e6)
    ]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[2] == pytest.approx(2.0, rel=0.01)
    assert ratios[3] == pytest.approx(1.0, rel=1e-5)


def test_draws_are_uniform_and_depend_on_key_and_seed() -> None:
    keys = np.arange(100_000, dtype=np.uint64)
    draws = uniform_draws(keys, 0)
    assert np.abs(np.histogram(draws, 20, (0.0, 1.0))[0] - 5000).max() < 300
    assert abs(float(np.corrcoef(draws[1:], draws[:-1])[0, 1])) < 0.02
    assert abs(float(np.corrcoef(draws, uniform_draws(keys, 1))[0, 1])) < 0.02
    assert (uniform_draws(keys[::-1], 0)[::-1] == draws).all()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_middle_ranks_are_the_share_below(counts: list[int]) -> None:
    ranks = middle_ranks(np.array(counts, np.int64))
    total = sum(counts)
    for place, count in enumerate(counts):
        expected = (sum(counts[:place]) + count / 2) / total if total else 0.5
        assert ranks[place] == pytest.approx(expected)


def make_signals(count: int, seed: int) -> tuple[Any, dict[str, Any], Any]:
    rng = np.random.default_rng(seed)
    signals = {name: rng.random(count) + (1.0 if "ratio" in name else 0.0) for name in DIRECTIONS}
    return rng.integers(50, 5000, count), signals, rng.integers(1, 999, count)


def test_richness_rises_with_each_signal_in_its_direction_and_not_with_length() -> None:
    characters, signals, tokens = make_signals(4000, 0)
    statistics = SignalStatistics()
    statistics.add(characters, signals, tokens)
    base = statistics.richness(characters, signals)
    for name, rising in DIRECTIONS.items():
        more = statistics.richness(characters, {**signals, name: signals[name] * 1.5})
        assert ((more - base) * (1 if rising else -1) >= 0.0).all()
        assert abs((more - base).mean()) > 0.01
    for length in np.unique(length_bin(characters)):
        inside = length_bin(characters) == length
        if inside.sum() > 200:
            assert base[inside].mean() == pytest.approx(0.5, abs=0.05)


def test_a_signal_that_is_unknown_ranks_in_the_middle() -> None:
    characters, _, tokens = make_signals(500, 1)
    unknown = {name: np.full(500, np.nan) for name in DIRECTIONS}
    statistics = SignalStatistics()
    statistics.add(characters, unknown, tokens)
    assert (statistics.richness(characters, unknown) == 0.5).all()


def test_richness_moves_no_tokens_between_strata() -> None:
    rng = np.random.default_rng(2)
    stratum = rng.integers(1, 4, 9000)
    # The third is far richer than the others.
    richness = np.clip(rng.normal(0.3 + 0.2 * (stratum == 3), 0.08), 0.0, 1.0)
    mass = rng.integers(1000, 90_000, 9000)
    statistics = StratumStatistics.of(np.array([0, 0, 0, 0]))
    statistics.add(stratum, richness, mass)
    factor = richness_factor(richness, stratum, *statistics.ranks())
    for number in (1, 2, 3):
        rows = stratum == number
        assert (factor[rows] * mass[rows]).sum() == pytest.approx(mass[rows].sum(), rel=0.01)
        order = np.argsort(richness[rows])
        assert (np.diff(factor[rows][order]) >= 0.0).all()


def test_small_strata_are_ranked_together() -> None:
    richness = np.array([0.2, 0.8, 0.3])
    statistics = StratumStatistics.of(np.array([0, 0, 0]))
    statistics.add(np.array([1, 1, 2]), richness, np.array([10, 10, 10]))
    ranks, stands = statistics.ranks()
    assert stands.tolist() == [0, 0, 0]
    factor = richness_factor(richness, np.array([1, 1, 2]), ranks, stands)
    assert factor[0] < factor[2] < factor[1]


def test_frequency_follows_the_quality_of_what_was_found_as_often() -> None:
    statistics = QualityStatistics()
    duplicates = np.repeat([1, 3, 300], 5000)
    quality = np.repeat([0.5, 0.9, 0.1], 5000)
    statistics.add(quality, duplicates)
    alone, few, many = statistics.frequency()[[0, 1, 8]]
    assert few > alone > many
    assert many == 0.5
    lone = QualityStatistics()
    lone.add(quality, np.ones(15_000, np.int64))
    assert (lone.frequency() == 1.0).all()


def test_a_few_documents_say_little_about_frequency() -> None:
    statistics = QualityStatistics()
    statistics.add(np.array([0.5] * 10_000 + [0.0] * 3), np.array([1] * 10_000 + [90] * 3))
    assert statistics.frequency()[6] > 0.95


@pytest.mark.parametrize("seed", range(4))
def test_budgets_add_up_whatever_the_shares(seed: int) -> None:
    rng = random.Random(seed)
    masses = {}
    for name in ("en", "fr", "zh"):
        masses[name] = Mass()
        tokens = np.array([rng.randrange(1, 900) for _ in range(300)])
        masses[name].add(np.array([rng.random() + 1e-6 for _ in range(300)]), tokens)
    there = sum(mass.tokens for mass in masses.values())
    for budget in (1, 17, there // 3, there - 1, there, there + 1, 9 * there):
        for shares in ({}, {"zh": 0.5}, {"zh": 0.0, "en": 1.0}, {"zh": 0.9, "en": 0.1, "fr": 0.0}):
            parts, _ = split_budget(masses, budget, shares)
            assert sum(parts.values()) == min(budget, there)
            assert all(0 <= parts[name] <= masses[name].tokens for name in masses)


def test_equal_pools_get_equal_budgets() -> None:
    masses = {name: Mass() for name in ("zh", "en")}
    for mass in masses.values():
        mass.add(np.linspace(0.1, 1.0, 500), np.full(500, 40))
    parts, notes = split_budget(masses, 9001, {})
    assert abs(parts["zh"] - parts["en"]) <= 1
    assert not notes
    with pytest.raises(HainaError, match="no document of this language"):
        split_budget(masses, 9001, {"de": 0.5})


def test_nothing_is_taken_of_weight_zero() -> None:
    weight = np.array([0.0, 1e-300, 1.0])
    assert probability(weight, math.inf).tolist() == [0.0, 1.0, 1.0]
    assert probability(weight, 0.5).tolist() == [0.0, 5e-301, 0.5]


def test_tokens_are_estimated_by_language() -> None:
    assert [language_group(name) for name in ("zh-Hans", "zh-Hant", "yue", "zh", "en-US", "fr", "")] == [
        "zh", "zh", "zh", "zh", "en", "fr", "unknown"
    ]  # fmt: skip
    counts = estimate_tokens(np.array([0, 1, 1400, 4000, 2500]), ["zh", "en", "zh", "en", "fr"])
    assert counts.tolist() == [0, 1, 1000, 1000, 1000]
