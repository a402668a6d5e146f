"""Signals as columns: what goes in comes out, bounds are applied without the text, and wrong files are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from haina.cli import signals as commands
from haina.corpus.signals import COUNT_SIGNALS, SIGNALS, Bound, first_broken, load_preset, measure
from haina.corpus.signals.files import add_signals, apply_preset, dropped_path
from haina.runtime.errors import HainaError

ZH = "图书馆在城市的中心，每天都有很多人来这里看书，管理员把新书放在门口。"
EN = (
    "The library stands in the middle of the city, and many people come to read there every day. A librarian puts new "
    "books on a shelf near the door, with a note that says who has written them and why they are worth the time."
)
HANT = "圖書館在城市的中心，每天都有很多人來這裡看書。管理員把新書放在門口的架子上，旁邊寫著作者的名字。"
TEXTS = [ZH, EN, "首页", "Home", HANT, None, "的" * 300]
LANGUAGES = ["zh-Hans", "en", "zh-Hans", "en", "zh-Hant", "en", "zh-Hans"]


def table(**columns: object) -> pa.Table:
    base = {
        "id": [f"d{row}" for row in range(len(TEXTS))],
        "text": TEXTS,
        "lang": LANGUAGES,
        "rank": range(len(TEXTS)),
    }
    return pa.table({**base, **columns})


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    pq.write_table(table(), tmp_path / "in.parquet")
    add_signals(tmp_path / "in.parquet", tmp_path / "scored.parquet")
    return tmp_path / "scored.parquet"


def test_rows_and_columns_are_kept(scored: Path) -> None:
    out = pq.read_table(scored)
    assert out.select(["id", "text", "lang", "rank"]).to_pydict() == table().to_pydict()
    assert [name for name in out.column_names if name.startswith("signal.")] == [
        f"signal.{name}" for name in SIGNALS
    ]
    for row, (text, language) in enumerate(zip(TEXTS, LANGUAGES, strict=True)):
        for name, value in measure(text or "", language).items():
            found = out.column(f"signal.{name}")[row].as_py()
            assert found is None if math.isnan(value) else found == value
    assert all(out.schema.field(f"signal.{name}").type == pa.int64() for name in COUNT_SIGNALS)


def test_what_is_known_of_the_page_stays_and_the_rest_is_measured_again(tmp_path: Path) -> None:
    shares = [0.5, None, 0.25, 0.0, 1.0, None, None]
    old = table(
        **{"signal.link_share": shares, "signal.words": [7] * len(TEXTS), "signal.mine": [1.5] * len(TEXTS)}
    )
    pq.write_table(old, tmp_path / "in.parquet")
    assert add_signals(tmp_path / "in.parquet", tmp_path / "out.parquet") == len(TEXTS)
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.column("signal.link_share").to_pylist() == shares
    assert out.column("signal.main_share").null_count == len(TEXTS)
    assert out.column("signal.words")[2].as_py() == 2
    assert out.column("signal.mine").to_pylist() == [1.5] * len(TEXTS)


def test_language_is_identified_where_it_is_not_known(tmp_path: Path) -> None:
    texts = pa.array([ZH * 2, EN], pa.large_string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "none.parquet")
    pq.write_table(pa.table({"text": texts, "lang": ["zh-Hant", None]}), tmp_path / "some.parquet")
    for name, languages in (("none", ["zh-Hans", "en"]), ("some", ["zh-Hant", "en"])):
        add_signals(tmp_path / f"{name}.parquet", tmp_path / "out.parquet")
        assert pq.read_table(tmp_path / "out.parquet").column("lang").to_pylist() == languages


def test_every_document_stays_or_is_dropped_for_its_first_broken_bound(scored: Path, tmp_path: Path) -> None:
    preset = load_preset("default")
    kept = tmp_path / "kept.parquet"
    decided = apply_preset(scored, preset, kept)
    stayed, dropped = pq.read_table(kept), pq.read_table(dropped_path(kept))
    assert decided.documents == len(TEXTS) == stayed.num_rows + dropped.num_rows
    assert decided.kept == stayed.num_rows
    assert stayed.schema == pq.read_schema(scored)
    expected = []
    for row, (text, language) in enumerate(zip(TEXTS, LANGUAGES, strict=True)):
        broken = first_broken(measure(text or "", language), preset["zh" if language != "en" else "en"])
        if broken:
            expected.append(
                {
                    "id": f"d{row}",
                    "stage": "signals",
                    "reason": broken[0],
                    "evidence": broken[1],
                    "lang": language,
                }
            )
    assert dropped.to_pylist() == expected
    assert [item["reason"] for item in expected] == ["characters"] * 3 + ["top_2gram_character_share"]
    taken = {(item.group, item.signal): (item.breaks, item.takes, item.alone) for item in decided.taken}
    assert taken["zh", "characters"] == (1, 1, 0)
    assert taken["en", "words"] == (2, 0, 0)
    assert sum(item.takes for item in decided.taken) == dropped.num_rows


def test_bounds_need_no_text(scored: Path, tmp_path: Path) -> None:
    bare = pq.read_table(scored).drop_columns(["text", "id"])
    pq.write_table(bare, tmp_path / "bare.parquet")
    decided = apply_preset(
        tmp_path / "bare.parquet", {"zh": {"words": Bound(3)}, "en": {}}, tmp_path / "kept.parquet"
    )
    assert (decided.documents, decided.kept) == (7, 6)
    dropped = pq.read_table(tmp_path / "kept.dropped.parquet").to_pylist()
    assert dropped == [
        {"id": "2", "stage": "signals", "reason": "words", "evidence": "2 < 3", "lang": "zh-Hans"}
    ]
    assert apply_preset(tmp_path / "bare.parquet", {"zh": {}, "en": {}}).kept == 7


def test_wrong_files_are_refused(scored: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    cases = {
        "no-text": pa.table({"body": [ZH]}),
        "numbers": pa.table({"text": [1, 2]}),
        "no-lang": pq.read_table(scored).drop_columns(["lang"]),
    }
    for name, content in cases.items():
        pq.write_table(content, tmp_path / f"{name}.parquet")
    (tmp_path / "broken.parquet").write_bytes(scored.read_bytes()[:-200])
    for name, message in (
        ("no-text", "no column `text`"), ("numbers", "not strings"), ("broken", "not readable"), ("absent", "no such file"),
    ):  # fmt: skip
        with pytest.raises(HainaError, match=message):
            add_signals(tmp_path / f"{name}.parquet", target)
        assert not target.exists()
    with pytest.raises(HainaError, match="is the input"):
        add_signals(scored, scored)
    for name, message in (
        ("no-lang", "no column lang"),
        ("no-text", "no column lang, signal.characters"),
        ("broken", "not readable"),
    ):
        with pytest.raises(HainaError, match=message):
            apply_preset(tmp_path / f"{name}.parquet", load_preset("default"), target)
        assert not target.exists()
        assert not dropped_path(target).exists()


def test_damage_inside_a_file_is_one_clear_error(scored: Path, tmp_path: Path) -> None:
    data = bytearray(scored.read_bytes())
    data[40:400] = bytes(360)
    (tmp_path / "hurt.parquet").write_bytes(data)
    with pytest.raises(HainaError, match=r"hurt\.parquet: not readable as Parquet"):
        add_signals(tmp_path / "hurt.parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_empty_tables_pass_through(tmp_path: Path) -> None:
    pq.write_table(table().slice(0, 0), tmp_path / "in.parquet")
    assert add_signals(tmp_path / "in.parquet", tmp_path / "scored.parquet") == 0
    decided = apply_preset(tmp_path / "scored.parquet", load_preset("gopher"), tmp_path / "kept.parquet")
    assert (decided.documents, decided.kept) == (0, 0)
    assert pq.read_table(tmp_path / "kept.parquet").num_rows == 0


def test_commands(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(commands.signals)
    app.command()(commands.threshold)
    source, scored, kept = (str(tmp_path / f"{name}.parquet") for name in ("in", "scored", "kept"))
    pq.write_table(table(), source)
    assert "7 documents with 68 signals" in CliRunner().invoke(app, ["signals", source, scored]).stdout
    result = CliRunner().invoke(
        app,
        ["threshold", scored, "--preset", "default", "--set", "zh.characters.min=2", "--out", kept, "--json"],
    )
    found = json.loads(result.stdout)
    assert (found["documents"], found["kept"], found["dropped"]) == (7, 3, 4)
    assert pq.read_table(kept).num_rows == 3
    shown = CliRunner().invoke(app, ["threshold", scored]).stdout
    assert "3 of 7 documents stay" in shown
    assert "mean_line_characters" in shown
