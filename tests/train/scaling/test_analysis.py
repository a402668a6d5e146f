"""From a table of runs to tables, JSON and pictures; what the command line prints and refuses."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from haina.cli.scaling import app
from haina.runtime.errors import HainaError
from haina.train.scaling.analysis import analyse, fit_law, forward_check, split
from haina.train.scaling.curves import panels, short
from haina.train.scaling.describe import planned, quantity
from haina.train.scaling.runs import read_runs
from haina.train.scaling.together import loss_of


@pytest.fixture(scope="module")
def table(synthetic, tmp_path_factory):
    return synthetic.write_table(tmp_path_factory.mktemp("ladder") / "runs.csv", synthetic.LAWS["shallow"])


@pytest.fixture(scope="module")
def small(synthetic, tmp_path_factory):
    """Six runs: quickly fitted."""
    law = synthetic.LAWS["shallow"]
    return synthetic.write_table(tmp_path_factory.mktemp("small") / "runs.csv", law, sizes=3, tokens=2)


@pytest.fixture(scope="module")
def runs(table):
    return read_runs([table])[0]


@pytest.fixture(scope="module")
def analysis(runs):
    return analyse(runs, leave_out=["largest"])


def call(*arguments):
    """Exit code, standard output, and the error that the command line would print."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, (HainaError, SystemExit)):
        raise result.exception
    return result.exit_code, result.stdout, str(result.exception or "")


def test_the_largest_is_predicted_within_a_percent(synthetic, analysis):
    assert [law.name for law in analysis.laws] == ["zh", "en", "mean"]
    for law in analysis.laws:
        (left,) = law.left_out
        assert left.run == "t17"
        assert left.run not in law.names
        assert abs(left.error) < 0.01
        assert left.loss.holds(left.measured)
    truth = float(synthetic.losses(synthetic.LAWS["shallow"], np.array([4e6]), np.array([8e6]))[0])
    assert analysis.laws[0].left_out[0].loss.value == pytest.approx(truth, rel=0.01)


def test_what_is_left_out(runs):
    assert [run.name for run in split(runs, ["largest-size"])[1]] == ["t5", "t11", "t17"]
    assert [run.name for run in split(runs, ["t3", "largest"])[1]] == ["t3", "t17"]
    with pytest.raises(HainaError, match="--leave-out t99: no such run"):
        split(runs, ["t99"])
    with pytest.raises(HainaError, match="2 runs are left"):
        split(runs, [f"t{number}" for number in range(16)])


def test_the_check_sees_cheaper_runs_only(runs):
    found = {item.run: item for item in forward_check(runs, "zh", "given", draws=50)}
    assert "t17" in found
    assert len(found) == 9
    # What costs more has no part in the prediction: with the costliest run spoilt the others are predicted as before.
    spoilt = [
        run
        if run.name != "t17"
        else type(run)(run.name, run.sizes, run.tokens, {"zh": 99.0, "en": 1.0}, run.flops)
        for run in runs
    ]
    for item in forward_check(spoilt, "zh", "given", draws=50):
        assert item.loss == found[item.run].loss


def test_bands_widen_away_from_the_runs(analysis):
    law = analysis.laws[0]
    tokens = np.geomspace(4e6, 4e10, 5)
    low, high = law.band(np.geomspace(2e6, 2e9, 5), tokens)
    assert np.all(np.diff(np.log(high / low)) > 0)


def test_seeds_are_one_cell(synthetic, tmp_path):
    size, tokens = synthetic.grid()
    lines = ["parameters,tokens,loss,seed"]
    for seed in (0, 1, 2):
        values = synthetic.noisy(synthetic.LAWS["shallow"], size, tokens, 0.003, seed).losses
        lines += [f"{n},{d},{v},{seed}" for n, d, v in zip(size, tokens, values, strict=True)]
    (tmp_path / "runs.csv").write_text("\n".join(lines))
    runs, _ = read_runs([tmp_path / "runs.csv"])
    kept, out = split(runs, ["largest"])
    assert [run.seed for run in out] == [0, 1, 2]
    law = fit_law(runs, "all", "given")
    assert law.fitted.sigma == pytest.approx(0.003, rel=0.3)
    assert len(kept) == 51


def test_json_has_everything(table):
    code, out, _ = call(
        "fit",
        table,
        "--leave-out",
        "largest",
        "--predict",
        "8M",
        "--tokens",
        "16M",
        "--budget",
        "1e15",
        "--json",
    )
    found = json.loads(out)
    assert code == 0
    assert set(found["sets"]) == {"zh", "en", "mean"}
    zh = found["sets"]["zh"]
    assert list(zh["parameters"]) == ["E", "A", "B", "alpha", "beta"]
    for item in zh["parameters"].values():
        assert item["low"] <= item["value"] <= item["high"]
    assert len(zh["residuals"]) == 17
    assert zh["left_out"][0]["within"] is True
    (prediction,) = zh["predictions"]
    assert prediction["flops"] == prediction["optimum"]["flops"] == 6 * 8e6 * 16e6
    assert prediction["loss"]["low"] < prediction["loss"]["value"] < prediction["loss"]["high"]
    (budget,) = zh["budgets"]
    assert 6 * budget["size"]["value"] * budget["tokens"]["value"] == pytest.approx(1e15)
    # The mean of two sets whose losses differ by a factor: no law of its own, but close to one.
    losses = {name: law["predictions"][0]["loss"]["value"] for name, law in found["sets"].items()}
    assert losses["mean"] == pytest.approx((losses["zh"] + losses["en"]) / 2, rel=2e-3)


