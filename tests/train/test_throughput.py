"""`haina bench train`: its figures agree with one another, and what cannot be measured is said."""

import json

import pytest
import torch
from typer.testing import CliRunner

from haina.cli.bench import app
from haina.model import preset
from haina.runtime.errors import HainaError
from haina.train import throughput
from haina.train.config import ModelSection, TrainConfig


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(throughput, "LEAST_STEPS", 3)
    monkeypatch.setattr(throughput, "SECONDS", 0.0)
    monkeypatch.setattr(throughput, "MATMUL_SECONDS", 0.05)


def settings_of(name="ours-1m", seq=32, batch=2, **others):
    return TrainConfig(
        model=ModelSection(preset=name), sequence_length=seq, micro_batch_size=batch, device="cpu", threads=1, **others
    )  # fmt: skip


@pytest.mark.parametrize(("optimizer", "precision"), [("adamw", "bf16"), ("muon", "fp32")])
def test_figures_agree_with_one_another(quick, optimizer, precision):
    shape = preset("ours-1m")
    config = settings_of(optimizer=optimizer, precision=precision)
    found = throughput.measure_training(config, shape)
    json.dumps(found)
    step = found["seconds_per_step"]
    assert step["low"] <= step["median"] <= step["high"]
    assert step["steps"] == 3
    assert found["tokens_per_s"] == pytest.approx(64 / step["median"])
    flops = shape.flops_per_token(32) * found["tokens_per_s"]
    assert found["model_tflops"] == pytest.approx(flops / 1e12)
    ceiling = max(found["matmul_tflops"]["before"], found["matmul_tflops"]["after"])
    assert found["matmul_share"] == pytest.approx(found["model_tflops"] / ceiling)
    assert found["peak_memory_bytes"] > 4 * 4 * shape.parameter_count
    assert found["path"] in ("fused", "plain")
    assert (found["not_fused_because"] is None) == (found["path"] == "fused")
    assert found["precision"] == precision
    assert found["config"]["model_type"] == "qwen3"
    assert "full attention" in found["flops_convention"]


def test_batches_of_random_ids_differ_and_count_every_target():
    first, second = (throughput.random_batch(3, 8, 50, seed) for seed in (0, 1))
    assert first.inputs.shape == first.targets.shape == (3, 8)
    assert (first.inputs[:, 1:] == first.targets[:, :-1]).all()
    assert first.inputs.max() < 50
    assert first.step_targets == 24
    assert (first.inputs != second.inputs).any()


def test_peak_memory_is_of_this_process():
    before = throughput.peak_memory_bytes(torch.device("cpu"))
    held = torch.ones(1 << 24)
    assert throughput.peak_memory_bytes(torch.device("cpu")) >= max(before, 4 * held.numel())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "ours-8m"], "model preset 'ours-8m' is unknown; choose one of: "),
        (["--preset", "ours-1m", "--seq", "4096"], "--seq 4096: the window of ours-1m is 2048 tokens"),
        (["--preset", "ours-1m", "--optimizer", "sgd"], "optimizer: must be 'adamw' or 'muon' (got 'sgd')"),
        (
            ["--preset", "ours-7b", "--batch", "500", "--device", "cpu"],
            "a step of ours-7b with 500 x 512 tokens",
        ),
        (
            ["--preset", "ours-7m", "--seq", "512", "--batch", "64000", "--device", "cpu"],
            "what would fit: --batch ",
        ),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line(arguments, message):
    result = CliRunner().invoke(app, ["train", *arguments])
    assert isinstance(result.exception, HainaError)
    assert message in str(result.exception)


@pytest.mark.parametrize("arguments", [["--batch", "0"], ["--seq", "0"], ["--threads", "-1"]])
def test_numbers_out_of_range_are_refused(arguments):
    result = CliRunner().invoke(app, ["train", "--preset", "ours-1m", *arguments])
    assert result.exit_code == 2


def test_one_report_for_people_and_one_for_programs(quick):
    command = [
        "train",
        "--preset",
        "ours-1m",
        "--seq",
        "16",
        "--batch",
        "1",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    for words in ("tokens per second", "peak memory", "model TFLOPS", "full attention", "path"):
        assert words in shown.output
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert found["sequence_length"] == 16
    assert found["config"]["hidden_size"] == 128
