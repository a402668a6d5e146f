"""The distributed search against a dictionary of everything, on random, bilingual and hostile text."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.blocks import plan_blocks
from haina.corpus.repeats import blocks
from haina.corpus.repeats.config import LEVELS, Level, RepeatsConfig, read_config
from haina.corpus.repeats.find import find_repeats, partition_of, plan_partitions
from haina.runtime.errors import HainaError

from .plain import Direct, Documents, expected_rows, found_in, rows_of, tokens_plain, write_parts

ZH = "这个工具可以帮助用户整理很长的中文文档，所以大家都很满意。"
ZH_TRADITIONAL = "這個工具可以幫助用戶整理很長的中文文檔，所以大家都很滿意。"
EN = "The weather station in the city checks every morning what the river did at night."
EN_WIDE = "THE WEATHER STATION, in the city: checks every morning; what the river did at ｎｉｇｈｔ!"

words = st.sampled_from(
    ["甲", "乙", "丙丁", " a", " b ", "。", ". ", "\n", "\n\n", "Ｂ", "é", "e\u0301", "㍿", "😀", " "]
)
texts = st.one_of(
    st.lists(words, max_size=40).map("".join),
    st.tuples(words, st.integers(1, 40)).map(lambda pair: pair[0] * pair[1]),
    st.sampled_from([ZH + EN, EN_WIDE + ZH_TRADITIONAL, ZH_TRADITIONAL, "", "a", "。"]),
)


@settings(max_examples=40)
@given(
    st.lists(texts, min_size=1, max_size=8),
    st.sampled_from(LEVELS),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 5),
)
def test_repeats_are_those_of_a_dictionary(
    found: list[str], level: Level, least: int, parts: int, partitions: int
) -> None:
    documents = [(f"d{number}", text) for number, text in enumerate(found)]
    config = RepeatsConfig(
        level=level, min_documents=least, min_tokens=8 if level == "substring" else 1, partitions=partitions
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = write_parts(Path(folder), documents, parts)
        found_rows = rows_of(find_repeats(Direct(), Path(folder), paths, config, Path(folder)))  # type: ignore[arg-type]
    assert found_rows == expected_rows(documents, config)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 300 bytes, so that documents of a few sentences come in pieces."""
    monkeypatch.setattr(blocks, "BATCH_BYTES", 300)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(3))
def test_long_documents_in_pieces_give_the_same(
    level: Level, seed: int, tmp_path: Path, small_batches: None
) -> None:
    choose = random.Random(seed)
    vocabulary = [
        "甲",
        "乙",
        "丙",
        "㍿",
        "word ",
        "other ",
        "。",
        ". ",
        "\n",
        "\n\n" if seed else "\n",
        "e\u0301 ",
    ]
    block = "".join(choose.choices(vocabulary, k=150))
    documents = []
    for number in range(6):
        filler = ["".join(choose.choices(vocabulary, k=choose.randrange(200))) for _ in range(2)]
        documents.append(
            (f"d{number}", filler[0] + block[number * 5 :] + filler[1] + ("x" * 700) * (number == 3))
        )
    config = RepeatsConfig(level=level, min_documents=1, min_tokens=12 if level == "substring" else 1)
    paths = write_parts(tmp_path, documents, 2)
    expected = expected_rows(documents, config)
    assert len(expected) > 10
    assert rows_of(found_in(tmp_path, paths, config)) == expected


@pytest.mark.parametrize("level", LEVELS)
def test_script_width_case_and_marks_do_not_matter(level: Level, tmp_path: Path) -> None:
    documents = [
        ("a", f"{ZH}\n\n{EN}"), ("b", f"{ZH_TRADITIONAL}\n\n{EN_WIDE}"), ("c", "别的话。\n\nSomething else."),
    ]  # fmt: skip
    config = RepeatsConfig(level=level, min_documents=2, min_tokens=10)
    rows = rows_of(found_in(tmp_path, write_parts(tmp_path, documents, 3), config))
    assert rows == expected_rows(documents, config)
    assert {row[0] for row in rows} == {"a", "b"}
    raw = {name: text.encode() for name, text in documents}
    covered = b"".join(raw[row[0]][row[1] : row[2]] for row in rows if row[0] == "b").decode()
    assert "幫助" in covered
    assert "ｎｉｇｈｔ" in covered


