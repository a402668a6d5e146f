"""Documents of Parquet, JSON-lines and plain text files, in blocks of bounded size.

Comes in: files and folders. Goes out: blocks, each a piece of a file that one task works on, and the documents of a
block as Arrow batches with `id`, `text` and the columns asked for. Blocks depend on the files alone, never on who works
on them. What is no document - no text, no UTF-8, no JSON - is handed to the caller with a reason.

    *.parquet                             a row; columns `text` and, optionally, `id`
    *.jsonl, *.ndjson [.gz, .zst]         a line; fields `text` and, optionally, `id`
    *.txt, *.md [.gz, .zst]               the file; one of more than 16 MiB is cut at line ends

A compressed file cannot be entered in the middle: it is one block, read as a stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from haina.runtime.document_rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    Bad,
    batches_of,
    document_schema,
    json_rows,
    strings,
    text_rows,
)
from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.executor import Location, local_copy
from haina.runtime.parquet_rows import (
    RowRun,
    column_bytes,
    holds_text,
    open_parquet,
    parquet_below,
    read_run,
    row_runs,
)
from haina.runtime.text_streams import PASSAGE_BYTES, codec_of, read_lines, read_passages

Kind = Literal["parquet", "lines", "text"]
_KINDS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".txt": "text",
    ".md": "text",
}
_KNOWN = "*.parquet, *.jsonl, *.ndjson, *.txt or *.md, the last four also as *.gz or *.zst"


@dataclass(frozen=True)
class Block:
    """A piece of a file that one task works on.

    Attributes:
        number: 0 for the first block of all.
        path: the file. kind: how documents lie in it.
        name: of the file in ids and messages: as many parts of its path as tell it from the other files.
        bytes: about how much text it is; of a compressed file, its bytes as they lie there.
        rows: of Parquet, which rows. first_row: number of the first of them in the file. batch_rows: rows to a batch.
        start, stop: of lines, the bytes in which they begin; of text, the passages. None: to the end.
    """

    number: int
    path: Location
    kind: Kind
    name: str
    bytes: int
    rows: RowRun | None = None
    first_row: int = 0
    batch_rows: int = BATCH_ROWS
    start: int = 0
    stop: int | None = None


def _kind_of(path: Path) -> Kind | None:
    stem = path.with_suffix("") if codec_of(path) else path
    kind = _KINDS.get(stem.suffix.lower())
    return None if kind == "parquet" and stem != path else kind


def input_files(inputs: Sequence[Path]) -> list[Path]:
    """The files of inputs, in order: files as they are; of a folder the Parquet files of its `documents/`, else every
    file below it that can be read, sorted.

    Raises:
        HainaError: an input is not there, is of an unknown kind, holds nothing to read, or is named twice.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = parquet_below(path) if (path / "documents").is_dir() else []
            files = inside or sorted(file for file in path.rglob("*") if file.is_file() and _kind_of(file))
            if not files:
                raise HainaError(f"{path}: no documents below it", f"bring {_KNOWN}")
            found += files
        elif not path.exists():
            raise HainaError(f"{path}: no such file or folder", "check the path")
        elif _kind_of(path) is None:
            raise HainaError(f"{path}: unknown kind of file", f"name it {_KNOWN}")
        else:
            found.append(path)
    twice = next(
        (path for path, times in Counter(path.resolve() for path in found).items() if times > 1), None
    )
    if twice is not None:
        raise HainaError(f"{twice}: given more than once", "name each file once")
    return found


