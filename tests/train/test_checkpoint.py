"""Checkpoints: their bytes and what a reader finds; written while training goes on: order, errors, room, memory."""

import shutil
import threading
import time
import warnings

import pytest
import torch

from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree
from haina.train import TrainConfig, checkpoint_writer
from haina.train.checkpoint import (
    checkpoint_path,
    list_checkpoints,
    load_tensors,
    prune,
    save_checkpoint,
    tensors_of,
    verify_checkpoint,
)
from haina.train.checkpoint_writer import CheckpointWriter, check_room, human, pinned_bytes, tensor_bytes
from haina.train.optimizer import build_optimizer
from haina.train.progress import Progress
from haina.train.resume import Checkpoints, differences
from haina.train.watch import Reading

from .small import small_model


@pytest.fixture
def tensors():
    return {"model.a": torch.arange(6.0).reshape(2, 3), "guards.b": torch.tensor(7)}


def writer_of(folder, committed=None):
    folder.mkdir(exist_ok=True)
    seen = [] if committed is None else committed
    return CheckpointWriter(folder, lambda step, metrics, seconds: seen.append((step, metrics)))


def held(monkeypatch):
    """The disk stands still until the event is set."""
    go, honest = threading.Event(), checkpoint_writer.save_checkpoint

    def slow(*arguments):
        assert go.wait(60)
        honest(*arguments)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", slow)
    return go


def read(path, like):
    found = {name: torch.zeros_like(value) for name, value in like.items()}
    load_tensors(path, found)
    return found


def make(folder, step=3):
    model = small_model()
    optimizer = build_optimizer(model, TrainConfig(optimizer="adamw"))
    for parameter in model.parameters():
        optimizer.state[parameter]["exp_avg"].fill_(0.25)
    save_checkpoint(folder, step, tensors_of(model, optimizer), "{}\n", {"note": "海"})
    return model


def test_checkpoint_has_the_same_bytes_wherever_and_whenever_it_is_made(tmp_path):
    make(tmp_path / "one")
    make(tmp_path / "two" / "deeper")
    assert fingerprint_tree(tmp_path / "one") == fingerprint_tree(tmp_path / "two" / "deeper")


def test_checkpoint_gives_back_every_tensor(tmp_path):
    model = make(tmp_path)
    assert verify_checkpoint(checkpoint_path(tmp_path, 3))["note"] == "海"
    other = small_model(seed=1)
    optimizer = build_optimizer(other, TrainConfig(optimizer="adamw"))
    load_tensors(checkpoint_path(tmp_path, 3), tensors_of(other, optimizer))
    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert bool((optimizer.state[ours]["exp_avg"] == 0.25).all())


def test_checkpoint_is_a_plain_dcp_directory(tmp_path):
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    model = make(tmp_path)
    dcp_to_torch_save(checkpoint_path(tmp_path, 3), tmp_path / "all.pt")
    state = torch.load(tmp_path / "all.pt", weights_only=True)
    assert torch.equal(state["model.model.norm.weight"], model.model.norm.weight)


def test_checkpoint_of_another_shape_is_refused(tmp_path):
    make(tmp_path)
    other = small_model(hidden_size=16)
    with pytest.raises(HainaError, match="does not fit this model"):
        load_tensors(
            checkpoint_path(tmp_path, 3),
            tensors_of(other, build_optimizer(other, TrainConfig(optimizer="adamw"))),
        )


def test_what_is_written_is_the_state_at_the_call_whatever_training_does_meanwhile(
    tmp_path, tensors, monkeypatch
):
    go, seen = held(monkeypatch), []
    writer = writer_of(tmp_path / "c", seen)
    writer.save(5, tensors, "{}\n", {"note": "海"})
    writer.poll()  # does not wait
    assert list_checkpoints(tmp_path / "c") == []
    before = {name: value.clone() for name, value in tensors.items()}
    for value in tensors.values():
        value.add_(1000)
    go.set()
    writer.wait()
    assert seen == [(5, "{}\n")]
    path = checkpoint_path(tmp_path / "c", 5)
    assert verify_checkpoint(path)["note"] == "海"
    assert all(torch.equal(value, before[name]) for name, value in read(path, tensors).items())


