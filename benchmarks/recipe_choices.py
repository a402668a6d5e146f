"""What each choice of the recipe is worth: held-out loss with one of them changed at a time.

A small model is trained as the dial derives, and again with a single choice replaced by what others do, or with a
rate doubled or halved. A difference counts where it is larger than the spread over the seeds. A change of the batch
takes the rates that the rules give for it.

Run: python benchmarks/recipe_choices.py [--preset ours-1m] [--tokens 1M] [--seeds 2] [--only NAME,NAME] [--processes 2]
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from haina.runtime.files import write_json
from haina.train.dial import parse_tokens
from recipe_runs import Bench, Job, add_arguments, mean_loss
from recipe_tokens import ours

# What is changed: fields of the train section, factors of fields, fields of the model.
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "as derived": {},
    "no QK-norm": {"model": {"qk_norm": False}},
    "initialised N(0, 0.02)": {"set": {"initialisation": "gpt2"}},
    "rows not evened out": {"set": {"row_decay": 0.0}},
    "momentum 0.85": {"set": {"matrix_momentum": 0.85}},
    "momentum 0.9": {"set": {"matrix_momentum": 0.9}},
    "momentum 0.95": {"set": {"matrix_momentum": 0.95}},
    "matrix rate x 2": {"times": {"matrix_learning_rate": 2.0}},
    "matrix rate / 2": {"times": {"matrix_learning_rate": 0.5}},
    "embedding rate x 2": {"times": {"learning_rate": 2.0}},
    "embedding rate / 2": {"times": {"learning_rate": 0.5}},
    "no weight decay": {"set": {"weight_decay": 0.0}},
    "weight decay x 4": {"times": {"weight_decay": 4.0}},
    "embeddings decayed too": {"set": {"decay_embeddings": True}},
    "beta2 0.99": {"set": {"betas": [0.9, 0.99]}},
    "no z-loss": {"set": {"z_loss": 0.0}},
    "z-loss 1e-3": {"set": {"z_loss": 1e-3}},
    "cosine to a tenth": {"set": {"schedule": "cosine", "min_learning_rate_ratio": 0.1}},
    "decay over the whole run": {"set": {"decay_share": 1.0}},
    "decay over 30 % as 1 - sqrt": {"set": {"decay_share": 0.3, "decay_shape": "sqrt"}},
    "batch x 2": {"batch": {"factor": 2}},
    "batch / 2": {"batch": {"factor": 0.5}},
}


def changed(preset: str, tokens: int, change: dict[str, dict[str, Any]], bench: Bench) -> dict[str, Any]:
    """The `train` section with one change."""
    model = {"preset": preset, **change.get("model", {})}
    section = ours(model, tokens, bench)
    if "batch" in change:
        rows = section["micro_batch_size"] * section["gradient_accumulation"] * change["batch"]["factor"]
        if rows < 1:
            raise SystemExit("the batch is a single row: train on more tokens")
        micro = min(section["micro_batch_size"], int(rows))
        given = {
            "sequence_length": section["sequence_length"],
            "micro_batch_size": micro,
            "gradient_accumulation": int(rows) // micro,
        }
        section = ours(model, tokens, bench, given)
    section |= change.get("set", {})
    for name, factor in change.get("times", {}).items():
        section[name] *= factor
    return section


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, "recipe-choices")
    parser.add_argument("--preset", default="ours-1m")
    parser.add_argument("--tokens", default="1M", help="of each run")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="names of changes, separated by commas; default: all")
    given = parser.parse_args()
    bench = Bench.of(given)
    unknown = [name for name in given.only.split(",") if name and name not in CHANGES]
    if unknown:
        raise SystemExit(f"--only: no change is named {', '.join(unknown)}; there are: {', '.join(CHANGES)}")
    names = [name for name in CHANGES if not given.only or name in given.only.split(",") or not CHANGES[name]]
    jobs, places = [], {}
    for number, (name, change) in enumerate(CHANGES.items()):
        if name not in names:
            continue
        section = changed(given.preset, parse_tokens(given.tokens), change, bench)
        for seed in range(given.seeds):
            places[name, seed] = len(jobs)
            jobs.append(Job(f"{number:02d}-seed{seed}", section, seed))
    results = bench.results(jobs)
    losses = {
        name: [mean_loss(results[places[name, seed]]) for seed in range(given.seeds)]
        for name in names
        if all(results[places[name, seed]]["held_out"] for seed in range(given.seeds))
    }
    if "as derived" not in losses:
        raise SystemExit("a run as derived diverged: there is nothing to compare with")
    reference = losses["as derived"]
    print(
        f"\n{results[0]['parameters']:,} parameters, {results[0]['tokens']:,} tokens, {given.seeds} seeds: "
        "held-out loss, and the difference seed by seed"
    )
    for name in names:
        if name not in losses:
            print(f"{name:28} diverged")
            continue
        differences = [loss - own for loss, own in zip(losses[name], reference, strict=True)]
        spread = statistics.stdev(differences) if len(differences) > 1 else 0.0
        print(
            f"{name:28} {statistics.fmean(losses[name]):.4f}   {statistics.fmean(differences):+.4f} +- {spread:.4f}"
        )
    if given.json:
        write_json(given.json, {"preset": given.preset, "tokens": given.tokens, "losses": losses})


if __name__ == "__main__":
    main()
