"""`extract`, `signals`, `threshold`, `quality` and the looking side of `inspect`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haina.cli import main
from haina.corpus.signals import SIGNALS

ZH = (
    "秋天的果园里，农民们一早就开始采摘苹果。熟透的果子挂满枝头，空气里都是甜味。"
    "他们把好的装进木箱，运到镇上的市场，剩下的做成果酱，留到冬天慢慢吃。"
)
EN = (
    "In autumn the farmers begin to pick apples early in the morning. The branches are heavy with ripe fruit and the "
    "air smells sweet. The best go into wooden boxes for the market in town; the rest become jam for the winter."
)
PAGE = "<html><head><title>{0}</title></head><body><nav><a href=/>Home 首页</a></nav><article><h1>{0}</h1><p>{1}</p></article></body>"


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    path = tmp_path / "in.parquet"
    rows = [
        {"id": name, "text": text, "lang": lang, "url": f"http://x/{name}"}
        for name, text, lang in (("a", ZH, "zh-Hans"), ("b", EN, "en"), ("c", "短", "zh-Hans"))
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_extract_prints_one_object_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, title, text in (("zh.html", "果园", ZH * 3), ("en.html", "Orchard", EN * 3)):
        (tmp_path / name).write_text(PAGE.format(title, text), encoding="utf-8")
    assert call("extract", tmp_path / "zh.html", tmp_path / "en.html", "--json") == 0
    chinese, english = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert {"text", "title", "lang", "kind"} <= chinese.keys()
    assert (chinese["lang"], english["lang"]) == ("zh-Hans", "en")
    assert (chinese["title"], english["title"]) == ("果园", "Orchard")
    assert ZH in chinese["text"]
    assert EN in english["text"]
    assert "首页" not in chinese["text"] + english["text"]


def test_extract_goes_on_past_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "en.html").write_text(PAGE.format("Orchard", EN), encoding="utf-8")
    assert call("extract", tmp_path / "none.html", tmp_path / "en.html") == 2
    captured = capsys.readouterr()
    assert "none.html" in captured.err
    assert EN in captured.out


def test_signals_then_thresholds_without_text(
    documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored, kept = tmp_path / "scored.parquet", tmp_path / "kept.parquet"
    assert call("signals", documents, scored) == 0
    table = pq.read_table(scored)
    assert table.column_names[:4] == ["id", "text", "lang", "url"]
    assert table.column_names[4:] == [f"signal.{name}" for name in SIGNALS]
    assert len(SIGNALS) >= 40
    assert table.column("signal.characters").to_pylist() == [len(ZH), len(EN), 1]
    bare = tmp_path / "bare.parquet"
    pq.write_table(table.drop_columns("text"), bare)
    capsys.readouterr()
    assert (
        call(
            "threshold", bare, "--set", "zh.characters.min=2", "--set", "en.words={}", "--out", kept, "--json"
        )
        == 0
    )
    assert pq.read_table(kept).column("id").to_pylist() == ["a", "b"]
    assert json.loads(capsys.readouterr().out)
    assert pq.read_table(tmp_path / "kept.dropped.parquet").column("reason").to_pylist() == ["characters"]


def test_signals_of_a_table_without_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": ["a"]}), path)
    assert call("signals", path, tmp_path / "out.parquet") == 2
    assert "text" in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


def test_quality_scores_rank_prose_above_noise(documents: Path, tmp_path: Path) -> None:
    noise = "加微信领红包 点击进入 免费看 最新网址 彩票 提现 " * 8
    rows = [{"text": ZH, "lang": "zh-Hans"}, {"text": noise, "lang": "zh-Hans"}, {"text": EN, "lang": "en"}]
    pq.write_table(
        pa.Table.from_pylist([*rows, {"text": " ".join(sorted(EN.split())), "lang": "en"}]), documents
    )
    assert call("quality", "score", documents, tmp_path / "out.parquet", "--sentences") == 0
    table = pq.read_table(tmp_path / "out.parquet")
    good_zh, bad_zh, good_en, bad_en = table.column("score.quality").to_pylist()
    assert good_zh > bad_zh
    assert good_en > bad_en
    assert len(table.column("score.sentences").to_pylist()[0]) == 3


def test_inspect_shows_both_sides_and_writes_the_page(
    documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = tmp_path / "scored.parquet"
    call("signals", documents, scored)
    capsys.readouterr()
    assert call("inspect", scored, "--signal", "characters") == 0
    shown = capsys.readouterr().out
    assert "秋天的果园里" in shown
    assert "In autumn the farmers" in shown
    assert call("inspect", scored, "--document", "b") == 0
    assert "wooden boxes" in capsys.readouterr().out
    assert call("inspect", scored, "--html", tmp_path / "look.html") == 0
    assert "秋天的果园里" in (tmp_path / "look.html").read_text(encoding="utf-8")
    assert call("inspect", scored, "--signal", "no_such") == 2
    assert "no measure 'no_such'" in capsys.readouterr().err
