"""The corpus stage end to end: accounting, determinism, resume, and what the tables hold."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from haina.corpus import CorpusConfig, read_documents, run
from haina.corpus.curate import (
    Partition,
    curate_partition,
    merge_pages,
    quarantine_partition,
    split_partition,
)
from haina.corpus.documents import DOCUMENTS_SCHEMA, DROPPED_SCHEMA
from haina.corpus.sources import list_sources
from haina.runtime.errors import HainaError
from haina.runtime.files import files_below
from haina.runtime.stage import StageContext, StageResult

TOPICS = [
    ("海水", "sea water"), ("河流", "the river"), ("高山", "the mountain"), ("森林", "the forest"), ("城市", "the city"),
    ("机器", "the machine"), ("语言", "the language"), ("历史", "the history"), ("音乐", "the music"), ("科学", "the science"),
]  # fmt: skip
VERBS = [
    ("流入", "flows into"),
    ("经过", "passes by"),
    ("影响", "changes"),
    ("围绕", "goes around"),
    ("记录", "tells of"),
]


def chinese(index: int) -> str:
    pairs = [
        (TOPICS[(index + i) % 10][0], VERBS[(index * i) % 5][0], TOPICS[(index * 3 + i * i) % 10][0])
        for i in range(12)
    ]
    return "\n".join(
        f"在第{index * 31 + i}年，{a}{b}了{c}，人们都说这是他们见过的事情。"
        for i, (a, b, c) in enumerate(pairs)
    )


def english(index: int) -> str:
    pairs = [
        (TOPICS[(index + i) % 10][1], VERBS[(index * i) % 5][1], TOPICS[(index * 3 + i * i) % 10][1])
        for i in range(12)
    ]
    return "\n".join(
        f"In the year {index * 31 + i} {a} {b} {c}, and people said that it was the thing they had seen."
        for i, (a, b, c) in enumerate(pairs)
    )


def html(text: str) -> str:
    return f"<html><body><nav><a href=/>首页 Home</a></nav><main><p>{text}</p></main></body></html>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few dozen pages of every kind, some of them bad."""
    root = tmp_path_factory.mktemp("pages")
    (root / "web").mkdir()
    for index in range(8):
        (root / "web" / f"zh{index}.html").write_bytes(html(chinese(index)).encode("gb18030"))
        (root / "web" / f"en{index}.html").write_text(html(english(index)), encoding="utf-8")
    (root / "web" / "copy.html").write_text(html(chinese(3)), encoding="utf-8")
    (root / "web" / "near.html").write_text(
        html(chinese(4).replace("人们都说", "大家都说", 1)), encoding="utf-8"
    )
    (root / "web" / "near-en.html").write_text(
        html(english(4).replace("people said", "others said", 1)), encoding="utf-8"
    )
    (root / "web" / "fr.html").write_text(
        html("Le temps est magnifique aujourd'hui, et nous allons nous promener. " * 5), encoding="utf-8"
    )
    (root / "web" / "short.html").write_text(html("短"), encoding="utf-8")
    (root / "web" / "empty.html").write_bytes(b"")
    (root / "web" / "style.css").write_text("p {}")
    lines = [
        json.dumps({"text": chinese(20 + i) if i % 2 else english(20 + i), "url": f"http://x/{i}"})
        for i in range(6)
    ]
    (root / "rows.jsonl").write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    (root / "half.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": chinese(40)}).encode())[:60])
    (root / "LICENSES.json").write_text('{"web": "CC0-1.0"}')
    return root


# These pages are made by rule and repeat themselves, so what judges prose is off; tests of it bring prose.
MADE_BY_RULE = {
    "min_quality": 0.0,
    "edit_sentences": False,
    "thresholds": {
        group: {f"duplicate_{width}gram_character_share": {} for width in range(5, 11)}
        | {f"top_{width}gram_character_share": {} for width in (2, 3, 4)}
        for group in ("zh", "en")
    },
}


