"""The selection stage: documents in, those that a budget of tokens takes out.

Comes in: Parquet files of documents, measured or not, and the tables of `haina cluster` where there are some.
Goes out: `documents/`, `dropped/` and `summary.json`. Steps: measure (a task a block), look up what needs
several documents, weigh, find the scales, write (a task a block). Text is read where something has to be
measured on it, and when it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from haina.corpus.blocks import Block, parquet_files, plan_blocks, read_rows
from haina.corpus.documents import part_name
from haina.corpus.selection.budget import Mass, find_scales, split_budget
from haina.corpus.selection.config import SelectionConfig
from haina.corpus.selection.lookup import (
    NO_TOPIC,
    NOT_IN_TABLE,
    SemanticTable,
    count_copies,
    find_repeated_key,
    flush,
    join_semantic,
    new_array,
    read_semantic,
)
from haina.corpus.selection.measure import (
    DUPLICATES,
    QUALITY,
    SIGNAL_COLUMNS,
    Measures,
    Measuring,
    measure_block,
)
from haina.corpus.selection.pool import Pool, open_pool, weigh
from haina.corpus.selection.summary import summarise
from haina.corpus.selection.write import Writing, write_chosen, write_dropped
from haina.runtime.errors import HainaError
from haina.runtime.files import write_json
from haina.runtime.stage import StageContext, StageResult


def _id_of(blocks: Sequence[Block], document: int) -> tuple[str, object]:
    """Id and file of a document by its number."""
    block = next(block for block in blocks if block.first <= document < block.first + block.rows)
    row = document - block.first
    for batch in read_rows(block, ["id"]):
        if row < batch.num_rows:
            return batch.column("id")[row].as_py(), block.path
        row -= batch.num_rows
    raise AssertionError("a block is shorter than planned")


def _check_unique(blocks: Sequence[Block], measures: Sequence[Measures], total: int) -> None:
    found = find_repeated_key(measures, total)
    if found is not None:
        (first, one), (second, other) = (_id_of(blocks, document) for document in found)
        if first != second:
            raise HainaError(
                f"ids {first!r} and {second!r} have one 64-bit hash", "give one of them another id"
            )
        where = f"twice in {one}" if one == other else f"in {one} and in {other}"
        raise HainaError(f"id {first!r} stands {where}", "name every document once, with an id of its own")


def _look_up(
    blocks: Sequence[Block], measures: Sequence[Measures], table: SemanticTable | None, folder: Path
) -> tuple[Pool, list[str]]:
    """The pool with copies and topics, and what took no part in it."""
    total = sum(block.rows for block in blocks)
    folder.mkdir(parents=True, exist_ok=True)
    _check_unique(blocks, measures, total)
    absent = []
    copies = new_array(folder / "copies.npy", np.int32, total)
    if not count_copies(measures, copies):
        absent.append("cluster_id: near-duplicates that stand in the input count in full")
    if not any(DUPLICATES in block.columns for block in blocks):
        absent.append(f"{DUPLICATES}: how often a document was found does not count")
    topic = new_array(folder / "topic.npy", np.int32, total)
    place = new_array(folder / "place.npy", np.int64, total)
    duplicate = new_array(folder / "duplicate.npy", np.bool_, total)
    topic[:], place[:], duplicate[:] = NO_TOPIC, NOT_IN_TABLE, False
    if table is None:
        absent.append("--clusters: documents are compared within their source, not within their topic")
    else:
        without = join_semantic(measures, table, topic, place, duplicate)
        if without:
            absent.append(f"--clusters: {without:,} of {total:,} documents are not in the tables")
    for array in (copies, topic, place, duplicate):
        flush(array)
    return open_pool(measures, table.topics if table else [], copies, topic, duplicate, folder), absent


def _budgets(pool: Pool, config: SelectionConfig, seed: int) -> tuple[dict[str, int], list[str]]:
    """Tokens to take by language, and notes."""
    masses = {name: Mass() for name in pool.languages}
    for language, weight, _, tokens in pool.arrays(seed):
        for code, name in enumerate(pool.languages):
            rows = (language == code) & (weight > 0.0)
            masses[name].add(weight[rows], tokens[rows])
    budgets, notes = split_budget(masses, config.tokens, config.shares)
    there = sum(mass.tokens for mass in masses.values())
    if not there:
        raise HainaError("no document holds text", "give documents with a column `text` that is not empty")
    if there <= config.tokens:
        notes.append(f"the input holds {there:,} tokens, not {config.tokens:,}: everything is taken")
    return budgets, notes


def _measured(blocks: Sequence[Block]) -> list[str]:
    """Columns that some file did not have and that were measured from its text."""
    wanted = ("lang", QUALITY, *SIGNAL_COLUMNS)
    return [name for name in wanted if not all(name in block.columns for block in blocks)]


def _rows(paths: Sequence[Path]) -> int:
    return sum(pq.read_metadata(path).num_rows for path in paths)


def run(config: SelectionConfig, context: StageContext) -> StageResult:
    """Choose among the documents of `context.sources`; inputs `clusters` and `tokenizer` may be given.

    Raises:
        HainaError: an input is missing, no Parquet, or lacks ids; an id stands twice; there is no text.
    """
    files = parquet_files([Path(source) for source in context.sources])
    blocks, _ = plan_blocks(files, config.block_bytes)
    if not blocks:
        raise HainaError(f"{files[0]}: no documents", "name Parquet files that hold rows")
    executor, scratch, out = context.executor, context.scratch, context.out("selection")
    names = [part_name(block.number) for block in blocks]
    paths = [scratch / "measures" / f"part-{block.number:05d}.arrow" for block in blocks]
    tokenizer = context.inputs.get("tokenizer")
    executor.map(
        measure_block,
        [Measuring(block, tokenizer) for block in blocks],
        paths,
        description="measuring documents",
    )
    measures = [Measures(path, block.first) for path, block in zip(paths, blocks, strict=True)]
    clusters = context.inputs.get("clusters")
    table = read_semantic(clusters) if clusters is not None else None

    folder = scratch / "arrays"
    pool, absent = _look_up(blocks, measures, table, folder)
    weigh(pool, config.temperature)
    budgets, notes = _budgets(pool, config, context.seed)
    by_code = {code: budgets[name] for code, name in enumerate(pool.languages)}
    found = find_scales(lambda: pool.arrays(context.seed), by_code)
    scales = {name: found[code] for code, name in enumerate(pool.languages)}

    tables = tuple(zip(table.files, table.firsts, strict=True)) if table is not None else ()
    items = [
        Writing(block, path, folder, tuple(sorted(scales.items())), context.seed, tables)
        for block, path in zip(blocks, paths, strict=True)
    ]
    documents, dropped = ([out / kind / name for name in names] for kind in ("documents", "dropped"))
    executor.map(write_chosen, items, documents, description="documents")
    executor.map(write_dropped, items, dropped, description="dropped")

    summary: dict[str, Any] = {
        "tokens": config.tokens,
        "temperature": config.temperature,
        "shares": config.shares,
        "seed": context.seed,
        "tokens_counted_by": "tokenizer" if tokenizer is not None else "characters",
        **summarise(pool, scales, budgets, context.seed),
        "measured_now": _measured(blocks),
        "absent": absent,
        "notes": notes,
    }
    assert (_rows(documents), _rows(dropped)) == (summary["documents_out"], summary["dropped"])
    write_json(out / "summary.json", summary)
    return StageResult(
        summary["documents_in"],
        summary["documents_out"],
        summary["dropped"],
        "documents",
        {name: summary[name] for name in ("tokens_in", "tokens_out")},
    )
