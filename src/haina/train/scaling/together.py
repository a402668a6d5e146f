"""Runs in; a check that one law may hold for all of them, and what has to be said about them, out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from haina.runtime.errors import HainaError
from haina.train.scaling.law import PARAMETERS
from haina.train.scaling.runs import Run, check_size
from haina.train.scaling.table import GIVEN

FEWEST = 3
# Up to here a repeated token is about as good as a new one (Muennighoff et al. 2023, arXiv 2305.16264).
MAX_EPOCHS = 4.0
MEAN = "mean"
_ADVICE = {
    "shards": "they were trained on other shards; losses of other text or another tokenizer do not compare",
    "tokenizer": "losses a token of two tokenizers do not compare",
    "vocabulary": "losses a token of two tokenizers do not compare",
    "window": "train all of a ladder with one sequence_length",
    "validation_tokens": "they were measured on other held-out text; use one validation_tokens",
}


def _told(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def checked(runs: Sequence[Run], size: str) -> tuple[tuple[str, ...], list[str]]:
    """The held-out sets that all runs have, and what a reader has to know.

    Raises:
        HainaError: the runs do not belong together, or do not span what is to be fitted.
    """
    if len(runs) < FEWEST:
        raise HainaError(f"{len(runs)} runs are too few for a law", f"give at least {FEWEST}, better a dozen")
    check_size(size)
    if len({GIVEN in run.sizes for run in runs}) > 1:
        raise HainaError("tables and run folders count a model's size differently", "fit them apart")
    for name, advice in _ADVICE.items():
        _same(runs, name, advice)
    sets = tuple(sorted(set.intersection(*(set(run.losses) for run in runs)), reverse=True))
    if not sets:
        raise HainaError("no held-out set is common to all runs", "train them on the same shards")
    sizes = {size_of(run, size) for run in runs}
    for what, values in (("size", sizes), ("number of tokens", {run.tokens for run in runs})):
        if len(values) == 1:
            raise HainaError(
                f"all runs have the same {what} ({next(iter(values)):,.0f})",
                "a law of size and tokens needs runs that differ in both",
            )
    return sets, _notes(runs, size, sets)


def size_of(run: Run, size: str) -> float:
    """The run's size, counted as asked; a row of a table has one size only."""
    return run.sizes[size] if size in run.sizes else run.sizes[GIVEN]


def loss_of(run: Run, name: str) -> float:
    """Held-out loss of a set, or the mean of all."""
    return run.losses[name] if name in run.losses else float(np.mean(list(run.losses.values())))


def _same(runs: Sequence[Run], name: str, advice: str) -> None:
    known = [(run, _told(run.same[name])) for run in runs if name in run.same]
    usual = Counter(text for _, text in known).most_common(1)
    for run, text in known:
        if text != usual[0][0]:
            other = next(other for other, told in known if told == usual[0][0])
            shown = f" ({text}, {usual[0][0]})" if len(text) + len(usual[0][0]) < 60 else ""
            raise HainaError(f"runs {run.name} and {other.name} differ in {name}{shown}", advice)


def _notes(runs: Sequence[Run], size: str, sets: Sequence[str]) -> list[str]:
    notes = []
    left = sorted({name for run in runs for name in run.losses} - set(sets))
    if left:
        notes.append(f"held-out sets that not all runs have are left away: {', '.join(left)}")
    untold = [run.name for run in runs if run.shape is not None and "shards" not in run.same]
    if untold:
        notes.append(f"taken on trust: {', '.join(untold)} do not say which shards they were trained on")
    cells = {(size_of(run, size), run.tokens) for run in runs}
    if len(cells) < PARAMETERS:
        notes.append(
            f"{len(cells)} different runs for {PARAMETERS} parameters: what they do not determine is assumed"
        )
    logs = np.log(np.array(sorted(cells)))
    if len(cells) > 2 and abs(np.corrcoef(logs.T)[0, 1]) > 0.98:
        notes.append(
            "size and tokens grow together in these runs: what is due to which is assumed, not measured"
        )
    repeated = max(runs, key=lambda run: run.epochs)
    if repeated.epochs > MAX_EPOCHS:
        notes.append(
            f"{repeated.name} read its text {repeated.epochs:.1f} times; the law is of text read at most "
            f"{MAX_EPOCHS:.0f} times, beyond that a token is worth less"
        )
    for name in sorted({name for run in runs for name in run.alike}):
        values = sorted({_told(run.alike[name]) for run in runs if name in run.alike})
        if len(values) > 1:
            notes.append(f"the runs differ in {name}: {'; '.join(value[:60] for value in values[:3])}")
    return notes
