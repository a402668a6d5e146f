"""Laws: derivatives, recovery of known ones, and choice by cross-validation."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from haina.corpus.mixture.laws import (
    choose_law,
    cross_validated,
    exponential_values,
    fit_family,
    power_values,
)
from haina.corpus.mixture.mixtures import random_mixtures, uniform
from haina.runtime.errors import HainaError

DOMAINS = 4
SHARES = random_mixtures(uniform(DOMAINS), np.ones(DOMAINS), 120, 5)
TRAIN, NEW = SHARES[:80], SHARES[80:]
POWER = np.array([0.8, np.log(0.4), *np.log([3.0, 0.2, 0.5, 0.05]), *np.log([0.3, 0.02, 0.4, 0.1])])
EXPONENTIAL = np.array([1.2, -1.5, 0.2, 0.4, -0.3])
KNOWN = {"power": (power_values, POWER), "exponential": (exponential_values, EXPONENTIAL)}


@pytest.mark.parametrize("family", KNOWN)
def test_derivatives(family: str) -> None:
    values, at = KNOWN[family]
    slopes = values(at, TRAIN)[1]
    for place in range(len(at)):
        step = np.zeros(len(at))
        step[place] = 1e-6
        numeric = (values(at + step, TRAIN)[0] - values(at - step, TRAIN)[0]) / 2e-6
        assert slopes[:, place] == pytest.approx(numeric, abs=1e-6)


@pytest.mark.parametrize("family", KNOWN)
def test_a_known_law_is_recovered(family: str) -> None:
    """Values, not parameters: several of these describe the same law. Noise as between runs of a proxy."""
    values, at = KNOWN[family]
    noise = np.random.default_rng(0).normal(0, 0.003, len(TRAIN))
    law = choose_law(TRAIN, values(at, TRAIN)[0] + noise, ("power", "exponential", "ridge"))
    truth = values(at, NEW)[0]
    assert law.family == family
    assert np.abs(law(NEW) - truth).max() < 0.02
    assert np.sqrt(((law(NEW) - truth) ** 2).mean()) < 0.1 * truth.std()
    assert set(law.errors) == {"power", "exponential", "ridge"}
    again = fit_family(family, TRAIN[::2], values(at, TRAIN[::2])[0], law)
    assert np.sqrt(((again(NEW) - truth) ** 2).mean()) < 0.1 * truth.std()


def test_ridge_takes_what_has_no_shape() -> None:
    truth = lambda at: 2.0 + np.sin(3 * at[:, 0]) * at[:, 1] - at[:, 2] ** 2  # noqa: E731
    assert choose_law(TRAIN, truth(TRAIN), ("power", "exponential", "ridge")).family == "ridge"


def test_trees_are_no_better_than_the_right_law() -> None:
    pytest.importorskip("lightgbm")
    losses = power_values(POWER, TRAIN)[0]
    assert cross_validated("power", TRAIN, losses) < cross_validated("trees", TRAIN, losses) < losses.std()


def test_trees_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(HainaError, match="needs LightGBM"):
        fit_family("trees", TRAIN, TRAIN[:, 0])


def test_equal_losses_have_a_law() -> None:
    """A domain that no mixture changes."""
    law = choose_law(TRAIN, np.full(len(TRAIN), 2.0), ("power", "exponential", "ridge"))
    assert law(NEW) == pytest.approx(2.0, abs=1e-2)
