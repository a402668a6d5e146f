"""Looking at a corpus: spreads and samples at the bounds, cuts, one document, and the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haina.corpus.edits import Edit, apply
from haina.corpus.look import bounds_of, collect, find_document, render
from haina.runtime.errors import HainaError

BOUNDS = {"zh": {"length": (40.0, None)}, "en": {"length": (None, 150.0)}}


def rows() -> list[dict[str, object]]:
    texts = [("zh-Hans", "海纳百川。"), ("yue", "大海好大㗎。"), ("en", "The sea is wide. ")]
    made: list[dict[str, object]] = []
    for index in range(120):
        lang, text = texts[index % 3]
        made.append(
            {
                "id": f"{index:032x}",
                "text": text * (index + 1),
                "lang": lang,
                "title": f"标题 title {index}",
                "signal.length": float(index),
                "score.quality": index / 120,
            }
        )
    return made


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Kept and dropped documents, and one kept document that was edited."""
    whole = "大海很宽。点击关注公众号。船来了。"
    start, end = len("大海很宽。".encode()), len("大海很宽。点击关注公众号。".encode())
    edit = Edit(start, end, "sentence", "advertisement", 0.97, "点击关注公众号。")
    kept, dropped = rows()[30:], rows()[:30]
    kept[0]["text"] = apply(whole, [edit])
    for row in dropped:
        row |= {"stage": "signals", "reason": "length", "evidence": "1 < 40"}
    dropped.append({"id": "f" * 32, "lang": "", "stage": "read", "reason": "empty", "evidence": ""})
    for name, table in (("documents", kept), ("dropped", dropped)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.Table.from_pylist(table), tmp_path / name / "part-00000.parquet", row_group_size=16)
    (tmp_path / "edits").mkdir()
    edited = [{"id": kept[0]["id"], **edit.__dict__}]
    pq.write_table(pa.Table.from_pylist(edited), tmp_path / "edits" / "part-00000.parquet")
    (tmp_path / "summary.json").write_text(
        json.dumps({"bounds": {"zh": {"length": {"min": 40.0, "max": None}}}})
    )
    return tmp_path


def test_spreads_count_both_sides_of_the_bounds(corpus: Path) -> None:
    look = collect(corpus, BOUNDS)
    assert look.documents == {"zh": 80, "en": 40}
    chinese, english = (next(s for s in look.spreads[group] if s.name == "length") for group in ("zh", "en"))
    values = {group: [i for i in range(120) if (i % 3 == 2) == (group == "en")] for group in ("zh", "en")}
    assert (chinese.below, chinese.above) == (sum(value < 40 for value in values["zh"]), 0)
    assert (english.below, english.above) == (0, 0)
    assert sum(chinese.counts) == 80
    assert np.allclose(chinese.quantiles, np.percentile(values["zh"], range(101)))
    assert chinese.quantiles[0] == 0


def test_the_nearest_documents_on_both_sides_are_shown(corpus: Path) -> None:
    look = collect(corpus, BOUNDS, ["length"])
    spread = look.spreads["zh"][0]
    shown = [value for _, value in spread.shown]
    assert shown == sorted(shown)
    near = [i for i in range(120) if i % 3 != 2]
    assert {value for value in near if value < 40} & {*range(31, 40)} <= set(shown)
    assert {value for value in near if value >= 40} & {*range(40, 49)} <= set(shown)
    for key, value in spread.shown:
        assert look.samples[key].measured["length"] == value
        assert look.samples[key].facts["title"] == f"标题 title {int(value)}"


def test_cuts_are_shown_in_their_place(corpus: Path) -> None:
    look = collect(corpus, BOUNDS)
    assert look.cuts == {("advertisement", "sentence"): 1}
    (sample,) = look.cut_samples
    assert sample.pieces == [("大海很宽。", ""), ("点击关注公众号。", "advertisement"), ("船来了。", "")]


def test_one_document_by_the_start_of_its_id(corpus: Path) -> None:
    sample = find_document(corpus, f"{30:032x}")
    assert ("点击关注公众号。", "advertisement") in sample.pieces
    assert sample.measured == {"length": 30.0, "quality": 0.25}
    with pytest.raises(HainaError, match="120 documents"):
        find_document(corpus, "0")
    with pytest.raises(HainaError, match="no document"):
        find_document(corpus, "abc")


def test_bounds_of_the_corpus_come_before_the_preset(corpus: Path) -> None:
    assert bounds_of(corpus) == {"zh": {"length": (40.0, None)}}
    assert "characters" in bounds_of(corpus / "documents" / "part-00000.parquet")["en"]


def test_an_unknown_measure_and_a_table_without_any(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(HainaError, match="no measure 'lenght'"):
        collect(corpus, BOUNDS, ["lenght"])
    bare = tmp_path / "bare.parquet"
    pq.write_table(pa.table({"text": ["好"]}), bare)
    with pytest.raises(HainaError, match="signal"):
        collect(bare, BOUNDS)


@pytest.mark.parametrize("values", [[3.0], [2.0] * 50, [0.0, 1e12], [-5.0, 5.0], [float("inf"), 1.0]])
def test_degenerate_values(values: list[float], tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    columns = {"text": ["好"] * len(values), "lang": ["zh-Hans"] * len(values), "signal.length": values}
    pq.write_table(pa.table(columns), path)
    (spread,) = collect(path, BOUNDS).spreads["zh"]
    finite = [value for value in values if np.isfinite(value)]
    assert sum(spread.counts) == len(finite)
    assert spread.edges == sorted(spread.edges)
    assert spread.edges[0] < spread.edges[-1]


def test_hostile_text_does_not_leave_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    pq.write_table(
        pa.table({"text": [hostile], "title": [hostile], "lang": ["en"], "signal.length": [1.0]}), path
    )
    page = render(collect(path, BOUNDS), hostile, {"length": hostile})
    assert page.count("<script") == 2
    assert "<img" not in page
    found = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert found
    assert json.loads(found[1])["samples"]["0.0"]["pieces"] == [[hostile, ""]]
