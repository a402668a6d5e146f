"""Bounds, sampling and search on the simplex."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.mixture.mixtures import (
    capped,
    most,
    natural,
    random_mixtures,
    tempered,
    token_counts,
    uniform,
)
from haina.corpus.mixture.search import best_mixture
from haina.runtime.errors import HainaError


def grid(upper: np.ndarray, step: float) -> np.ndarray:
    """All mixtures of three domains on a grid, within the bounds."""
    side = np.arange(0.0, 1.0 + step / 2, step)
    first, second = (axis.ravel() for axis in np.meshgrid(side, side))
    rows = np.stack([first, second, 1.0 - first - second], axis=1)
    return rows[np.all((rows >= -1e-9) & (rows <= upper + 1e-9), axis=1)]


@settings(max_examples=30)
@given(
    weights=st.lists(st.floats(0.05, 5.0), min_size=3, max_size=3),
    exponent=st.floats(0.1, 1.5),
    upper=st.lists(st.floats(0.3, 1.0), min_size=3, max_size=3).filter(lambda upper: sum(upper) >= 1.05),
    seed=st.integers(0, 99),
)
def test_search_is_as_good_as_trying_everything(
    weights: list[float], exponent: float, upper: list[float], seed: int
) -> None:
    bounds = np.array(upper)
    inside = np.random.default_rng(seed).uniform(0.05, 0.6, (3, 3))

    def loss(shares: np.ndarray) -> np.ndarray:
        return ((shares @ inside + 0.01) ** -exponent) @ np.array(weights)

    found = best_mixture(loss, bounds, random_mixtures(uniform(3), bounds, 8, seed))
    assert found.sum() == pytest.approx(1.0)
    assert (found <= bounds + 1e-9).all()
    assert (found >= 0).all()
    everything = loss(grid(bounds, 0.01)).min()
    assert loss(found[None])[0] <= everything + 1e-4 * everything


def test_a_target_of_one_domain_goes_to_its_bound() -> None:
    """No mixture of one domain alone where its text would have to be read too often."""
    bounds = np.array([0.3, 1.0, 1.0])
    found = best_mixture(lambda shares: -shares[:, 0], bounds, np.array([[0.1, 0.4, 0.5]]))
    assert found[0] == pytest.approx(0.3, abs=1e-3)


@settings(max_examples=60)
@given(
    shares=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8).filter(lambda shares: sum(shares) > 0.01),
    room=st.floats(1.0, 3.0),
    data=st.data(),
)
def test_capped(shares: list[float], room: float, data: st.DataObject) -> None:
    mixture = natural(np.array(shares))
    parts = np.array(data.draw(st.lists(st.floats(0.05, 1.0), min_size=len(shares), max_size=len(shares))))
    upper = np.minimum(1.0, parts / parts.sum() * room)
    if upper.sum() < 1.0:
        upper = upper / upper.sum()
    result = capped(mixture, upper)
    assert result.sum() == pytest.approx(1.0)
    assert (result <= upper + 1e-6).all()
    if (mixture <= upper).all():
        assert result == pytest.approx(mixture)


def test_bounds_on_repetition() -> None:
    shares = np.array([0.7, 0.25, 0.05])
    assert most(shares, 1e6, 1e6, 4.0).tolist() == pytest.approx([1.0, 1.0, 0.2])
    assert most(shares, 1e6, 5e5, 4.0).tolist() == pytest.approx([1.0, 1.0, 0.4])
    assert most(shares, 1e6, 4e6, 4.0).tolist() == pytest.approx(shares.tolist())
    with pytest.raises(HainaError, match="more than 4 epochs"):
        most(shares, 1e6, 4.1e6, 4.0)
    tried = random_mixtures(tempered(shares), most(shares, 1e6, 1e6, 4.0), 200, 0)
    assert tried.sum(axis=1) == pytest.approx(1.0)
    assert tried[:, 2].max() <= 0.2 + 1e-9
    assert tried.std(axis=0).min() > 0.03
    assert np.array_equal(random_mixtures(tempered(shares), most(shares, 1e6, 1e6, 4.0), 50, 0), tried[:50])


@given(shares=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=9).filter(sum), tokens=st.integers(1, 10**7))
def test_token_counts_are_exact(shares: list[float], tokens: int) -> None:
    mixture = natural(np.array(shares))
    counts = token_counts(mixture, tokens)
    assert counts.sum() == tokens
    assert np.abs(counts - mixture * tokens).max() <= 1 + 1e-6
