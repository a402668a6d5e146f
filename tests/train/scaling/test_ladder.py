"""Ladders: what a file says, what is trained, and what happens when it is stopped, fails, or is run twice at once."""

import importlib.util
import json
import signal
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from haina.cli.scaling import app
from haina.runtime.errors import HainaError
from haina.runtime.lock import exclusive
from haina.runtime.progress import SilentProgress
from haina.train.dial import Place
from haina.train.interrupts import interruptible
from haina.train.scaling.climb import climb, plan
from haina.train.scaling.ladder import Ladder, read_ladder, rungs
from haina.train.scaling.runs import read_runs
from haina.train.scaling.settings import Pieces, settings, window_of

TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
SIZES = {"a": {"preset": "ours-1m", **TINY}, "b": {"preset": "ours-1m", **TINY, "hidden_size": 64}}
PIECES, PLACE = Pieces(300, 0, 1, 2), Place("cpu", 8 << 30)
DATA = {"shards": {"train": "ab"}, "tokenizer": "t"}


def ladder(**changes):
    return Ladder(
        **({"sizes": SIZES, "tokens": ["64k", 128_000], "train": {"sequence_length": 128}} | changes)
    )


def planned(given):
    return plan(given, lambda rung: settings(rung, given, PIECES, PLACE))


class Trainer:
    """Pretends to train: notes what it was asked, and fails or stops where it is told to."""

    def __init__(self, fails=(), stops=()):
        self.fails, self.stops, self.asked = fails, stops, []

    def __call__(self, config, seed, folder):
        self.asked.append(folder.name)
        if folder.name in self.stops:
            raise KeyboardInterrupt
        if folder.name in self.fails:
            raise HainaError("the loss is no number", "train less wildly")
        (folder / "train").mkdir(parents=True)
        (folder / "train" / "summary.json").write_text("{}")


def test_the_ladder_that_comes_with_haina():
    steps, passed_over = planned(read_ladder(Path(__file__).parents[3] / "recipes" / "ladders" / "ours.yaml"))
    assert (len(steps), passed_over) == (20, [])
    assert {step.config.sequence_length for step in steps} == {512}
    assert max(step.flops for step in steps) / min(step.flops for step in steps) > 100


def test_rungs_are_sizes_times_tokens_times_seeds():
    names = [rung.name for rung in rungs(ladder())]
    assert names == ["a-64k", "a-128k", "b-64k", "b-128k"]
    assert [rung.name for rung in rungs(ladder(seeds=[0, 7]))][:2] == ["a-64k-seed0", "a-64k-seed7"]


def test_every_rung_has_the_settings_of_the_dial_and_of_the_ladder():
    steps, passed_over = planned(ladder(train={"sequence_length": 128, "validation_tokens": 999}))
    assert passed_over == []
    assert [step.flops for step in steps] == sorted(step.flops for step in steps)
    for step in steps:
        assert step.config.sequence_length == 128
        assert step.config.validation_tokens == 999
        assert step.tokens == pytest.approx(step.rung.tokens, rel=0.05)
        assert step.config.evaluate_every == step.config.steps
        assert step.config.optimizer == "muon"
    rates = {step.rung.name: step.config.weight_decay for step in steps}
    assert rates["a-64k"] != rates["a-128k"]


def test_the_window_is_one_for_all():
    assert {step.config.sequence_length for step in planned(ladder())[0]} == {128}
    assert window_of(ladder(), {}) == 512
    wide = {**SIZES, "c": {"preset": "ours-30m"}}
    given = ladder(sizes=wide, train={})
    assert {settings(rung, given, PIECES, PLACE)[0].sequence_length for rung in rungs(given)} == {1024}


def test_costly_rungs_are_passed_over():
    steps, _ = planned(ladder())
    kept, passed_over = planned(ladder(most_flops=steps[1].flops))
    assert [step.rung.name for step in kept] == [step.rung.name for step in steps[:2]]
    assert len(passed_over) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tokens: [1M]", ["sizes", "required"]),
        ("sizes: {a: {}}\ntokens: [none]", ["tokens.0", "not a number above 0"]),
        ("sizes: {a: {}}\ntokens: []", ["tokens"]),
        ("sizes: {}\ntokens: [1M]", ["sizes"]),
        ("sizes: {a/b: {}}\ntokens: [1M]", ["sizes", "folder's name"]),
        ("sizes: {a: {hidden: 3}}\ntokens: [1M]", ["sizes.a.hidden"]),
        ("sizes: {a: {preset: ours-2m}}\ntokens: [1M]", ["sizes.a", "ours-2m"]),
        ("sizes: {a: {}}\ntokens: [1M]\ntrain: {steps: 5}", ["train", "steps differs"]),
        ("sizes: {a: {}}\ntokens: [1M]\nrungs: 3", ["rungs"]),
        ("- a", ["not a ladder"]),
        ("1: 2", ["1"]),
        ("a: [", ["not valid YAML"]),
        (b"\xd8\x00", ["not valid YAML"]),
        ("[" * 5000, ["not valid YAML"]),
    ],
)
def test_files_that_are_no_ladder(tmp_path, text, words):
    path = tmp_path / "ladder.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(HainaError) as raised:
        read_ladder(path)
    assert all(word in str(raised.value) for word in ["ladder.yaml", *words]), raised.value


