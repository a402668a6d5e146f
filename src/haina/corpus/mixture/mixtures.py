"""Mixtures: which there are to start from, which are allowed, and which are tried.

Comes in: how much text each domain has, and how often it may be repeated. Goes out: shares [domains] that sum to
one: natural (as the text lies), temperature (flattened), uniform, and random ones around them (Dirichlet, as in
RegMix: Liu et al. 2024, arXiv:2407.01492).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError

Shares = NDArray[np.float64]

TEMPERATURE = 0.5  # exponent of the natural shares: 1 is natural, 0 uniform
STRENGTH = (
    0.5,
    4.0,
)  # mean of a Dirichlet parameter: below one most mixtures are lopsided, above most are alike


def natural(sizes: NDArray[np.float64]) -> Shares:
    """Shares as the text lies there: sizes [domains], all positive, over their sum."""
    return sizes / sizes.sum()


def tempered(shares: Shares, exponent: float = TEMPERATURE) -> Shares:
    """Shares to a power, again summing to one."""
    return natural(shares**exponent)


def uniform(domains: int) -> Shares:
    """The same share for all."""
    return np.full(domains, 1.0 / domains)


def most(shares: Shares, total_tokens: float, budget: float, epochs: float) -> Shares:
    """The largest share of each domain that reads it at most `epochs` times in `budget` tokens.

    Args:
        shares: natural shares.
        total_tokens: tokens of all domains together.

    Raises:
        HainaError: everything `epochs` times over is less than the budget.
    """
    if total_tokens * epochs < budget:
        raise HainaError(
            f"a budget of {budget:,.0f} tokens is more than {epochs:g} epochs of {total_tokens:,.0f} tokens",
            "lower --budget, raise --max-epochs or bring more text",
        )
    return np.minimum(1.0, shares * total_tokens * epochs / budget)


def capped(shares: Shares, upper: Shares) -> Shares:
    """The mixture that keeps the ratios of `shares` except where a domain would stand above its bound.

    What is above goes to the others in proportion; where these have no share at all, in proportion to their room.
    """
    result = np.minimum(shares, upper)
    while (missing := 1.0 - result.sum()) > 1e-12:
        free = upper - result > 1e-15
        pull = np.where(free, result, 0.0)
        if pull.sum() <= 0.0:
            pull = np.where(free, upper - result, 0.0)
        result = np.minimum(result + missing * pull / pull.sum(), upper)
    return result / result.sum()


def random_mixtures(centre: Shares, upper: Shares, count: int, seed: int) -> Shares:
    """`count` mixtures [count, domains] around `centre` within the bounds; the first n of more are the same."""
    return _dirichlet(centre, upper, count, seed, *np.log(STRENGTH))


def nearby_mixtures(centre: Shares, upper: Shares, count: int, seed: int) -> Shares:
    """Mixtures [count, domains] close to `centre`."""
    return _dirichlet(centre, upper, count, seed, *np.log((8.0, 32.0)))


def _dirichlet(centre: Shares, upper: Shares, count: int, seed: int, low: float, high: float) -> Shares:
    rng = np.random.Generator(np.random.Philox(seed))
    rows = []
    for _ in range(count):
        strength = np.exp(rng.uniform(low, high)) * len(centre)
        draws = rng.standard_gamma(np.maximum(centre * strength, 1e-3)) + 1e-12
        rows.append(capped(draws / draws.sum(), upper))
    return np.array(rows).reshape(count, len(centre))


def token_counts(shares: Shares, tokens: int) -> NDArray[np.int64]:
    """Exactly `tokens` tokens, split by `shares` [domains] with the largest remainders rounded up."""
    exact = shares * tokens
    counts = np.floor(exact).astype(np.int64)
    short = tokens - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:short]] += 1
    return counts
