"""Claim: our recipe needs at most 70 % of the tokens that a tuned AdamW with a cosine schedule needs for the same loss.

Both train models of the same sizes on the same rows of the same text, the same number of tokens a step; the loss is
that of whole held-out documents, nats a token, the mean of Chinese and English.

- Baseline: the Llama shape without QK-norm, initialised N(0, 0.02), AdamW (0.9, 0.95), weight decay 0.1 on all
  matrices, gradients clipped at 1, 2 % warm-up, cosine to a tenth. Its learning rate is swept on five points, further
  where the best is at an end; the best gets three seeds.
- Ours: what `haina train --preset P --tokens D` derives for each number of tokens D with that batch, each with a
  schedule of its own, three seeds.

The tokens that ours needs for the baseline's final loss are interpolated between the two horizons around it, linearly
in the logarithm of the tokens, seed by seed. Where the loss lies beyond our horizons they are extrapolated, and the
result says so: then other `--shares` are wanted.

Run: python benchmarks/recipe_tokens.py [--preset ours-3m] [--tokens 10M] [--shares 0.3,0.45,0.6] [--processes 2]
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from typing import Any

from haina.model.config import preset as model_preset
from haina.runtime.files import write_json
from haina.train.config import TrainConfig
from haina.train.dial import Place, apply, derive, parse_tokens
from recipe_runs import Bench, Job, add_arguments, mean_bits, mean_loss, model_of, without_nan

RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
MOST_RATES = 9
WARMUP = 0.02
# Settings must not depend on the machine: they are those of a small one.
PLACE = Place("cpu", 8 << 30)


def ours(
    model: dict[str, Any], tokens: int, bench: Bench, given: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The `train` section that the dial derives for a `model` section."""
    shape = model_of(TrainConfig(model=model, warmup_steps=0), bench.tokenizer)
    window = model_preset(model["preset"]).max_position_embeddings
    fixed = {"compile": False, **(given or {})}
    return {"model": model, **fixed, **apply(derive(shape, tokens, PLACE, fixed, window))}


def baseline(preset: str, like: dict[str, Any], rate: float) -> dict[str, Any]:
    """The `train` section of the baseline with the batch of `like`."""
    steps = int(like["steps"])
    return {
        "model": {"preset": preset, "qk_norm": False},
        "sequence_length": like["sequence_length"],
        "micro_batch_size": like["micro_batch_size"],
        "gradient_accumulation": like["gradient_accumulation"],
        "steps": steps,
        "optimizer": "adamw",
        "initialisation": "gpt2",
        "learning_rate": rate,
        "min_learning_rate_ratio": 0.1,
        "warmup_steps": max(1, round(WARMUP * steps)),
        "schedule": "cosine",
        "betas": [0.9, 0.95],
        "weight_decay": 0.1,
        "decay_embeddings": True,
        "gradient_clip": 1.0,
        "z_loss": 0.0,
    }


def swept(bench: Bench, preset: str, like: dict[str, Any], seed: int) -> dict[float, float]:
    """Held-out loss of the baseline by learning rate; goes on beyond an end that is the best."""
    losses: dict[float, float] = {}
    rates = list(RATES)
    while rates:
        jobs = [Job(f"adamw-{rate:.1e}-seed{seed}", baseline(preset, like, rate), seed) for rate in rates]
        for rate, result in zip(rates, bench.results(jobs), strict=True):
            losses[rate] = mean_loss(result)
        best = min(losses, key=lambda rate: losses[rate])
        rates = []
        if len(losses) < MOST_RATES and best == min(losses):
            rates = [best / 2]
        elif len(losses) < MOST_RATES and best == max(losses):
            rates = [best * 2]
    return losses


