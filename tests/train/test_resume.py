"""SIGKILL, Ctrl-C, damage, a full disk: the end is the same as undisturbed, or an error says why not."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree
from haina.train import loop


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
    kill_trials(tmp_path, 6, 20261123)


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
    ("change", "seed"),
    [({"learning_rate": 2e-2}, 7), ({}, 8)],
    ids=["configuration", "seed"],
)
def test_checkpoint_of_another_run_is_refused(change, seed, tiny, inputs, copy):
    with pytest.raises(HainaError, match="made with another " + ("configuration" if change else "seed")):
        tiny.run(tiny.configuration(**change), tiny.context(inputs, copy, seed=seed))


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
    watcher = Watcher(5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1])))
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


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_stops_and_names_step_and_checkpoint(
    bad, tiny, inputs, tmp_path, monkeypatch
):
    honest = loop.Trainer._backward
    calls = []

    def poisoned(self, batch):
        calls.append(1)
        value = honest(self, batch)
        return bad if len(calls) == 6 else value

    monkeypatch.setattr(loop.Trainer, "_backward", poisoned)
    with pytest.raises(HainaError, match=r"training step 6: loss (nan|inf)") as caught:
        tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path))
    assert "step-00000004" in caught.value.message
    assert "learning_rate" in caught.value.hint
    assert names(tmp_path) == ["step-00000002", "step-00000004"]


def test_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(tiny, inputs, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda parameters, limit: torch.tensor(float("nan"))
    )
    with pytest.raises(HainaError, match=r"training step 1: .*gradient norm nan.*no checkpoint yet"):
        tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path))
    assert names(tmp_path) == []
