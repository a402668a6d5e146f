"""The whole fit on invented domains: better weights, the same bytes however it is run, one line for bad input."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from haina.cli.mixture import app
from haina.corpus.mixture import fit as fit_module
from haina.corpus.mixture.domains import parse_origins
from haina.corpus.mixture.fit import Fit, FitOptions, fit_mixture
from haina.corpus.mixture.pools import Pools
from haina.corpus.mixture.proxy import Losses, Streams, read_streams
from haina.corpus.mixture.result import write_fit
from haina.runtime.errors import HainaError
from haina.runtime.executor import LocalExecutor


@pytest.fixture(autouse=True, scope="module")
def few_resamples() -> Iterator[None]:
    """Forty resamples say how certain real weights are; here four are enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "RESAMPLES", 4)
        patch.setattr(fit_module, "STARTS", 100)
        yield


def run(words: list[str], out: Path, workers: int = 1, **how: object) -> Fit:
    options = FitOptions(words, out, **{"proxies": 20, "tokens": 4000, "seed": 3, **how})  # type: ignore[arg-type]
    with LocalExecutor(workers) as executor:
        fitted = fit_mixture(options, executor)
    write_fit(fitted, parse_origins(words, options.by), options.by, options.seed, out)
    return fitted


@pytest.fixture(scope="module")
def fitted(three_domains: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, Path]:
    out = tmp_path_factory.mktemp("fit")
    return run(three_domains, out), out


def test_learned_weights_are_no_worse(fitted: tuple[Fit, Path]) -> None:
    fit, out = fitted
    losses = {name: float((checks @ fit.target).mean()) for name, checks in fit.checks.items()}
    assert losses["learned"] <= min(losses.values()) + 0.01
    description = json.loads((out / "mixture.json").read_text("utf-8"))
    assert list(description["weights"]) == ["en", "zh", "zh small"]
    assert sum(description["weights"].values()) == pytest.approx(1, abs=1e-5)
    assert sum(description["text_weights"].values()) == pytest.approx(1, abs=1e-5)
    assert description["sources"] == {
        "en": ["en.parquet"],
        "zh": ["zh.parquet"],
        "zh small": ["a=b c.parquet"],
    }
    small = description["domains"]["zh small"]
    assert small["epochs"] <= 4.0 + 1e-3
    assert small["weight_90"][0] <= small["weight_90"][1]
    table = pq.read_table(out / "mixtures.parquet")
    assert table.num_rows == len(fit.runs) == 20 + 12
    weights = np.stack([table[f"weight.{name}"].to_numpy() for name in fit.names], axis=1)
    assert weights.sum(axis=1) == pytest.approx(1.0)
    assert set(table["kind"].to_pylist()) == {"natural", "temperature", "uniform", "wide", "near", "learned"}


def test_bytes_do_not_depend_on_workers_or_a_kill(
    fitted: tuple[Fit, Path], three_domains: list[str], tmp_path: Path
) -> None:
    _, out = fitted
    files = ("mixture.json", "mixtures.parquet")
    wanted = [(out / name).read_bytes() for name in files]
    run(three_domains[::-1], tmp_path, workers=2)
    assert [(tmp_path / name).read_bytes() for name in files] == wanted
    # As after a kill: some proxies are there, some are not, one is half written.
    proxies = sorted((tmp_path / "work").glob("*/proxies/*.json"))
    kept = {path: path.stat().st_mtime_ns for path in proxies[10:]}
    for path in proxies[:10]:
        path.unlink()
    proxies[0].with_name(proxies[0].name + ".partial").write_bytes(b"[0.")
    for name in files:
        (tmp_path / name).unlink()
    run(three_domains, tmp_path)
    assert [(tmp_path / name).read_bytes() for name in files] == wanted
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_target_moves_the_weights_and_needs_few_new_proxies(
    fitted: tuple[Fit, Path], three_domains: list[str]
) -> None:
    fit, out = fitted
    before = set((out / "work").glob("*/proxies/*.json"))
    english = run(three_domains, out, target=("en=1",))
    place = fit.names.index("en")
    assert english.weights[place] > fit.weights[place] + 0.1
    assert any("no target weight for zh, zh small" in note for note in english.notes)
    made = set((out / "work").glob("*/proxies/*.json")) - before
    assert len(made) < 12


