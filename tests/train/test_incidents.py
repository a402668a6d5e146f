"""What goes wrong in a run, and how it ends: batches that break a step, a diverging loss, memory that does not suffice."""

import json
import os
import shutil
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree
from haina.runtime.stage import EventLog
from haina.shards import LoaderSection, open_loader
from haina.train import loop, readback
from haina.train.order import OrderedBatches
from haina.train.step import Stepper


@pytest.fixture
def poison(monkeypatch):
    """A function: from now on the gradient of batches with these numbers holds a NaN, or is far too long."""

    def use(numbers, too_long=()):
        honest = Stepper.gradients

        def gradients(self, batch):
            loss = honest(self, batch)
            if batch.step in numbers:
                next(self.model.parameters()).grad.view(-1)[3] = float("nan")
            for parameter in self.model.parameters() if batch.step in too_long else ():
                parameter.grad.mul_(1000)
            return loss

        monkeypatch.setattr(Stepper, "gradients", gradients)

    return use


class Said:
    """A reporter that keeps what is said and counts steps, and may stop the run after some of them."""

    def __init__(self, stop_at=()):
        self.said, self.step, self.stop_at = [], 0, set(stop_at)

    @contextmanager
    def task(self, description, total, unit, done=0):
        self.step = done
        yield self

    def advance(self, amount=1, note=""):
        self.step += amount
        if self.step in self.stop_at:
            self.stop_at.remove(self.step)
            os.kill(os.getpid(), signal.SIGINT)

    def say(self, message):
        self.said.append(message)


def summary(work):
    return json.loads((work / "out/train/summary.json").read_text())


def checkpoint(work, step):
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    target = work / f"{step}.pt"
    dcp_to_torch_save(work / f"out/train/checkpoints/step-{step:08d}", target)
    return torch.load(target, weights_only=True)


def test_a_gradient_that_is_not_finite_changes_nothing_and_its_batch_is_kept(tiny, inputs, tmp_path, poison):
    poison([4])
    config = tiny.configuration(checkpoint_every=1, keep_checkpoints=10)
    events, said = EventLog(tmp_path / "events.jsonl"), Said()
    tiny.run(config, tiny.context(inputs, tmp_path, events=events, reporter=said))
    before, after, later = (checkpoint(tmp_path, step) for step in (4, 5, 6))
    for name, value in before.items():
        if not name.startswith("guards."):
            assert torch.equal(value, after[name]), name
    name = "model.model.embed_tokens.weight"
    assert not torch.equal(after[name], later[name])
    values = [value for name, value in later.items() if not name.startswith("guards.")]
    assert all(torch.isfinite(value).all() for value in values)
    guards = summary(tmp_path)["guards"]
    assert (guards["steps_skipped"], guards["batches_quarantined"], guards["rollbacks"]) == (1, 1, [])
    assert "step 5: loss or gradient not finite; it changed nothing" in said.said[0]
    assert said.said[-1] == "trained 10 steps: 1 step skipped, 1 batch quarantined, 0 rollbacks"
    written = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (skipped,) = [line for line in written if line["event"] == "train.step_skipped"]
    assert (skipped["step"], skipped["batch"], skipped["gradient_norm"]) == (5, 4, None)
    assert skipped["quarantine"] == "step-00000005"

    folder = tmp_path / "out/train/quarantine/step-00000005"
    kept = json.loads((folder / "batch.json").read_text())
    loader = open_loader(inputs / "shards", LoaderSection().with_sizes(24, 4, 7))
    batch = loader.batch(4)
    with np.load(folder / "batch.npz") as arrays:
        for name in ("inputs", "targets", "positions", "segments", "pieces"):
            assert np.array_equal(arrays[name], getattr(batch, name)), name
    assert (kept["step"], kept["batch"], kept["gradient_norm"]) == (5, 4, "nan")
    assert kept["loss"] > 0
    pieces = [piece for row in kept["rows"] for piece in row["pieces"]]
    assert len(pieces) == len(batch.pieces)
    texts = {
        f"train-{n}": text
        for n, text in enumerate([t for lang in tiny.TEXTS for t in tiny.TEXTS[lang][:2]] * 40)
    }
    for piece in pieces:
        whole = f"<s>{texts[piece['id']]}</s>"
        # A piece of a cut document may begin or end within a character.
        assert piece["text"].strip("\ufffd") in whole
        assert piece["source"].split("/")[0] in ("zh", "en")
    assert {piece["lang"] for piece in pieces} == {"zh", "en"}


