"""Learns domain weights from proxy runs, in the manner of RegMix (Liu et al. 2024, arXiv:2407.01492).

Comes in: documents by domain, a number of proxies and their size. Goes out: `mixture.json` with the weights and what is
expected of them, `mixtures.parquet` with every proxy run. Phases:

    1  draw and encode documents; hold some of each domain out
    2  proxies at natural, temperature, uniform and random mixtures
    3  fit a law of each domain's loss, search the mixture with the least target loss
    4  more proxies around it, fit and search again; resampled runs say how certain the weights are
    5  compare on other text: learned, natural, temperature and uniform weights, `CHECKS` runs each
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.corpus.mixture.domains import parse_origins, target_weights
from haina.corpus.mixture.laws import DEFAULT_FAMILIES, FAMILIES, FOLDS, Law, choose_law, fit_family
from haina.corpus.mixture.mixtures import (
    Shares,
    most,
    natural,
    nearby_mixtures,
    random_mixtures,
    tempered,
    token_counts,
    uniform,
)
from haina.corpus.mixture.prepare import Prepared, prepare, work_folder
from haina.corpus.mixture.proxy import SLICES, ProxyModel, ProxyRun, ngram_losses, run_proxy
from haina.corpus.mixture.search import best_mixture
from haina.runtime.errors import HainaError
from haina.runtime.executor import LocalExecutor
from haina.runtime.files import fingerprint_bytes, read_json

PROXIES, TOKENS = 96, 500_000
# Up to here a repeated token is about as good as a new one (Muennighoff et al. 2023, arXiv:2305.16264).
MAX_EPOCHS = 4.0
CHECKS = SLICES - 1  # slice 0 is what laws are fitted on
RESAMPLES = 40
STARTS = 2000
ROUNDING = 1e-3  # a proxy reads whole tokens, so its shares are not exactly the mixture's
BASELINES = ("natural", "temperature", "uniform")


@dataclass(frozen=True)
class FitOptions:
    """What to learn from.

    Attributes:
        inputs: `DOMAIN=PATH`, or paths when `by` is given.
        out: folder to write.
        by: column that names the domain.
        proxies: runs to fit to, baselines included.
        tokens: tokens a proxy reads; None for 500,000, or less where there is too little text.
        budget: tokens that the planned training reads; None for as many as the domains have.
        max_epochs: how often a domain may be read within the budget.
        target: `DOMAIN=WEIGHT`; empty for equal weights.
        tokenizer: tokenizer folder; None learns a small one.
        laws: families that may be chosen.
        seed: of the draws and the mixtures.
        model: trains and measures a proxy.
    """

    inputs: Sequence[str]
    out: Path
    by: str | None = None
    proxies: int = PROXIES
    tokens: int | None = None
    budget: float | None = None
    max_epochs: float = MAX_EPOCHS
    target: Sequence[str] = ()
    tokenizer: Path | None = None
    laws: Sequence[str] = DEFAULT_FAMILIES
    seed: int = 0
    model: ProxyModel = ngram_losses


@dataclass(frozen=True)
class Measured:
    """One proxy run: why it was made, on which slice and side, its mixture as read and its losses, both [domains]."""

    kind: str
    slice: int
    side: str
    shares: Shares
    losses: NDArray[np.float64]


@dataclass(frozen=True)
class Bench:
    """Runs proxies over prepared pools; a run that was made before is read again."""

    prepared: Prepared
    limits: tuple[int, ...]
    tokens: int
    model: ProxyModel
    folder: Path
    executor: Any

    def measure(
        self, kinds: Sequence[str], mixtures: Shares, slices: Sequence[int], side: str = "validation"
    ) -> list[Measured]:
        """Run a proxy of each mixture [n, domains] on its slice."""
        counts = [tuple(int(count) for count in token_counts(shares, self.tokens)) for shares in mixtures]
        pools = self.prepared.pools
        runs = [
            ProxyRun(pools.names, self.prepared.files, self.limits, count, number, side, self.model)
            for count, number in zip(counts, slices, strict=True)
        ]
        outputs = [self.folder / f"{self._name(run)}.json" for run in runs]
        # The same mixture twice is one run.
        tasks = dict(zip(outputs, runs, strict=True))
        self.executor.map(
            run_proxy, list(tasks.values()), list(tasks), description="proxy runs", unit="proxies"
        )
        measured = []
        for kind, count, number, output in zip(kinds, counts, slices, outputs, strict=True):
            shares = np.array(count) / self.tokens
            measured.append(Measured(kind, number, side, shares, np.array(read_json(output))))
        return measured

    def _name(self, run: ProxyRun) -> str:
        model = f"{run.model.__module__}.{run.model.__qualname__}"
        return fingerprint_bytes(repr((run.counts, run.slice, run.side, run.limits, model)).encode())[:24]


@dataclass(frozen=True)
class Fit:
    """What came out; arrays are by domain in the order of `names`.

    Attributes:
        bench: to run more proxies on the same text.
        target: weight of each domain's held-out loss.
        natural, upper: shares as the text lies, and the largest within the bounds.
        total_tokens, budget, tokens: of all domains, of the planned training, of a proxy.
        predicted: losses of the learned mixture by `laws`, one a domain.
        weights: the learned mixture.
        resampled: optima of resampled runs [RESAMPLES, domains].
        resampled_losses: predicted losses at `weights` of the laws of each resample [RESAMPLES, domains].
        mixtures: the learned mixture and the baselines.
        checks: losses on test text [CHECKS, domains] of each of them.
        runs: every proxy.
    """

    names: tuple[str, ...]
    bench: Bench
    target: Shares
    natural: Shares
    upper: Shares
    total_tokens: float
    budget: float
    tokens: int
    weights: Shares
    predicted: NDArray[np.float64]
    laws: tuple[Law, ...]
    resampled: Shares
    resampled_losses: NDArray[np.float64]
    mixtures: Mapping[str, Shares]
    checks: Mapping[str, NDArray[np.float64]]
    runs: list[Measured]
    notes: list[str] = field(default_factory=list)

    @property
    def prepared(self) -> Prepared:
        """What the proxies worked on."""
        return self.bench.prepared

    def epochs(self, shares: Shares) -> Shares:
        """How often each domain is read when `budget` tokens are drawn by `shares`."""
        return shares * self.budget / (self.natural * self.total_tokens)

    def predict(self, shares: Shares) -> NDArray[np.float64]:
        """Predicted losses [n, domains] of mixtures [n, domains]."""
        return predict(self.laws, shares)


def predict(laws: Sequence[Law], shares: Shares) -> NDArray[np.float64]:
    """Losses [n, domains] of mixtures [n, domains], one law a domain."""
    return np.stack([law(shares) for law in laws], axis=1)


def optimum(laws: Sequence[Law], target: Shares, upper: Shares, starts: Shares) -> Shares:
    """The mixture [domains] with the least predicted target loss."""
    counted = [(law, weight) for law, weight in zip(laws, target, strict=True) if weight > 0.0]

    def objective(shares: Shares) -> Shares:
        return np.sum([weight * law(shares) for law, weight in counted], axis=0)

    return best_mixture(objective, upper, starts)


def _checked(options: FitOptions) -> None:
    if options.proxies < 2 * FOLDS:
        raise HainaError(f"--proxies {options.proxies}", f"cross-validation needs at least {2 * FOLDS}")
    if options.max_epochs <= 0.0 or (options.budget is not None and options.budget <= 0):
        raise HainaError("--budget and --max-epochs must be above 0", "leave them out for the defaults")
    if not options.laws or any(law not in FAMILIES for law in options.laws):
        raise HainaError(
            f"--law {', '.join(options.laws)}: unknown law", f"the laws are {', '.join(FAMILIES)}"
        )


def fit_mixture(options: FitOptions, executor: Any = None) -> Fit:
    """Learn the weights; writes nothing but pieces below `OUT/work`.

    Raises:
        HainaError: bad input (see `domains.py`, `sample.py`), or options that do not fit together.
    """
    _checked(options)
    executor = executor or LocalExecutor()
    origins = parse_origins(options.inputs, options.by)
    asked = int(options.tokens or min(TOKENS, options.budget or TOKENS))
    if options.budget is not None and asked > options.budget:
        raise HainaError(
            f"--tokens {asked:,} is more than the budget of {options.budget:,.0f}",
            "a proxy stands for the planned training and is smaller",
        )
    facts = (options.by, options.seed, asked, options.budget, options.max_epochs)
    work = work_folder(options.out, origins, facts, options.tokenizer)
    prepared = prepare(
        work,
        origins,
        executor,
        by=options.by,
        seed=options.seed,
        tokens=asked,
        budget=options.budget,
        max_epochs=options.max_epochs,
        tokenizer=options.tokenizer,
    )
    pools, notes = prepared.pools, list(prepared.notes)
    weights, more = target_weights(options.target, pools.names)
    target = np.array(list(weights.values()))
    sizes = np.array([domain.bytes for domain in prepared.domains]) / pools.bytes_per_token
    total = float(sizes.sum())
    budget = options.budget or total
    tokens = asked
    if options.tokens is None:
        # So little that even the largest shares find as much text in every slice.
        tokens = max(1000, int(min(asked, budget / options.max_epochs / SLICES)))
    if tokens < asked:
        notes.append(f"proxies read {tokens:,} tokens: there is not text enough for {asked:,}")
    start = natural(sizes)
    upper = most(start, total, budget, options.max_epochs)
    # Within the bounds a proxy reads new text only; beyond them it repeats, as the planned training would.
    limits = tuple(
        max(1, min(len(pool), round(tokens * bound))) for pool, bound in zip(pools.train, upper, strict=True)
    )
    bench = Bench(prepared, limits, tokens, options.model, work / "proxies", executor)

    baselines = {
        "natural": start,
        "temperature": tempered(start),
        "uniform": uniform(len(start)),
    }
    runs, laws = _explore(bench, baselines, target, upper, options)
    starts = random_mixtures(tempered(start), upper, STARTS, options.seed + 1)
    resampled, resampled_losses, learned = _resample(runs, laws, target, upper, starts, options.seed)
    mixtures = {"learned": learned, **baselines}
    checks, checked = _check(bench, mixtures)
    return Fit(
        names=pools.names,
        bench=bench,
        target=target,
        natural=start,
        upper=upper,
        total_tokens=total,
        budget=budget,
        tokens=tokens,
        weights=learned,
        predicted=predict(laws, learned[None])[0],
        laws=tuple(laws),
        resampled=resampled,
        resampled_losses=resampled_losses,
        mixtures=mixtures,
        checks=checks,
        runs=[*runs, *checked],
        notes=[*notes, *more],
    )


def _arrays(runs: Sequence[Measured], upper: Shares) -> tuple[Shares, NDArray[np.float64]]:
    """Mixtures and validation losses of the runs within the bounds: beyond them repetition bends the law."""
    inside = [run for run in runs if np.all(run.shares <= upper + ROUNDING)]
    return np.array([run.shares for run in inside]), np.array([run.losses for run in inside])


def _explore(
    bench: Bench, baselines: Mapping[str, Shares], target: Shares, upper: Shares, options: FitOptions
) -> tuple[list[Measured], list[Law]]:
    """Phases 2 to 4: three quarters of the proxies wide, the rest around the best that these promise."""
    centre = tempered(baselines["natural"])
    wide = max(FOLDS, options.proxies * 3 // 4 - len(baselines))
    first = random_mixtures(centre, upper, wide, options.seed)
    kinds = [*baselines, *["wide"] * wide]
    runs = bench.measure(kinds, np.concatenate([list(baselines.values()), first]), [0] * len(kinds))
    shares, losses = _arrays(runs, upper)
    rough = [choose_law(shares, column, options.laws) for column in losses.T]
    best = optimum(rough, target, upper, first)
    near = max(1, options.proxies - len(runs))
    close = nearby_mixtures(best, upper, near, options.seed + 2)
    runs += bench.measure(["near"] * near, close, [0] * near)
    shares, losses = _arrays(runs, upper)
    return runs, [choose_law(shares, column, options.laws) for column in losses.T]


def _resample(
    runs: Sequence[Measured],
    laws: Sequence[Law],
    target: Shares,
    upper: Shares,
    starts: Shares,
    seed: int,
) -> tuple[Shares, NDArray[np.float64], Shares]:
    """Optima of `RESAMPLES` bootstrap samples of the runs, losses that their laws predict, and the learned mixture.

    The learned mixture is the mean of the optima: laws are close to convex, so it is no worse than they are on average,
    and it does not jump when one run more or less tips the scales (bagging: Breiman 1996).
    """
    shares, losses = _arrays(runs, upper)
    rng = np.random.Generator(np.random.Philox(seed + 3))
    sampled = []
    optima = []
    for _ in range(RESAMPLES):
        rows = np.sort(rng.integers(0, len(shares), len(shares)))
        again = [
            fit_family(law.family, shares[rows], column[rows], law)
            for law, column in zip(laws, losses.T, strict=True)
        ]
        sampled.append(again)
        optima.append(optimum(again, target, upper, starts))
    learned = np.mean(optima, axis=0)
    return np.array(optima), np.array([predict(again, learned[None])[0] for again in sampled]), learned


def _check(
    bench: Bench, mixtures: Mapping[str, Shares]
) -> tuple[dict[str, NDArray[np.float64]], list[Measured]]:
    """Phase 5: every mixture on the slices that nothing was fitted on, measured on test text."""
    kinds = [name for name in mixtures for _ in range(CHECKS)]
    shares = np.array([mixtures[name] for name in kinds])
    runs = bench.measure(kinds, shares, [1 + number % CHECKS for number in range(len(kinds))], "test")
    losses = {name: np.array([run.losses for run in runs if run.kind == name]) for name in mixtures}
    return losses, runs
