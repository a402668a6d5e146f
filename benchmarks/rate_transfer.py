"""Claim: over 16 times width x depth the best learning rate moves by at most one step of 1.4.

Models from 64 wide with 2 layers to 256 wide with 8 are trained on the same number of tokens with the same batch. The
learning rate is what the rules of the recipe give for the shape, times 1.4^k; k is swept from -3 to 3, further where
the best is near an end. Around its best a loss hardly depends on the rate, so the optimum is not the best point, which
is chance, but the lowest of a parabola through all points within three steps of it. How far that moves between the
shapes, in steps of 1.4, is the result: the difference of the largest and the smallest. With several `--seeds` losses
are means over them, and the same difference of each seed by itself stands beside: how certain the result is.

For contrast the same with AdamW and standard parametrisation: N(0, 0.02), one learning rate for every shape.

Run: python benchmarks/rate_transfer.py [--tokens 1M] [--recipes ours,adamw] [--processes 2]
"""

from __future__ import annotations

import argparse
import math
import statistics
from typing import Any

import numpy as np

from haina.runtime.files import write_json
from haina.train.dial import parse_tokens
from recipe_runs import Bench, Job, add_arguments, mean_loss, without_nan
from recipe_tokens import WARMUP, ours

GRID = 1.4
FIRST = (-3, -2, -1, 0, 1, 2, 3)
REACH = 3
MOST_POINTS = 12
# (hidden size, layers); heads are 32 wide, the feed-forward is 8/3 of the width, a multiple of 32.
SHAPES = ((64, 2), (128, 2), (64, 8), (128, 4), (256, 8))
ADAMW_RATE = 4e-3
HEAD = 32


def model_section(width: int, layers: int, qk_norm: bool) -> dict[str, Any]:
    return {
        "preset": "ours-1m",
        "hidden_size": width,
        "intermediate_size": round(width * 8 / 3 / 32) * 32,
        "num_hidden_layers": layers,
        "num_attention_heads": width // HEAD,
        "num_key_value_heads": width // HEAD,
        "head_dim": HEAD,
        "qk_norm": qk_norm,
    }


def section(
    recipe: str, shape: tuple[int, int], tokens: int, sizes: dict[str, Any], bench: Bench
) -> dict[str, Any]:
    """The `train` section of a shape at k = 0."""
    if recipe == "ours":
        return ours(model_section(*shape, qk_norm=True), tokens, bench, sizes)
    batch = sizes["sequence_length"] * sizes["micro_batch_size"] * sizes["gradient_accumulation"]
    steps = round(tokens / batch)
    return {
        "model": model_section(*shape, qk_norm=False),
        **sizes,
        "steps": steps,
        "optimizer": "adamw",
        "initialisation": "gpt2",
        "learning_rate": ADAMW_RATE,
        "min_learning_rate_ratio": 0.1,
        "warmup_steps": max(1, round(WARMUP * steps)),
        "schedule": "cosine",
        "weight_decay": 0.1,
        "decay_embeddings": True,
        "z_loss": 0.0,
    }


def scaled(train: dict[str, Any], factor: float) -> dict[str, Any]:
    """The same with all learning rates times `factor`."""
    changed = dict(train)
    for name in ("learning_rate", "matrix_learning_rate"):
        if name in changed:
            changed[name] = changed[name] * factor
    return changed


def optimum(losses: dict[int, float]) -> float:
    """Where the parabola through the points around the best one is lowest, by least squares; the best one where there
    are too few around it or they do not bend upwards.
    """
    best = min(losses, key=lambda k: losses[k])
    near = [k for k, loss in losses.items() if abs(k - best) <= REACH and math.isfinite(loss)]
    if len(near) < 3:
        return float(best)
    bend, slope, _ = np.polyfit(near, [losses[k] for k in near], 2)
    lowest = -slope / (2 * bend) if bend > 0 else float(best)
    return float(min(max(lowest, best - 1), best + 1))


def sweep(
    recipe: str, shape: tuple[int, int], tokens: int, sizes: dict[str, Any], seeds: int, bench: Bench
) -> dict[int, list[float]]:
    """Held-out losses of the seeds by k."""
    base = section(recipe, shape, tokens, sizes, bench)
    losses: dict[int, list[float]] = {}
    points = list(FIRST)
    while points:
        jobs = [
            Job(f"{recipe}-{shape[0]}x{shape[1]}{k:+d}-seed{seed}", scaled(base, GRID**k), seed)
            for k in points
            for seed in range(seeds)
        ]
        results = bench.results(jobs)
        for place, k in enumerate(points):
            losses[k] = [mean_loss(result) for result in results[place * seeds : (place + 1) * seeds]]
        best = min(losses, key=lambda k: statistics.fmean(losses[k]))
        points = []
        if len(losses) < MOST_POINTS and best <= min(losses) + 1:
            points = [min(losses) - 1]
        elif len(losses) < MOST_POINTS and best >= max(losses) - 1:
            points = [max(losses) + 1]
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, "rate-transfer")
    parser.add_argument("--tokens", default="1M")
    parser.add_argument("--sequence", type=int, default=256)
    parser.add_argument("--rows", type=int, default=8, help="of a step")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--recipes", default="ours,adamw")
    given = parser.parse_args()
    bench = Bench.of(given)
    tokens = parse_tokens(given.tokens)
    sizes = {"sequence_length": given.sequence, "micro_batch_size": given.rows, "gradient_accumulation": 1}
    figures: dict[str, Any] = {}
    for recipe in given.recipes.split(","):
        found: dict[str, Any] = {}
        for shape in SHAPES:
            swept = dict(sorted(sweep(recipe, shape, tokens, sizes, given.seeds, bench).items()))
            losses = {k: statistics.fmean(own) for k, own in swept.items()}
            found[f"{shape[0]}x{shape[1]}"] = {
                "losses": {str(k): loss for k, loss in losses.items()},
                "optimum": optimum(losses),
                "optimum_by_seed": [
                    optimum({k: own[seed] for k, own in swept.items()}) for seed in range(given.seeds)
                ],
            }
        figures[recipe] = found
    for recipe, found in figures.items():
        print(f"\n{recipe}: held-out loss by steps of {GRID} from the rule")
        for name, result in found.items():
            line = "  ".join(f"{k}: {loss:.4f}" for k, loss in result["losses"].items())
            print(f"  {name:>6}  optimum {result['optimum']:+.2f}   {line}")
        optima = [result["optimum"] for result in found.values()]
        print(f"  moves by {max(optima) - min(optima):.2f} steps of {GRID} (target for ours: at most 1)")
        if given.seeds > 1:
            seeds = zip(*(result["optimum_by_seed"] for result in found.values()), strict=True)
            print("  each seed by itself: " + ", ".join(f"{max(own) - min(own):.2f}" for own in seeds))
        for name, result in found.items():
            at_rule = result["losses"]["0"] - min(result["losses"].values())
            print(f"  {name:>6}  the rate of the rule costs {at_rule:.4f} over the best of the sweep")
    if given.json:
        write_json(given.json, without_nan({"tokens": tokens, **sizes, "grid": GRID, **figures}))


if __name__ == "__main__":
    main()
