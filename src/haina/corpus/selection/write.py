"""The documents of a block that are taken and those that are not, each with the numbers that decided it.

Comes in: a block, the arrays of the pool, the scale of each language. Goes out: a Parquet file of documents
with all their columns, or one of dropped documents with stage, reason and evidence. Tasks of the executor;
here the text is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.blocks import Block, read_rows
from haina.corpus.selection.budget import probability
from haina.corpus.selection.lookup import NOT_IN_TABLE
from haina.corpus.selection.measure import Measures
from haina.corpus.selection.pool import FACTORS, weight_of
from haina.corpus.selection.weights import uniform_draws

STAGE = "select"
PREFIX = "select."
NUMBERS = pa.schema(
    [
        *(pa.field(PREFIX + name, pa.float64()) for name in (*FACTORS, "weight", "probability", "draw")),
        pa.field(PREFIX + "tokens", pa.int64()),
    ]
)
DROPPED_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("id", "stage", "reason", "evidence", "source", "lang")),
        *NUMBERS,
    ]
)


@dataclass(frozen=True)
class Writing:
    """What a task is given.

    Attributes:
        block: rows. measures: the file of their measures. folder: of the arrays of factors.
        scales: by language. seed: of the draws.
        tables: files of `haina cluster` with the number of each one's first row, none without.
    """

    block: Block
    measures: Path
    folder: Path
    scales: tuple[tuple[str, float], ...]
    seed: int
    tables: tuple[tuple[Path, int], ...]


@dataclass(frozen=True)
class Decided:
    """Numbers of the documents of a block: float64, int64 and bool [documents]."""

    numbers: Mapping[str, npt.NDArray[Any]]
    chosen: npt.NDArray[np.bool_]


def decide(
    measures: Measures, factors: Mapping[str, npt.NDArray[Any]], scales: Mapping[str, float], seed: int
) -> Decided:
    """What becomes of the documents of a block: taken are those whose draw is below their probability."""
    rows = slice(measures.first, measures.first + measures.rows)
    found: dict[str, npt.NDArray[Any]] = {name: np.asarray(factors[name][rows]) for name in FACTORS}
    found["weight"] = weight_of(*(found[name] for name in FACTORS))
    codes, names = measures.names("language")
    found["probability"] = np.zeros(measures.rows)
    for code, name in enumerate(names):
        here = codes == code
        found["probability"][here] = probability(found["weight"][here], scales[name])
    found["draw"] = uniform_draws(measures["key"], seed)
    found["tokens"] = np.asarray(measures["tokens"])
    return Decided(found, found["draw"] < found["probability"])


def _decided(item: Writing) -> Decided:
    factors = {name: np.load(item.folder / f"{name}.npy", mmap_mode="r") for name in FACTORS}
    return decide(Measures(item.measures, item.block.first), factors, dict(item.scales), item.seed)


def _number_columns(decided: Decided, rows: npt.NDArray[np.int64]) -> list[pa.Array]:
    return [pa.array(decided.numbers[field.name.removeprefix(PREFIX)][rows], field.type) for field in NUMBERS]


def _with_rows(
    item: Writing, columns: Sequence[str], wanted: npt.NDArray[np.bool_]
) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
    """Tables of the wanted rows of each batch, and their numbers in the block."""
    first = 0
    for batch in read_rows(item.block, columns):
        inside = np.flatnonzero(wanted[first : first + batch.num_rows])
        yield pa.Table.from_batches([batch]).take(pa.array(inside)), inside + first
        first += batch.num_rows


def write_chosen(item: Writing, output: Path) -> None:
    """Task: the documents of a block that are taken, with all their columns and `select.*`."""
    decided = _decided(item)
    columns = [name for name in item.block.columns if name not in NUMBERS.names]
    writer: pq.ParquetWriter | None = None
    try:
        for table, rows in _with_rows(item, columns, decided.chosen):
            schema = pa.schema([*table.schema, *NUMBERS], table.schema.metadata)
            writer = writer or pq.ParquetWriter(output, schema, compression="zstd")
            if table.num_rows:
                writer.write_table(pa.table([*table.columns, *_number_columns(decided, rows)], schema=schema))
    finally:
        if writer is not None:
            writer.close()


class _Duplicates:
    """Which document each near-duplicate by meaning repeats, read from the tables of `haina cluster` as needed."""

    def __init__(self, item: Writing) -> None:
        self.tables = item.tables
        rows = slice(item.block.first, item.block.first + item.block.rows)
        self.flag = np.load(item.folder / "duplicate.npy", mmap_mode="r")[rows]
        self.place = np.load(item.folder / "place.npy", mmap_mode="r")[rows]
        self.firsts = np.array([first for _, first in item.tables], np.int64)
        self._read: dict[int, pa.Table] = {}

    def evidence(self, row: int) -> str:
        """`ID SIMILARITY` of the document that stays."""
        assert self.place[row] != NOT_IN_TABLE
        number = int(np.searchsorted(self.firsts, self.place[row], "right")) - 1
        if number not in self._read:
            path = self.tables[number][0]
            names = [name for name in ("duplicate_of", "similarity") if name in pq.read_schema(path).names]
            self._read[number] = pq.read_table(path, columns=names)
        table, inside = self._read[number], int(self.place[row] - self.firsts[number])
        target = table.column("duplicate_of")[inside].as_py()
        similarity = (
            table.column("similarity")[inside].as_py() if "similarity" in table.column_names else None
        )
        return f"{target} {similarity:.4f}" if similarity is not None else str(target)


def write_dropped(item: Writing, output: Path) -> None:
    """Task: the documents of a block that are not taken, each with its reason."""
    decided = _decided(item)
    duplicates = _Duplicates(item) if item.tables else None
    draw, chance = decided.numbers["draw"], decided.numbers["probability"]
    columns = [name for name in ("id", "source", "lang") if name in item.block.columns]
    with pq.ParquetWriter(output, DROPPED_SCHEMA, compression="zstd") as writer:
        for table, rows in _with_rows(item, columns, ~decided.chosen):
            reasons, evidence = [], []
            for row in rows.tolist():
                if decided.numbers["tokens"][row] == 0:
                    reasons.append("no-text")
                    evidence.append("0 tokens")
                elif duplicates is not None and duplicates.flag[row]:
                    reasons.append("similar-meaning")
                    evidence.append(duplicates.evidence(row))
                else:
                    reasons.append("not-drawn")
                    evidence.append(f"draw {draw[row]:.6g} >= probability {chance[row]:.6g}")
            if not reasons:
                continue
            found: dict[str, Sequence[str | None]] = {
                "stage": [STAGE] * len(reasons),
                "reason": reasons,
                "evidence": evidence,
                **{name: table.column(name).cast(pa.string()).to_pylist() for name in columns},
            }
            plain = [
                pa.array(found.get(field.name, [None] * len(reasons)), field.type)
                for field in DROPPED_SCHEMA
                if field.name not in NUMBERS.names
            ]
            writer.write_table(pa.table([*plain, *_number_columns(decided, rows)], schema=DROPPED_SCHEMA))
