"""`haina dedup` as a whole: what is found, that nothing is lost, and that order and workers change nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haina.corpus.dedup.config import DedupConfig
from haina.corpus.dedup.stage import run
from haina.runtime.errors import HainaError
from haina.runtime.files import files_below
from haina.runtime.stage import StageContext

HAN = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜金生丽水玉出昆冈"
WORDS = "river mountain forest winter summer letter engine history paper music garden bridge window market".split()  # noqa: SIM905


def text(seed: int, chinese: bool, length: int = 120) -> str:
    rng = random.Random(seed)
    if chinese:
        return "".join(rng.choice(HAN) for _ in range(length))
    return " ".join(f"{rng.choice(WORDS)}{rng.randrange(30)}" for _ in range(length))


def edited(original: str, chinese: bool) -> str:
    """One token replaced in the middle."""
    if chinese:
        return original[:60] + "改" + original[61:]
    words = original.split(" ")
    return " ".join([*words[:60], "changed", *words[61:]])


def corpus() -> list[dict[str, Any]]:
    rows = []
    for number in range(20):
        chinese = number % 2 == 0
        body = text(number, chinese)
        rows.append({"id": f"o{number}", "text": body, "score.quality": 0.5, "date": "2020-01-01"})
        if number < 10:
            rows.append(
                {"id": f"e{number}", "text": edited(body, chinese), "score.quality": 0.9, "date": None}
            )
        if number < 4:
            same = body.upper() if not chinese else "，".join(body)
            rows.append({"id": f"s{number}", "text": same, "score.quality": 0.1, "date": "2024-01-01"})
    odd = ["", None, "。", "，", "!", "中", "a", "a", "  "]
    rows += [{"id": f"x{n}", "text": t, "score.quality": None, "date": "?"} for n, t in enumerate(odd)]
    return rows


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(
        [("id", pa.string()), ("text", pa.string()), ("score.quality", pa.float32()), ("date", pa.string())]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=7)
    return path


def dedup(work: Path, *inputs: Path, workers: int = 1, **settings: Any) -> Path:
    context = StageContext(work=work, sources=inputs, workers=workers)
    result = run(DedupConfig(**{"block_bytes": 4096, **settings}), context)
    assert result.records_in == result.records_out + result.records_dropped
    context.executor.close()
    return context.out("dedup")


def table(out: Path, name: str) -> list[dict[str, Any]]:
    return [row for path in sorted((out / name).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dedup")
    return dedup(root / "work", write(corpus(), root / "in.parquet"))


def test_the_better_document_stays_and_the_other_points_to_it(finished: Path) -> None:
    clusters = {row["id"]: row for row in pq.read_table(finished / "clusters.parquet").to_pylist()}
    kept = {row["id"]: row for row in table(finished, "documents")}
    for number in range(10):
        # The edited one has the higher quality.
        assert clusters[f"o{number}"]["representative"] == f"e{number}"
        assert clusters[f"o{number}"]["method"] == "near"
        # One token of 120 replaced: 111 of 121 shingles are shared.
        assert clusters[f"o{number}"]["similarity"] == pytest.approx(111 / 121, abs=0.02)
        assert clusters[f"e{number}"]["method"] == "representative"
        assert kept[f"e{number}"]["duplicate_count"] == (3 if number < 4 else 2)
    for number in range(4):
        assert clusters[f"s{number}"]["representative"] == f"e{number}"
    for number in range(10, 20):
        assert f"o{number}" in kept
        assert f"o{number}" not in clusters
    assert kept["o11"]["date"] == "2020-01-01"


def test_empty_and_tiny_documents_stay_apart(finished: Path) -> None:
    clusters = {row["id"]: row for row in pq.read_table(finished / "clusters.parquet").to_pylist()}
    kept = {row["id"] for row in table(finished, "documents")}
    # Nothing but the same text makes documents without tokens duplicates: the empty text and null, `a` and `a`.
    assert {"x2", "x3", "x4", "x5", "x8"} <= kept
    assert len({"x6", "x7"} & kept) == 1
    assert {row["representative"] for name, row in clusters.items() if name in ("x6", "x7")} <= {"x6", "x7"}


def test_documents_and_dropped_are_what_came_in(finished: Path) -> None:
    kept, dropped = table(finished, "documents"), table(finished, "dropped")
    assert sorted(row["id"] for row in kept + dropped) == sorted(row["id"] for row in corpus())
    by_id = {row["id"]: row for row in dropped}
    assert by_id["o1"]["stage"] == "near_duplicate"
    assert by_id["o1"]["evidence"].startswith("e1 0.9")
    assert by_id["o1"]["preview"] == text(1, chinese=False)[:160]


def test_the_order_of_documents_and_files_does_not_matter(finished: Path, tmp_path: Path) -> None:
    rows = corpus()
    random.Random(1).shuffle(rows)
    paths = [write(rows[:9], tmp_path / "b.parquet"), write(rows[9:], tmp_path / "a.parquet")]
    out = dedup(tmp_path / "work", *paths)
    expected, found = (pq.read_table(f / "clusters.parquet").sort_by("id") for f in (finished, out))
    assert found.equals(expected)


@pytest.mark.parametrize("level", ["document", "paragraph", "sentence"])
def test_workers_change_no_byte(level: str, tmp_path: Path) -> None:
    rows = [{**row, "text": "\n\n".join([row["text"] or "", text(5, chinese=True, length=40) + "。", text(i, False, 30) + "."])}
            for i, row in enumerate(corpus())]  # fmt: skip
    path = write(rows, tmp_path / "in.parquet")
    one, two = (dedup(tmp_path / f"w{n}", path, workers=n, level=level) for n in (1, 2))
    assert [p.relative_to(one) for p in files_below(one)] == [p.relative_to(two) for p in files_below(two)]
    assert all(p.read_bytes() == (two / p.relative_to(one)).read_bytes() for p in files_below(one))


@pytest.mark.parametrize("level", ["paragraph", "sentence"])
def test_units_are_cut_where_a_better_one_stands_elsewhere(level: str, tmp_path: Path) -> None:
    rows = []
    for number in range(6):
        chinese = number % 2 == 0
        end = "。" if chinese else "."
        shared = text(100 + number % 2, chinese, 60)
        shared = edited(shared + (shared if chinese else " " + shared), chinese) if number > 1 else shared
        own = text(200 + number, chinese, 40)
        rows.append({"id": f"d{number}", "text": f"{own}{end}\n\n{text(100 + number % 2, chinese, 60)}{end}",
                     "score.quality": 0.5 + number / 100, "date": None})  # fmt: skip
    rows.append({"id": "whole", "text": text(200, True, 40) + "。", "score.quality": 0.1, "date": None})
    out = dedup(tmp_path / "work", write(rows, tmp_path / "in.parquet"), level=level)
    kept = {row["id"]: row["text"] for row in table(out, "documents")}
    for chinese in (True, False):
        shared = text(100 + (not chinese), chinese, 60)
        assert sum(shared in body for body in kept.values()) == 1
    assert [row["id"] for row in table(out, "dropped")] == ["whole"]
    assert {row["id"] for row in table(out, "edits")} <= kept.keys()
    for row in table(out, "edits"):
        original = next(r["text"] for r in rows if r["id"] == row["id"])
        assert original.encode()[row["start"] : row["end"]].decode() == row["removed"]
    assert all(text(200 + n, n % 2 == 0, 40) in kept[f"d{n}"] for n in range(6))


def test_containment_finds_what_was_cut(tmp_path: Path) -> None:
    rows = []
    for number in range(6):
        body = text(300 + number, number % 2 == 0, 200)
        cut = body[: len(body) * 6 // 10]
        rows += [
            {"id": f"{name}{number}", "text": value, "score.quality": 0.5, "date": None}
            for name, value in (("whole", body), ("cut", cut))
        ]
    path = write(rows, tmp_path / "in.parquet")
    whole = {f"whole{number}" for number in range(6)}
    kept = {
        row["id"]
        for row in table(dedup(tmp_path / "c", path, measure="containment", threshold=0.9), "documents")
    }
    assert kept == whole
    assert len(table(dedup(tmp_path / "j", path, threshold=0.7), "documents")) == 12


def test_bad_input_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.parquet").write_bytes(b"PAR1 nothing of the kind")
    with pytest.raises(HainaError, match=r"no\.parquet: not readable as Parquet"):
        dedup(tmp_path / "w1", tmp_path / "no.parquet")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "noid.parquet")
    with pytest.raises(HainaError, match="no column `id`"):
        dedup(tmp_path / "w2", tmp_path / "noid.parquet")
    pq.write_table(
        pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}),
        tmp_path / "empty.parquet",
    )
    with pytest.raises(HainaError, match="no documents"):
        dedup(tmp_path / "w3", tmp_path / "empty.parquet")
    raw = pa.array([b"\xed\xa0\x80 half a surrogate", "海纳百川".encode()], pa.binary())
    strings = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    pq.write_table(pa.table({"id": ["a", "b"], "text": strings}), tmp_path / "bytes.parquet")
    with pytest.raises(HainaError, match="no UTF-8"):
        dedup(tmp_path / "w5", tmp_path / "bytes.parquet")
    (tmp_path / "folder").mkdir()
    with pytest.raises(HainaError, match=r"no \*\.parquet"):
        dedup(tmp_path / "w4", tmp_path / "folder")
