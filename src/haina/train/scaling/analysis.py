"""Runs in; each held-out set's law, its predictions with intervals, and how well it predicts what it has not seen.

law       fitted to all runs but those left out
check     each run of the larger half, predicted from the runs that cost less: what the law is worth on this ladder
left out  the runs that were left out, predicted
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from haina.runtime.errors import HainaError
from haina.train.scaling.fit import Fitted, Runs, fit, prior_for
from haina.train.scaling.law import PARAMETERS, Values, loss, optimum, written_out
from haina.train.scaling.resample import DRAWS, interval, resample, with_noise
from haina.train.scaling.runs import DEFAULT_SIZE, Run
from haina.train.scaling.together import FEWEST, MEAN, checked, loss_of, size_of

CHECK_DRAWS = 200
# A parameter whose bootstrap spread is above this share of the prior's is the prior's rather than the runs'.
ASSUMED = 0.6
LARGEST, LARGEST_SIZE = "largest", "largest-size"


@dataclass(frozen=True)
class Estimate:
    """A number with the 90 % interval that it lies in."""

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether `value` is in the interval."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Prediction:
    """A loss that was predicted, and measured where it was."""

    run: str
    size: float
    tokens: float
    loss: Estimate
    measured: float | None = None

    @property
    def error(self) -> float | None:
        """Relative error of the prediction."""
        return None if self.measured is None else self.loss.value / self.measured - 1.0


@dataclass(frozen=True)
class Law:
    """The law of one held-out set.

    Attributes:
        name: of the set.
        names: of the runs it was fitted to.
        data: those runs.
        fitted: the fit.
        draws: theta of resampled runs [draws, 5].
        assumed: for each parameter, whether the prior says more about it than the runs do.
        check: see above.
        left_out: see above.
    """

    name: str
    names: tuple[str, ...]
    data: Runs
    fitted: Fitted
    draws: Values
    assumed: tuple[bool, ...]
    check: tuple[Prediction, ...] = ()
    left_out: tuple[Prediction, ...] = ()

    def loss(self, size: Values, tokens: Values) -> Values:
        """L [n] at sizes and tokens [n]."""
        return loss(self.fitted.theta, self.fitted.centre, size, tokens)

    def band(self, size: Values, tokens: Values) -> tuple[Values, Values]:
        """Interval of the law itself at sizes and tokens [n]."""
        return interval(loss(self.draws, self.fitted.centre, size, tokens))

    def predict(self, run: str, size: float, tokens: float, measured: float | None = None) -> Prediction:
        """What a run of this size and these tokens will reach, the spread of a run included."""
        place = np.array([size]), np.array([tokens])
        drawn = loss(self.draws, self.fitted.centre, *place)
        low, high = interval(with_noise(drawn, self.fitted))
        value = float(self.loss(*place)[0])
        return Prediction(run, size, tokens, Estimate(value, float(low[0]), float(high[0])), measured)

    def parameters(self) -> list[Estimate]:
        """E, A, B, alpha, beta."""
        values = written_out(self.fitted.theta, self.fitted.centre)
        low, high = interval(written_out(self.draws, self.fitted.centre))
        return [Estimate(float(v), float(a), float(b)) for v, a, b in zip(values, low, high, strict=True)]

    def best(self, flops: float) -> tuple[Estimate, Estimate, Estimate]:
        """Size, tokens and loss that spend `flops` best."""
        values = optimum(self.fitted.theta, self.fitted.centre, flops)
        drawn = optimum(self.draws, self.fitted.centre, flops)
        found = []
        for value, draws in zip(values, drawn, strict=True):
            low, high = interval(draws)
            found.append(Estimate(float(value), float(low), float(high)))
        return found[0], found[1], found[2]

    def residuals(self) -> Values:
        """Relative differences measured - fitted of the runs [n]."""
        return self.data.losses / self.loss(self.data.size, self.data.tokens) - 1.0


@dataclass(frozen=True)
class Analysis:
    """Everything that was found.

    Attributes:
        size: how the size of a model was counted.
        runs: fitted. left_out: not fitted.
        laws: of each set, the mean of the sets last where there are several.
        notes: what a reader has to know.
    """

    size: str
    runs: tuple[Run, ...]
    left_out: tuple[Run, ...]
    laws: tuple[Law, ...]
    notes: tuple[str, ...]


def arrays(runs: Sequence[Run], name: str, size: str) -> Runs:
    """Sizes, tokens and losses of one set."""
    return Runs(
        np.array([size_of(run, size) for run in runs]),
        np.array([run.tokens for run in runs]),
        np.array([loss_of(run, name) for run in runs]),
    )


def fit_law(runs: Sequence[Run], name: str, size: str, draws: int = DRAWS) -> Law:
    """The law of one set, without check."""
    data = arrays(runs, name, size)
    fitted = fit(data)
    drawn = resample(data, fitted, draws)
    prior = prior_for(float(data.losses.min()))
    precision = (prior.rows / prior.widths[:, None] ** 2).T @ prior.rows
    allowed = np.sqrt(np.diag(np.linalg.inv(precision)))
    assumed = drawn.std(axis=0) > ASSUMED * allowed
    return Law(name, tuple(run.name for run in runs), data, fitted, drawn, tuple(map(bool, assumed)))


def forward_check(runs: Sequence[Run], name: str, size: str, draws: int = CHECK_DRAWS) -> list[Prediction]:
    """Each run of the costlier half, predicted from all runs that cost less, if these are more than the parameters,
    seeds apart, and differ in size and in tokens."""
    ordered = sorted(runs, key=lambda run: run.flops)
    found = []
    for run in ordered[len(ordered) // 2 :]:
        before = [other for other in ordered if other.flops < run.flops]
        spans = {size_of(other, size) for other in before}, {other.tokens for other in before}
        cells = {other.cell for other in before}
        if len(cells) > PARAMETERS and all(len(values) > 1 for values in spans):
            law = fit_law(before, name, size, draws)
            found.append(law.predict(run.name, size_of(run, size), run.tokens, loss_of(run, name)))
    return found


def split(runs: Sequence[Run], leave_out: Sequence[str]) -> tuple[list[Run], list[Run]]:
    """Runs to fit and runs to predict.

    Args:
        leave_out: names of runs; `largest`: the one that cost most, whatever its seed; `largest-size`: all of the
            largest model.

    Raises:
        HainaError: no such run, or too few are left.
    """
    out: set[str] = set()
    for name in leave_out:
        if name == LARGEST:
            most = max(runs, key=lambda run: run.flops)
            chosen = [run for run in runs if run.cell == most.cell]
        elif name == LARGEST_SIZE:
            most = max(runs, key=lambda run: next(iter(run.sizes.values())))
            chosen = [run for run in runs if run.sizes == most.sizes]
        else:
            chosen = [run for run in runs if run.name == name]
        if not chosen:
            raise HainaError(
                f"--leave-out {name}: no such run",
                f"the runs are {', '.join(run.name for run in runs)}; or {LARGEST}, {LARGEST_SIZE}",
            )
        out |= {run.name for run in chosen}
    kept = [run for run in runs if run.name not in out]
    if len(kept) < FEWEST:
        raise HainaError(f"{len(kept)} runs are left to fit", f"leave at least {FEWEST}")
    return kept, [run for run in runs if run.name in out]


def analyse(runs: Sequence[Run], size: str = DEFAULT_SIZE, leave_out: Sequence[str] = ()) -> Analysis:
    """Fit, check and predict.

    Raises:
        HainaError: the runs do not belong together; see `together.py` and `split`.
    """
    checked(runs, size)
    kept, out = split(runs, leave_out)
    sets, notes = checked(kept, size)
    laws = []
    for name in (*sets, MEAN) if len(sets) > 1 else sets:
        law = fit_law(kept, name, size)
        predicted = [law.predict(run.name, size_of(run, size), run.tokens, loss_of(run, name)) for run in out]
        laws.append(
            Law(
                law.name,
                law.names,
                law.data,
                law.fitted,
                law.draws,
                law.assumed,
                tuple(forward_check(kept, name, size)),
                tuple(predicted),
            )
        )
    return Analysis(size, tuple(kept), tuple(out), tuple(laws), tuple(notes))
