"""Claim: `haina --help` answers in under half a second.

Alternates `haina --help`, `haina --version` and a bare `python -c pass` and prints medians of wall seconds.
Run: python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 11


def seconds(command: list[str]) -> float:
    """Wall seconds of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    haina = str(Path(sys.executable).with_name("haina"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "haina --version": [haina, "--version"],
        "haina --help": [haina, "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    for name, values in times.items():
        print(
            f"{name:16} median {statistics.median(values):.3f} s, {min(values):.3f} to {max(values):.3f}, {ROUNDS} runs"
        )


if __name__ == "__main__":
    main()
