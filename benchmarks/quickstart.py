"""Claim: from a fresh clone, `make quickstart` ends in a model that has learnt, in 20 minutes and 6 GiB on two cores.

Clones this repository into a temporary folder, runs `make quickstart` there as a stranger would, samples the memory of
the whole process tree, and prints what the run folder says. Run: python benchmarks/quickstart.py [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[1]


def tree_memory(process: psutil.Process) -> int:
    """Resident bytes of a process and its descendants."""
    total = 0
    for item in [process, *process.children(recursive=True)]:
        try:
            total += item.memory_info().rss
        except psutil.Error:
            continue
    return total


def run_quickstart(clone: Path, log: Path) -> tuple[float, int, int]:
    """Exit code aside: seconds, peak memory in bytes, and the exit code of `make quickstart`."""
    start = time.monotonic()
    environment = {
        key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["make", "quickstart"], cwd=clone, stdout=output, stderr=output, env=environment
        )
        watched, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            try:
                peak = max(peak, tree_memory(watched))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.25)
        code = process.wait()
    return time.monotonic() - start, peak, code


def measure() -> dict[str, Any]:
    """Clone, run, and read the figures."""
    with tempfile.TemporaryDirectory() as temporary:
        clone, log = Path(temporary) / "haina", Path(temporary) / "log"
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        seconds, peak, code = run_quickstart(clone, log)
        if code != 0:
            raise SystemExit(
                f"make quickstart failed with {code}:\n{log.read_text(errors='replace')[-4000:]}"
            )
        run = clone / "runs" / "quickstart"
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        evaluation = json.loads((run / "evaluate" / "summary.json").read_text(encoding="utf-8"))
        train = json.loads((run / "train" / "summary.json").read_text(encoding="utf-8"))
        return {
            "total_seconds": round(seconds, 1),
            "peak_memory_gib": round(peak / 2**30, 2),
            "stage_seconds": {name: record["seconds"] for name, record in manifest["stages"].items()},
            "pages": manifest["stages"]["corpus"]["records"],
            "parameters": train["parameters"],
            "training_tokens": train["tokens"],
            "perplexity": evaluation["perplexity"],
            "int4_over_bf16": evaluation["int4_over_bf16"],
            "machine": manifest.get("machine", {}),
            "printed": log.read_text(encoding="utf-8", errors="replace").splitlines()[-16:],
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    found = measure()
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    minutes, memory = found["total_seconds"] / 60, found["peak_memory_gib"]
    print(f"make quickstart, fresh clone: {minutes:.1f} min (target <= 20), {memory} GiB (target < 6)")
    for name, seconds in found["stage_seconds"].items():
        print(f"  {name:10} {seconds:8.1f} s")
    print(f"  {found['parameters']:,} parameters, {found['training_tokens']:,} training tokens")
    for lang, score in found["perplexity"]["bf16"].items():
        print(
            f"  {lang}: {score['bits_per_byte']:.3f} bits per byte, unigram {score['unigram_bits_per_byte']:.3f}, "
            f"{score['below_unigram']:.1%} below (target >= 35 %); "
            f"INT4 / bf16 {found['int4_over_bf16'][lang]:.4f} (target <= 1.02)"
        )
    print("\n".join(found["printed"]))


if __name__ == "__main__":
    main()