def test_bytes_are_those_of_a_checkpoint_made_at_once(tmp_path, tensors):
    writer = writer_of(tmp_path / "c")
    writer.save(5, tensors, "{}\n", {})
    writer.wait()
    writer.save(6, tensors, "{}\n", {}, now=True)
    for step in (5, 6):
        save_checkpoint(tmp_path / "plain", step, tensors, "{}\n", {})
    assert fingerprint_tree(tmp_path / "c") == fingerprint_tree(tmp_path / "plain")


def test_at_most_one_is_under_way_and_the_second_waits(tmp_path, tensors, monkeypatch):
    go, seen = held(monkeypatch), []
    writer = writer_of(tmp_path / "c", seen)
    writer.save(1, tensors, "", {})
    threading.Timer(0.2, go.set).start()
    started = time.monotonic()
    writer.save(2, tensors, "", {})
    assert time.monotonic() - started > 0.1
    assert [step for step, _ in seen] == [1]
    writer.wait()
    assert [step for step, _ in seen] == [1, 2]


@pytest.mark.parametrize("asked", ["poll", "wait", "save"])
def test_what_goes_wrong_in_the_thread_is_raised_in_the_loop(asked, tmp_path, tensors, monkeypatch):
    def broken(*arguments):
        raise HainaError("the disk is gone")

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", broken)
    writer = writer_of(tmp_path / "c")
    writer.save(1, tensors, "", {})
    writer._thread.join()
    with pytest.raises(HainaError, match="the disk is gone"):
        writer.save(2, tensors, "", {}) if asked == "save" else getattr(writer, asked)()
    writer.close()


def test_without_memory_for_a_copy_it_is_written_at_once(tmp_path, tensors, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "free_memory", lambda: 10)
    writer = writer_of(tmp_path / "c")
    writer.save(1, tensors, "", {})
    assert [path.name for path in list_checkpoints(tmp_path / "c")] == ["step-00000001"]
    assert writer._copy == {}


def test_the_copy_is_made_once(tmp_path, tensors):
    writer = writer_of(tmp_path / "c")
    writer.save(1, tensors, "", {})
    writer.wait()
    first = {name: value.data_ptr() for name, value in writer._copy.items()}
    writer.save(2, tensors, "", {})
    writer.wait()
    assert {name: value.data_ptr() for name, value in writer._copy.items()} == first
    assert tensor_bytes(writer._copy) == tensor_bytes(tensors) == 6 * 4 + 8


def test_room_is_looked_for_before_anything_is_written(tmp_path, tensors, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=3 << 20)
    monkeypatch.setattr(checkpoint_writer.shutil, "disk_usage", lambda path: free)
    check_room(tmp_path, 3 << 20)
    with pytest.raises(HainaError, match=r"needs 3.0 MiB, free are 3.0 MiB; there is no checkpoint yet"):
        check_room(tmp_path, (3 << 20) + 1)
    writer = writer_of(tmp_path / "c")
    with pytest.raises(HainaError, match=r"needs 4.0 MiB, free are 3.0 MiB"):
        writer.save(1, tensors, "", {})
    assert list((tmp_path / "c").iterdir()) == []
    monkeypatch.undo()
    with pytest.raises(HainaError, match="no such file"):
        check_room(tmp_path / "nowhere", 1)


def test_pinned_memory_is_counted_as_it_is_given_out():
    sizes = {
        "a": torch.empty(1 << 20),
        "b": torch.empty((1 << 18) + 1),
        "c": torch.empty(3, dtype=torch.int8),
    }
    assert pinned_bytes(sizes) == (4 << 20) + (2 << 20) + 4


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path):
    for step in (99_999_999, 100_000_000, 7):
        checkpoint_path(tmp_path, step).mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step-00000007", "step-99999999", "step-100000000",
    ]  # fmt: skip


