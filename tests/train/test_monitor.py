"""What a run shows: TensorBoard, events, speed, Weights & Biases, a profiler trace."""

import json
import sys
import types

import pytest
import torch
from pydantic import ValidationError

from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree
from haina.runtime.stage import EventLog
from haina.train.monitor import CONVENTION, TFLOPS_TAG, Speed, open_wandb
from haina.train.monitor_config import MonitorSection
from haina.train.trace import Trace


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder))
    board.Reload()
    return {tag: [(item.step, item.value) for item in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


@pytest.fixture(scope="module")
def watched(tiny, inputs, tmp_path_factory):
    """Run folder of a run with TensorBoard, events and a trace."""
    folder = tmp_path_factory.mktemp("watched")
    context = tiny.context(
        inputs,
        folder / "work",
        tensorboard=folder / "tensorboard",
        events=EventLog(folder / "events.jsonl"),
    )
    tiny.run(tiny.configuration(monitor={"profile_steps": [4, 5]}), context)
    return folder


def test_tensorboard_shows_what_matters_under_names_that_say_what_is_counted(watched, tiny):
    found = scalars(watched / "tensorboard")
    steps = [3, 6, 9, 10]
    lines = [json.loads(line) for line in (watched / "work/out/train/metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    for tag, key in (
        ("loss/train", "loss"),
        ("learning_rate", "learning_rate"),
        ("norm/gradient", "gradient_norm"),
        ("norm/update", "update_norm"),
        ("norm/parameters", "parameter_norm"),
    ):
        assert found[tag] == [(line["step"], pytest.approx(line[key])) for line in logged], tag
    for tag in ("tokens_per_second", "memory_gib/resident", TFLOPS_TAG, "share_of_measured_matmul/fp32"):
        assert [step for step, _ in found[tag]] == steps, tag
        assert all(value > 0 for _, value in found[tag]), tag
    assert 0.01 < found["memory_gib/resident"][0][1] < 64
    flops = json.loads((watched / "work/out/train/summary.json").read_text())["flops_per_token"]
    for (_, rate), (_, work) in zip(found["tokens_per_second"], found[TFLOPS_TAG], strict=True):
        assert work == pytest.approx(rate * flops / 1e12, rel=1e-4)
    validated = [line for line in lines if "validation" in line]
    for lang in ("zh", "en"):
        for name, key in (("loss", "validation"), ("bits_per_byte", "bits_per_byte")):
            wanted = [(line["step"], pytest.approx(line[key][lang])) for line in validated]
            assert found[f"{name}/validation-{lang}"] == wanted
        group = validated[-1]["groups"][lang]["source"]["verses"]["loss"]
        assert found[f"loss/validation-{lang}/source/verses"][-1] == (10, pytest.approx(group))
    assert [value for _, value in found["guards/steps_skipped"]] == [0.0] * 4


def test_events_and_speed_say_how_fast_it_was_and_the_outputs_do_not(watched, undisturbed):
    events = [json.loads(line) for line in (watched / "events.jsonl").read_text().splitlines()]
    names = [line["event"] for line in events]
    assert names.count("train.step") == 4
    assert names.count("train.validation") == 3
    assert names.count("train.checkpoint") == 5
    speed = json.loads((watched / "speed.json").read_text())
    finished = next(line for line in events if line["event"] == "train.finished")
    assert {name: finished[name] for name in speed} == speed
    assert finished["guards"]["steps_skipped"] == 0
    assert speed["flops_convention"] == CONVENTION
    share = speed["model_tflops"] / speed["measured_matmul_tflops"]
    assert speed["share_of_measured_matmul"] == pytest.approx(share, abs=1e-4, rel=0.2)
    assert speed["steps_of_this_process"] == 10
    assert fingerprint_tree(watched / "work/out") == fingerprint_tree(undisturbed / "out")


def test_a_trace_of_the_steps_asked_for_is_in_the_run_folder(watched):
    (path,) = (watched / "profile").iterdir()
    assert path.name == "steps-4-5.json"
    events = json.loads(path.read_text())["traceEvents"]
    names = [event.get("name") for event in events]
    assert any("aten::" in str(name) for name in names)
    # Two steps, no more: one clipping of gradients each.
    assert names.count("Optimizer.step#AdamW.step") == 2


def test_a_trace_that_ends_with_the_run_is_written(tmp_path):
    trace = Trace((2, 9), tmp_path / "profile", torch.device("cpu"))
    for step in (1, 2, 3):
        trace.before(step)
        torch.ones(3) + 1
        trace.after(step)
    trace.close()
    trace.close()
    assert (tmp_path / "profile/steps-2-9.json").exists()


def test_a_resumed_run_goes_on_in_tensorboard_without_repeating_steps(tiny, inputs, tmp_path):
    board = tmp_path / "tensorboard"
    tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path / "work", tensorboard=board))
    for path in (tmp_path / "work/out/train/checkpoints").glob("step-00000010"):
        (path / "COMMITTED").unlink()
    tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path / "work", tensorboard=board))
    assert [step for step, _ in scalars(board)["loss/train"]] == [3, 6, 9, 10]
    # An attempt that finds nothing to do knows of no speed.
    speed = (tmp_path / "speed.json").read_text()
    assert json.loads(speed)["steps_of_this_process"] == 2
    tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path / "work", tensorboard=board))
    assert (tmp_path / "speed.json").read_text() == speed


