"""Claim: in twenty runs with twenty seeds no loss is more than six standard deviations above the window before it.

Each run is what the dial derives, with rows and first weights of its own seed, without any guard: nothing is skipped. A
step counts as a spike where its loss is more than six standard deviations above the mean of the 128 steps before it,
from the first step on that has 64 before it. `train.guards` goes by the same, but takes a deviation below 1 % of the
mean for 1 %: what is no spike here is none there.

Run: python benchmarks/spikes.py [--preset ours-1m] [--tokens 1M] [--seeds 20] [--processes 2]
"""

from __future__ import annotations

import argparse
import math
import statistics

from haina.runtime.files import write_json
from haina.train.dial import parse_tokens
from recipe_runs import Bench, Job, add_arguments, mean_loss, without_nan
from recipe_tokens import ours, spread

WINDOW, FEWEST, SIGMAS = 128, 64, 6.0


def excesses(losses: list[float | None]) -> list[float]:
    """How many standard deviations each loss lies above the mean of the window before it; infinite for none."""
    found = []
    for step in range(FEWEST, len(losses)):
        window = [loss for loss in losses[max(0, step - WINDOW) : step] if loss is not None]
        loss = losses[step]
        if loss is None:
            found.append(math.inf)
        else:
            found.append((loss - statistics.fmean(window)) / max(statistics.stdev(window), 1e-12))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, "spikes")
    parser.add_argument("--preset", default="ours-1m")
    parser.add_argument("--tokens", default="1M", help="of each run")
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    bench = Bench.of(given)
    section = ours({"preset": given.preset}, parse_tokens(given.tokens), bench)
    if section["steps"] <= FEWEST:
        raise SystemExit(
            f"{section['steps']} steps have no window of {FEWEST} before them: train on more tokens"
        )
    jobs = [Job(f"{given.preset}-seed{seed}", section, seed) for seed in range(given.seeds)]
    results = bench.results(jobs)
    # A run that diverged before there was a window has no excess but its end.
    found = [excesses(result["losses"]) or [math.inf] for result in results]
    worst = [max(own) for own in found]
    spikes = sum(excess > SIGMAS for own in found for excess in own)
    steps = sum(len(result["losses"]) for result in results)
    print(f"\n{given.seeds} seeds, {steps:,} steps: {spikes} losses above {SIGMAS:g} sigma (target: 0)")
    print(f"largest excess of a run, sigma: median {statistics.median(worst):.2f}, at most {max(worst):.2f}")
    finished = [mean_loss(result) for result in results if result["held_out"]]
    print(f"final held-out loss of {len(finished)}: {spread(finished) if finished else '-'}")
    if given.json:
        write_json(
            given.json,
            without_nan({"seeds": given.seeds, "steps": steps, "spikes": spikes, "largest_excess": worst}),
        )


if __name__ == "__main__":
    main()