def test_the_text_of_a_span_is_that_of_its_first_occurrence(tmp_path: Path) -> None:
    choose = random.Random(5)
    sentences = [
        "".join(choose.choices("甲乙丙丁戊己庚辛壬癸", k=12))
        + "，"
        + " ".join(choose.choices(["one", "two", "three"], k=6))
        for _ in range(30)
    ]
    documents = [(f"d{number}", "。".join(choose.choices(sentences, k=12))) for number in range(25)]
    config = RepeatsConfig(level="substring", min_tokens=15)
    found = found_in(tmp_path, write_parts(tmp_path, documents, 4), config)
    raw = {name: text.encode() for name, text in documents}
    rows = rows_of(found)
    assert len(rows) > 100
    for name, start, end, tokens, _, _, _, first, first_start, first_end in rows:
        own = tokens_plain(raw[name][start:end].decode())[0]
        assert len(own) == tokens
        assert own == tokens_plain(raw[first][first_start:first_end].decode())[0]
    units = [row for path in found.units for row in pq.read_table(path).to_pylist()]
    assert len(units) == sum(row[6] for row in rows)
    assert all(unit["text"].encode() == raw[unit["id"]][unit["start"] : unit["end"]] for unit in units)


@pytest.mark.parametrize("level", ["line", "substring"])
def test_the_first_is_the_best_in_any_order(level: Level, tmp_path: Path) -> None:
    documents = [(f"文{number}", f"{ZH}{EN}\n独特的第{number}段。") for number in range(9)]
    scores = [0.5, 2.0, float("nan"), -1.0, 7.5, 7.25, 0.0, -0.0, 3.0]
    config = RepeatsConfig(level=level, min_documents=2, min_tokens=10, priority="score.quality")
    seen = set()
    for seed in range(3):
        order = random.Random(seed).sample(range(9), 9)
        folder = tmp_path / str(seed)
        paths = write_parts(
            folder, [documents[i] for i in order], seed + 1, **{"score.quality": [scores[i] for i in order]}
        )
        rows = rows_of(found_in(folder, paths, config))
        assert {row[7] for row in rows} == {"文4"}
        seen.add(tuple(rows))
    assert len(seen) == 1
    plain = RepeatsConfig(level=level, min_documents=2, min_tokens=10)
    again = [rows_of(found_in(tmp_path / f"n{n}", write_parts(tmp_path / f"n{n}", docs, 2), plain))
             for n, docs in enumerate((documents, documents[::-1]))]  # fmt: skip
    assert again[0] == again[1] == expected_rows(documents, plain)


def test_null_priority_is_worst_and_whole_numbers_count(tmp_path: Path) -> None:
    documents = [("a", ZH), ("b", ZH), ("c", ZH)]
    paths = write_parts(tmp_path, documents, 1, rank=[None, -5, -7])
    config = RepeatsConfig(level="line", min_documents=2, priority="rank")
    assert {row[7] for row in rows_of(found_in(tmp_path, paths, config))} == {"b"}


def test_equal_ids_still_have_one_first(tmp_path: Path) -> None:
    documents = [("same", ZH)] * 4
    rows = rows_of(found_in(tmp_path, write_parts(tmp_path, documents, 2), RepeatsConfig(level="line")))
    assert [row[4] for row in rows] == [4] * 4
    assert sum(row[6] for row in rows) == 1


