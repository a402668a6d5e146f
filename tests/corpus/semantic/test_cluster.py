"""The whole of it: files in, named clusters out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haina.corpus.semantic import ClusterOptions, cluster
from haina.corpus.semantic.tables import CLUSTERS_SCHEMA
from haina.corpus.semantic.terms import best_terms, terms_of
from haina.runtime.errors import HainaError
from haina.runtime.executor import LocalExecutor
from haina.runtime.files import files_below

from .texts import SUBJECTS, documents

OPTIONS = ClusterOptions(topics=4, clusters_per_topic=2)


def _rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [dict(row) for row in documents(20)]
    rows += [
        {"id": f"copy-{number}", "text": rows[0]["text"], "subject": "copy", "lang": ""}
        for number in range(3)
    ]
    rows += [
        {"id": f"short-{number}", "text": text, "subject": "", "lang": ""}
        for number, text in enumerate(["", "a", "海", " \n", None])
    ]
    for row in rows:
        row["score.quality"] = 0.9 if row["id"] == "copy-1" else 0.5
    return rows


def _write(rows: list[dict[str, Any]], folder: Path, parts: int) -> Path:
    folder.mkdir()
    for number in range(parts):
        pq.write_table(
            pa.Table.from_pylist(
                rows[number::parts],
                pa.schema(
                    [(name, pa.float64() if name.startswith("score") else pa.string()) for name in rows[0]]
                ),
            ),
            folder / f"part-{number:05d}.parquet",
        )
    return folder


def _run(source: Path, out: Path, workers: int = 1, options: ClusterOptions = OPTIONS) -> dict[str, Any]:
    with LocalExecutor(workers) as executor:
        return cluster([source], out, options, executor)


def _table(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "clusters").iterdir()) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("semantic")
    source = _write(_rows(), folder / "in", 3)
    return source, folder / "out", _run(source, folder / "out")


def test_tables_stand_beside_the_input(done: tuple[Path, Path, dict[str, Any]]) -> None:
    source, out, summary = done
    centroids = np.load(out / "centroids.npy")
    for path in sorted(source.iterdir()):
        rows, table = pq.read_table(path), pq.read_table(out / "clusters" / path.name)
        assert table.schema.equals(CLUSTERS_SCHEMA)
        assert table.column("id").to_pylist() == rows.column("id").to_pylist()
        vectors = np.load(out / "embeddings" / f"{path.stem}.npy")
        assert vectors.shape == (rows.num_rows, 512)
        for row, vector in zip(table.to_pylist(), vectors.astype(np.float32), strict=True):
            if row["topic"] == -1:
                assert not vector.any()
            else:
                assert row["distance"] == pytest.approx(1 - centroids[row["cluster"]] @ vector, abs=2e-3)
    assert json.loads((out / "topics.json").read_text(encoding="utf-8")) == summary
    assert not (out / "scratch").exists()


def test_subjects_meet_across_languages(done: tuple[Path, Path, dict[str, Any]]) -> None:
    """Each topic is one subject, in both languages."""
    subject = {row["id"]: row for row in _rows()}
    topics: dict[int, Counter[tuple[str, str]]] = {}
    for row in _table(done[1]):
        about = subject[row["id"]]
        if about["subject"] in SUBJECTS:
            topics.setdefault(row["topic"], Counter())[about["subject"], about["lang"]] += 1
    assert sorted(topics) == [0, 1, 2, 3]
    agreeing = sum(
        max(sum(count for (name, _), count in counts.items() if name == chosen) for chosen in SUBJECTS)
        for counts in topics.values()
    )
    assert agreeing >= 0.95 * 160
    assert all(len({language for _, language in counts}) == 2 for counts in topics.values())


def test_short_documents_stand_apart(done: tuple[Path, Path, dict[str, Any]]) -> None:
    apart = [row for row in _table(done[1]) if row["topic"] == -1]
    assert {row["id"] for row in apart} == {f"short-{number}" for number in range(5)}
    assert all(row["cluster"] == -1 and row["duplicate_of"] is None and row["density"] == 0 for row in apart)
    assert done[2]["apart"] == 5
    assert sum(topic["size"] for topic in done[2]["topics"]) == 163


def test_the_best_copy_stays(done: tuple[Path, Path, dict[str, Any]]) -> None:
    """The document of highest quality is what its copies are duplicates of."""
    rows = {row["id"]: row for row in _table(done[1])}
    first = _rows()[0]["id"]
    assert rows["copy-1"]["duplicate_of"] is None
    assert all(
        rows[name]["duplicate_of"] == "copy-1" and rows[name]["similarity"] == 1
        for name in (first, "copy-0", "copy-2")
    )
    assert all(
        rows[row["duplicate_of"]]["duplicate_of"] is None for row in rows.values() if row["duplicate_of"]
    )


def test_names_are_of_the_subject_in_both_languages(done: tuple[Path, Path, dict[str, Any]]) -> None:
    subject = {row["id"]: row["subject"] for row in _rows()}
    for topic in done[2]["topics"]:
        main = Counter(
            subject[row["id"]] for row in _table(done[1]) if row["topic"] == topic["topic"]
        ).most_common(1)[0][0]
        for language, things in (
            ("zh", SUBJECTS[main][0] + SUBJECTS[main][1]),
            ("en", SUBJECTS[main][2] + SUBJECTS[main][3]),
        ):
            assert len(topic["terms"][language]) >= 3
            words = " ".join(things)
            assert sum(term in words for term in topic["terms"][language]) >= 4
        assert topic["examples"]


def test_workers_and_parts_change_nothing(done: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    """Two workers give the same bytes; other parts in another order the same verdicts."""
    source, out, _ = done
    _run(source, tmp_path / "two", workers=2)
    digests = [
        {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files_below(folder)
        }
        for folder in (out, tmp_path / "two")
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 8
    _run(_write(_rows()[::-1], tmp_path / "other", 2), tmp_path / "turned")
    assert sorted(_table(tmp_path / "turned"), key=lambda row: row["id"]) == sorted(
        _table(out), key=lambda row: row["id"]
    )


def test_a_corpus_of_nothing(tmp_path: Path) -> None:
    """Empty files and files of empty texts give tables with every row apart."""
    rows = [{"id": str(number), "text": ""} for number in range(3)]
    found = _run(_write(rows, tmp_path / "in", 2), tmp_path / "out")
    assert (found["documents"], found["apart"], found["topics"]) == (3, 3, [])
    assert np.load(tmp_path / "out" / "centroids.npy").shape == (0, 512)


def test_another_run_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    """Other options and fewer parts into the same folder: as into a new one."""
    source = _write(documents(2), tmp_path / "in", 2)
    _run(source, tmp_path / "out", options=ClusterOptions(topics=2))
    (source / "part-00001.parquet").unlink()
    _run(source, tmp_path / "out", options=ClusterOptions(topics=3))
    _run(source, tmp_path / "new", options=ClusterOptions(topics=3))
    names = [path.relative_to(tmp_path / "new") for path in files_below(tmp_path / "new")]
    assert [path.relative_to(tmp_path / "out") for path in files_below(tmp_path / "out")] == names
    assert all(
        (tmp_path / "out" / name).read_bytes() == (tmp_path / "new" / name).read_bytes() for name in names
    )


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(HainaError, match=r"a\.parquet: no column `text` \(it has body\)"):
        _run(tmp_path / "a.parquet", tmp_path / "out")
    (tmp_path / "b.parquet").write_bytes(b"no")
    with pytest.raises(HainaError, match=r"b\.parquet: not readable as Parquet"):
        _run(tmp_path / "b.parquet", tmp_path / "out")
    with pytest.raises(HainaError, match="duplicates: must be above 0"):
        _run(tmp_path / "a.parquet", tmp_path / "out", options=ClusterOptions(duplicates=1.5))


def test_terms() -> None:
    """Han pieces and words, folded; function words name nothing."""
    found = terms_of(
        [
            "人民法院應當依法審理案件，被告人有權提起訴訟。",
            "The courts shall hear the appeal of the defendant.",
        ]
    )
    assert found[0][0] == "zh"
    assert {"人民法院", "案件"} <= found[0][1]
    assert found[1] == ("en", {"courts", "hear", "appeal", "defendant"})


def test_best_terms_set_a_class_apart() -> None:
    """Frequent here and rare elsewhere wins; what is everywhere and what is inside another term does not."""
    counts = {"足球": 9, "足球队": 9, "大家": 10, "守门员": 5, "once": 1}
    everywhere = {"足球": 10, "足球队": 9, "大家": 100, "守门员": 5, "once": 1}
    assert best_terms(counts, 10, everywhere, 100, 3) == ["足球队", "守门员", "大家"]