@pytest.mark.parametrize("steps", [(0, 3), (5, 4), (-1, 2)])
def test_wrong_profile_steps_are_named(steps):
    with pytest.raises(ValidationError, match="profile_steps"):
        MonitorSection(profile_steps=steps)


def test_speed_leaves_out_the_first_step():
    speed = Speed(100)
    assert (speed.rate, speed.mean) == (0.0, None)
    speed.start()
    speed.stop()
    assert speed.mean is None
    for _ in range(3):
        speed.start()
        speed.stop()
    assert speed.mean == pytest.approx(300 / speed.seconds)


class FakeRun:
    def __init__(self, **settings):
        self.settings, self.logged, self.metrics, self.ended = settings, [], [], None

    def define_metric(self, name, step_metric=None):
        self.metrics.append((name, step_metric))

    def log(self, values):
        self.logged.append(values)

    def finish(self, exit_code):
        self.ended = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """The package's door, as far as it is used."""
    module = types.ModuleType("wandb")
    module.runs = []

    def init(**settings):
        module.runs.append(FakeRun(**settings))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_weights_and_biases_gets_every_figure_and_one_run_however_often_resumed(
    wandb, tiny, inputs, undisturbed, tmp_path
):
    config = tiny.configuration(monitor={"wandb": "rivers"})
    board = tmp_path / "run/tensorboard"
    tiny.run(config, tiny.context(inputs, tmp_path / "run/work", tensorboard=board))
    (run,) = wandb.runs
    assert run.settings["project"] == "rivers"
    assert run.settings["resume"] == "allow"
    assert run.settings["dir"] == str(tmp_path / "run")
    assert run.settings["config"]["sequence_length"] == 24
    assert ("*", "step") in run.metrics
    assert run.ended == 0
    losses = [(line["step"], line["loss/train"]) for line in run.logged if "loss/train" in line]
    assert losses == [(step, pytest.approx(value)) for step, value in scalars(board)["loss/train"]]
    assert {line["step"] for line in run.logged if "bits_per_byte/validation-zh" in line} == {4, 8, 10}
    assert fingerprint_tree(tmp_path / "run/work/out") == fingerprint_tree(undisturbed / "out")
    tiny.run(config, tiny.context(inputs, tmp_path / "run/work"))
    tiny.run(config, tiny.context(inputs, tmp_path / "other", seed=8))
    assert wandb.runs[1].settings["id"] == run.settings["id"] != wandb.runs[2].settings["id"]


def test_a_run_that_fails_is_closed_as_failed(wandb, tiny, inputs, tmp_path, monkeypatch):
    from haina.train.step import Stepper

    def gradients(self, batch):
        raise HainaError("something else")

    monkeypatch.setattr(Stepper, "gradients", gradients)
    with pytest.raises(HainaError, match="something else"):
        tiny.run(tiny.configuration(monitor={"wandb": "rivers"}), tiny.context(inputs, tmp_path))
    assert wandb.runs[0].ended == 1


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch, tiny, inputs, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(HainaError, match="wandb is not installed") as caught:
        tiny.run(tiny.configuration(monitor={"wandb": "rivers"}), tiny.context(inputs, tmp_path))
    assert "haina[wandb]" in caught.value.hint


def test_a_door_that_stays_shut_is_named(wandb, tmp_path):
    def init(**settings):
        raise ConnectionError("api.wandb.ai:\nno route")

    wandb.init = init
    with pytest.raises(HainaError, match=r"wandb: rivers: api.wandb.ai: no route") as caught:
        open_wandb("rivers", tmp_path, "x", {})
    assert "WANDB_MODE=offline" in caught.value.hint


def test_wandb_is_imported_only_when_asked(monkeypatch, tiny, inputs, undisturbed, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import would fail
    tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path))
    assert fingerprint_tree(tmp_path / "out") == fingerprint_tree(undisturbed / "out")