def curate(work: Path, sources: Iterable[Path], workers: int = 1, **changes: object) -> StageResult:
    config = CorpusConfig.model_validate({"partitions": 5, **MADE_BY_RULE, **changes})
    return run(config, StageContext(work=work, sources=tuple(sources), workers=workers))


def contents(work: Path) -> dict[str, bytes]:
    out = work / "out"
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files_below(out)}


@pytest.fixture(scope="module")
def undisturbed(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("work")
    curate(work, [pages])
    return work


def rows(work: Path, table: str) -> list[dict[str, object]]:
    return [row for batch in read_documents(work / "out" / "corpus" / table) for row in batch.to_pylist()]


def test_every_page_is_a_document_or_dropped(undisturbed: Path, pages: Path) -> None:
    documents, dropped = rows(undisturbed, "documents"), rows(undisturbed, "dropped")
    summary = json.loads((undisturbed / "out" / "corpus" / "summary.json").read_text())
    files = 16 + 6
    assert summary["pages"] == len(documents) + len(dropped) == files + 6 + 1 + 1
    assert (summary["documents"], summary["dropped"]) == (len(documents), len(dropped))
    assert sum(item["count"] for item in summary["by_reason"]) == len(dropped)
    assert summary["funnel"][0]["remaining"] == summary["pages"]
    assert summary["funnel"][-1]["remaining"] == len(documents)
    assert summary["ignored_files"] == 1
    identities = [row["id"] for row in documents + dropped]
    assert len(set(identities)) == len(identities)
    reasons = {str(row["source"]).rpartition("/")[2]: (row["stage"], row["reason"]) for row in dropped}
    assert ("exact_duplicate", "same-text") in {reasons.get("copy.html"), reasons.get("zh3.html")}
    assert ("near_duplicate", "similar-text") in {reasons.get("near.html"), reasons.get("zh4.html")}
    assert ("near_duplicate", "similar-text") in {reasons.get("near-en.html"), reasons.get("en4.html")}
    assert reasons["fr.html"] == ("language", "other-language")
    assert reasons["short.html"] == ("signals", "characters")
    assert reasons["empty.html"] == ("read", "empty")
    assert reasons["rows.jsonl"] == ("read", "invalid-json")
    assert reasons["half.jsonl.gz"] == ("read", "truncated-gzip")
    assert {"kept", "removed", "similarity"} <= set(summary["duplicates"]["examples"][0])
    assert len(summary["duplicates"]["examples"]) == 2


def test_tables_follow_the_contract(undisturbed: Path) -> None:
    corpus = undisturbed / "out" / "corpus"
    for path in sorted((corpus / "documents").iterdir()):
        assert pq.read_schema(path).equals(DOCUMENTS_SCHEMA)
    for path in sorted((corpus / "dropped").iterdir()):
        assert pq.read_schema(path).equals(DROPPED_SCHEMA)
    documents = rows(undisturbed, "documents")
    by_id = {row["id"]: row for row in documents}
    assert {row["lang"] for row in documents} == {"zh-Hans", "en"}
    assert {row["license"] for row in documents} == {"CC0-1.0", "unknown"}
    for row in documents:
        assert row["text"]
        assert "首页" not in str(row["text"])
        assert row["cluster_id"] in by_id
        assert row["cluster_size"] == sum(other["cluster_id"] == row["cluster_id"] for other in documents)
        assert row["signal.bytes"] == len(str(row["text"]).encode())
        assert not str(row["source"]).startswith("/")
    for row in rows(undisturbed, "dropped"):
        assert row["stage"]
        assert row["reason"]
        if str(row["stage"]).endswith("duplicate"):
            assert str(row["evidence"]).split()[0] in by_id or row["stage"] == "exact_duplicate"


def test_bytes_do_not_depend_on_workers_or_place(undisturbed: Path, pages: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.symlink_to(pages, target_is_directory=True)
    curate(tmp_path / "w", [moved], workers=2)
    assert contents(tmp_path / "w") == contents(undisturbed)


def test_a_killed_run_goes_on_and_ends_the_same(undisturbed: Path, pages: Path, tmp_path: Path) -> None:
    curate(tmp_path, [pages])
    made = files_below(tmp_path / "scratch")
    kept = {path: path.stat().st_mtime_ns for path in made if "pages" in path.parts and "00001" in path.name}
    for path in made[::3] + files_below(tmp_path / "out")[::2]:
        if path not in kept:
            path.unlink()
    (tmp_path / "scratch" / "pages" / "part-00000.parquet.partial").write_bytes(b"half")
    curate(tmp_path, [pages])
    assert contents(tmp_path) == contents(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_nothing_left_names_the_reasons(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(html("short"))
    (tmp_path / "b.html").write_text("")
    with pytest.raises(
        HainaError, match=r"no document is left of 2 pages; most went for .*read: empty \(1\)"
    ):
        curate(tmp_path / "work", [tmp_path / "a.html", tmp_path / "b.html"])


def test_an_input_without_any_page_says_so(tmp_path: Path) -> None:
    info = b"WARC/1.1\r\nWARC-Type: warcinfo\r\nContent-Length: 2\r\n\r\nab\r\n\r\n"
    (tmp_path / "a.warc").write_bytes(info)
    with pytest.raises(HainaError, match="holds no page"):
        curate(tmp_path / "work", [tmp_path / "a.warc"])


def test_two_inputs_with_the_same_names_do_not_collide(tmp_path: Path) -> None:
    for folder, text in (("one/data", chinese(1)), ("two/data", english(1))):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "p.html").write_text(html(text))
    curate(tmp_path / "work", [tmp_path / "one/data", tmp_path / "two/data"])
    assert sorted(str(row["source"]) for row in rows(tmp_path / "work", "documents")) == [
        "data-2/p.html",
        "data/p.html",
    ]


def test_readme_promise_traditional_text_is_kept_apart(tmp_path: Path) -> None:
    text = "這個資料庫會記錄檔案的每一次修改，讓開發人員能夠協同作業，並且隨時還原到先前的版本。" * 3
    (tmp_path / "hant.txt").write_bytes(text.encode("big5"))
    curate(tmp_path / "work", [tmp_path / "hant.txt"])
    assert [(row["lang"], row["text"]) for row in rows(tmp_path / "work", "documents")] == [("zh-Hant", text)]


def note(path: Path) -> dict[str, object]:
    with pq.ParquetFile(path) as file:
        return json.loads(file.metadata.metadata[b"haina"])


def test_a_partition_too_large_for_the_memory_is_split_and_at_last_quarantined(tmp_path: Path) -> None:
    for index in range(5):
        body = chinese(index) if index % 2 else english(index)
        (tmp_path / f"page{index}.html").write_text(html(body), encoding="utf-8")
    whole = Partition(list_sources([tmp_path]).sources, CorpusConfig())
    curate_partition(whole, tmp_path / "whole.parquet")
    pieces = split_partition(whole)
    assert [source for piece in pieces for source in piece.sources] == list(whole.sources)
    for number, piece in enumerate(pieces):
        curate_partition(piece, tmp_path / f"piece{number}.parquet")
    merge_pages([tmp_path / "piece0.parquet", tmp_path / "piece1.parquet"], tmp_path / "merged.parquet")
    found, expected = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("merged", "whole"))
    assert found.equals(expected)
    assert note(tmp_path / "merged.parquet") == note(tmp_path / "whole.parquet")
    assert note(tmp_path / "whole.parquet")["bytes_read"] == sum(source.bytes for source in whole.sources)

    single = split_partition(pieces[0])[0]
    assert split_partition(single) == [single]
    quarantine_partition(single, "its worker was killed twice", tmp_path / "lost.parquet")
    lost = pq.read_table(tmp_path / "lost.parquet")
    assert [(row["stage"], row["reason"]) for row in lost.to_pylist()] == [("read", "worker-lost")] * len(
        single.sources
    )
    assert note(tmp_path / "lost.parquet")["bytes_lost"] == {
        "worker-lost": sum(s.bytes for s in single.sources)
    }
