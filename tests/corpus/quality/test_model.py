"""Fitting, calibration, files and scores, in Chinese and English."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from haina.cli.quality import app
from haina.corpus.quality import FitOptions, LinearModel, Scorer, fit
from haina.corpus.quality.calibration import auc, calibration_table, isotonic
from haina.corpus.quality.features import pack_clean
from haina.corpus.quality.model import measure, pack_weights
from haina.corpus.quality.scorer import language_group
from haina.runtime.errors import HainaError
from haina.runtime.progress import SilentProgress

SMALL = FitOptions(bits=14, epochs=2, folds=2, calibrate=0.25)


def shuffled(text: str, language: str, seed: int) -> str:
    pieces = list(text) if language == "zh" else text.split(" ")
    random.Random(seed).shuffle(pieces)
    return ("" if language == "zh" else " ").join(pieces)


@pytest.fixture(scope="module")
def models(good_texts: dict[str, list[str]]) -> dict[str, LinearModel]:
    out = {}
    for language, texts in good_texts.items():
        bad = [shuffled(text, language, number) for number, text in enumerate(texts)]
        keys = [str(number) for number in range(len(texts))] * 2
        labels = [1] * len(texts) + [0] * len(bad)
        model = fit([*texts, *bad], labels, options=SMALL, keys=keys)
        out[language] = replace(model, provenance={**model.provenance, "language": language})
    return out


def test_auc_counts_ties_half() -> None:
    assert auc([1, 2, 3, 4], [0, 0, 1, 1]) == 1
    assert auc([1, 1, 1, 1], [0, 1, 0, 1]) == 0.5
    assert auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert np.isnan(auc([1, 2], [1, 1]))


def test_isotonic_pools_what_falls() -> None:
    scores, labels = np.array([1.0, 2, 3, 4]), np.array([0.0, 1, 0, 1])
    places, chances = isotonic(scores, labels, np.ones(4))
    assert places.tolist() == [1.0, 2.5, 4.0]
    assert chances.tolist() == [0.0, 0.5, 1.0]


def test_calibration_is_strictly_increasing_and_close_to_the_shares() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=20000)
    labels = (rng.random(20000) < 1 / (1 + np.exp(-2 * scores))).astype(float)
    places, chances = calibration_table(scores, labels, np.ones(20000))
    assert (np.diff(places) > 0).all()
    assert (np.diff(chances) > 0).all()
    for score in (-1.5, -0.5, 0.0, 1.0):
        assert np.interp(score, places, chances) == pytest.approx(1 / (1 + np.exp(-2 * score)), abs=0.05)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_model_tells_written_from_shuffled(
    language: str, models: dict[str, LinearModel], good_texts: dict[str, list[str]]
) -> None:
    model, texts = models[language], good_texts[language][:80]
    good = model.score(texts)
    bad = model.score([shuffled(text, language, 10_000 + number) for number, text in enumerate(texts)])
    assert auc(np.concatenate([good, bad]), np.repeat([1, 0], 80)) > 0.98
    assert model.provenance["held_out_auc"] > 0.95
    assert ((good >= 0) & (good <= 1)).all()


def test_the_same_fit_twice_is_the_same_file(tmp_path: Path, good_texts: dict[str, list[str]]) -> None:
    texts = good_texts["zh"][:60]
    data = [*texts, *(shuffled(text, "zh", 1) for text in texts)]
    for name in ("a.npz", "b.npz"):
        fit(data, [1] * 60 + [0] * 60, options=replace(SMALL, bits=12)).save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_file_gives_the_model_back(tmp_path: Path, models: dict[str, LinearModel]) -> None:
    model = models["zh"]
    model.save(tmp_path / "m.npz")
    again = LinearModel.load(tmp_path / "m.npz")
    text = "春天老师在图书馆里认真地阅读古代的历史。"
    assert again.score([text]) == model.score([text])
    assert again.provenance == model.provenance
    assert again.column_names == model.column_names


def test_explanation_adds_up(models: dict[str, LinearModel]) -> None:
    model = models["en"]
    text = "Last year the doctor often checks the level of the river."
    parts = model.explain(text)
    assert sum(parts.values()) + model.intercept == pytest.approx(
        float(model.logit_packed(*pack_clean([text]))[0]), abs=1e-4
    )


def test_length_does_not_decide(models: dict[str, LinearModel], good_texts: dict[str, list[str]]) -> None:
    texts = good_texts["zh"]
    assert models["zh"].score(["\n".join(texts[:30])])[0] > 0.5
    assert models["zh"].score([shuffled("\n".join(texts[:30]), "zh", 0)])[0] < 0.5


@pytest.mark.parametrize(
    "text", ["", "a", "海", "\0", "\ufffd" * 9, "\ud800", "\ue000", "a\u0301" * 9, "שלום", "🙂"]
)
def test_any_text_gets_a_score(text: str) -> None:
    scores = Scorer.default().score([text, text], ["zh-Hant", "en"])
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_long_line_takes_time_in_proportion() -> None:
    for text in ("好" * 1_000_000, "a" * 3_000_000, "ab " * 1_000_000, "!" * 3_000_000):
        assert 0 <= Scorer.default().models["zh"].score([text])[0] <= 1


@pytest.mark.parametrize(
    ("language", "good", "bad"),
    [
        (
            "zh-Hans",
            "昨天下午，市图书馆举行了一场关于城市历史的讲座。主讲人介绍了老城区一百年来的变化，并回答了听众的问题。许多居民带来了家里保存的旧照片，希望这些资料能够留给后人。",
            "澳门赌场官网首存送88元，百家乐注册即送彩金，提款秒到账，加微信咨询13800138000，立即点击注册！信誉第一，时时彩计划群稳赚不赔，名额有限先到先得！",
        ),
        (
            "zh-Hant",
            "昨天下午，市圖書館舉行了一場關於城市歷史的講座。主講人介紹了老城區一百年來的變化，並回答了聽眾的問題。許多居民帶來了家裡保存的舊照片，希望這些資料能夠留給後人。",
            "首頁 新聞 體育 財經 娛樂 科技 登錄 註冊 關於我們 聯繫我們 網站地圖 加入收藏 設為首頁 手機版 版權所有 未經授權禁止轉載",
        ),
        (
            "en",
            "Yesterday afternoon the city library held a lecture on the history of the town. The speaker described how the old quarter had changed over a hundred years, and answered questions from the audience.",
            "Home About Contact Login Register Cart Checkout. Buy cheap viagra online no prescription!!! Casino bonus click here www.winbig777.top 100% guaranteed free shipping order today!!!",
        ),
    ],
)
def test_shipped_models_know_good_from_bad(language: str, good: str, bad: str) -> None:
    scorer = Scorer.default()
    scores = scorer.score([good, bad], [language, language])
    assert scores[0] > 0.5 > scores[1]
    words = good.split(" ") if language == "en" else list(good)
    random.Random(3).shuffle(words)
    assert scorer.score([(" " if language == "en" else "").join(words)], [language])[0] < scores[0] / 2


def test_shipped_models_are_small_and_say_where_they_come_from() -> None:
    from importlib.resources import files

    for language in ("zh", "en"):
        assert len((files("haina.corpus.quality") / f"default_{language}.npz").read_bytes()) <= 1_000_000
        provenance = Scorer.default().models[language].provenance
        assert provenance["language"] == language
        assert provenance["positive"]
        assert provenance["held_out_auc"] > 0.9


def test_traditional_text_is_not_judged_worse() -> None:
    simplified, traditional = (
        "这个软件可以处理电脑里的数据，使用起来很方便。",
        "這個軟件可以處理電腦裏的數據，使用起來很方便。",
    )
    scores = Scorer.default().score([simplified, traditional], ["zh-Hans", "zh-Hant"])
    assert scores[0] == scores[1]


def test_languages_go_to_their_model() -> None:
    assert [
        language_group(name) for name in ("zh-Hans", "zh-Hant", "yue", "en", "ja", "code", "other", "")
    ] == [
        "zh",
        "zh",
        "zh",
        "en",
        *[""] * 4,
    ]
    assert language_group("mixed", "海纳百川有容乃大 sea") == "zh"
    assert language_group("mixed", "a sea of many rivers 海") == "en"
    assert np.isnan(Scorer.default().score(["こんにちは"], ["ja"])).all()


def test_bad_training_data_is_named(good_texts: dict[str, list[str]]) -> None:
    with pytest.raises(HainaError, match="no texts"):
        fit([], [])
    with pytest.raises(HainaError, match="no negative"):
        fit(good_texts["zh"][:9], [1] * 9)
    with pytest.raises(HainaError, match="no positive"):
        fit(good_texts["zh"][:9], [0] * 9)
    with pytest.raises(HainaError, match="labels"):
        fit(["a"], [1, 0])
    with pytest.raises(HainaError, match="one class only"):
        fit(["a", "b"], [1, 0], options=SMALL)


def test_damaged_models_are_named(tmp_path: Path, models: dict[str, LinearModel]) -> None:
    path = tmp_path / "m.npz"
    models["zh"].save(path)
    whole = path.read_bytes()
    for content in (
        b"",
        b"PK\x03\x04",
        b"nothing",
        whole[: len(whole) // 2],
        whole[:200] + b"\0" * 400 + whole[600:],
    ):
        path.write_bytes(content)
        with pytest.raises(HainaError, match="not a quality model"):
            LinearModel.load(path)
    with pytest.raises(HainaError, match="no such file"):
        LinearModel.load(tmp_path / "none.npz")
    replace(models["zh"], pivots=np.zeros(7, dtype=np.float32)).save(path)
    with pytest.raises(HainaError, match="do not fit together"):
        LinearModel.load(path)


def write(path: Path, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def run(*arguments: object) -> dict[str, object]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout[result.stdout.index("{") :])


def test_sets_train_and_score_from_the_command_line(tmp_path: Path, good_texts: dict[str, list[str]]) -> None:
    write(tmp_path / "one.parquet", text=good_texts["zh"][:120])
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in good_texts["zh"][120:]]
    (tmp_path / "two.jsonl").write_text("\n".join(lines), encoding="utf-8")
    inputs = (tmp_path / "one.parquet", tmp_path / "two.jsonl")
    made = run("sets", *inputs, "--out", tmp_path / "sets", "--passages", 3)
    assert made["pairs"] == {"one": 360, "two": 360} or sum(made["pairs"].values()) > 650  # type: ignore[union-attr]
    run("sets", *inputs, "--out", tmp_path / "again", "--passages", 3)
    for name in ("positive.parquet", "negative.parquet"):
        assert (tmp_path / "sets" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    negative = pq.read_table(tmp_path / "sets" / "negative.parquet")
    assert set(negative["head"].to_pylist()) == {"order", "noise", "spam", "page"}
    assert set(negative["domain"].to_pylist()) == {"one", "two"}

    sets = tmp_path / "sets"
    model = tmp_path / "zh.npz"
    report = run(
        "train",
        "--positive",
        sets / "positive.parquet",
        "--negative",
        sets / "negative.parquet",
        "--out",
        model,
    )
    assert report["held_out_auc"] > 0.85  # type: ignore[operator]
    assert set(report["held_out_auc_by_domain"]) == {"one", "two"}  # type: ignore[call-overload]

    texts = [good_texts["zh"][0], "", "This is an English sentence about rivers.", None]
    source = write(
        tmp_path / "in.parquet",
        id=["a", "b", "c", "d"],
        text=texts,
        lang=["zh-Hans", "zh-Hans", "en", "zh-Hans"],
    )
    answer = run("score", source, tmp_path / "out.parquet", "--model", model, "--sentences")
    assert answer["documents"] == 4
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.column_names == ["id", "text", "lang", "score.quality", "score.sentences"]
    scores = out["score.quality"].to_pylist()
    assert 0 < scores[0] <= 1
    assert scores[1] == 0
    assert scores[2] is None
    assert len(out["score.sentences"].to_pylist()[0]) >= 5
    assert out["score.sentences"].to_pylist()[1] == []
    run("score", tmp_path / "out.parquet", tmp_path / "twice.parquet")
    assert pq.read_table(tmp_path / "twice.parquet").column_names.count("score.quality") == 1


def test_bad_files_are_named(tmp_path: Path, good_texts: dict[str, list[str]]) -> None:
    from haina.corpus.quality.files import score_file, train_files, with_calibration
    from haina.corpus.quality.sets import SetOptions, write_sets

    scorer, quiet = Scorer.default(), SilentProgress()
    plain = write(tmp_path / "no_text.parquet", body=["a"])
    for path, message in (
        (plain, "no column `text`"),
        (write(tmp_path / "numbers.parquet", text=[1]), "not string"),
        (tmp_path / "none.parquet", "no such file"),
    ):
        with pytest.raises(HainaError, match=message):
            score_file(path, tmp_path / "out.parquet", scorer, False, quiet)
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(HainaError, match="not readable as Parquet"):
        score_file(tmp_path / "damaged.parquet", tmp_path / "out.parquet", scorer, False, quiet)
    good = write(tmp_path / "good.parquet", text=good_texts["zh"][:20])
    with pytest.raises(HainaError, match="is the input"):
        score_file(good, good, scorer, False, quiet)
    with pytest.raises(HainaError, match="both sides"):
        train_files([good], [good], "zh", tmp_path / "m.npz", SMALL, quiet)
    empty = write(tmp_path / "empty.parquet", text=pa.array([], pa.string()))
    with pytest.raises(HainaError, match="no negative"):
        train_files([good], [empty], "zh", tmp_path / "m.npz", SMALL, quiet)
    with pytest.raises(HainaError, match="no texts"):
        train_files(
            [empty],
            [write(tmp_path / "e2.parquet", text=pa.array([], pa.string()))],
            "zh",
            tmp_path / "m.npz",
            SMALL,
            quiet,
        )
    with pytest.raises(HainaError, match="between 0 and 1"):
        with_calibration(SMALL, 1.0)
    with pytest.raises(HainaError, match="no usable en document"):
        write_sets([good], tmp_path / "sets", SetOptions("en"))
    with pytest.raises(HainaError, match="no corruption"):
        write_sets([good], tmp_path / "sets", SetOptions("zh", without=frozenset(["nonsense"])))
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{not json\n', encoding="utf-8")
    with pytest.raises(HainaError, match="line 2"):
        write_sets([tmp_path / "bad.jsonl"], tmp_path / "sets", SetOptions("zh"))
    path = tmp_path / "zh.npz"
    scorer.models["zh"].save(path)
    with pytest.raises(HainaError, match="second model"):
        Scorer.read([path, path])


def test_empty_parquet_stays_empty(tmp_path: Path) -> None:
    from haina.corpus.quality.files import score_file

    source = write(tmp_path / "in.parquet", text=pa.array([], pa.string()))
    assert score_file(source, tmp_path / "out.parquet", Scorer.default(), True, SilentProgress()) == 0
    assert pq.read_table(tmp_path / "out.parquet").column_names == [
        "text",
        "score.quality",
        "score.sentences",
    ]


def test_columns_are_finite_on_any_input() -> None:
    model = Scorer.default().models["en"]
    columns = measure(
        *pack_clean(["", "\n\n", "   ", "((((", "。"]),
        pack_weights(model.weights),
        model.scales,
        model.pivots,
    )
    assert np.isfinite(columns).all()
