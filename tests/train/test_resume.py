"""SIGKILL, Ctrl-C, damage, a full disk: the end is the same as undisturbed, or an error says why not."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree


class Watcher:
    """A reporter that keeps what is said and calls `act` after step `at`."""

    def __init__(self, at=0, act=lambda: None):
        self.at, self.act, self.said, self.steps, self.notes = at, act, [], 0, []

    @contextmanager
    def task(self, description, total, unit, done=0):
        self.steps = done
        yield self

    def advance(self, amount=1, note=""):
        self.steps += amount
        self.notes.append(note)
        if self.steps == self.at:
            self.act()

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def copy(undisturbed, tmp_path):
    """A finished work folder to do harm to."""
    return Path(shutil.copytree(undisturbed, tmp_path / "copy"))


def names(work):
    return sorted(path.name for path in (work / "out/train/checkpoints").iterdir())


def kill_trials(folder, trials, seed):
    script = Path(__file__).with_name("tiny_run.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(folder), str(trials), str(seed)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60 + 30 * trials, check=False
    )
    assert done.returncode == 0, done.stderr
    whole, *killed = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(killed) == trials
    assert sum(trial["kills"] for trial in killed) >= trials
    assert {trial["out"] for trial in killed} == {whole["out"]}


def test_sigkill_at_random_moments_changes_no_byte(tmp_path):
    kill_trials(tmp_path, 1, 20261123)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_sigkill_at_many_random_moments(tmp_path, seed):
    kill_trials(tmp_path, 20, seed)


def test_ctrl_c_finishes_the_step_keeps_it_and_goes_on(tiny, inputs, undisturbed, tmp_path):
    watcher = Watcher(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path, reporter=watcher))
    assert signal.getsignal(signal.SIGINT) is before
    assert "step-00000005" in names(tmp_path)
    assert "stopped after step 5 of 10" in watcher.said[-1]
    assert "run the same command again" in watcher.said[-1]
    again = Watcher()
    tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path, reporter=again))
    assert len(again.notes) == 5
    assert again.notes[0].startswith("loss ")
    assert again.notes[0].endswith("tokens/s")
    assert fingerprint_tree(tmp_path / "out") == fingerprint_tree(undisturbed / "out")


def test_split_weights_go_on_bit_for_bit_and_train_as_whole_ones(tiny, inputs, tmp_path):
    whole = tiny.configuration(optimizer="adamw", precision="bf16", learning_rate=3e-3)
    split = whole.model_copy(update={"split_weights": True})
    for name, config in (("whole", whole), ("split", split)):
        tiny.run(config, tiny.context(inputs, tmp_path / name))
    watcher = Watcher(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        tiny.run(split, tiny.context(inputs, tmp_path / "stopped", reporter=watcher))
    tiny.run(split, tiny.context(inputs, tmp_path / "stopped"))
    assert fingerprint_tree(tmp_path / "stopped/out") == fingerprint_tree(tmp_path / "split/out")
    losses = [
        json.loads((tmp_path / name / "out/train/summary.json").read_text())["final_loss"]
        for name in ("whole", "split")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=5e-3)


def test_a_second_run_on_a_finished_folder_trains_nothing(tiny, inputs, undisturbed, copy):
    watcher = Watcher()
    tiny.run(tiny.configuration(), tiny.context(inputs, copy, reporter=watcher))
    assert watcher.notes == []
    assert fingerprint_tree(copy / "out") == fingerprint_tree(undisturbed / "out")


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "state.json", "metrics.jsonl", "COMMITTED"])
def test_damaged_newest_checkpoint_is_named_and_passed_over(name, tiny, inputs, undisturbed, copy):
    path = copy / "out/train/checkpoints/step-00000010" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    watcher = Watcher()
    tiny.run(tiny.configuration(), tiny.context(inputs, copy, reporter=watcher))
    assert len(watcher.notes) == 2
    assert "step-00000010" in watcher.said[0]
    assert "damaged" in watcher.said[0]
    assert "step-00000008" in watcher.said[0]
    assert fingerprint_tree(copy / "out") == fingerprint_tree(undisturbed / "out")


def test_no_whole_checkpoint_is_an_error_that_names_them(tiny, inputs, copy):
    for path in (copy / "out/train/checkpoints").glob("*/__0_0.distcp"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(HainaError, match=r"step-00000010.*step-00000008.*no checkpoint is whole"):
        tiny.run(tiny.configuration(), tiny.context(inputs, copy))


@pytest.mark.parametrize(
    ("change", "seed", "named"),
    [
        ({"learning_rate": 2e-2}, 7, "configuration.learning_rate 0.01 there, 0.02 here"),
        (
            {"steps": 20, "warmup_steps": 3},
            7,
            "configuration.steps 10 there, 20 here; configuration.warmup_steps",
        ),
        ({"guards": {"sigmas": 7}}, 7, "configuration.guards.sigmas 6.0 there, 7.0 here"),
        ({"model": {"preset": "quickstart"}}, 7, "model.head_dim .* and \\d+ more"),
        ({}, 8, "seed 7 there, 8 here"),
    ],
)
def test_checkpoint_of_another_run_is_refused(change, seed, named, tiny, inputs, undisturbed, copy):
    with pytest.raises(HainaError, match="made with another .*" + named):
        tiny.run(tiny.configuration(**change), tiny.context(inputs, copy, seed=seed))
    assert fingerprint_tree(copy / "out") == fingerprint_tree(undisturbed / "out")


def test_what_is_watched_is_no_part_of_a_run(tiny, inputs, undisturbed, copy):
    (copy / "out/train/checkpoints/step-00000010/COMMITTED").unlink()
    tiny.run(tiny.configuration(monitor={"profile_steps": [10, 10]}), tiny.context(inputs, copy))
    assert fingerprint_tree(copy / "out") == fingerprint_tree(undisturbed / "out")


def test_other_threads_are_said_because_the_bits_may_differ(tiny, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("haina.train.hardware.physical_cores", lambda: 1)
    tiny.run(tiny.configuration(threads=0), tiny.context(inputs, tmp_path))
    monkeypatch.setattr("haina.train.hardware.physical_cores", lambda: 13)
    watcher = Watcher()
    tiny.run(tiny.configuration(threads=0), tiny.context(inputs, tmp_path, reporter=watcher))
    assert "'threads': 13" in watcher.said[0]
    assert "not be bit-identical" in watcher.said[0]


def test_full_disk_keeps_the_last_good_checkpoint(tiny, inputs, undisturbed, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    # The system refuses to let a file grow, as on a full disk, after the checkpoint of step 4 is made.
    def fill():
        deadline = time.monotonic() + 60
        while "step-00000004" not in names(tmp_path) or any(".partial" in name for name in names(tmp_path)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))

    watcher = Watcher(5, fill)
    try:
        with pytest.raises(HainaError) as caught:
            tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path, reporter=watcher))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "step-00000006" in caught.value.message
    assert "the last good checkpoint is step-00000004" in caught.value.message
    assert names(tmp_path) == ["step-00000002", "step-00000004"]
    tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path))
    assert fingerprint_tree(tmp_path / "out") == fingerprint_tree(undisturbed / "out")


def test_sigterm_keeps_a_checkpoint_and_exits_0(tiny, inputs, undisturbed, tmp_path):
    watcher = Watcher(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path, reporter=watcher))
    assert caught.value.code == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert "stopped after step 5 of 10, kept in step-00000005" in watcher.said[-1]
    assert "run the same command again" in watcher.said[-1]
    tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path))
    assert fingerprint_tree(tmp_path / "out") == fingerprint_tree(undisturbed / "out")


def test_a_signal_at_the_last_step_changes_nothing(tiny, inputs, undisturbed, tmp_path):
    watcher = Watcher(10, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path, reporter=watcher))
    assert caught.value.code == 0
    assert "step-00000010" in names(tmp_path)
    tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path, reporter=(again := Watcher())))
    assert again.notes == []
    assert fingerprint_tree(tmp_path / "out") == fingerprint_tree(undisturbed / "out")


@pytest.mark.parametrize("place", ["read_held_out", "_write_model"])
def test_sigterm_before_the_steps_or_after_them_exits_0_too(
    place, tiny, inputs, undisturbed, tmp_path, monkeypatch
):
    from haina.train import stage

    honest = getattr(stage, place)

    def told(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return honest(*arguments)

    monkeypatch.setattr(stage, place, told)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path))
    assert caught.value.code == 0
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.undo()
    tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path))
    assert fingerprint_tree(tmp_path / "out") == fingerprint_tree(undisturbed / "out")


def test_milestones_stay(tiny, inputs, tmp_path):
    config = tiny.configuration(steps=12, milestone_every=3, checkpoint_every=2, keep_checkpoints=1)
    tiny.run(config, tiny.context(inputs, tmp_path))
    assert names(tmp_path) == [f"step-{step:08d}" for step in (3, 6, 9, 12)]


def test_no_room_for_the_next_checkpoint_is_said_before_writing(
    tiny, inputs, undisturbed, tmp_path, monkeypatch
):
    from haina.train import checkpoint_writer

    honest = shutil.disk_usage

    def full(path):
        return honest(path)._replace(free=123 << 10)

    watcher = Watcher(5, lambda: monkeypatch.setattr(checkpoint_writer.shutil, "disk_usage", full))
    with pytest.raises(HainaError) as caught:
        tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path, reporter=watcher))
    assert "the next checkpoint needs" in caught.value.message
    assert "free are 123.0 KiB" in caught.value.message
    assert "step-00000004" in caught.value.message
    assert names(tmp_path) == ["step-00000002", "step-00000004"]
    with pytest.raises(HainaError, match="free are 123"):  # before a step is taken
        tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path, reporter=(again := Watcher())))
    assert again.notes == []
    monkeypatch.undo()
    tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path))
    assert fingerprint_tree(tmp_path / "out") == fingerprint_tree(undisturbed / "out")


def test_a_checkpoint_of_another_vocabulary_is_refused(tiny, undisturbed, copy, tmp_path):
    smaller = tmp_path / "smaller"
    tiny.make_inputs(smaller, vocab_size=290)
    with pytest.raises(HainaError, match=r"another .*model.vocab_size 300 there, 290 here|and \d+ more"):
        tiny.run(tiny.configuration(), tiny.context(smaller, copy))
    assert fingerprint_tree(copy / "out") == fingerprint_tree(undisturbed / "out")


@pytest.mark.slow
def test_sigterm_to_the_command_line_exits_0_and_the_same_command_goes_on(tiny, inputs, tmp_path):
    config = tiny.configuration(steps=150, checkpoint_every=5, log_every=1)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"name": "tiny", "seed": 7, "train": config.model_dump(mode="json")}))

    def command(out):
        words = ["train", str(recipe), "--shards", str(inputs / "shards"), "--out", str(out)]
        words += ["--tokenizer", str(inputs / "tokenizer")]
        code = f"from haina.cli import main; main({words!r})"
        return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)

    cut = command(tmp_path / "cut")
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut/train.work/out/train/checkpoints/step-00000010").exists():
        assert time.monotonic() < deadline
        assert cut.poll() is None
        time.sleep(0.02)
    cut.send_signal(signal.SIGTERM)
    _, said = cut.communicate(timeout=120)
    assert cut.returncode == 0, said
    assert "stopped after step" in said
    assert not (tmp_path / "cut/train").exists()
    for name in ("cut", "whole"):
        process = command(tmp_path / name)
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    for part in ("train", "model"):
        assert fingerprint_tree(tmp_path / "cut" / part) == fingerprint_tree(tmp_path / "whole" / part)
    events = [json.loads(line) for line in (tmp_path / "cut/events.jsonl").read_text().splitlines()]
    (stopped,) = [line for line in events if line["event"] == "train.stopped"]
    assert stopped["signal"] == "SIGTERM"
