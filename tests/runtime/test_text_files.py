"""Every document of every kind of file once, whatever the size of the blocks; what is none is told with a reason."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime import text_streams
from haina.runtime.document_rows import BATCH_ROWS
from haina.runtime.errors import HainaError
from haina.runtime.text_files import input_files, plan_blocks, read_block
from haina.runtime.text_streams import PASSAGE_BYTES, read_lines, read_passages

TEXTS = [
    "海纳百川，有容乃大。",
    "The sea takes in a hundred rivers.",
    "歷史資料\n第二行",
    "a\x00b",
    "",
    "𠀀𠀁",
    "é",
]


def rows_of(count: int) -> list[dict[str, str]]:
    return [
        {"id": f"d{number}", "text": TEXTS[number % len(TEXTS)] * (1 + number % 3), "lang": "zh"}
        for number in range(count)
    ]


def read_all(
    files: Sequence[Path], block_bytes: int = 1 << 20, columns: Sequence[str] = ("lang",)
) -> tuple[list[dict[str, str]], list[tuple[str, str]]]:
    found, bad = [], []
    for block in plan_blocks(files, block_bytes):
        for batch in read_block(block, columns, lambda reason, where: bad.append((reason, where))):
            assert 0 < batch.num_rows <= BATCH_ROWS
            assert batch.schema.field("text").type == pa.large_string()
            found += batch.to_pylist()
    return found, bad


def write_lines(path: Path, rows: Sequence[object], last: bytes = b"\n") -> Path:
    data = b"\n".join(json.dumps(row, ensure_ascii=False).encode() for row in rows) + last
    if path.suffix == ".gz":
        half = len(data) // 2
        data = gzip.compress(data[:half]) + gzip.compress(data[half:])
    elif path.suffix == ".zst":
        data = zstandard.compress(data[: len(data) // 2]) + zstandard.compress(data[len(data) // 2 :])
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("block_bytes", [1, 100, 1000, 1 << 20])
@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.ndjson", "a.jsonl.gz", "a.jsonl.zst"])
def test_every_document_once_in_order(tmp_path: Path, name: str, block_bytes: int) -> None:
    rows = rows_of(2300 if block_bytes == 1 << 20 else 60)
    path = tmp_path / name
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=max(9, len(rows) // 2))
    else:
        write_lines(path, rows, b"" if block_bytes == 100 else b"\n\n")
    assert read_all([path], block_bytes) == (rows, [])
    blocks = plan_blocks([path], block_bytes)
    assert [block.number for block in blocks] == list(range(len(blocks)))
    if block_bytes == 1 and path.suffix == ".parquet":
        assert len(blocks) == len(rows)


@settings(max_examples=80)
@given(data=st.data())
def test_lines_by_range_are_the_lines(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = data.draw(
        st.binary(max_size=60).map(lambda raw: raw.replace(b"\x01", b"\n").replace(b"\x02", b"\n"))
    )
    path = tmp_path_factory.mktemp("lines") / "x.jsonl"
    path.write_bytes(content)
    expected, offset = [], 0
    for line in content.split(b"\n"):
        expected.append((offset, line, len(line)))
        offset += len(line) + 1
    if not expected[-1][1]:
        expected.pop()
    cuts = sorted({0, len(content), *data.draw(st.lists(st.integers(0, len(content)), max_size=4))})
    found = [line for start, stop in pairwise(cuts) for line in read_lines(path, start, stop)]
    assert found == expected
    limited = [line for _, line, _ in read_lines(path, 0, None, 3)]
    assert limited == [line if len(line) <= 3 else None for _, line, _ in expected]


@settings(max_examples=60)
@given(text=st.text(alphabet="海a\n𠀀é", max_size=90), first=st.integers(0, 4), count=st.integers(1, 3))
def test_passages_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, text: str, first: int, count: int
) -> None:
    path = tmp_path_factory.mktemp("passages") / "x.txt"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_streams, "PASSAGE_BYTES", 16)
        patch.setattr(text_streams, "_LOOK_AHEAD", 6)
        patch.setattr(text_streams, "_CHUNK", 5)
        whole = list(read_passages(path))
        assert b"".join(passage for _, passage in whole).decode() == text
        assert all(passage.decode() and len(passage) <= 16 + 6 + 3 for _, passage in whole)
        parts = [part for start in range(0, 12, count) for part in read_passages(path, start, count)]
        assert parts == whole
        assert list(read_passages(path, first, count)) == whole[first : first + count]


def test_a_long_text_file_is_cut_at_line_ends(tmp_path: Path) -> None:
    line = "海纳百川，有容乃大。The sea takes in a hundred rivers.\n"
    text = line * (2 * PASSAGE_BYTES // len(line.encode()) + 5)
    path = tmp_path / "novel.txt"
    path.write_text(text, encoding="utf-8")
    small, large = (read_all([path], size)[0] for size in (1, 1 << 30))
    assert small == large
    assert "".join(row["text"] for row in small) == text
    assert len(small) == 3
    assert all(row["text"].endswith("\n") for row in small)
    assert small[0]["id"] == "novel.txt#0"
    packed = tmp_path / "novel.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert [row["text"] for row in read_all([packed])[0]] == [row["text"] for row in small]


def test_a_line_of_a_hundred_megabytes_without_a_space(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    with path.open("wb") as file:
        for _ in range(100):
            file.write("海".encode() * 349_525 + b"x")
    lengths = [len(row["text"].encode()) for row in read_all([path])[0]]
    assert sum(lengths) == path.stat().st_size
    assert max(lengths) <= PASSAGE_BYTES + 3


def test_what_is_no_document_is_told(tmp_path: Path) -> None:
    lines = [
        json.dumps({"id": "a", "text": "海"}),
        "{not json",
        json.dumps({"id": "b"}),
        json.dumps({"id": 7, "text": "sea", "lang": None}),
        json.dumps({"id": "c", "text": "half \ud800 of a pair"}),
        "[1]",
        '{"text": "x\x00y"}',
        json.dumps({"text": "no id\x00"}),
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode() + b'\n{"text": "\xff"}\n')
    found, bad = read_all([path])
    assert [(row["id"], row["text"]) for row in found] == [
        ("a", "海"),
        ("7", "sea"),
        (found[2]["id"], "no id\x00"),
    ]
    assert found[2]["id"].startswith("a.jsonl#")
    assert [reason.split(":")[0] for reason, _ in bad] == [
        "invalid-json", "missing-text", "not-utf8", "missing-text", "invalid-json", "not-utf8",
    ]  # fmt: skip
    data = path.read_bytes()
    assert [data[int(where.split("#")[1]) :][:5] for _, where in bad][:2] == [b"{not ", b'{"id"']


def test_rows_that_are_no_document(tmp_path: Path) -> None:
    bad_bytes = pa.array([b"\xe6\xb5\xb7", b"\xff\xfe", None, b"sea"], pa.binary()).view(pa.string())
    ids = pa.array([b"a", b"b", b"c", b"\xff"], pa.binary()).view(pa.string())
    numbers = pa.array([1, 2, 3, 4])
    table = pa.table(
        {"id": ids, "text": bad_bytes, "lang": pa.array(["zh", None, "en", "en"]), "year": numbers}
    )
    pq.write_table(table, tmp_path / "a.parquet", store_schema=False)
    found, bad = read_all([tmp_path / "a.parquet"], columns=("lang", "year", "source"))
    assert found == [
        {"id": "a", "text": "海", "lang": "zh", "year": "1", "source": None},
        {"id": "a.parquet#3", "text": "sea", "lang": "en", "year": "4", "source": None},
    ]
    assert bad == [("missing-text: null", "a.parquet#2"), ("not-utf8: byte 0 of 2", "a.parquet#1")]


def test_rows_are_numbered_through_the_file(tmp_path: Path) -> None:
    texts = [f"第{number}" for number in range(50)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=7)
    for block_bytes in (1, 30, 1000):
        found, _ = read_all([tmp_path / "a.parquet"], block_bytes)
        assert [row["id"] for row in found] == [f"a.parquet#{number}" for number in range(50)]


def test_names_tell_files_apart(tmp_path: Path) -> None:
    for folder in ("zh", "en"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder)
    found, _ = read_all(input_files([tmp_path]))
    assert [row["id"] for row in found] == ["en/a.txt#0", "zh/a.txt#0"]


def test_which_files(tmp_path: Path) -> None:
    write_lines(tmp_path / "b.jsonl", rows_of(2))
    (tmp_path / "a.txt").write_text("海")
    (tmp_path / "c.html").write_text("x")
    assert [path.name for path in input_files([tmp_path])] == ["a.txt", "b.jsonl"]
    (tmp_path / "documents").mkdir()
    pq.write_table(pa.Table.from_pylist(rows_of(2)), tmp_path / "documents" / "part-0.parquet")
    assert [path.name for path in input_files([tmp_path])] == ["part-0.parquet"]
    for inputs, message in (
        ([tmp_path / "none"], "none: no such file"),
        ([tmp_path / "c.html"], "c.html: unknown kind of file"),
        ([tmp_path / "a.txt", tmp_path / "a.txt"], "a.txt: given more than once"),
    ):
        with pytest.raises(HainaError, match=message):
            input_files(inputs)
    (tmp_path / "empty").mkdir()
    with pytest.raises(HainaError, match="empty: no documents below it"):
        input_files([tmp_path / "empty"])


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_compressed_file_that_breaks_off(tmp_path: Path, suffix: str) -> None:
    path = write_lines(tmp_path / f"a.jsonl{suffix}", rows_of(3000))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 9])
    with pytest.raises(
        HainaError, match=rf"a\.jsonl\{suffix}: near byte [\d,]+ of {len(data) - 9:,}: Truncated"
    ):
        read_all([path])
    path.write_bytes(b"no such format at all")
    with pytest.raises(HainaError, match=rf"a\.jsonl\{suffix}: near byte 21 of 21"):
        read_all([path])


def test_a_parquet_file_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows_of(3000)), path, compression="zstd", row_group_size=1000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(HainaError, match=r"a\.parquet: not readable as Parquet"):
        plan_blocks([path], 1000)
    middle = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(1).column(1).data_page_offset
    path.write_bytes(data[:middle] + bytes(400) + data[middle + 400 :])
    with pytest.raises(HainaError, match=r"a\.parquet: not readable as Parquet \(row groups "):
        read_all([path])
    pq.write_table(pa.table({"id": ["a"], "content": ["b"]}), path)
    with pytest.raises(HainaError, match=r"a\.parquet: no column `text` \(it has id, content\)"):
        plan_blocks([path], 1000)
    pq.write_table(pa.table({"text": [1]}), path)
    with pytest.raises(HainaError, match=r"a\.parquet: column `text` holds int64, not strings"):
        plan_blocks([path], 1000)


def test_a_file_that_shrank_since(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows_of(100)), path)
    blocks = plan_blocks([path], 1 << 20)
    pq.write_table(pa.Table.from_pylist(rows_of(90)), path)
    with pytest.raises(HainaError, match="10 rows fewer than before"):
        list(read_block(blocks[0]))
