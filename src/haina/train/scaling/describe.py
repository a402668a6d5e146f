"""An analysis and what is asked of it in; plain values for people and scripts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from haina.runtime.errors import HainaError
from haina.train.scaling.analysis import Analysis, Estimate, Law, Prediction
from haina.train.scaling.law import NAMES
from haina.train.scaling.resample import DRAWS, LEVEL
from haina.train.scaling.runs import SIZES, Run, check_size, sizes_of
from haina.train.scaling.table import GIVEN, MOST

FORM = "L(N, D) = E + A / N^alpha + B / D^beta"


@dataclass(frozen=True)
class Planned:
    """A run that is thought of.

    Attributes:
        name: of the preset, or the number of parameters as given.
        size: counted as the analysis does.
        tokens: to read.
    """

    name: str
    size: float
    tokens: float

    @property
    def flops(self) -> float:
        """6 N D, as of a budget."""
        return 6.0 * self.size * self.tokens


def planned(name: str, tokens: float, runs: Sequence[Run], size: str) -> Planned:
    """The size of a preset with the vocabulary and the window of the runs, or a number of parameters.

    Raises:
        HainaError: no such preset or way to count, or a preset where only a number will do.
    """
    check_size(size)
    number = _number(name)
    shape = next((run.shape for run in runs if run.shape is not None), None)
    if number is not None:
        return Planned(f"{number:,.0f}", number, tokens)
    if shape is None:
        raise HainaError(
            f"--predict {name}: the runs come from a table", "give the number of parameters, as 3e7"
        )
    from haina.model.config import preset

    window = int(next(run.same["window"] for run in runs if "window" in run.same))
    # Its tokens are those of the runs' tokenizer: a loss a token of another vocabulary cannot be predicted from them.
    sizes = sizes_of(preset(name).model_copy(update={"vocab_size": shape.vocab_size}), window)
    return Planned(name, sizes[size], tokens)


def _number(text: str) -> float | None:
    scale = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}.get(text[-1:].lower(), 1.0)
    try:
        value = float(text[:-1] if scale != 1.0 else text)
    except ValueError:
        return None
    return value * scale if 0 < value * scale < MOST else None


def quantity(text: str, option: str) -> float:
    """`600M`, `1.5e18`, `2B`: a number above 0 and below `MOST`.

    Raises:
        HainaError: it is none.
    """
    value = _number(text.replace(",", "").replace("_", ""))
    if value is None:
        raise HainaError(f"{option} {text}: not a number above 0", "write 600M, 2B or 1e18")
    return value


def describe(analysis: Analysis, plans: Sequence[Planned], budgets: Sequence[float]) -> dict[str, Any]:
    """JSON values: the law of each set with intervals, residuals, checks, predictions and compute-optimal sizes."""
    counted = SIZES.get(analysis.size, "")
    if any(GIVEN in run.sizes for run in analysis.runs):
        counted = "parameters as given"
    return {
        "law": FORM,
        "size": counted,
        "interval": LEVEL,
        "draws": DRAWS,
        "runs": [_run(run) for run in analysis.runs],
        "left_out": [_run(run) for run in analysis.left_out],
        "sets": {law.name: _law(law, plans, budgets) for law in analysis.laws},
        "notes": [*analysis.notes, *_notes(analysis)],
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "sizes": dict(run.sizes),
        "tokens": run.tokens,
        "flops": run.flops,
        "losses": dict(run.losses),
        "seed": run.seed,
    }


def _law(law: Law, plans: Sequence[Planned], budgets: Sequence[float]) -> dict[str, Any]:
    parameters = {
        name: {**asdict(estimate), "assumed": assumed}
        for name, estimate, assumed in zip(NAMES, law.parameters(), law.assumed, strict=True)
    }
    predictions = []
    for plan in plans:
        best = law.best(plan.flops)
        found = law.predict(plan.name, plan.size, plan.tokens)
        predictions.append({**_prediction(found), "flops": plan.flops, "optimum": _optimum(plan.flops, best)})
    return {
        "parameters": parameters,
        "spread": law.fitted.sigma,
        "residuals": dict(zip(law.names, map(float, law.residuals()), strict=True)),
        "check": [_prediction(found) for found in law.check],
        "left_out": [_prediction(found) for found in law.left_out],
        "predictions": predictions,
        "budgets": [_optimum(flops, law.best(flops)) for flops in budgets],
    }


def _prediction(found: Prediction) -> dict[str, Any]:
    values: dict[str, Any] = {
        "run": found.run,
        "size": found.size,
        "tokens": found.tokens,
        "loss": asdict(found.loss),
    }
    if found.measured is not None:
        within = found.loss.holds(found.measured)
        values |= {"measured": found.measured, "error": found.error, "within": within}
    return values


def _optimum(flops: float, best: tuple[Estimate, Estimate, Estimate]) -> dict[str, Any]:
    size, tokens, loss = best
    return {"flops": flops, "size": asdict(size), "tokens": asdict(tokens), "loss": asdict(loss)}


def _notes(analysis: Analysis) -> list[str]:
    notes = []
    for flags in dict.fromkeys(law.assumed for law in analysis.laws if any(law.assumed)):
        laws = [law.name for law in analysis.laws if law.assumed == flags]
        assumed = [name for name, flag in zip(NAMES, flags, strict=True) if flag]
        notes.append(
            f"{', '.join(laws)}: the runs hardly determine {', '.join(assumed)}; the intervals are mostly what is "
            "assumed of language models in general"
        )
    for law in analysis.laws:
        large = [
            name
            for name, rest in zip(law.names, law.residuals(), strict=True)
            if abs(rest) > 4 * law.fitted.sigma
        ]
        if large:
            notes.append(
                f"{law.name}: far off the law: {', '.join(large)}; leave out what was trained otherwise"
            )
        missed = [found.run for found in law.check if found.measured and not found.loss.holds(found.measured)]
        if len(law.check) >= 3 and len(missed) > len(law.check) / 3:
            notes.append(
                f"{law.name}: {len(missed)} of {len(law.check)} runs fell outside the interval predicted from smaller "
                "ones: the law does not hold well here, and its intervals are too narrow"
            )
    return notes