def _random_words(count: int, seed: int) -> str:
    choose = random.Random(seed)
    return "".join(
        choose.choice(["字", "词", "句"]) + chr(0x4E00 + choose.randrange(3000)) for _ in range(count // 2)
    )


@pytest.mark.parametrize("level", ["paragraph", "substring"])
def test_ten_thousand_copies_of_one_page(level: Level, tmp_path: Path) -> None:
    page = _random_words(600, 1)
    documents: Documents = [(f"copy {number}", page) for number in range(10_000)]
    config = RepeatsConfig(level=level, block_bytes=1 << 20)
    found = found_in(tmp_path, write_parts(tmp_path, documents, 4), config)
    assert len(found.blocks) >= 4
    rows = rows_of(found)
    assert len(rows) == 10_000
    assert {row[3:6] for row in rows} == {(600, 10_000, 10_000)}
    assert len({row[7:] for row in rows}) == 1
    # Each block says each thing once: traffic does not grow with the copies.
    sent = sum(path.stat().st_size for path in (tmp_path / "work" / "keys").glob("*.exchange"))
    assert sent < 200_000


def test_a_document_that_repeats_itself_a_hundred_thousand_times(tmp_path: Path) -> None:
    period = "一二三四五六七八九十甲乙丙丁戊 "
    documents = [("long", period * 100_000), ("a" * 3, "aaaa " * 50_000)]
    config = RepeatsConfig(level="substring")
    rows = rows_of(found_in(tmp_path, write_parts(tmp_path, documents, 1), config))
    tokens = 15 * 100_000
    # The first 15 windows are their own firsts; all others point at one of them, a period at a time.
    own = [row for row in rows if row[0] == "long"]
    assert [row[3] for row in own if row[6]] == [50 + 14]
    assert sum(row[3] - 49 for row in own) == tokens - 49
    assert len(own) == -(-(tokens - 49) // 15)
    letters = [row for row in rows if row[0] == "aaa"]
    assert len(letters) == 50_000 - 49
    assert sum(row[6] for row in letters) == 1


@pytest.mark.parametrize("level", LEVELS)
def test_no_text_at_all(level: Level, tmp_path: Path) -> None:
    documents: Documents = [
        ("a", ""),
        ("b", None),
        ("c", "x"),
        ("d", "x"),
        ("e", "字"),
        ("f", "。"),
        ("g", " \n"),
    ]  # type: ignore[list-item]
    config = RepeatsConfig(level=level)
    rows = rows_of(found_in(tmp_path, write_parts(tmp_path, documents, 2), config))
    # One-character documents that are equal are counted as units; a window is longer than they are.
    assert [row[0] for row in rows] == ([] if level == "substring" else ["c", "d"])


def test_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    choose = random.Random(3)
    sentences = [_random_words(30, seed) + "。" for seed in range(40)]
    documents = [(f"d{number}", "\n".join(choose.choices(sentences, k=20))) for number in range(40)]
    paths = write_parts(tmp_path, documents, 5)
    config = RepeatsConfig(level="substring", partitions=3)
    results = []
    for workers in (1, 2):
        found = found_in(tmp_path / str(workers), paths, config, workers)
        results.append([path.read_bytes() for path in (*found.repeats, *found.units)])
    assert results[0] == results[1]


def test_large_row_groups_are_shared_out(tmp_path: Path) -> None:
    documents = [(f"d{number}", _random_words(400, number)) for number in range(60)]
    documents += [(f"again{number}", text) for number, (_, text) in enumerate(documents)]
    (path,) = write_parts(tmp_path, documents, 1)
    found, size = plan_blocks([path], 20_000)
    assert size > 60_000
    assert len(found) >= 4
    assert sum(block.rows for block in found) == 120
    assert [name for block in found for name in blocks.ids_of(block)] == [name for name, _ in documents]
    config = RepeatsConfig(level="substring", block_bytes=20_000)
    assert rows_of(found_in(tmp_path, [path], config)) == expected_rows(documents, config)


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_other_kinds_of_strings(kind: pa.DataType, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    table = pa.table({"id": ["a", "b"], "text": pa.array([ZH, ZH]).cast(kind)})
    pq.write_table(table, path)
    config = RepeatsConfig(level="line", min_documents=2)
    assert len(rows_of(found_in(tmp_path, [path], config))) == 2


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"text": ["a"]}, "no column `id`"),
        ({"id": ["a"]}, "no column `text`"),
        ({"id": ["a"], "text": [1]}, "holds int64, not strings"),
        ({"id": [None, "a"], "text": ["a", "b"]}, "document 0 has no id"),
        ({"id": ["a"], "text": ["b"], "rank": ["c"]}, "holds string, not numbers"),
        ({"id": [], "text": pa.array([], pa.string())}, "there is no document"),
    ],
)
def test_what_is_wrong_with_the_input_is_said(table: dict[str, object], message: str, tmp_path: Path) -> None:
    if table["id" if "id" in table else "text"] == []:
        table = {"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    config = RepeatsConfig(level="line", priority="rank" if "rank" in table else "")
    with pytest.raises(HainaError, match=message):
        found_in(tmp_path, [tmp_path / "in.parquet"], config)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match=r"none\.parquet"):
        found_in(tmp_path, [tmp_path / "none.parquet"], RepeatsConfig())
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(HainaError, match=r"bad\.parquet: not readable as Parquet"):
        found_in(tmp_path, [tmp_path / "bad.parquet"], RepeatsConfig())


def test_settings_by_level_and_wrong_ones() -> None:
    assert (RepeatsConfig().documents, RepeatsConfig().tokens) == (4, 10)
    assert (RepeatsConfig(level="substring").documents, RepeatsConfig(level="substring").tokens) == (1, 50)
    assert plan_partitions(RepeatsConfig(partitions=7), 10**12) == 7
    assert plan_partitions(RepeatsConfig(), 1 << 30) == 16
    with pytest.raises(HainaError, match="min_tokens: must be >= 8 for substrings"):
        read_config(level="substring", min_tokens=4)
    with pytest.raises(HainaError, match="level"):
        read_config(level="word")


def test_partitions_are_all_used_evenly() -> None:
    import numpy as np

    routes = np.random.default_rng(0).integers(0, 1 << 63, 10_000).astype(np.uint64) * np.uint64(2)
    counts = np.bincount(partition_of(routes, 7), minlength=7)
    assert counts.min() > 1200
    assert partition_of(np.array([(1 << 64) - 1], dtype=np.uint64), 7).tolist() == [6]