def test_a_flipped_bit_in_a_shard_is_quarantined(tiny, inputs, tmp_path):
    shutil.copytree(inputs, tmp_path / "inputs")
    path = tmp_path / "inputs/shards/train-00000.bin"
    tokens = np.memmap(path, "<u2", "r+")
    loader = open_loader(inputs / "shards", LoaderSection().with_sizes(24, 4, 7))
    piece = loader.batch(2).pieces[0]
    lengths = [len(document) for document in tokens_of(inputs)]
    place = sum(lengths[: piece["document"]]) + piece["first"] + 3
    tokens[place] ^= 1 << 14
    tokens.flush()
    said = Said()
    tiny.run(tiny.configuration(), tiny.context(tmp_path / "inputs", tmp_path / "work", reporter=said))
    guards = summary(tmp_path / "work")["guards"]
    assert guards["skipped_because"] == {"tokens outside the vocabulary": guards["steps_skipped"]}
    assert guards["batches_quarantined"] >= 1
    kept = json.loads((tmp_path / "work/out/train/quarantine/step-00000003/batch.json").read_text())
    assert kept["because"] == ["tokens outside the vocabulary"]
    (wrong,) = kept["tokens_outside_vocabulary"]
    assert wrong == {"row": 0, "column": int(piece["column"]) + 3, "id": int(tokens[place])}
    described = next(item for item in kept["rows"][0]["pieces"] if item["column"] == piece["column"])
    assert f"<id {tokens[place]}?>" in described["text"]
    assert "step 3: tokens outside the vocabulary" in said.said[0]
    assert summary(tmp_path / "work")["final_loss"] > 0


def tokens_of(inputs):
    from haina.shards import ShardSet

    train = ShardSet.open(inputs / "shards", "train")
    return [train[number] for number in range(len(train))]


CAREFUL = {"patience": 3, "window": 8, "sigmas": 30}


