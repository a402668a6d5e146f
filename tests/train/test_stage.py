"""The stage from shards to model folder: what it writes, that it learns, and what it refuses."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import haina.model
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree
from haina.runtime.progress import SilentProgress
from haina.runtime.stage import EventLog
from haina.train import ModelSection, TrainConfig


def lines(work):
    return [json.loads(line) for line in (work / "out/train/metrics.jsonl").read_text().splitlines()]


def test_outputs_are_those_of_the_contract(undisturbed):
    train, model = undisturbed / "out/train", undisturbed / "out/model"
    metrics = lines(undisturbed)
    steps = [line for line in metrics if "loss" in line]
    assert [line["step"] for line in steps] == [3, 6, 9, 10]
    norms = {"gradient_norm", "update_norm", "parameter_norm"}
    assert set(steps[0]) == {"step", "tokens", "loss", "learning_rate"} | norms
    assert all(line[name] > 0 for line in steps for name in norms)
    assert steps[-1]["tokens"] == 10 * 4 * 24
    validated = [line for line in metrics if "validation" in line]
    assert [line["step"] for line in validated] == [4, 8, 10]
    assert all(set(line["validation"]) == set(line["bits_per_byte"]) == {"zh", "en"} for line in validated)
    summary = json.loads((train / "summary.json").read_text())
    config = haina.model.read_config(model)
    assert summary["parameters"] == config.parameter_count
    assert summary["flops_per_token"] == config.flops_per_token(24)
    assert (summary["tokens"], summary["steps"], summary["precision"]) == (960, 10, "fp32")
    assert summary["final_loss"] == steps[-1]["loss"]
    assert summary["model_flops"] == 960 * summary["flops_per_token"]
    assert "full attention" in summary["flops_convention"]
    assert summary["validation"]["zh"]["loss"] == validated[-1]["validation"]["zh"]
    assert summary["validation"]["zh"]["bits_per_byte"] == validated[-1]["bits_per_byte"]["zh"]
    assert set(summary["validation"]["en"]["groups"]["source"]) == {"books", "verses"}
    assert summary["guards"] == {
        "steps_skipped": 0,
        "skipped_because": {},
        "batches_quarantined": 0,
        "update_norm_alarms": 0,
        "rollbacks": [],
        "batches_left_out": [],
    }
    assert sorted(path.name for path in (train / "checkpoints").iterdir()) == [
        "step-00000008",
        "step-00000010",
    ]
    assert {path.name for path in model.iterdir()} == {
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    generation = json.loads((model / "generation_config.json").read_text())
    assert (generation["bos_token_id"], generation["eos_token_id"]) == (0, 1)
    assert (config.vocab_size, config.max_position_embeddings) == (300, 24)


def test_the_saved_model_is_the_trained_one(tiny, undisturbed, inputs):
    from haina.shards import ShardSet

    model = haina.model.load(undisturbed / "out/model", dtype=torch.float32)
    stated = json.loads((undisturbed / "out/train/summary.json").read_text())["validation"]
    for lang, texts in tiny.TEXTS.items():
        nats, tokens = [], []
        held_out = ShardSet.open(inputs / "shards", f"validation-{lang}")
        for document in (held_out[0], held_out[1]):
            ids, cost = torch.from_numpy(document.astype(np.int64)), 0.0
            # Documents longer than the window go on without what came before.
            for start in range(0, len(ids) - 1, 24):
                part = ids[start : start + 25]
                with torch.no_grad():
                    logits = model(part[None, :-1])[0]
                cost += float(torch.nn.functional.cross_entropy(logits, part[1:], reduction="sum"))
            nats.append(cost)
            tokens.append(len(ids) - 1)
        # The folder holds bf16 weights, the loop had float32.
        assert sum(nats) / sum(tokens) == pytest.approx(stated[lang]["loss"], rel=5e-3)
        assert stated[lang]["tokens"] == sum(tokens)
        sizes = [len(text.encode()) for text in texts[1:]]
        wanted = sum(nats) / math.log(2) / sum(sizes)
        assert wanted == pytest.approx(stated[lang]["bits_per_byte"], rel=5e-3)
        for place, source in enumerate(("books", "verses")):
            found = stated[lang]["groups"]["source"][source]
            assert found["tokens"] == tokens[place]
            assert nats[place] / tokens[place] == pytest.approx(found["loss"], rel=5e-3)
            assert nats[place] / math.log(2) / sizes[place] == pytest.approx(found["bits_per_byte"], rel=5e-3)


@pytest.mark.parametrize("packing", ["best_fit", "concatenate"])
@pytest.mark.parametrize("mask", [True, False])
def test_every_way_to_pack_trains_and_resumes(packing, mask, tiny, inputs, tmp_path):
    loader = {"packing": packing, "document_mask": mask, "context_schedule": [[0, 8], [3, 24]]}
    config = tiny.configuration(loader=loader, steps=6, gradient_accumulation=2)
    tiny.run(config, tiny.context(inputs, tmp_path / "whole"))
    tiny.run(config, tiny.context(inputs, tmp_path / "again"))
    shutil.rmtree(tmp_path / "again/out/train/checkpoints/step-00000006")
    (tmp_path / "again/out/train/metrics.jsonl").unlink()
    tiny.run(config, tiny.context(inputs, tmp_path / "again"))
    assert fingerprint_tree(tmp_path / "again/out") == fingerprint_tree(tmp_path / "whole/out")
    summary = json.loads((tmp_path / "whole/out/train/summary.json").read_text())
    assert (summary["padding"] > 0) == (packing == "best_fit")
    assert summary["epochs"]["all"] > 0


def test_plans_can_be_shared_and_change_nothing(tiny, inputs, undisturbed, tmp_path):
    config = tiny.configuration(loader={"plans": str(tmp_path / "plans")})
    tiny.run(config, tiny.context(inputs, tmp_path))
    assert len(list((tmp_path / "plans").glob("pack-*"))) == 1
    assert fingerprint_tree(tmp_path / "out") == fingerprint_tree(undisturbed / "out")


def test_it_learns_both_languages(tiny, inputs, tmp_path):
    config = tiny.configuration(steps=90, evaluate_every=5, checkpoint_every=90)
    tiny.run(config, tiny.context(inputs, tmp_path))
    validated = [line["validation"] for line in lines(tmp_path) if "validation" in line]
    for lang in ("zh", "en"):
        assert validated[-1][lang] < 0.85 * validated[0][lang]


def test_accumulation_is_the_same_step_in_smaller_pieces(tiny, inputs, undisturbed, tmp_path):
    config = tiny.configuration(micro_batch_size=1, gradient_accumulation=4)
    tiny.run(config, tiny.context(inputs, tmp_path))
    for ours, whole in zip(lines(tmp_path), lines(undisturbed), strict=True):
        if "loss" in whole:
            assert ours == pytest.approx(whole, rel=1e-3)


def test_workers_and_tensorboard_change_no_byte(tiny, inputs, undisturbed, tmp_path):
    events = EventLog(tmp_path / "events.jsonl")
    changed = tiny.context(inputs, tmp_path, workers=3, tensorboard=tmp_path / "tb", events=events)
    tiny.run(tiny.configuration(), changed)
    assert fingerprint_tree(tmp_path / "out") == fingerprint_tree(undisturbed / "out")
    assert list((tmp_path / "tb").glob("events.out.*"))
    written = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert all(line["tokens_per_second"] > 0 for line in written if line["event"] == "train.step")


def test_bf16_autocast_follows_fp32(tiny, inputs, undisturbed, tmp_path):
    tiny.run(tiny.configuration(precision="bf16"), tiny.context(inputs, tmp_path))
    assert json.loads((tmp_path / "out/train/summary.json").read_text())["precision"] == "bf16"
    whole, rounded = (lines(work)[-1]["validation"] for work in (undisturbed, tmp_path))
    assert rounded != whole
    assert rounded == pytest.approx(whole, rel=0.02)


def test_why_training_is_slow_without_kernels_is_said(tiny, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("haina.train.stage.fused_kernels_obstacle", lambda: "no C compiler found")
    said = []
    reporter = SilentProgress()
    monkeypatch.setattr(reporter, "say", said.append)
    tiny.run(tiny.configuration(steps=3), tiny.context(inputs, tmp_path, reporter=reporter))
    assert any("no C compiler found" in line and "slower" in line for line in said)


def test_shards_of_another_tokenizer_are_refused(tiny, inputs, tmp_path):
    shutil.copytree(inputs, tmp_path / "inputs")
    path = tmp_path / "inputs/tokenizer/tokenizer.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(HainaError, match=r"another tokenizer than .* \(300 ids there, 300 here\)"):
        tiny.run(tiny.configuration(), tiny.context(tmp_path / "inputs", tmp_path / "work"))


def test_shards_with_more_ids_than_the_tokenizer_are_refused(tiny, inputs, tmp_path):
    shutil.copytree(inputs, tmp_path / "inputs")
    path = tmp_path / "inputs/shards/shards.json"
    content = json.loads(path.read_text())
    content["tokenizer"]["vocab_size"] = 64_000
    path.write_text(json.dumps(content))
    with pytest.raises(HainaError, match=r"ids up to 63,999, .*tokenizer has 300 of them"):
        tiny.run(tiny.configuration(), tiny.context(tmp_path / "inputs", tmp_path / "work"))
    assert not (tmp_path / "work/out/train").exists()


def test_missing_input_is_named(tiny, tmp_path):
    with pytest.raises(HainaError, match="tokenizer output is missing"):
        tiny.run(tiny.configuration(), tiny.context(tmp_path, tmp_path / "work"))


def test_too_little_text_is_named(tiny, inputs, tmp_path):
    config = tiny.configuration(sequence_length=100_000)
    with pytest.raises(HainaError, match=r"shards: there are .* tokens to train on"):
        tiny.run(config, tiny.context(inputs, tmp_path))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"micro_batch_size": 0}, "micro_batch_size"),
        ({"steps": 10, "warmup_steps": 10}, "warmup_steps 10"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"schedule": "step"}, "schedule"),
        ({"lerning_rate": 1.0}, "lerning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"gradient_clip": float("nan")}, "gradient_clip"),
        ({"model": {"rope_theta": float("inf")}}, "rope_theta"),
        ({"sequence_length": 64, "loader": {"context_schedule": [[0, 65]]}}, "window 65 is above"),
        ({"model": {"preset": "gpt-9"}}, "gpt-9"),
        ({"model": {"hidden_size": 30, "num_attention_heads": 4}}, "hidden_size 30"),
    ],
)
def test_wrong_configuration_is_named(values, named):
    with pytest.raises(ValidationError, match=named):
        TrainConfig(**values)


def test_model_section_overrides_a_preset():
    ids = {"bos_id": 0, "eos_id": 1, "pad_id": 2}
    wide = ModelSection(hidden_size=384, num_attention_heads=6).resolve(vocab_size=500, window=64, **ids)
    assert (wide.hidden_size, wide.num_key_value_heads, wide.head_dim) == (384, 6, 64)
    assert (wide.vocab_size, wide.max_position_embeddings) == (500, 64)
    large = ModelSection(preset="baichuan-7b").resolve(vocab_size=64000, window=4096, **ids)
    assert large.parameter_count == 7_000_559_616


def test_cuda_without_cuda_is_an_error(tiny, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HainaError, match="no CUDA device"):
        tiny.run(tiny.configuration(device="cuda"), tiny.context(inputs, tmp_path))
