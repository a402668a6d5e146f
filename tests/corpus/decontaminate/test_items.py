"""Evaluation files in, items out; what cannot be read is named."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haina.corpus.decontaminate.items import read_benchmarks, split_options, without_letter
from haina.runtime.errors import HainaError


def test_csv_with_and_without_header(tmp_path: Path) -> None:
    (tmp_path / "law.csv").write_text(
        "id,question,A,B,C,D,answer\n7,下列属于刑罚的是____。,管制,罚款,拘传,记过,A\n", encoding="utf-8-sig"
    )
    (tmp_path / "mmlu.csv").write_text(
        'The pleura,"have no, sensory innervation.",are separated.,extend,are composed,C\nWhat is "x"?,1,2,3,4,B\n',
        encoding="utf-8",
    )
    law, first, second = read_benchmarks([tmp_path / "law.csv", tmp_path / "mmlu.csv"]).items
    assert (law.item, law.question, law.options) == (
        "7",
        "下列属于刑罚的是____。",
        ("管制", "罚款", "拘传", "记过"),
    )
    assert (first.question, first.options[0], len(first.options)) == (
        "The pleura",
        "have no, sensory innervation.",
        4,
    )
    assert (second.item, second.options) == ("1", ("1", "2", "3", "4"))


def test_shapes_of_json(tmp_path: Path) -> None:
    rows = [
        {
            "passage": "文章。" * 30,
            "question": "作者的意思是什么？",
            "options": ["(A)甲乙", "(B)丙丁"],
            "label": "A",
        },
        {
            "question": {
                "stem": "Why?",
                "choices": [{"text": "one", "label": "A"}, {"text": "two", "label": "B"}],
            }
        },
        {"题目": "首都在哪里", "选项A": "北京", "选项B": "上海", "答案": "A"},
        {"context": "A text.", "choices": {"text": ["a b", "c d"], "label": ["A", "B"]}, "query": "Which?"},
        {"title": "Own words here", "content": "and some more text", "score": 3, "answer": "never searched"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (tmp_path / "b.json").write_text(
        json.dumps({"name": "x", "example": [{"question": "1. 问题\nA. 一 B. 二 C. 三", "answer": ["A"]}]})
    )
    (tmp_path / "c.json").write_text(json.dumps({"k1": {"problem": "2 + 2"}, "k2": {"problem": "3 + 3"}}))
    items = read_benchmarks([tmp_path / name for name in ("a.jsonl", "b.json", "c.json")]).items
    assert items[0].passage.startswith("文章")
    assert items[0].options == ("甲乙", "丙丁")
    assert (items[1].question, items[1].options) == ("Why?", ("one", "two"))
    assert (items[2].question, items[2].options) == ("首都在哪里", ("北京", "上海"))
    assert (items[3].question, items[3].passage, items[3].options) == ("Which?", "A text.", ("a b", "c d"))
    assert [(item.field, item.question) for item in items[4:6]] == [
        ("title", "Own words here"),
        ("content", "and some more text"),
    ]
    assert (items[6].question, items[6].options) == ("1. 问题", ("一", "二", "三"))
    assert [(item.item, item.question) for item in items[7:]] == [("k1", "2 + 2"), ("k2", "3 + 3")]


def test_containers(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    pq.write_table(pa.table({"question": ["来自 Parquet"]}), folder / "a.parquet")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b'{"question": "packed"}\n'))
    (folder / "README.md").write_text("no items")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.writestr("dev/x.tsv", "question\tA\tB\nzipped\t1\t2\n")
        archive.writestr("LICENSE", "text")
    found = read_benchmarks([folder])
    assert [(item.file, item.question) for item in found.items] == [
        ("set/a.parquet", "来自 Parquet"),
        ("set/b.jsonl.gz", "packed"),
        ("set/c.zip/dev/x.tsv", "zipped"),
    ]
    assert sorted(found.ignored) == ["set/README.md", "set/c.zip/LICENSE"]


def test_bad_rows_are_quarantined_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        "id,question\n0,好的问题\n1,".encode() + b"\xff\xfe bad\n" + "2,又一个\n".encode()
    )
    (tmp_path / "b.jsonl").write_bytes(b'{"question": "fine"}\n{broken\n[1]\n"\xff"\n')
    found = read_benchmarks([tmp_path / "a.csv", tmp_path / "b.jsonl"])
    assert [item.question for item in found.items] == ["好的问题", "又一个", "fine"]
    csv, lines = found.accounts
    assert (csv.rows, csv.items, [bad.reason for bad in csv.quarantined]) == (3, 2, ["not-utf8"])
    assert (lines.rows, [bad.reason for bad in lines.quarantined]) == (
        4,
        ["not-json", "not-an-object", "not-utf8"],
    )


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.csv", None, "no such file"),
        ("empty.csv", b"", "empty"),
        ("cut.zip", b"PK\x03\x04 not a zip", "damaged zip"),
        ("cut.parquet", b"PAR1 nonsense", "not readable as Parquet"),
        ("cut.jsonl.gz", gzip.compress(b"{}" * 99)[:-9], "damaged gzip"),
        ("bad.json", b"{", "not valid JSON"),
        ("numbers.csv", b"x,y\n1,2\n3,4\n", "no text field (it has x, y)"),
        ("header.csv", b"question,A,B\n", "holds no question"),
        ("page.docx", b"text", "not a file of questions"),
        ("latin.csv", b"question\n\xff\xfe\n\xfe\n", "none of its 2 rows"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(HainaError) as caught:
        read_benchmarks([tmp_path / name])
    assert says in caught.value.message
    assert name in caught.value.message


def test_options_inside_a_question() -> None:
    assert split_options("1．（6分）正确的是（ ）\nA．病毒 \nB．蓝藻\nC．细胞 D．膜") == (
        "1．（6分）正确的是（ ）",
        ("病毒", "蓝藻", "细胞", "膜"),
    )
    assert split_options("Vitamin A. is good") == ("Vitamin A. is good", ())
    assert split_options("A. a B. b C. c and A. a B. b C. c")[1] == ()
    assert [without_letter(text) for text in ("(A)5", "B. four", "（Ｃ）三", "A型", "D、无")] == [
        "5",
        "four",
        "三",
        "A型",
        "无",
    ]