def _names(files: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the files apart, all of the same number of parts."""
    parts = [file.resolve().parts for file in files]
    for depth in range(1, max((len(part) for part in parts), default=0) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(file) for file in files]


def plan_blocks(files: Sequence[Path], block_bytes: int) -> list[Block]:
    """Blocks of about `block_bytes` of text, in the order of the files.

    Raises:
        HainaError: a file is missing, damaged, or has no column of texts.
    """
    blocks: list[Block] = []
    for path, name in zip(files, _names(files), strict=True):
        kind = _kind_of(path)
        if kind is None:
            raise HainaError(f"{path}: unknown kind of file", f"name it {_KNOWN}")
        if kind == "parquet":
            found = _parquet_blocks(path, name, block_bytes)
        else:
            found = _byte_blocks(path, name, kind, block_bytes)
        blocks += [replace(block, number=number) for number, block in enumerate(found, start=len(blocks))]
    return blocks


def _parquet_blocks(path: Path, name: str, block_bytes: int) -> list[Block]:
    blocks = []
    with open_parquet(path) as file:
        schema = file.schema_arrow
        if "text" not in schema.names:
            raise HainaError(
                f"{path}: no column `text` (it has {', '.join(schema.names)})", "name the column so"
            )
        if not holds_text(schema.field("text").type):
            raise HainaError(
                f"{path}: column `text` holds {schema.field('text').type}, not strings", "convert it"
            )
        first = 0
        for run in row_runs(file, block_bytes):
            groups = range(*run.groups)
            held = sum(column_bytes(file, group, "text") for group in groups)
            rows = sum(file.metadata.row_group(group).num_rows for group in groups)
            # A row before compression takes at least as much memory once it is read.
            batch = max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, held)))
            blocks.append(Block(0, path, "parquet", name, held * run.rows // rows, run, first, batch))
            first += run.rows
    return blocks


def _byte_blocks(path: Path, name: str, kind: Kind, block_bytes: int) -> list[Block]:
    with os_errors_about(path):
        size = path.stat().st_size
    if codec_of(path):
        return [Block(0, path, kind, name, size)]
    if kind == "lines":
        count = max(1, -(-size // block_bytes))
        cuts = [size * number // count for number in range(count + 1)]
        return [
            Block(0, path, kind, name, stop - start, start=start, stop=stop) for start, stop in pairwise(cuts)
        ]
    passages, step = -(-size // PASSAGE_BYTES), max(1, block_bytes // PASSAGE_BYTES)
    return [
        Block(
            0, path, kind, name, min(size, (start + step) * PASSAGE_BYTES) - start * PASSAGE_BYTES,
            start=start, stop=min(start + step, passages),
        )
        for start in range(0, passages, step)
    ]  # fmt: skip


def halves(block: Block) -> list[Block]:
    """A block as two that follow one another; as itself where it is a single row, line start or passage, or cannot be
    entered in the middle."""
    if block.rows is not None:
        run, half = block.rows, block.rows.rows // 2
        if not half:
            return [block]
        first = replace(
            block, rows=RowRun(run.groups, run.skip, half), batch_rows=min(block.batch_rows, half)
        )
        rest = RowRun(run.groups, run.skip + half, run.rows - half)
        return [first, replace(first, rows=rest, first_row=block.first_row + half)]
    if block.stop is None or block.stop - block.start <= 1:
        return [block]
    middle = (block.start + block.stop) // 2
    return [replace(block, stop=middle), replace(block, start=middle)]


def _ignore(reason: str, where: str) -> None:
    return


def read_block(block: Block, columns: Sequence[str] = (), bad: Bad | None = None) -> Iterator[pa.RecordBatch]:
    """The documents of a block, in batches of at most 1,024.

    Args:
        columns: what to give beside `id` and `text`; null where the file has none. All columns are strings, `text` is
            `large_string`, and neither `id` nor `text` is ever null.
        bad: called with (reason, place) for every row or line that is no document. The reason begins with a word for
            the kind and a colon; the place is the file's name, `#` and the row's number or the line's offset, as it is
            in the ids of documents that have none of their own.

    Raises:
        HainaError: the file is damaged, or is not the one that the blocks were planned for.
    """
    asked = [name for name in dict.fromkeys(columns) if name not in ("id", "text")]
    with local_copy(block.path) as path:
        if block.kind == "parquet":
            yield from _parquet_batches(block, path, asked, bad or _ignore)
        else:
            if block.kind == "lines":
                lines = read_lines(path, block.start, block.stop)
                rows = json_rows(lines, block.name, asked, bad or _ignore)
            else:
                count = None if block.stop is None else block.stop - block.start
                rows = text_rows(read_passages(path, block.start, count), block.name, asked, bad or _ignore)
            yield from batches_of(rows, asked)


def _parquet_batches(block: Block, path: Path, asked: list[str], bad: Bad) -> Iterator[pa.RecordBatch]:
    assert block.rows is not None
    with open_parquet(path) as file:
        present = set(file.schema_arrow.names)
    schema, row = document_schema(asked), block.first_row
    read = [name for name in ("id", "text", *asked) if name in present]
    for batch in read_run(path, block.rows, read, block.batch_rows, block.path):
        places = [f"{block.name}#{number}" for number in range(row, row + batch.num_rows)]
        row += batch.num_rows
        found: dict[str, Any] = {}
        good = pc.is_valid(batch["text"])
        for number in pc.indices_nonzero(pc.invert(good)).to_pylist():
            bad("missing-text: null", places[number])
        for name in schema.names:
            column = batch[name] if name in present else pa.nulls(batch.num_rows, pa.string())
            column, broken = strings(column, schema.field(name).type)
            if name == "text":
                for number, why in broken.items():
                    bad(f"not-utf8: {why}", places[number])
                keep = (
                    pa.array([number not in broken for number in range(batch.num_rows)]) if broken else good
                )
                good = pc.and_(good, keep)
            if name == "id" and column.null_count:
                column = pc.coalesce(column, pa.array(places, pa.string()))
            found[name] = column
        result = pa.record_batch([found[name] for name in schema.names], schema=schema)
        yield result if good.true_count == len(good) else result.filter(good)
