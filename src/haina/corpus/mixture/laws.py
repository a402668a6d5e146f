"""Laws: the loss of one domain as a function of the mixture, fitted to proxy runs.

Comes in: mixtures [runs, domains] and the losses of one domain [runs]. Goes out: a function of mixtures. The families:

    power        c + (sum_j a_j w_j + b_j sqrt(w_j))^-g with a_j, b_j, g > 0: a token of domain j is worth some
                 tokens of this one, the first ones more
    exponential  c + exp(sum_j t_j w_j)    data mixing law (Ye et al. 2024, arXiv:2403.16952)
    ridge        linear in w, log w and all products; no shape is assumed
    trees        gradient-boosted trees: LightGBM, as in RegMix (Liu et al. 2024, arXiv:2407.01492)

Cross-validation chooses among those that are asked for, for every domain by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.corpus.mixture.mixtures import Shares
from haina.runtime.errors import HainaError

Values = NDArray[np.float64]
FAMILIES = ("power", "exponential", "ridge", "trees")
DEFAULT_FAMILIES = ("power", "exponential", "ridge")
FOLDS = 5
# Keeps the parameters of domains that hardly matter where they are; small against a loss of about one bit.
PRIOR = 3e-4


@dataclass(frozen=True)
class Law:
    """The loss of one domain as a function of the mixture; call it with mixtures [n, domains] for losses [n].

    Attributes:
        family: one of `FAMILIES`.
        predict: the function.
        parameters: of the power and the exponential law.
        errors: cross-validated root mean square error of each family that was tried, where it was chosen.
    """

    family: str
    predict: Callable[[Shares], Values]
    parameters: Values | None = None
    errors: dict[str, float] = field(default_factory=dict)

    def __call__(self, shares: Shares) -> Values:
        return self.predict(shares)


def _least_squares(
    model: Callable[[Values], tuple[Values, NDArray[np.float64]]],
    losses: Values,
    centre: Values,
    start: Values,
    steps: int = 80,
) -> Values:
    """Levenberg-Marquardt: parameters with the smallest squared error of `model` (values [n], derivatives [n, p]).

    `PRIOR` pulls them a little towards `centre`; the search begins at `start`.
    """
    here, damping = start, 1e-2
    values, slopes = model(here)

    def cost(values: Values, parameters: Values) -> float:
        return float(((values - losses) ** 2).mean() + PRIOR**2 * ((parameters - centre) ** 2).sum())

    best = cost(values, here)
    for _ in range(steps):
        curvature = slopes.T @ slopes / len(losses) + PRIOR**2 * np.eye(len(here))
        gradient = slopes.T @ (values - losses) / len(losses) + PRIOR**2 * (here - centre)
        scaled = curvature + damping * np.diag(np.diag(curvature))
        there = here - np.clip(np.linalg.solve(scaled, gradient), -2.0, 2.0)
        values_there, slopes_there = model(there)
        reached = cost(values_there, there)
        if np.isfinite(reached) and reached < best:
            gain = (best - reached) / best
            here, values, slopes, best = there, values_there, slopes_there, reached
            damping = max(damping / 4.0, 1e-9)
            if gain < 1e-7:
                break
        else:
            damping *= 5.0
            if damping > 1e8:
                break
    return here


def power_values(parameters: Values, shares: Shares) -> tuple[Values, NDArray[np.float64]]:
    """The power law at `parameters` (c, log g, log a_1 ... log a_D, log b_1 ... log b_D), and its derivatives."""
    exponent, worth = np.exp(parameters[1]), np.exp(np.clip(parameters[2:], -40.0, 40.0))
    read = np.concatenate([shares, np.sqrt(shares)], axis=1)
    amount = read @ worth
    part = amount**-exponent
    slopes = np.empty((len(shares), len(parameters)))
    slopes[:, 0] = 1.0
    slopes[:, 1] = -exponent * np.log(amount) * part
    slopes[:, 2:] = (-exponent * part / amount)[:, None] * read * worth
    return parameters[0] + part, slopes


def exponential_values(parameters: Values, shares: Shares) -> tuple[Values, NDArray[np.float64]]:
    """The exponential law at `parameters` (c, t_1 ... t_D), and its derivatives."""
    part = np.exp(np.clip(shares @ parameters[1:], -60.0, 60.0))
    return parameters[0] + part, np.concatenate([np.ones((len(shares), 1)), part[:, None] * shares], axis=1)


def _fit_power(shares: Shares, losses: Values, near: Law | None) -> Law:
    """Several exponents to begin with, since the surface has more than one valley; `near` knows the right one."""
    found: list[tuple[float, Values]] = []
    floor = losses.min() * 0.7
    for exponent in (0.1, 0.3, 1.0):
        # All tokens worth the same, so that the law begins at the mean loss.
        worth = -np.log(losses.mean() - floor) / exponent
        centre = np.concatenate([[floor, np.log(exponent)], np.full(2 * shares.shape[1], worth)])
        start = centre if near is None or near.parameters is None else near.parameters
        parameters = _least_squares(lambda at: power_values(at, shares), losses, centre, start)
        error = float(((power_values(parameters, shares)[0] - losses) ** 2).mean())
        found.append((error, parameters))
        if near is not None:
            break
    best = min(found, key=lambda item: item[0])[1]
    return Law("power", lambda at: power_values(best, at)[0], best)


def _fit_exponential(shares: Shares, losses: Values, near: Law | None) -> Law:
    floor = losses.min() * 0.7
    centre = np.concatenate([[floor], np.full(shares.shape[1], np.log(losses.mean() - floor))])
    start = centre if near is None or near.parameters is None else near.parameters
    best = _least_squares(lambda at: exponential_values(at, shares), losses, centre, start)
    return Law("exponential", lambda at: exponential_values(best, at)[0], best)


def _features(shares: Shares) -> NDArray[np.float64]:
    first, second = np.triu_indices(shares.shape[1])
    return np.concatenate([shares, np.log(shares + 0.01), shares[:, first] * shares[:, second]], axis=1)


def _fit_ridge(shares: Shares, losses: Values, near: Law | None) -> Law:
    """Penalty by generalised cross-validation (Golub et al. 1979)."""
    features = _features(shares)
    mean, spread = features.mean(0), features.std(0) + 1e-9
    left, sizes, right = np.linalg.svd((features - mean) / spread, full_matrices=False)
    target = losses - losses.mean()
    projected = left.T @ target

    def score(penalty: float) -> float:
        kept = sizes**2 / (sizes**2 + penalty)
        rest = target - left @ (kept * projected)
        return float((rest**2).mean() / max(1e-3, 1.0 - (kept.sum() + 1) / len(losses)) ** 2)

    penalty = min((10.0**power for power in np.arange(-6, 4, 0.5)), key=score)
    weights = right.T @ (sizes / (sizes**2 + penalty) * projected)
    middle = float(losses.mean())
    return Law("ridge", lambda at: middle + (_features(at) - mean) / spread @ weights)


def _fit_trees(shares: Shares, losses: Values, near: Law | None) -> Law:
    try:
        import lightgbm
    except ImportError as error:
        raise HainaError("--law trees needs LightGBM", "pip install lightgbm, or leave it out") from error

    settings: dict[str, Any] = {
        "num_iterations": 1000,
        "learning_rate": 0.01,
        "num_leaves": 31,
        "min_data_in_leaf": max(2, min(20, len(losses) // 12)),
        "verbosity": -1,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": 42,
    }
    rounds = settings.pop("num_iterations")
    booster = lightgbm.train(settings, lightgbm.Dataset(shares, losses), num_boost_round=rounds)
    return Law("trees", lambda at: np.asarray(booster.predict(at, num_threads=1), np.float64))


_FITS: dict[str, Callable[[Shares, Values, Law | None], Law]] = {
    "power": _fit_power,
    "exponential": _fit_exponential,
    "ridge": _fit_ridge,
    "trees": _fit_trees,
}


def fit_family(family: str, shares: Shares, losses: Values, near: Law | None = None) -> Law:
    """One family's law.

    Args:
        shares: [runs, domains].
        losses: [runs], of one domain.
        near: law of the same family for nearly the same runs, to begin from.
    """
    return _FITS[family](shares, losses, near)


def cross_validated(family: str, shares: Shares, losses: Values) -> float:
    """Root mean square error on runs that were not fitted, over `FOLDS` folds; run r is in fold r mod `FOLDS`."""
    fold = np.arange(len(losses)) % FOLDS
    errors = np.empty(len(losses))
    for number in range(FOLDS):
        out = fold == number
        errors[out] = fit_family(family, shares[~out], losses[~out])(shares[out]) - losses[out]
    return float(np.sqrt((errors**2).mean()))


def choose_law(shares: Shares, losses: Values, families: Sequence[str]) -> Law:
    """The family with the smallest cross-validated error, fitted to all runs."""
    errors = {family: cross_validated(family, shares, losses) for family in families}
    family = min(errors, key=lambda name: errors[name])
    return replace(fit_family(family, shares, losses), errors=errors)