def test_zh_and_en_are_equals(tmp_path: Path, domain_file: Callable[..., Path]) -> None:
    """Two domains of the same size: none of both languages is starved."""
    words = [f"{lang}={domain_file(tmp_path / f'{lang}.parquet', lang, 1, 200)}" for lang in ("zh", "en")]
    weights = run(words, tmp_path / "out", proxies=12).weights
    assert weights.min() > 0.3


def test_a_tokenizer_of_ones_own(three_domains: list[str], tmp_path: Path) -> None:
    """Its ids are what proxies read, and none is learned; hardly more than a byte each, since it knows other text."""
    from haina.tokenizer.config import TokenizerConfig
    from haina.tokenizer.folder import write_folder
    from haina.tokenizer.train import train_tokenizer

    folder = tmp_path / "tokenizer"
    rng = random.Random(1)
    texts = ["".join(rng.choices("甲乙丙丁戊己庚辛壬癸QWXYZJKV", k=30)) for _ in range(400)]
    write_folder(folder, train_tokenizer(texts, TokenizerConfig(vocab_size=512)))
    pools = run(three_domains, tmp_path / "out", proxies=10, tokens=2000, tokenizer=folder).prepared.pools
    assert pools.separator == 512
    assert pools.bytes_per_token == pytest.approx(1.3, abs=0.4)
    assert not list((tmp_path / "out").rglob("bpe.json"))


def flat(pools: Pools, streams: Streams, side: str, seed: int) -> Losses:
    """Another proxy: what it read of each domain is all that it knows."""
    read = np.array(
        [sum(len(tokens) * copies for tokens, copies in streams[at : at + 2]) for at in (0, 2, 4)]
    )
    return 1.0 + np.array([1.0, 4.0, 1.0]) / (1.0 + read / 1000.0)


def test_another_proxy_can_be_put_in(three_domains: list[str], tmp_path: Path) -> None:
    fit = run(three_domains, tmp_path, model=flat, proxies=30)
    assert fit.names == ("en", "zh", "zh small")
    # Least of sum_i s_i / (1 + 4 w_i): 1 + 4 w_i in proportion to sqrt(s_i).
    assert fit.weights == pytest.approx((7 * np.array([1, 2, 1]) / 4 - 1) / 4, abs=0.02)


def test_streams_are_exact_and_repeat_only_beyond_the_limit() -> None:
    pools = Pools(
        ("a", "b"), 100, 99, (np.arange(40, dtype=np.int32), np.arange(8, dtype=np.int32)), {}, {}, np.ones(2)
    )
    (a, once), (b, never), (c, thrice), (d, twice) = read_streams(pools, (20, 8), (15, 19), 1)
    assert (a.tolist(), once) == (list(range(10, 25)), 1)
    assert (b.tolist(), never) == (list(range(25, 30)), 0)
    assert (c.tolist(), thrice) == ([2, 3, 4], 3)
    assert (d.tolist(), twice) == ([5, 6, 7, 0, 1], 2)
    last = read_streams(pools, (20, 8), (20, 8), 3)
    assert last[0][0].tolist() == [*range(30, 40), *range(10)] or sum(len(part) for part, _ in last[:2]) == 20


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"proxies": 5}, "cross-validation needs at least 10"),
        ({"laws": ("cubic",)}, "unknown law"),
        ({"budget": 1e12}, "more than 4 epochs"),
        ({"budget": 2000.0}, "is more than the budget"),
        ({"max_epochs": 0.0}, "must be above 0"),
        ({"target": ("fr=1",)}, "no domain 'fr'"),
    ],
)
def test_options_that_do_not_fit(
    three_domains: list[str], tmp_path: Path, how: dict[str, object], message: str
) -> None:
    with pytest.raises(HainaError, match=message):
        run(three_domains, tmp_path, **how)


def test_command(three_domains: list[str], tmp_path: Path) -> None:
    words = [
        "fit",
        *three_domains,
        "--out",
        str(tmp_path),
        "--proxies",
        "10",
        "--tokens",
        "2000",
        "--workers",
        "1",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "zh small" in result.output
    assert "mixture.json: weights of 3 domains" in result.output
    again = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(again.stdout[again.stdout.index("{") :])["proxy_tokens"] == 2000