def test_bad_batches_in_a_row_are_left_out_and_the_run_is_the_one_without_them(
    tiny, inputs, tmp_path, poison, monkeypatch
):
    config = tiny.configuration(guards=CAREFUL, steps=12)
    said = Said()
    poison([6, 7, 8])
    tiny.run(config, tiny.context(inputs, tmp_path / "bad", reporter=said))
    (rollback,) = summary(tmp_path / "bad")["guards"]["rollbacks"]
    assert (rollback["noticed_at"], rollback["began_at"], rollback["to"]) == (9, 7, 6)
    assert rollback["left_out"] == summary(tmp_path / "bad")["guards"]["batches_left_out"] == [6, 7, 8]
    assert any("going back to step 6 without 3 batches" in line for line in said.said)
    assert said.said[-1] == "trained 12 steps: 3 steps skipped, 3 batches quarantined, 1 rollback"
    metrics = [
        json.loads(line) for line in (tmp_path / "bad/out/train/metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in metrics if "rollback" in line] == [6]
    assert [line["step"] for line in metrics if "loss" in line] == [3, 6, 9, 12]
    # The same run, had the three batches never been there.
    monkeypatch.setattr(loop, "OrderedBatches", lambda source, left_out: OrderedBatches(source, (6, 7, 8)))
    tiny.run(config, tiny.context(inputs, tmp_path / "good"))
    bad, good = (load_file(tmp_path / name / "out/model/model.safetensors") for name in ("bad", "good"))
    assert all(torch.equal(bad[name], good[name]) for name in good)
    assert summary(tmp_path / "bad")["validation"] == summary(tmp_path / "good")["validation"]


def test_interrupted_anywhere_the_guards_decide_the_same(tiny, inputs, tmp_path, poison):
    config = tiny.configuration(guards=CAREFUL, steps=14, gradient_accumulation=2)
    poison([2, 5, 6, 7, 10], too_long=[11])
    tiny.run(config, tiny.context(inputs, tmp_path / "whole"))
    guards = summary(tmp_path / "whole")["guards"]
    assert len(guards["rollbacks"]) == 1
    assert guards["skipped_because"] == {
        "loss or gradient not finite": 5,
        "gradient norm above its limit": 1,
    }
    said = Said(stop_at=[3, 6, 7, 8, 9, 11])
    for _ in range(20):
        try:
            tiny.run(config, tiny.context(inputs, tmp_path / "cut", reporter=said))
            break
        except KeyboardInterrupt:
            continue
    assert not said.stop_at
    assert fingerprint_tree(tmp_path / "cut/out") == fingerprint_tree(tmp_path / "whole/out")


def test_reading_the_numbers_later_changes_no_byte(tiny, inputs, tmp_path, poison, monkeypatch):
    config = tiny.configuration(guards=CAREFUL, steps=14, checkpoint_every=5)
    poison([2, 5, 6, 7, 10])
    tiny.run(config, tiny.context(inputs, tmp_path / "at once"))
    honest = readback.Readback.__init__

    def late(self, device):
        honest(self, device)
        self.depth = readback.DEPTH

    monkeypatch.setattr(readback.Readback, "__init__", late)
    tiny.run(config, tiny.context(inputs, tmp_path / "later"))
    assert fingerprint_tree(tmp_path / "later/out") == fingerprint_tree(tmp_path / "at once/out")


def test_a_learning_rate_gone_wild_is_undone(tiny, inputs, tmp_path, monkeypatch):
    guards = {"patience": 3, "window": 16}
    config = tiny.configuration(guards=guards, steps=40, learning_rate=3e-3, checkpoint_every=5)
    tiny.run(config, tiny.context(inputs, tmp_path / "calm"))
    honest, wild = loop.learning_rate, list(range(20, 30))

    def learning_rate(step, config):
        if step in wild:
            wild.remove(step)
            return 300 * honest(step, config)
        return honest(step, config)

    monkeypatch.setattr(loop, "learning_rate", learning_rate)
    tiny.run(config, tiny.context(inputs, tmp_path / "wild"))
    guards = summary(tmp_path / "wild")["guards"]
    assert guards["update_norm_alarms"] >= 1
    assert len(guards["rollbacks"]) >= 1
    assert guards["rollbacks"][0]["began_at"] == 21
    assert guards["rollbacks"][0]["to"] == 20
    for lang in ("zh", "en"):
        calm, wild_loss = (summary(tmp_path / name)["validation"][lang]["loss"] for name in ("calm", "wild"))
        assert wild_loss < 1.1 * calm


def test_trouble_from_the_first_step_on_is_an_error_that_says_what_was_seen(tiny, inputs, tmp_path, poison):
    poison(range(1000))
    config = tiny.configuration(guards={"patience": 2, "max_rollbacks": 2})
    with pytest.raises(HainaError) as caught:
        tiny.run(config, tiny.context(inputs, tmp_path))
    assert "training step 2: 2 bad steps in a row (loss or gradient not finite" in caught.value.message
    assert caught.value.message.count("went back from step 2 to step 0") == 2
    assert "quarantine/" in caught.value.hint
    found = sorted(path.name for path in (tmp_path / "out/train/quarantine").iterdir())
    assert found[:3] == ["step-00000001", "step-00000001-replay-1", "step-00000001-replay-2"]


def test_going_back_to_the_beginning_is_a_fresh_start(tiny, inputs, tmp_path, poison, monkeypatch):
    config = tiny.configuration(guards={"patience": 2}, checkpoint_every=10)
    poison([3, 4])
    tiny.run(config, tiny.context(inputs, tmp_path / "bad"))
    assert summary(tmp_path / "bad")["guards"]["rollbacks"][0]["to"] == 0
    monkeypatch.setattr(loop, "OrderedBatches", lambda source, left_out: OrderedBatches(source, (3, 4)))
    tiny.run(config, tiny.context(inputs, tmp_path / "good"))
    bad, good = ((tmp_path / name / "out/model/model.safetensors").read_bytes() for name in ("bad", "good"))
    assert bad == good


def test_a_damaged_checkpoint_is_passed_over_on_the_way_back(tiny, inputs, tmp_path, poison, monkeypatch):
    poison([7, 8, 9])
    honest = loop.Trainer._go_back

    def damage_first(self, trouble, bar):
        path = tmp_path / "out/train/checkpoints/step-00000006/__0_0.distcp"
        path.write_bytes(path.read_bytes()[:-1])
        honest(self, trouble, bar)

    monkeypatch.setattr(loop.Trainer, "_go_back", damage_first)
    said = Said()
    config = tiny.configuration(guards=CAREFUL, steps=12, keep_checkpoints=4)
    tiny.run(config, tiny.context(inputs, tmp_path, reporter=said))
    assert summary(tmp_path)["guards"]["rollbacks"][0]["to"] == 4
    assert any("step-00000006: __0_0.distcp is damaged; going further back" in line for line in said.said)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:129] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        MemoryError("Unable to allocate 9.31 GiB for an array"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_memory_that_does_not_suffice_is_explained(error, tiny, inputs, tmp_path, monkeypatch):
    def gradients(self, batch):
        raise error

    monkeypatch.setattr(Stepper, "gradients", gradients)
    with pytest.raises(HainaError) as caught:
        tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path))
    assert "out of memory on the machine" in caught.value.message
    assert "a step takes about" in caught.value.message
    assert "parameters" in caught.value.message
    assert caught.value.hint.startswith("what would fit: train.")
    assert caught.value.hint.count("; or train.") == 2


def test_other_faults_are_not_taken_for_memory(tiny, inputs, tmp_path, monkeypatch):
    def gradients(self, batch):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Stepper, "gradients", gradients)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        tiny.run(tiny.configuration(), tiny.context(inputs, tmp_path))
