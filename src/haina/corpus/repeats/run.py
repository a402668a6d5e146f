"""From files to a folder: find what is repeated, remove it if asked, and say what was found.

Comes in: Parquet files. Goes out: a folder with `repeats/`, `units/`, with removal `documents/`, `edits/` and
`dropped/`, and `summary.json`. Files in between stand in `work/` and go when all is done; a run that was killed goes
on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from haina.corpus.repeats.apply import apply_repeats
from haina.corpus.repeats.config import RepeatsConfig
from haina.corpus.repeats.find import Found, find_repeats
from haina.corpus.repeats.rows import read_note
from haina.runtime.errors import HainaError
from haina.runtime.executor import Executor
from haina.runtime.files import publish, remove, write_json

TABLES = ("repeats", "units", "documents", "edits", "dropped")
_TOP = 20
_SHOWN = 80


def _rows(files: Sequence[Path]) -> int:
    return sum(pq.read_metadata(path).num_rows for path in files)


def top_units(found: Found, count: int = _TOP) -> list[dict[str, Any]]:
    """The repeated things that hold the most superfluous tokens, most first."""
    best: list[tuple[int, str, Path, int]] = []
    for path in found.units:
        table = pq.read_table(path, columns=["key", "tokens", "occurrences"])
        weight = table.column("tokens").to_numpy() * (table.column("occurrences").to_numpy() - 1)
        keys = table.column("key")
        rows = np.argsort(-weight, kind="stable")[:count]
        # One more than asked for could share the last weight: ties fall to the key, so take all of that weight.
        if len(rows):
            rows = np.flatnonzero(weight >= weight[rows[-1]])
        best += [(-int(weight[row]), keys[row].as_py(), path, row) for row in rows.tolist()]
        best = sorted(best, key=lambda item: item[:2])[:count]
    found_rows = []
    for _, _, path, row in best:
        own = pq.read_table(path, columns=["text", "documents", "occurrences", "tokens", "id"]).slice(row, 1)
        unit = own.to_pylist()[0]
        unit["text"] = " ".join(unit["text"].split())[:_SHOWN]
        found_rows.append(unit)
    return found_rows


def summarise(found: Found, config: RepeatsConfig) -> dict[str, Any]:
    """Counts over all blocks."""
    total: dict[str, int] = {}
    for path in found.repeats:
        for name, value in read_note(path).items():
            total[name] = total.get(name, 0) + value
    return {
        "level": config.level,
        "min_documents": config.documents,
        "min_tokens": config.tokens,
        "keep": config.keep,
        "documents": total["documents"],
        "text_bytes": total["bytes"],
        "tokens": total["tokens"],
        "repeated": total["first"],
        "occurrences": total["rows"],
        "to_remove": total["removable"],
        "top": top_units(found),
    }


def run_repeats(
    executor: Executor, inputs: Sequence[Path], config: RepeatsConfig, out: Path, *, removal: bool
) -> dict[str, Any]:
    """Fill `out`, and give back what `summary.json` says.

    Args:
        executor: where tasks run.
        inputs: Parquet files with `id` and `text`.
        config: see `RepeatsConfig`.
        out: folder; tables of an earlier run there are replaced.
        removal: also write the documents without what the rule removes.

    Raises:
        HainaError: an input lies in a folder that would be replaced, or is not readable.
    """
    for path in inputs:
        for table in TABLES:
            if (out / table).resolve() in path.resolve().parents:
                raise HainaError(f"{path}: lies in the output folder", "write to another folder")
    work = out / "work"
    found = find_repeats(executor, work, inputs, config, work / "tables")
    summary = summarise(found, config)
    if removal:
        applied = apply_repeats(executor, found, config, work / "tables")
        summary["documents_out"] = _rows(applied.documents)
        summary["dropped"] = _rows(applied.dropped)
        summary["edits"] = _rows(applied.edits)
        summary["removed_bytes"] = sum(_removed_bytes(path) for path in applied.edits)
        if summary["documents_out"] + summary["dropped"] != summary["documents"]:
            raise HainaError(
                f"{out}: {summary['documents']} documents in, "
                f"{summary['documents_out']} out and {summary['dropped']} dropped",
                "run again; if it happens again this is a fault of haina",
            )
    for table in TABLES:
        if (work / "tables" / table).is_dir():
            publish(work / "tables" / table, out / table)
        else:
            remove(out / table)
    write_json(out / "summary.json", summary)
    remove(work)
    return summary


def _removed_bytes(path: Path) -> int:
    table = pq.read_table(path, columns=["start", "end"])
    return int((table.column("end").to_numpy() - table.column("start").to_numpy()).sum())