def test_sizes_for_people():
    assert [human(size) for size in (0, 1023, 1536, 5 << 20, 3 << 30, 5 << 40)] == [
        "0 bytes",
        "1,023 bytes",
        "1.5 KiB",
        "5.0 MiB",
        "3.0 GiB",
        "5,120.0 GiB",
    ]


def test_no_warning_about_a_single_process(tmp_path, tensors):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save_checkpoint(tmp_path, 1, tensors, "", {})
        read(checkpoint_path(tmp_path, 1), tensors)
    assert [str(item.message) for item in caught if "torch.distributed" in str(item.message)] == []


def test_prune_keeps_what_an_undisturbed_run_would_have(tmp_path):
    scheduled = {10, 20, 30, 35}

    def after(*steps):
        for path in list_checkpoints(tmp_path):
            path.rmdir()
        for step in steps:
            checkpoint_path(tmp_path, step).mkdir()
        (tmp_path / "step-00000040.partial").mkdir()
        prune(tmp_path, scheduled, keep=2)
        assert not list(tmp_path.glob("*.partial"))
        return [int(path.name[5:]) for path in list_checkpoints(tmp_path)]

    assert after(10, 20, 30) == [20, 30]
    assert after(10, 20, 25) == [10, 20, 25]
    assert after(10, 20, 25, 30) == [20, 30]
    assert after(3) == [3]
    assert after(20, 30, 33, 35) == [30, 35]


def test_prune_keeps_milestones_and_one_beyond_the_horizon(tmp_path):
    def after(steps, **rules):
        for path in list_checkpoints(tmp_path):
            path.rmdir()
        for step in steps:
            checkpoint_path(tmp_path, step).mkdir()
        prune(tmp_path, set(range(0, 200, 10)), 2, **rules)
        return [int(path.name[5:]) for path in list_checkpoints(tmp_path)]

    every = range(10, 101, 10)
    assert after(every) == [90, 100]
    assert after(every, horizon=20) == [80, 90, 100]
    assert after(every, horizon=35) == [60, 90, 100]
    assert after(every, horizon=1000) == [90, 100]
    assert after(every, milestones={30, 60}) == [30, 60, 90, 100]
    assert after([*every, 105], milestones={30}, horizon=25) == [30, 70, 90, 100, 105]


def test_differences_name_leaves_and_both_values():
    there = {"a": {"b": 1, "c": [1, 2]}, "d": "x" * 50, "e": None}
    assert differences(there, there) == []
    here = {"a": {"b": 2, "c": [1, 2]}, "d": "y", "f": 3}
    assert differences(there, here) == [
        "a.b 1 there, 2 here",
        f"d {'x' * 37}... there, y here",
        "f None there, 3 here",
    ]


def test_progress_survives_a_checkpoint_bit_for_bit(tmp_path, tensors):
    progress = Progress(step=7, final_loss=1 / 3)
    row = Reading(7, 6, 0.1 + 0.2, float("nan"), 0.5, 0, 0, 0, (1.0, 1.0, 1.0))
    progress.count(row)
    progress.count(Reading(8, 7, float("nan"), 1.0, 0.5, 1, 1, 0, (1.0, 1.0, 1.0)))
    progress.validation = {"zh": {"loss": 2 / 3, "tokens": 5, "bits_per_byte": None, "groups": {}}}
    progress.write({"step": 7, "note": "海"})
    save_checkpoint(
        tmp_path, 7, tensors, progress.metrics, {**progress.counters(), "identity": {}, "machine": {}}
    )
    again = Checkpoints(tmp_path, {}, {}, reporter=None).newest(tensors)
    assert again == progress
    assert again.loss_sum == 0.1 + 0.2
    line = again.line_of(row, 100, 0.25, float("nan"))
    assert line == {"step": 7, "tokens": 100, "loss": 0.1 + 0.2, "learning_rate": 0.25, "update_norm": 0.5}