def test_the_same_runs_give_the_same_bytes(small):
    assert call("fit", small, "--json")[1] == call("fit", small, "--json")[1]


def test_text_has_the_tables(table):
    code, out, _ = call("fit", table, "--leave-out", "largest")
    assert code == 0
    for words in (
        "L(N, D) = E + A / N^alpha + B / D^beta",
        "residuals",
        "check:",
        "left out",
        "spread of a run",
    ):
        assert words in out


def test_presets_have_the_vocabulary_of_the_runs(synthetic, tmp_path):
    for number in range(4):
        model = {"hidden_size": 64 * (1 + number % 2)}
        synthetic.write_run(tmp_path / f"r{number}", model=model, tokens=1_000_000 * (1 + number // 2))
    runs, _ = read_runs([tmp_path])
    plan = planned("ours-30m", 6e8, runs, "matmul")
    # 8 blocks of the preset, and a head of 8,192 pieces in place of its own 16,384.
    from haina.model.config import preset

    shape = preset("ours-30m")
    assert plan.size == shape.num_hidden_layers * shape.block_parameters + 8192 * shape.hidden_size
    assert planned("30M", 6e8, runs, "matmul").size == 3e7
    # What it costs is counted as its size is, or the best split of that cost would be another's.
    for size in ("blocks", "matmul", "flops"):
        plan = planned("ours-30m", 6e8, runs, size)
        assert plan.flops == 6 * plan.size * 6e8


def test_errors(small, tmp_path):
    for arguments, words in (
        (["--predict", "8M"], "--predict and --tokens belong together"),
        (["--tokens", "8M"], "--predict and --tokens belong together"),
        (["--predict", "ours-30m", "--tokens", "1M"], "the runs come from a table"),
        (["--size", "heads", "--predict", "8M", "--tokens", "8M"], "size 'heads' is unknown"),
        (["--budget", "much"], "--budget much: not a number above 0"),
        (["--plot", tmp_path / "law.png"], "unknown kind of file"),
        (["--leave-out", "nobody"], "no such run"),
    ):
        code, _, error = call("fit", small, *arguments)
        assert code != 0
        assert words in error, error


@given(st.floats(1e-3, 1e24))
def test_quantities_come_back(value):
    assert quantity(short(value), "x") == pytest.approx(value, rel=0.006)


@pytest.mark.parametrize(
    ("text", "value"),
    [("600M", 6e8), ("1.5k", 1500), ("2B", 2e9), ("1e18", 1e18), ("1_000", 1000), ("1,000", 1000)],
)
def test_quantities(text, value):
    assert quantity(text, "x") == value


@pytest.mark.parametrize("text", ["", "M", "-1", "0", "nan", "inf", "1e999", "1e300", "three", "1MM"])
def test_quantities_that_are_none(text):
    with pytest.raises(HainaError, match="not a number above 0"):
        quantity(text, "x")


def test_the_page_stands_alone(small, tmp_path):
    path = tmp_path / "law.html"
    call("fit", small, "--leave-out", "largest", "--predict", "8M", "--tokens", "16M", "--plot", path)
    text = path.read_text(encoding="utf-8")
    data = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)
    figures = json.loads(data[1])
    assert len(figures) == 9
    for name, figure in figures.items():
        assert f'<div id="{name}">' in text
        assert len(figure["data"]) >= 6
    shown = {trace["name"] for trace in figures["figure-0-0"]["data"] if "name" in trace}
    assert {"fitted", "left out", "predicted"} <= shown
    # Nothing is fetched: every address in the page is a name of XML or a comment inside plotly.js.
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)


def test_names_are_no_markup(small, tmp_path):
    hostile = '"</script><b>'
    lines = small.read_text().splitlines()
    quoted = hostile.replace('"', '""')
    lines[1] = f'"{quoted}"' + lines[1][lines[1].index(",") :]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    for name in ("law.html", "law.svg"):
        code, _, error = call("fit", tmp_path / "x.csv", "--plot", tmp_path / name)
        assert code == 0, error
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "</script><b>" not in text
    ElementTree.fromstring((tmp_path / "law.svg").read_text(encoding="utf-8"))


def test_the_picture_is_whole(analysis, runs, small, tmp_path):
    path = tmp_path / "law.svg"
    plans = [planned("8M", 16e6, runs, "matmul")]
    call("fit", small, "--leave-out", "largest", "--predict", "8M", "--tokens", "16M", "--plot", path)
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    space = "{http://www.w3.org/2000/svg}"
    for circle in root.iter(f"{space}circle"):
        assert 0 <= float(circle.get("cx")) <= 460
        assert 0 <= float(circle.get("cy")) <= 340
    # Five runs and one left out in each of two panels, for three sets.
    assert len(list(root.iter(f"{space}circle"))) == 3 * 2 * 6
    drawn = panels(analysis, analysis.laws[0], plans)
    assert [len(panel.curves) for panel in drawn] == [7, 4, 5]
    for panel in drawn:
        for curve in panel.curves:
            assert (
                np.all((curve.low <= curve.y) & (curve.y <= curve.high))
                or np.abs(curve.y / curve.low - 1).max() < 0.05
            )


def test_points_are_where_the_runs_are(analysis, runs):
    by_tokens = panels(analysis, analysis.laws[1], [])[0]
    assert {(point.label, point.x, point.y) for point in by_tokens.points} == {
        (run.name, run.tokens, loss_of(run, "en")) for run in runs
    }
