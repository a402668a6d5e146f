"""From files to files: everything is accounted for, and the number of workers changes no byte."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from haina.cli.decontaminate import decontaminate as decontaminate_command
from haina.corpus.blocks import parquet_files
from haina.corpus.decontaminate import Item
from haina.corpus.decontaminate.config import DecontaminateConfig
from haina.corpus.decontaminate.stage import run
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree, read_json
from haina.runtime.stage import StageContext

QUESTION = "下列物质中，能使酸性高锰酸钾溶液褪色但不能使溴水褪色的是（ ）\nA. 己烯\nB. 甲苯\nC. 苯酚\nD. 乙醛"


@pytest.fixture
def corpus(tmp_path: Path, items: tuple[Item, ...]) -> Path:
    """Two files of documents and one of items."""
    rows = [
        {"question": item.question, "options": list(item.options), "passage": item.passage} for item in items
    ]
    lines = [*(json.dumps(row, ensure_ascii=False) for row in rows), "{broken"]
    (tmp_path / "own.jsonl").write_text("\n".join(lines), encoding="utf-8")
    folder = tmp_path / "documents"
    folder.mkdir()
    texts = [f"普通的第{number}篇文章，讲图书馆。" for number in range(40)]
    texts[7], texts[23], texts[30] = f"练习：\n{QUESTION}\n答案 B", "", items[7].question
    table = pa.table(
        {
            "id": [f"d{number}" for number in range(40)],
            "text": texts,
            "url": ["u"] * 40,
            "signal.x": range(40),
        }
    )
    pq.write_table(table, folder / "a.parquet", row_group_size=10)
    pq.write_table(
        pa.table({"text": pa.array(["plain", None, QUESTION], pa.large_string())}), folder / "b.parquet"
    )
    return tmp_path


def decontaminate(corpus: Path, work: Path, workers: int = 1) -> Path:
    context = StageContext(
        work=work,
        inputs={"against-0": corpus / "own.jsonl"},
        sources=tuple(parquet_files([corpus / "documents"])),
        workers=workers,
    )
    result = run(DecontaminateConfig(part_bytes=1), context)
    assert result.records_in == result.records_out + result.records_dropped == 43
    return work / "out" / "decontaminated"


def test_documents_and_matches(corpus: Path) -> None:
    out = decontaminate(corpus, corpus / "work")
    kept = [row for path in sorted((out / "documents").iterdir()) for row in pq.read_table(path).to_pylist()]
    dropped = pq.read_table(out / "dropped").to_pylist()
    assert len(kept) == 40
    assert "d7" not in {row.get("id") for row in kept}
    assert kept[5] == {"id": "d5", "text": "普通的第5篇文章，讲图书馆。", "url": "u", "signal.x": 5}
    assert [row["id"] for row in dropped] == ["d7", "d30", "b.parquet:0:2"]
    assert {(row["stage"], row["reason"]) for row in dropped} == {("decontaminate", "evaluation-item")}
    assert dropped[0]["evidence"] == "own.jsonl 0 question+options 1.0000"
    assert dropped[0]["url"] == "u"
    matches = pq.read_table(out / "matches.parquet").to_pylist()
    assert [(row["id"], row["benchmark"], row["item"], row["field"]) for row in matches] == [
        ("d7", "own.jsonl", "0", "question"),
        ("d30", "own.jsonl", "7", "question"),
        ("b.parquet:0:2", "own.jsonl", "0", "question"),
    ]
    for row, match in zip(dropped, matches, strict=True):
        assert row["text"].encode()[match["start"] : match["end"]].decode() == match["text"]
    assert matches[0]["text"] == QUESTION
    assert pq.read_table(out / "quarantine.parquet").column("reason").to_pylist() == ["not-json", "too-short"]
    summary = read_json(out / "summary.json")
    assert summary["benchmarks"]["own.jsonl"] | {"example": None} == {
        "items": 10, "items_found": 2, "documents": 3, "too_short": 1, "unreadable_rows": 1, "example": None,
    }  # fmt: skip


@pytest.mark.slow
def test_workers_change_nothing(corpus: Path) -> None:
    one, two = (fingerprint_tree(decontaminate(corpus, corpus / f"work{count}", count)) for count in (1, 2))
    assert one == two


def test_unusable_documents_are_named(corpus: Path) -> None:
    bad = corpus / "documents" / "a.parquet"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(HainaError, match=r"a\.parquet: not readable as Parquet"):
        decontaminate(corpus, corpus / "work")
    pq.write_table(pa.table({"body": ["x"]}), bad)
    with pytest.raises(HainaError, match=r"no column `text` \(it has body\)"):
        decontaminate(corpus, corpus / "work")
    pq.write_table(pa.table({"text": [1]}), bad)
    with pytest.raises(HainaError, match="holds int64"):
        decontaminate(corpus, corpus / "work")
    with pytest.raises(HainaError, match=r"no \*.parquet below"):
        parquet_files([corpus / "work"])


def test_command(corpus: Path) -> None:
    app = typer.Typer()
    app.command()(decontaminate_command)
    out = corpus / "out"
    against = ["--against", str(corpus / "own.jsonl")]
    arguments = [str(corpus / "documents"), *against, "--out", str(out), "--workers", "1"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "43 documents: 40 kept, 3 dropped" in shown.output
    assert "own.jsonl" in shown.output
    assert sorted(path.name for path in out.iterdir()) == [
        "documents", "dropped", "matches.parquet", "quarantine.parquet", "summary.json",
    ]  # fmt: skip
    # A folder that is there is never written over.
    assert isinstance(CliRunner().invoke(app, arguments).exception, HainaError)
