"""Folders and tables in: what is read, and what is refused or told."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.model.config import ModelConfig, preset
from haina.runtime.errors import HainaError
from haina.train.scaling.runs import SIZES, read_runs, sizes_of
from haina.train.scaling.together import checked, loss_of


def written(synthetic, folder, count=4, **changes):
    """`count` runs of two sizes and two numbers of tokens."""
    for number in range(count):
        hidden = 64 * (1 + number % 2)
        same = {"model": {"hidden_size": hidden}, "tokens": 1_000_000 * (1 + number // 2)}
        synthetic.write_run(
            folder / f"r{number}", zh=5.0 - 0.1 * number, en=4.5 - 0.1 * number, **(same | changes)
        )
    return folder


def refused(paths, size="matmul"):
    with pytest.raises(HainaError) as raised:
        checked(read_runs(paths)[0], size)
    return str(raised.value)


def test_a_run_is_read_by_any_of_its_folders(synthetic, tmp_path):
    folder = synthetic.write_run(tmp_path / "a")
    for path in (folder, folder / "train", tmp_path):
        ((run,), unfinished) = read_runs([path])
        assert (run.name, run.tokens, dict(run.losses), run.seed) == ("a", 1e6, {"zh": 5.0, "en": 4.5}, 0)
        assert unfinished == []
    shape = ModelConfig(**synthetic.MODEL)
    assert run.sizes["total"] == shape.parameter_count
    assert run.flops == shape.flops_per_token(256) * 1e6
    assert loss_of(run, "mean") == 4.75


@pytest.mark.parametrize("name", ["ours-1m", "ours-30m", "baichuan-7b"])
def test_sizes_are_those_of_the_shape(name):
    shape = preset(name)
    sizes = sizes_of(shape, 512)
    norms = shape.parameter_count - sizes["blocks"]
    norms -= shape.vocab_size * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    assert list(sizes) == list(SIZES)
    assert 0 < norms < 0.001 * sizes["total"] + 5000
    assert sizes["blocks"] < sizes["matmul"] < sizes["flops"]


def test_the_shape_may_come_from_the_model_folder(synthetic, tmp_path):
    folder = synthetic.write_run(tmp_path / "a")
    shutil.rmtree(folder / "train" / "checkpoints")
    assert "which model" in refused([folder])
    (folder / "model").mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        **synthetic.MODEL,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
    }
    (folder / "model" / "config.json").write_text(json.dumps(config))
    ((run,), _) = read_runs([folder])
    assert run.sizes == sizes_of(ModelConfig(**synthetic.MODEL), 256)


def test_the_summary_may_say_it_itself(synthetic, tmp_path):
    folder = synthetic.write_run(tmp_path / "a")
    shutil.rmtree(folder / "train" / "checkpoints")
    path = folder / "train" / "summary.json"
    summary = json.loads(path.read_text()) | {"model": synthetic.MODEL, "shards": {"train": "ab"}}
    path.write_text(json.dumps(summary | {"configuration": {"sequence_length": 256}, "tokenizer": "t"}))
    ((run,), _) = read_runs([folder])
    assert run.same["shards"] == {"train": "ab"}
    assert (run.same["tokenizer"], run.same["window"]) == ("t", 256)


def test_unfinished_runs(synthetic, tmp_path):
    written(synthetic, tmp_path)
    (tmp_path / "r2" / "train" / "summary.json").unlink()
    (tmp_path / "r9" / "train.work").mkdir(parents=True)
    runs, unfinished = read_runs([tmp_path])
    assert [run.name for run in runs] == ["r0", "r1", "r3"]
    assert unfinished == ["r2", "r9"]
    for name in ("r2", "r9"):
        assert "has not finished" in refused([tmp_path / name])
    stopped = synthetic.write_run(tmp_path / "stopped", steps=7)
    assert "stopped at step 7 of 10" in refused([stopped])


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 0, -1.0, None, "5", True])
def test_losses_that_are_none(synthetic, tmp_path, loss):
    text = refused([synthetic.write_run(tmp_path / "a", zh=loss)])
    assert "held-out loss of zh" in text
    assert "summary.json" in text


@pytest.mark.parametrize("validation", [None, {}, []])
def test_no_losses_at_all(synthetic, tmp_path, validation):
    assert "no held-out loss" in refused([synthetic.write_run(tmp_path / "a", validation=validation)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shards": {"train": "zz"}}, ["shards", "another tokenizer"]),
        ({"model": {"hidden_size": 64, "vocab_size": 4096}}, ["vocabulary", "4096, 8192"]),
        ({"configuration": {"sequence_length": 512}}, ["window", "512, 256"]),
        ({"configuration": {"validation_tokens": 8}}, ["validation_tokens"]),
    ],
)
def test_runs_that_do_not_belong_together(synthetic, tmp_path, changes, words):
    written(synthetic, tmp_path)
    synthetic.write_run(tmp_path / "other", tokens=5_000_000, **changes)
    text = refused([tmp_path])
    assert "other" in text
    assert all(word in text for word in words), text


def test_runs_that_do_not_span_a_law(synthetic, tmp_path):
    written(synthetic, tmp_path / "one", model={"hidden_size": 64})
    assert "same size" in refused([tmp_path / "one"])
    written(synthetic, tmp_path / "two", tokens=1_000_000)
    assert "same number of tokens (1,000,000)" in refused([tmp_path / "two"])
    assert "2 runs are too few" in refused([tmp_path / "one" / "r0", tmp_path / "one" / "r1"])
    assert "no such run folder" in refused([tmp_path / "nowhere"])
    assert "two runs are named r0" in refused([tmp_path / "one" / "r0", tmp_path / "two" / "r0"])
    (tmp_path / "empty").mkdir()
    assert "no train/summary.json" in refused([tmp_path / "empty"])
    (tmp_path / "one" / "r0" / "train" / "summary.json").write_text("{")
    assert "not valid JSON" in refused([tmp_path / "one"])


def test_what_a_reader_has_to_know(synthetic, tmp_path):
    written(synthetic, tmp_path)
    sets, notes = checked(read_runs([tmp_path])[0], "matmul")
    assert sets == ("zh", "en")
    assert notes == ["4 different runs for 5 parameters: what they do not determine is assumed"]
    validation = {"zh": {"loss": 4.0}, "en": {"loss": 4.0}, "law": {"loss": 3.0}}
    synthetic.write_run(
        tmp_path / "more",
        tokens=9_000_000,
        epochs={"all": 5.5},
        configuration={"optimizer": "adamw"},
        validation=validation,
    )
    _, notes = checked(read_runs([tmp_path])[0], "matmul")
    assert any("left away: law" in note for note in notes)
    assert any("more read its text 5.5 times" in note for note in notes)
    assert any('differ in optimizer: "adamw"; "muon"' in note for note in notes)


def test_size_and_tokens_that_grow_together(synthetic, tmp_path):
    for number in range(6):
        model = {"hidden_size": 64 * (1 + number), "num_attention_heads": 2}
        synthetic.write_run(tmp_path / f"r{number}", model=model, tokens=1_000_000 * (1 + number) ** 2)
    _, notes = checked(read_runs([tmp_path])[0], "matmul")
    assert any("grow together" in note for note in notes)


def test_a_table(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "name,parameters,tokens,loss.zh,loss.en,seed\na,1e6,2e6,5,4,3\n,2e6,2e6,4.9,3.9,\n",
        encoding="utf-8-sig",
    )
    runs, _ = read_runs([path])
    assert [(run.name, run.sizes["given"], run.tokens, dict(run.losses), run.seed) for run in runs] == [
        ("a", 1e6, 2e6, {"zh": 5.0, "en": 4.0}, 3),
        ("runs:3", 2e6, 2e6, {"zh": 4.9, "en": 3.9}, None),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tokens,loss\n1,2\n", ["no column parameters"]),
        ("parameters,tokens\n1,2\n", ["no column loss"]),
        ("parameters,tokens,loss\n1e6,1e6,nan\n", ["line 2", "loss is 'nan'"]),
        ("parameters,tokens,loss\n1e6,1e200,3\n", ["line 2", "tokens is '1e200'"]),
        ("parameters,tokens,loss\n1e6,1e6,3\n1e6,-5,3\n", ["line 3", "tokens is '-5'"]),
        ("parameters,tokens,loss\n1e6\n", ["line 2", "tokens is ''"]),
        ("", ["no column parameters, tokens"]),
    ],
)
def test_tables_that_are_none(tmp_path, text, words):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    found = refused([path])
    assert all(word in found for word in ["runs.csv", *words]), found


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_an_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("table") / "runs.csv"
    path.write_bytes(data)
    told = ""
    try:
        runs, _ = read_runs([path])
    except HainaError as error:
        runs, told = [], str(error)
    assert all(run.tokens > 0 for run in runs)
    assert not told or "runs.csv" in told or "two runs" in told


def test_tables_and_folders_do_not_mix(synthetic, tmp_path):
    written(synthetic, tmp_path / "runs")
    table = synthetic.write_table(tmp_path / "t.csv", synthetic.LAWS["shallow"])
    assert "differently" in refused([tmp_path / "runs", table])
    for path in (tmp_path / "runs", table):
        assert "size 'heads' is unknown" in refused([path], size="heads")


@pytest.mark.parametrize("window", ["abc", 0, -1, None, 2.5])
def test_a_window_that_is_none(synthetic, tmp_path, window):
    text = refused([synthetic.write_run(tmp_path / "a", configuration={"sequence_length": window})])
    assert "summary.json: sequence_length is" in text