def tokens_for(loss: float, curve: list[tuple[int, float]]) -> float:
    """Tokens at which a curve of (tokens, loss) reaches `loss`, by the two points around it or the nearest two;
    infinite where these do not fall towards it.
    """
    curve = sorted(curve)
    for (low, above), (high, below) in itertools.pairwise(curve):
        if above >= loss >= below or (high, below) == curve[-1] or (loss > above and low == curve[0][0]):
            if above <= below:
                return low if loss >= above else math.inf
            share = (above - loss) / (above - below)
            return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    raise ValueError("a curve needs two points")


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.4f} +- {deviation:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, "recipe-tokens")
    parser.add_argument(
        "--preset", default="ours-3m", help="model preset; the tokenizer gives its vocabulary"
    )
    parser.add_argument("--tokens", default="10M", help="of the baseline")
    parser.add_argument("--shares", default="0.3,0.45,0.6", help="of those tokens, our horizons")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    bench = Bench.of(given)
    tokens = parse_tokens(given.tokens)
    whole = ours({"preset": given.preset}, tokens, bench)
    batch = {name: whole[name] for name in ("sequence_length", "micro_batch_size", "gradient_accumulation")}

    # The cheap part first: what ours does is known early.
    shares = sorted(float(part) for part in given.shares.split(","))
    sections = {
        share: ours({"preset": given.preset}, round(share * tokens), bench, batch) for share in shares
    }
    our_jobs = [
        Job(f"ours-{share:g}-seed{seed}", section, seed)
        for seed in range(given.seeds)
        for share, section in sections.items()
    ]
    our_results = bench.results(our_jobs)
    sweep = swept(bench, given.preset, whole, 0)
    rate = min(sweep, key=lambda value: sweep[value])
    base_jobs = [
        Job(f"adamw-{rate:.1e}-seed{seed}", baseline(given.preset, whole, rate), seed)
        for seed in range(given.seeds)
    ]
    base_results = bench.results(base_jobs)

    print(
        f"\n{base_results[0]['parameters']:,} and {our_results[0]['parameters']:,} parameters, "
        f"{whole['sequence_length'] * whole['micro_batch_size'] * whole['gradient_accumulation']:,} tokens a step"
    )
    for value, loss in sorted(sweep.items()):
        print(f"AdamW + cosine, {tokens / 1e6:g}M tokens, rate {value:.1e}: loss {loss:.4f}")
    base_losses = [mean_loss(result) for result in base_results]
    print(
        f"best, {given.seeds} seeds: loss {spread(base_losses)}, "
        f"bits a byte {spread([mean_bits(r) for r in base_results])}"
    )
    if not all(map(math.isfinite, [*base_losses, *map(mean_loss, our_results)])):
        raise SystemExit("a run of the comparison diverged: there is nothing to interpolate")
    curves: list[list[tuple[int, float]]] = []
    for seed in range(given.seeds):
        own = [result for result in our_results if result["job"]["seed"] == seed]
        curves.append([(result["tokens"], mean_loss(result)) for result in own])
    for share in shares:
        own = [result for result in our_results if result["job"]["name"].startswith(f"ours-{share:g}-seed")]
        print(
            f"ours, {share * tokens / 1e6:g}M tokens: loss {spread([mean_loss(r) for r in own])}, "
            f"bits a byte {spread([mean_bits(r) for r in own])}"
        )
    target = base_results[0]["tokens"]
    ratios = [tokens_for(loss, curve) / target for loss, curve in zip(base_losses, curves, strict=True)]
    beyond = sum(
        not min(own for _, own in curve) <= loss <= max(own for _, own in curve)
        for loss, curve in zip(base_losses, curves, strict=True)
    )
    print(
        f"tokens that ours needs, of the baseline's: {spread(ratios)}, at most {max(ratios):.4f} (target: at most "
        f"0.70); {beyond} of {given.seeds} extrapolated"
    )
    if given.json:
        write_json(
            given.json,
            without_nan({
                "parameters": our_results[0]["parameters"],
                "tokens": target,
                "sweep": {f"{value:g}": loss for value, loss in sorted(sweep.items())},
                "baseline_losses": base_losses,
                "curves": curves,
                "ratios": ratios,
                "extrapolated": beyond,
            }),
        )  # fmt: skip


if __name__ == "__main__":
    main()
