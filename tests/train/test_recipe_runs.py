"""The arithmetic of the experiments on recipes, and that a finished run is never run again."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    """A script of the benchmarks folder as a module."""

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    sys.path.insert(0, str(BENCHMARKS))
    yield load
    sys.path.remove(str(BENCHMARKS))


def test_tokens_are_interpolated_in_their_logarithm(benchmark):
    tokens_for = benchmark("recipe_tokens").tokens_for
    curve = [(100, 5.0), (400, 4.0), (1600, 3.5)]
    assert tokens_for(4.5, curve) == pytest.approx(200)
    assert tokens_for(3.75, curve) == pytest.approx(800)
    assert tokens_for(4.0, curve) == pytest.approx(400)
    assert tokens_for(6.0, curve) == pytest.approx(25)
    assert tokens_for(3.0, curve) == pytest.approx(6400)
    # A curve that does not fall reaches nothing below it.
    assert tokens_for(3.9, [(100, 5.0), (400, 4.0), (1600, 4.2)]) == math.inf
    assert tokens_for(5.0, [(100, 4.0), (400, 4.0)]) == 100


def test_a_run_that_diverged_has_an_infinite_loss_and_no_number_in_json(benchmark):
    runs = benchmark("recipe_runs")
    assert runs.mean_loss({"held_out": None}) == runs.mean_bits({"held_out": None}) == math.inf
    assert runs.without_nan({"a": [math.inf, (math.nan, 1.0)]}) == {"a": [None, [None, 1.0]]}


def test_the_optimum_is_that_of_the_parabola(benchmark):
    optimum = benchmark("rate_transfer").optimum
    losses = {k: 3.0 + (k - 0.3) ** 2 for k in range(-2, 3)}
    assert optimum(losses) == pytest.approx(0.3)
    assert optimum({0: 1.0, 1: 2.0, 2: math.inf}) == 0
    assert optimum({-1: 2.0, 0: 1.0, 1: math.inf}) == 0
    assert optimum({-1: 1.0, 0: 1.1, 1: 1.0, 2: 0.5}) == 2


def test_spikes_are_counted_in_deviations_of_the_window(benchmark):
    spikes = benchmark("spikes")
    losses = [5.0 + 0.1 * (-1) ** step for step in range(100)]
    assert max(spikes.excesses(losses)) < 1.1
    losses[80] = 6.0
    excess = spikes.excesses(losses)
    assert excess[80 - spikes.FEWEST] > spikes.SIGMAS
    assert sum(value > spikes.SIGMAS for value in excess) == 1
    assert max(spikes.excesses([*losses, None])) == math.inf


def test_litgpts_rows_are_the_same_documents(benchmark):
    from haina.train.held_out import lay_out

    documents = [[7, *range(10, 10 + n)] for n in (3, 9, 1, 20)]
    import numpy as np

    rows = lay_out([np.array(document) for document in documents], 8)
    pieces = benchmark("equal_steps")._pieces(rows)
    found: dict[int, list[int]] = {}
    for owner, tokens, targets in sorted(pieces, key=lambda piece: (piece[0], piece[1][0])):
        assert len(tokens) == len(targets)
        found.setdefault(owner, []).extend(targets.tolist())
    assert {owner: sorted(targets) for owner, targets in found.items()} == {
        number: sorted(document[1:]) for number, document in enumerate(documents)
    }


def test_finished_runs_are_kept(benchmark, inputs, tmp_path, monkeypatch):
    runs = benchmark("recipe_runs")
    bench = runs.Bench(inputs / "shards", inputs / "tokenizer", tmp_path, 1)
    train = {
        "model": {
            "preset": "ours-1m", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 1,
        },
        "sequence_length": 16, "micro_batch_size": 2, "steps": 3, "warmup_steps": 1, "device": "cpu",
    }  # fmt: skip
    jobs = [runs.Job("one", train, 0), runs.Job("two", {**train, "learning_rate": 0.001}, 0)]

    class Here:
        """A pool that works in this process."""

        def __init__(self, *arguments, **keywords):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        map = staticmethod(map)

    monkeypatch.setattr(runs, "ProcessPoolExecutor", Here)
    first = bench.results(jobs)
    assert [result["tokens"] for result in first] == [96, 96]
    assert set(first[0]["held_out"]) == {"zh", "en"}
    assert first[0]["losses"] != first[1]["losses"]
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert bench.results(jobs) == first
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
    # Another seed is other work.
    other = bench.results([runs.Job("one", train, 1)])
    assert other[0]["losses"] != first[0]["losses"]
    assert json.loads((tmp_path / "one.json").read_text())["job"]["seed"] == 1