def test_settings_that_do_not_fit():
    for changes, words in (
        ({"train": {"bathc": 3}}, "bathc"),
        ({"train": {"z_loss": -1}}, "z_loss"),
        ({"train": {"sequence_length": "abc"}}, "train.sequence_length"),
        ({"train": {"sequence_length": None}}, "train.sequence_length"),
        ({"train": {"sequence_length": -4}}, "train.sequence_length"),
        ({"tokens": [20]}, "less than one step"),
    ):
        with pytest.raises(HainaError, match=words):
            planned(ladder(**changes))
    with pytest.raises(HainaError, match="two rungs of the ladder are named a-64k"):
        planned(ladder(tokens=[64_000, 64_001]))


def test_finished_rungs_are_not_trained_again(tmp_path):
    steps, _ = planned(ladder())
    first = Trainer(stops=["b-64k"])
    with pytest.raises(KeyboardInterrupt):
        climb(steps, tmp_path, DATA, first, SilentProgress())
    again = Trainer()
    folders = climb(steps, tmp_path, DATA, again, SilentProgress())
    assert first.asked[-1] == again.asked[0] == "b-64k"
    assert sorted(first.asked[:-1] + again.asked) == sorted(step.rung.name for step in steps)
    assert sorted(folder.name for folder in folders) == ["a-128k", "a-64k", "b-128k", "b-64k"]
    nothing = Trainer()
    climb(steps, tmp_path, DATA, nothing, SilentProgress())
    assert nothing.asked == []


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_during_the_last_step_of_a_rung_ends_the_ladder(tmp_path, number, error):
    """A run that is done when the signal comes goes on to its end, and no other one begins."""
    steps, _ = planned(ladder())
    asked = []

    def train(config, seed, folder):
        asked.append(folder.name)
        with interruptible():
            signal.raise_signal(number)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(error) as raised:
        climb(steps, tmp_path, DATA, train, SilentProgress())
    assert len(asked) == 1
    assert error is KeyboardInterrupt or raised.value.code == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_one_that_fails_does_not_stop_the_others(tmp_path):
    steps, _ = planned(ladder())
    trainer = Trainer(fails=["a-64k"])
    with pytest.raises(HainaError, match=r"1 of 4 rungs failed \(a-64k\); a-64k: the loss is no number"):
        climb(steps, tmp_path, DATA, trainer, SilentProgress())
    assert len(trainer.asked) == 4
    again = Trainer()
    climb(steps, tmp_path, DATA, again, SilentProgress())
    assert again.asked == ["a-64k"]


def test_other_settings_are_refused_before_anything_is_trained(tmp_path):
    steps, _ = planned(ladder())
    climb(steps[-1:], tmp_path, DATA, Trainer(), SilentProgress())
    other, _ = planned(ladder(train={"sequence_length": 128, "z_loss": 1e-4}))
    for these, data in ((other, DATA), (steps, DATA | {"tokenizer": "another"})):
        trainer = Trainer()
        with pytest.raises(HainaError, match="other settings or on other shards"):
            climb(these, tmp_path, data, trainer, SilentProgress())
        assert trainer.asked == []


def test_two_processes_share_a_ladder(tmp_path):
    steps, _ = planned(ladder())
    trainer = Trainer()
    with exclusive(tmp_path / "a-64k", "the other process trains it"):
        folders = climb(steps, tmp_path, DATA, trainer, SilentProgress())
    assert "a-64k" not in trainer.asked
    assert len(folders) == 3
    rest = Trainer()
    climb(steps, tmp_path, DATA, rest, SilentProgress())
    assert rest.asked == ["a-64k"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A tokenizer and shards of a few sentences."""
    place = Path(__file__).parents[1] / "tiny_run.py"
    spec = importlib.util.spec_from_file_location("haina_tests_tiny_run_of_scaling", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("inputs")
    module.make_inputs(folder)
    return folder


def test_a_ladder_is_trained_and_fitted(inputs, tmp_path):
    given = {
        "sizes": SIZES,
        "tokens": [1000, 2000],
        "train": {"sequence_length": 32, "threads": 1, "device": "cpu", "validation_tokens": 60},
    }
    (tmp_path / "ladder.yaml").write_text(yaml.safe_dump(given))
    data = ["--shards", inputs / "shards", "--tokenizer", inputs / "tokenizer", "--out", tmp_path / "out"]
    arguments = ["run", tmp_path / "ladder.yaml", *data]

    def call(*more):
        result = CliRunner().invoke(app, [str(item) for item in (*more,)], catch_exceptions=False)
        return result.stdout

    shown = json.loads(call(*arguments, "--plan", "--json"))
    assert set(shown) == {"a-1k", "a-2k", "b-1k", "b-2k"}
    assert not (tmp_path / "out").exists()
    finished = json.loads(call(*arguments, "--json"))
    assert all(set(run["losses"]) == {"zh", "en"} for run in finished.values())
    runs, unfinished = read_runs([tmp_path / "out"])
    assert unfinished == []
    assert {run.name: dict(run.losses) for run in runs} == {
        name: run["losses"] for name, run in finished.items()
    }
    assert all(run.same["shards"] and run.same["window"] == 32 for run in runs)
    # What is there is not trained again.
    before = (tmp_path / "out" / "a-1k" / "train" / "summary.json").stat().st_mtime_ns
    assert json.loads(call(*arguments, "--json")) == finished
    assert (tmp_path / "out" / "a-1k" / "train" / "summary.json").stat().st_mtime_ns == before
    fitted = json.loads(call("fit", tmp_path / "out", "--predict", "ours-1m", "--tokens", "4000", "--json"))
    assert fitted["sets"]["mean"]["predictions"][0]["loss"]["value"] > 0
    assert any("assumed" in note for note in fitted["notes"])
