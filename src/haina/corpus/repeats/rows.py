"""The two tables of repeats.

Comes in: the rows of a block that are repeated, and what all blocks together know of their keys. Goes out: `repeats`,
a row an occurrence, with where the first one is; `units`, a row a repeated thing, with its text. Windows of tokens in
a row whose first occurrences are in a row as well become one span, so the text of a span and of its first occurrence
have the same tokens, always.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from haina.corpus.blocks import Block, read_rows
from haina.corpus.repeats.blocks import ids_of, rank_keys, ranks, token_batches
from haina.corpus.repeats.config import RepeatsConfig
from haina.corpus.repeats.messages import Message, as_occurrences
from haina.corpus.repeats.scanner import Scanner
from haina.corpus.repeats.tables import I64, U64, HashSet, KeyTable, Occurrences
from haina.runtime.parquet_rows import packed_strings

METADATA_KEY = "haina"
REPEATS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("unit", pa.string()),
        ("tokens", pa.int64()),
        ("documents", pa.int64()),
        ("occurrences", pa.int64()),
        ("is_first", pa.bool_()),
        ("first_id", pa.string()),
        ("first_start", pa.int64()),
        ("first_end", pa.int64()),
        ("key", pa.string()),
        ("row", pa.int64()),
    ]
)
UNITS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("text", pa.string()),
        *(
            REPEATS_SCHEMA.field(name)
            for name in ("id", "start", "end", "unit", "tokens", "documents", "occurrences")
        ),
    ]
)


@dataclass
class Runs:
    """Spans of a block, each with its first occurrence; int64 [spans] but for the key.

    Attributes:
        document: row in the block.
        position: number of the first token (units: byte) in the document.
        windows: how many windows in a row.
        start, end: bytes.
        tokens: in the span.
        documents, occurrences: of the window that stands in the fewest.
        first: the document of the first occurrence, by its number among all.
        first_place: the same in the list of ids.
        first_position, first_start, first_end: where it is there.
        high, low: key of the (first) window: uint64.
    """

    document: I64
    position: I64
    windows: I64
    start: I64
    end: I64
    tokens: I64
    documents: I64
    occurrences: I64
    first: I64
    first_place: I64
    first_position: I64
    first_start: I64
    first_end: I64
    high: U64
    low: U64

    def take(self, chosen: npt.NDArray[Any] | slice) -> Runs:
        """Some of them."""
        return Runs(*(getattr(self, name)[chosen] for name in RUN_FIELDS))


RUN_FIELDS = tuple(Runs.__dataclass_fields__)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _join(
    document: I64, position: I64, windows: I64, end: I64, tokens: I64, documents: I64, occurrences: I64, first: I64,
    first_position: I64, first_end: I64,
) -> I64:  # fmt: skip
    """Join neighbours in place, the last of a run giving its ends to the first; indices of those that are left."""
    kept = np.empty(len(document), dtype=np.int64)
    count = 0
    for index in range(len(document)):
        if count:
            last = kept[count - 1]
            if (
                document[last] == document[index]
                and position[last] + windows[last] == position[index]
                and first[last] == first[index]
                and first_position[last] + windows[last] == first_position[index]
            ):
                windows[last] += windows[index]
                tokens[last] += windows[index]
                end[last], first_end[last] = end[index], first_end[index]
                documents[last] = min(documents[last], documents[index])
                occurrences[last] = min(occurrences[last], occurrences[index])
                continue
        kept[count] = index
        count += 1
    return kept[:count]


def joined(runs: Runs) -> Runs:
    """Windows, or runs of them, with neighbours whose first occurrences are neighbours too made one."""
    kept = _join(
        runs.document, runs.position, runs.windows, runs.end, runs.tokens, runs.documents, runs.occurrences,
        runs.first, runs.first_position, runs.first_end,
    )  # fmt: skip
    return runs.take(kept)


class Answers:
    """What all blocks know together about the repeated keys of one."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.ids = [name for message in messages for name in message.ids]
        self.table = KeyTable()
        numbers, first, shift = [], [], 0
        for message in messages:
            numbers.append(message.ranked[:, 2].astype(np.int64))
            first.append(message.document.astype(np.int64) + shift)
            shift += len(message.ids)
            self.table.add(as_occurrences(message, 0, np.zeros(len(message.high), dtype=np.int64)))
        self.known = self.table.rows()
        self.numbers = np.concatenate(numbers) if numbers else np.empty(0, dtype=np.int64)
        self.first = np.concatenate(first) if first else np.empty(0, dtype=np.int64)

    def runs(self, rows: Occurrences) -> Runs:
        """The rows that are repeated, each as a run of one window."""
        known = self.known
        place = self.table.find(rows.high, rows.low)
        held = place >= 0
        place = place[held]
        first_place = self.first[place]
        return Runs(
            rows.document[held],
            rows.position[held],
            np.ones(len(place), dtype=np.int64),
            rows.start[held],
            rows.end[held],
            rows.tokens[held],
            known.documents[place],
            known.occurrences[place],
            self.numbers[first_place],
            first_place,
            known.position[place],
            known.start[place],
            known.end[place],
            rows.high[held],
            rows.low[held],
        )


