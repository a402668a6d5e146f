"""Writes what a fit found.

Comes in: a fit. Goes out: `mixture.json` (weights, what is expected of them, how certain they are, what the baselines
reach) and `mixtures.parquet` (one row a proxy run). Both depend on the inputs, the options and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from haina.corpus.mixture.domains import Origin
from haina.corpus.mixture.fit import Fit
from haina.runtime.files import atomic_path, write_json

VERSION = 1
MIXTURE_FILE, RUNS_FILE = "mixture.json", "mixtures.parquet"


def _named(fit: Fit, values: NDArray[np.float64], digits: int = 6) -> dict[str, float]:
    return {name: round(float(value), digits) for name, value in zip(fit.names, values, strict=True)}


def _text_weights(fit: Fit) -> dict[str, float]:
    """Shares of UTF-8 bytes: the same mixture for any tokenizer."""
    sizes = fit.weights * fit.prepared.pools.bytes_per_token
    return _named(fit, sizes / sizes.sum())


def describe(fit: Fit, origins: list[Origin], by: str | None, seed: int) -> dict[str, Any]:
    """The content of `mixture.json`."""
    low, high = np.quantile(fit.resampled, [0.05, 0.95], axis=0)
    low_loss, high_loss = np.quantile(fit.resampled_losses, [0.05, 0.95], axis=0)
    epochs = fit.epochs(fit.weights)
    domains = {}
    for number, (name, facts, law) in enumerate(zip(fit.names, fit.prepared.domains, fit.laws, strict=True)):
        domains[name] = {
            "weight": round(float(fit.weights[number]), 6),
            "weight_90": [round(float(low[number]), 6), round(float(high[number]), 6)],
            "most": round(float(fit.upper[number]), 6),
            "epochs": round(float(epochs[number]), 4),
            "target": round(float(fit.target[number]), 6),
            "predicted_loss": round(float(fit.predicted[number]), 6),
            "predicted_loss_90": [
                round(float(low_loss[number]), 6),
                round(float(high_loss[number]), 6),
            ],
            "law": law.family,
            "law_errors": {family: round(error, 6) for family, error in law.errors.items()},
            "documents": facts.documents,
            "bytes": facts.bytes,
            "without_text": facts.without_text,
            "copies_left_out": facts.copies,
            "bytes_per_token": round(float(fit.prepared.pools.bytes_per_token[number]), 4),
        }
    return {
        "version": VERSION,
        "by": by or "source",
        "weights": _named(fit, fit.weights),
        "text_weights": _text_weights(fit),
        # How the curated documents of a domain are told by their `source` where no column names it.
        "sources": None
        if by
        else {name: sorted({item.name for item in origins if item.domain == name}) for name in fit.names},
        "unit": "shares of tokens; losses in bits a UTF-8 byte of held-out text, n-gram proxy unless told otherwise",
        "seed": seed,
        "proxies": sum(run.side == "validation" for run in fit.runs),
        "proxy_tokens": fit.tokens,
        "total_tokens": round(fit.total_tokens),
        "budget_tokens": round(fit.budget),
        "domains": domains,
        "mixtures": {
            name: {
                "weights": _named(fit, shares),
                "epochs": _named(fit, fit.epochs(shares), 4),
                "loss": _named(fit, fit.checks[name].mean(axis=0)),
                "target_loss": [round(float(loss), 6) for loss in fit.checks[name] @ fit.target],
            }
            for name, shares in fit.mixtures.items()
        },
        "notes": fit.notes,
    }


def runs_table(fit: Fit) -> pa.Table:
    """A row a proxy: why, which slice of the text, what was measured, `weight.*`, `loss.*` and `predicted.*`."""
    shares = np.array([run.shares for run in fit.runs])
    losses = np.array([run.losses for run in fit.runs])
    predicted = fit.predict(shares)
    columns: dict[str, Any] = {
        "kind": [run.kind for run in fit.runs],
        "slice": pa.array([run.slice for run in fit.runs], pa.int32()),
        "side": [run.side for run in fit.runs],
        "target_loss": losses @ fit.target,
        "predicted_target_loss": predicted @ fit.target,
    }
    for kind, values in (("weight", shares), ("loss", losses), ("predicted", predicted)):
        columns |= {f"{kind}.{name}": values[:, number] for number, name in enumerate(fit.names)}
    return pa.table(columns)


def write_fit(fit: Fit, origins: list[Origin], by: str | None, seed: int, out: Path) -> dict[str, Any]:
    """Write both files; returns the content of `mixture.json`."""
    description = describe(fit, origins, by, seed)
    with atomic_path(out / RUNS_FILE) as temporary:
        pq.write_table(runs_table(fit), temporary, compression="zstd")
    write_json(out / MIXTURE_FILE, description)
    return description
