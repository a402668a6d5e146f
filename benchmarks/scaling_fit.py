"""Claim: a law fitted to a ladder of small runs predicts the loss of the largest run, which it has not seen, within
1 %, in Chinese and in English.

A ladder of six sizes from 0.14M to 3M weights in the blocks, each trained on three numbers of tokens of real text with
the settings that the dial derives, eighteen runs. The law is fitted three times: without the largest run, without the
largest size (all of its runs; the next has 1.7 times fewer weights in the blocks), and with each of the larger runs
predicted from the runs that cost less. Errors are relative, of the held-out loss in nats a token; beside them stands
whether the 90 % interval held the measured loss, and what other ways to count a model's size give.

Run: python benchmarks/scaling_fit.py [--out FOLDER] [--processes 2] [--plot law.svg] [--json FILE]

About 20 minutes on two cores. FOLDER keeps every run; interrupted, the same command goes on. Processes share the rungs,
each with its part of the cores: small models are too small to keep two cores busy.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import training_data
from haina.runtime.devices import physical_cores
from haina.runtime.files import read_json, write_json, write_text
from haina.train.scaling.analysis import (
    LARGEST,
    LARGEST_SIZE,
    Prediction,
    analyse,
    fit_law,
    forward_check,
    split,
)
from haina.train.scaling.curves import short
from haina.train.scaling.describe import describe
from haina.train.scaling.draw import write_plot
from haina.train.scaling.runs import SIZES, Run, read_runs
from haina.train.scaling.together import loss_of, size_of

HERE = Path(__file__).resolve().parents[1] / "build" / "scaling-fit"
# Width: layers and feed-forward width, one design: heads of 32, feed-forward near 8/3 of the width.
SHAPES = {64: (3, 160), 96: (3, 256), 128: (3, 352), 160: (4, 416), 192: (4, 512), 224: (5, 608)}
HEAD = 32
TOKENS = ("400k", "800k", "1.6M")
WINDOW, EVALUATED = 256, 65_536


def ladder(shapes: dict[int, tuple[int, int]], tokens: Sequence[str], threads: int) -> dict[str, Any]:
    """The ladder as its file says it."""
    sizes = {
        f"w{width}": {
            "preset": "ours-3m",
            "hidden_size": width,
            "intermediate_size": feed_forward,
            "num_hidden_layers": layers,
            "num_attention_heads": width // HEAD,
            "num_key_value_heads": width // HEAD,
        }
        for width, (layers, feed_forward) in shapes.items()
    }
    train = {"sequence_length": WINDOW, "validation_tokens": EVALUATED, "threads": threads}
    return {"sizes": sizes, "tokens": list(tokens), "train": train}


def train(out: Path, content: dict[str, Any], shards: Path, tokenizer: Path, processes: int) -> float:
    """Train the ladder into `out/runs`; the seconds it has taken in all calls."""
    write_text(out / "ladder.yaml", yaml.safe_dump(content, sort_keys=False))
    command = [sys.executable, "-m", "haina", "scaling", "run", str(out / "ladder.yaml")]
    command += ["--shards", str(shards), "--tokenizer", str(tokenizer), "--out", str(out / "runs")]
    record = out / "seconds.json"
    before = float(read_json(record)) if record.exists() else 0.0
    started = time.perf_counter()
    running = []
    for number in range(processes):
        quiet = None if number == 0 else subprocess.DEVNULL
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=quiet))
    try:
        codes = [process.wait() for process in running]
    except KeyboardInterrupt:
        codes = [process.wait() for process in running]
        raise
    finally:
        write_json(record, before + time.perf_counter() - started)
    if any(codes):
        raise SystemExit(f"haina scaling run ended with {codes}; the same command goes on")
    return float(read_json(record))


def told(found: Sequence[Prediction]) -> dict[str, Any]:
    """Errors of some predictions of runs that were measured."""
    errors = [item.loss.value / item.measured - 1.0 for item in found if item.measured is not None]
    held = [item.measured is not None and item.loss.holds(item.measured) for item in found]
    return {
        "runs": len(found),
        "mean_error": float(np.mean(np.abs(errors))) if errors else None,
        "largest_error": max(errors, key=abs, default=None),
        "within": sum(held),
        "predictions": [
            {
                "run": item.run,
                "predicted": item.loss.value,
                "low": item.loss.low,
                "high": item.loss.high,
                "measured": item.measured,
            }
            for item in found
        ],
    }


def errors(runs: Sequence[Run], name: str, size: str) -> dict[str, Any]:
    """The three checks of one set and one way to count sizes."""
    found: dict[str, Any] = {}
    for what in (LARGEST, LARGEST_SIZE):
        kept, out = split(runs, [what])
        law = fit_law(kept, name, size)
        found[what] = told(
            [law.predict(run.name, size_of(run, size), run.tokens, loss_of(run, name)) for run in out]
        )
    found["forward"] = told(forward_check(runs, name, size))
    found["spread"] = fit_law(runs, name, size).fitted.sigma
    return found


def show(result: dict[str, Any]) -> None:
    """The tables."""
    print(f"{len(result['runs'])} runs, {result['seconds'] / 60:.1f} min; {result['conditions']}")
    print(f"{'run':<12}{'blocks':>10}{'tokens':>10}{'FLOPs':>10}   held-out loss")
    for run in result["runs"]:
        losses = "  ".join(f"{name} {loss:.4f}" for name, loss in run["losses"].items())
        print(
            f"{run['name']:<12}{short(run['blocks']):>10}{short(run['tokens']):>10}{run['flops']:>10.2e}   {losses}"
        )
    header = "".join(f"{what:>24}" for what in (LARGEST, LARGEST_SIZE, "from cheaper runs"))
    print(f"\nerror, runs within the 90 % interval\n{'size counted as, set':<24}{header}{'spread':>9}")
    for size, sets in result["errors"].items():
        for name, found in sets.items():
            cells = []
            for what in (LARGEST, LARGEST_SIZE, "forward"):
                item = found[what]
                # A ladder of few runs has none with enough cheaper ones.
                error = "-" if item["mean_error"] is None else f"{item['mean_error']:.2%}"
                cells.append(f"{error} ({item['within']} of {item['runs']})")
            print(
                f"{size + ', ' + name:<24}"
                + "".join(f"{cell:>24}" for cell in cells)
                + f"{found['spread']:>9.2%}"
            )
    print("\nlaw of all runs")
    for name, law in result["laws"].items():
        parts = [
            f"{parameter} {item['value']:.4g} ({item['low']:.4g} to {item['high']:.4g})"
            for parameter, item in law["parameters"].items()
        ]
        print(f"  {name}: {', '.join(parts)}")
    for note in result["notes"]:
        print(f"note: {note}")


def main() -> None:
    """Train, fit, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    training_data.add_arguments(parser)
    parser.add_argument("--out", type=Path, default=HERE, help="folder that keeps the runs")
    parser.add_argument("--processes", type=int, default=2, help="that train side by side")
    parser.add_argument("--tokens", nargs="+", default=list(TOKENS), help="numbers of tokens")
    parser.add_argument("--widths", type=int, nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument(
        "--plot", type=Path, help="picture of the law fitted without the largest run, .svg or .html"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    shards, tokenizer = training_data.folders(given.shards, given.tokenizer)
    threads = max(1, physical_cores() // given.processes)
    content = ladder({width: SHAPES[width] for width in given.widths}, given.tokens, threads)
    given.out.mkdir(parents=True, exist_ok=True)
    seconds = train(given.out, content, shards, tokenizer, given.processes)
    found, unfinished = read_runs([given.out / "runs"])
    wanted = len(given.widths) * len(given.tokens)
    if unfinished or len(found) != wanted:
        raise SystemExit(f"{len(found)} of {wanted} runs are there; the same command goes on")
    runs = sorted(found, key=lambda run: run.flops)
    names = [*sorted(runs[0].losses, reverse=True), "mean"]
    described = describe(analyse(runs), [], [])
    result = {
        "seconds": seconds,
        "conditions": f"{given.processes} processes of {threads} threads, {platform.machine()}, window {WINDOW}",
        "runs": [
            {
                "name": run.name,
                "blocks": run.sizes["blocks"],
                "tokens": run.tokens,
                "flops": run.flops,
                "losses": dict(run.losses),
            }
            for run in runs
        ],
        "errors": {size: {name: errors(runs, name, size) for name in names} for size in SIZES},
        "laws": described["sets"],
        "notes": described["notes"],
    }
    show(result)
    if given.plot:
        left = analyse(runs, leave_out=[LARGEST])
        write_plot(given.plot, left, describe(left, [], []), [])
    if given.json:
        given.json.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