def _hex(high: U64, low: U64) -> pa.Array:
    """Keys as 32 hex digits."""
    raw = np.stack([high, low], axis=1).astype(">u8").view(np.uint8)
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    text = np.stack([digits[raw >> 4], digits[raw & 15]], axis=2)
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), len(high), [None, pa.py_buffer(text.tobytes())]
    )
    return fixed.cast(pa.binary()).cast(pa.string())


def _table(runs: Runs, unit: str, ids: pa.Array, first_ids: pa.Array, first_number: int) -> pa.Table:
    columns = [
        ids.take(pa.array(runs.document)),
        pa.array(runs.start),
        pa.array(runs.end),
        pa.array([unit]).take(pa.array(np.zeros(len(runs.start), dtype=np.int64))),
        pa.array(runs.tokens),
        pa.array(runs.documents),
        pa.array(runs.occurrences),
        pa.array((runs.first == runs.document + first_number) & (runs.first_position == runs.position)),
        first_ids.take(pa.array(runs.first_place)),
        pa.array(runs.first_start),
        pa.array(runs.first_end),
        _hex(runs.high, runs.low),
        pa.array(runs.document),
    ]
    return pa.Table.from_arrays(columns, schema=REPEATS_SCHEMA)


def removable(table: pa.Table, config: RepeatsConfig) -> npt.NDArray[np.bool_]:
    """Which rows of `repeats` the rule removes: long enough, in enough documents, and not the occurrence that stays."""
    documents = table.column("documents").to_numpy()
    tokens = table.column("tokens").to_numpy()
    chosen = (documents >= config.documents) & (tokens >= config.tokens)
    if config.keep == "first":
        chosen &= ~table.column("is_first").to_numpy(zero_copy_only=False)
    return np.asarray(chosen)


def write_rows(
    block: Block, config: RepeatsConfig, repeated: HashSet, messages: Sequence[Message], output: Path
) -> None:
    """Write the `repeats` of a block, and in the file's metadata what was looked at and what was found."""
    scanner, answers = Scanner(config), Answers(messages)
    ids = ids_of(block)
    rank = ranks(rank_keys(block, ids, config.priority))
    own_ids, first_ids = pa.array(ids, pa.string()), pa.array(answers.ids, pa.string())
    note = dict.fromkeys(("documents", "bytes", "tokens", "rows", "first", "removable", "removable_bytes"), 0)
    note["documents"] = len(ids)
    waiting: list[Runs] = []

    with pq.ParquetWriter(output, REPEATS_SCHEMA, compression="zstd") as writer:

        def write(runs: Runs) -> None:
            if not len(runs.start):
                return
            table = _table(runs, config.level, own_ids, first_ids, block.first)
            gone = removable(table, config)
            note["rows"] += len(gone)
            note["first"] += int(np.sum(table.column("is_first").to_numpy(zero_copy_only=False)))
            note["removable"] += int(gone.sum())
            note["removable_bytes"] += int((runs.end - runs.start)[gone].sum())
            writer.write_table(table)

        for batch in token_batches(block, scanner.overlap, scanner.level):
            note["bytes"] += len(batch.data)
            note["tokens"] += len(batch.tokens.hashes)
            if not repeated.count:
                continue
            runs = answers.runs(scanner.rows(batch, repeated, rank))
            if scanner.width:
                waiting.append(joined(runs))
            else:
                write(runs)
        if waiting:
            # A span may go on from one piece of a document to the next.
            every = Runs(*(np.concatenate([getattr(runs, name) for runs in waiting]) for name in RUN_FIELDS))
            write(joined(every))
        writer.add_key_value_metadata({METADATA_KEY: json.dumps(note)})


def read_note(path: Path) -> dict[str, int]:
    """What `write_rows` left in a file's metadata."""
    found = pq.read_metadata(path).metadata or {}
    note: dict[str, int] = json.loads(found.get(METADATA_KEY.encode(), b"{}"))
    return note


def write_units(item: tuple[Block, Path], output: Path) -> None:
    """Task: the repeated things whose first occurrence is in a block, with their text."""
    block, repeats = item
    found = pq.read_table(repeats)
    found = found.filter(found.column("is_first"))
    with pq.ParquetWriter(output, UNITS_SCHEMA, compression="zstd") as writer:
        rows = found.column("row").to_numpy()
        first = low = 0
        for batch in read_rows(block, ["text"]) if len(rows) else ():
            high = int(np.searchsorted(rows, first + batch.num_rows))
            if high > low:
                data, offsets = packed_strings(batch.column("text"))
                part = found.slice(low, high - low)
                base = offsets[part.column("row").to_numpy() - first]
                starts, ends = base + part.column("start").to_numpy(), base + part.column("end").to_numpy()
                texts = [
                    data[start:end].tobytes()
                    for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
                ]
                part = part.append_column("text", pa.array(texts, pa.binary()).cast(pa.string()))
                writer.write_table(part.select(UNITS_SCHEMA.names).cast(UNITS_SCHEMA))
            first, low = first + batch.num_rows, high
