"""What a person needs in order to set a threshold by reading.

Comes in: a corpus folder (`documents/`, `dropped/`, `edits/`), or a Parquet file with `signal.*` columns. Goes out: for
each language group and measure its histogram, its bounds, and documents from both sides of each bound and from all
over the range; and documents with what was cut out of them. Numbers are read first and texts only for the documents
that are shown, so that memory does not grow with the corpus.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from haina.corpus.edits import Edit, restore
from haina.runtime.errors import HainaError

MEASURED = re.compile(r"^(signal|score)\.")
# Beyond this many documents every k-th is taken.
MAX_ROWS = 200_000
NEAR_BOUND = 8
ACROSS_RANGE = 11
BINS = 48
_WIDE = 30
SHOWN_CHARACTERS = 1200
MAX_CUT_DOCUMENTS = 40
_SHOWN = ("id", "url", "source", "title", "lang", "kind", "text", "preview", "stage", "reason", "evidence")

Bounds = Mapping[str, Mapping[str, tuple[float | None, float | None]]]
Place = tuple[int, int]  # file, row in it


@dataclass(frozen=True)
class Sample:
    """A document to read.

    Attributes:
        id: of the document.
        facts: title, url, source, language, kind, and why it was dropped, as far as known.
        pieces: its text in order: (text, "") for what stayed, (text, reason) for what was cut.
        measured: every signal and score it has.
    """

    id: str
    facts: dict[str, str]
    pieces: list[tuple[str, str]]
    measured: dict[str, float]


@dataclass(frozen=True)
class Spread:
    """How a measure is spread over the documents of a language group.

    Attributes:
        name: column without its prefix.
        low: bound below which documents are dropped, None for none.
        high: bound above which they are.
        below: documents under `low`.
        above: documents over `high`.
        logarithmic: whether the bins are even in log(1 + value): lengths spread over orders of magnitude.
        edges: float64 [bins + 1]; the outermost bins take what lies beyond the 1st and 99th percentile.
        counts: documents in each bin.
        quantiles: float64 [101], the percentiles 0 to 100.
        shown: ids of samples with their values, by rising value.
    """

    name: str
    low: float | None
    high: float | None
    below: int
    above: int
    logarithmic: bool
    edges: list[float]
    counts: list[int]
    quantiles: list[float]
    shown: list[tuple[str, float]]


@dataclass(frozen=True)
class Look:
    """All of it: measured documents and spreads by group, the samples they name, and the cuts."""

    documents: dict[str, int]
    spreads: dict[str, list[Spread]]
    samples: dict[str, Sample]
    cuts: Counter[tuple[str, str]] = field(default_factory=Counter)
    cut_samples: list[Sample] = field(default_factory=list)


def group_of(lang: str | None) -> str:
    """`zh` for Chinese in any script and for Cantonese, `en` for everything else: the groups that bounds have."""
    return "zh" if (lang or "").startswith(("zh", "yue")) else "en"


def tables_of(path: Path) -> list[Path]:
    """The Parquet files that hold the documents below `path`, kept ones first.

    Raises:
        HainaError: there are none.
    """
    if path.is_file():
        return [path]
    folders = [path / "documents", path / "dropped"] if (path / "documents").is_dir() else [path]
    tables = [table for folder in folders for table in sorted(folder.glob("*.parquet"))]
    if not tables:
        raise HainaError(f"{path}: no Parquet table", "name a corpus folder or a scored Parquet file")
    return tables


def _columns(tables: Sequence[Path]) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names: dict[str, None] = {}
    for table in tables:
        try:
            schema = pq.read_schema(table)
        except (pa.ArrowException, OSError) as error:
            raise HainaError(f"{table}: not a readable Parquet file ({error})", "restore the file") from error
        for item in schema:
            number = pa.types.is_floating(item.type) or pa.types.is_integer(item.type)
            if MEASURED.match(item.name) and number:
                names[item.name] = None
    if not names:
        raise HainaError(f"{tables[0]}: no signal.* column", "measure it first with `haina signals IN OUT`")
    return list(names)


def _numbers(
    tables: Sequence[Path], columns: Sequence[str]
) -> tuple[npt.NDArray[np.float64], list[str], list[Place]]:
    """Values float64 [rows, columns], languages and places of the measured rows; every k-th of very many."""
    import pyarrow.parquet as pq

    total = sum(pq.ParquetFile(table).metadata.num_rows for table in tables)
    step = max(1, -(-total // MAX_ROWS))
    values: list[npt.NDArray[np.float64]] = []
    languages: list[str] = []
    places: list[Place] = []
    seen = 0
    for number, table in enumerate(tables):
        row = 0
        with pq.ParquetFile(table) as file:
            present = [name for name in (*columns, "lang") if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=65536, columns=present):
                block = np.full((batch.num_rows, len(columns)), np.nan)
                for index, name in enumerate(columns):
                    if name in present:
                        block[:, index] = batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
                block[~np.isfinite(block)] = np.nan
                spoken = batch.column("lang").to_pylist() if "lang" in present else [""] * batch.num_rows
                chosen = np.flatnonzero((np.arange(seen, seen + batch.num_rows) % step) == 0)
                chosen = chosen[~np.isnan(block[chosen]).all(axis=1)]
                values.append(block[chosen])
                languages += [spoken[index] or "" for index in chosen]
                places += [(number, row + int(index)) for index in chosen]
                row += batch.num_rows
                seen += batch.num_rows
    return np.concatenate(values) if values else np.empty((0, len(columns))), languages, places


def _spread(
    name: str, values: npt.NDArray[np.float64], bound: tuple[float | None, float | None]
) -> tuple[Spread, list[int]]:
    """The spread of one measure, without samples, and the indexes of the documents to show, by rising value."""
    low, high = bound
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    edge_low, edge_high = np.percentile(ordered, [1, 99])
    for edge in (low, high):
        if edge is not None:
            edge_low, edge_high = min(edge_low, edge), max(edge_high, edge)
    if edge_high <= edge_low:
        edge_high = edge_low + 1
    logarithmic = bool(ordered[0] >= 0 and edge_high > _WIDE * max(1.0, float(np.median(ordered)) / _WIDE))
    if logarithmic:
        edges = np.expm1(np.linspace(np.log1p(edge_low), np.log1p(edge_high), BINS + 1))
    else:
        edges = np.linspace(edge_low, edge_high, BINS + 1)
    counts, _ = np.histogram(np.clip(ordered, edges[0], edges[-1]), edges)
    chosen = set(np.linspace(0, len(ordered) - 1, min(ACROSS_RANGE, len(ordered))).astype(int).tolist())
    for edge, side in ((low, "left"), (high, "right")):
        if edge is not None:
            middle = int(np.searchsorted(ordered, edge, "left" if side == "left" else "right"))
            chosen.update(range(max(0, middle - NEAR_BOUND), min(len(ordered), middle + NEAR_BOUND)))
    spread = Spread(
        name=name,
        low=low,
        high=high,
        below=int((ordered < low).sum()) if low is not None else 0,
        above=int((ordered > high).sum()) if high is not None else 0,
        logarithmic=logarithmic,
        edges=edges.tolist(),
        counts=counts.tolist(),
        quantiles=np.percentile(ordered, np.arange(101)).tolist(),
        shown=[],
    )
    return spread, [int(order[index]) for index in sorted(chosen)]


def _rows_at(tables: Sequence[Path], places: Sequence[Place]) -> dict[Place, dict[str, Any]]:
    """The rows at the given places; row groups without any are not read."""
    import pyarrow.parquet as pq

    wanted: dict[int, set[int]] = defaultdict(set)
    for number, row in places:
        wanted[number].add(row)
    found: dict[Place, dict[str, Any]] = {}
    for number in sorted(wanted):
        with pq.ParquetFile(tables[number]) as file:
            names = [n for n in file.schema_arrow.names if n in _SHOWN or MEASURED.match(n)]
            start = 0
            for group in range(file.metadata.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                inside = sorted(row for row in wanted[number] if start <= row < end)
                if inside:
                    table = file.read_row_group(group, columns=names).take([row - start for row in inside])
                    for row, values in zip(inside, table.to_pylist(), strict=True):
                        found[number, row] = values
                start = end
    return found


def _edits(path: Path, wanted: set[str] | None = None) -> Iterator[tuple[str, Edit]]:
    """(document id, edit) of the corpus's edits table in its order, of all documents or of the wanted ones."""
    import pyarrow.parquet as pq

    for table in sorted((path / "edits").glob("*.parquet")):
        with pq.ParquetFile(table) as file:
            for batch in file.iter_batches(batch_size=65536):
                for row in batch.to_pylist():
                    identity = row.pop("id")
                    if wanted is None or identity in wanted:
                        yield identity, Edit(**row)


def _sample(row: Mapping[str, Any], edits: Sequence[Edit], clip: int) -> Sample:
    text = row.get("text") or row.get("preview") or ""
    pieces: list[tuple[str, str]] = []
    room = clip
    for piece, edit in restore(text, edits) if row.get("text") else [(text, None)]:
        if room <= 0:
            pieces.append(("…", ""))
            break
        pieces.append((piece[:room], edit.reason if edit else ""))
        room -= len(piece)
    facts = {
        name: str(row[name])
        for name in ("title", "url", "source", "lang", "kind", "stage", "reason", "evidence")
        if row.get(name)
    }
    measured = {
        MEASURED.sub("", name): float(value)
        for name, value in row.items()
        if MEASURED.match(name) and isinstance(value, (int, float)) and math.isfinite(value)
    }
    return Sample(str(row.get("id", "")), facts, pieces, measured)


def _cut(path: Path, tables: Sequence[Path]) -> tuple[Counter[tuple[str, str]], list[Sample]]:
    """How often each reason cut each unit, and documents that show them, every reason among them."""
    counts: Counter[tuple[str, str]] = Counter()
    edited: dict[str, int] = {}
    by_reason: dict[str, list[str]] = defaultdict(list)
    for identity, edit in _edits(path):
        counts[edit.reason, edit.unit] += 1
        edited[identity] = edited.get(identity, 0) + 1
        if len(by_reason[edit.reason]) < MAX_CUT_DOCUMENTS:
            by_reason[edit.reason].append(identity)
    chosen: dict[str, None] = {}
    while len(chosen) < min(MAX_CUT_DOCUMENTS, len(edited)) and any(by_reason.values()):
        for reason in sorted(by_reason):
            if by_reason[reason]:
                chosen[by_reason[reason].pop(0)] = None
    if not chosen:
        return counts, []
    found: dict[str, list[Edit]] = defaultdict(list)
    for identity, edit in _edits(path, set(chosen)):
        found[identity].append(edit)
    rows = {row["id"]: row for row in _rows_by_id(tables, set(chosen))}
    return counts, [_sample(rows[name], found[name], 4 * SHOWN_CHARACTERS) for name in chosen if name in rows]


def _rows_by_id(tables: Sequence[Path], wanted: set[str]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for number, table in enumerate(tables):
        with pq.ParquetFile(table) as file:
            if "id" not in file.schema_arrow.names:
                continue
            row = 0
            places: list[Place] = []
            for batch in file.iter_batches(batch_size=65536, columns=["id"]):
                identities = batch.column("id").to_pylist()
                places += [(number, row + i) for i, identity in enumerate(identities) if identity in wanted]
                row += batch.num_rows
        yield from _rows_at(tables, places).values()


def find_document(path: Path, identity: str) -> Sample:
    """One document, whole, with its measures and cuts.

    Args:
        path: a corpus folder or a Parquet file.
        identity: its id, or the beginning of one that no other has.

    Raises:
        HainaError: there is none, or there are several.
    """
    import pyarrow.parquet as pq

    tables = tables_of(path)
    matching: set[str] = set()
    for table in tables:
        with pq.ParquetFile(table) as file:
            if "id" in file.schema_arrow.names:
                for batch in file.iter_batches(batch_size=65536, columns=["id"]):
                    matching.update(
                        name for name in batch.column("id").to_pylist() if name.startswith(identity)
                    )
    if len(matching) != 1:
        count = "no document" if not matching else f"{len(matching)} documents"
        raise HainaError(f"{path}: {count} with an id that begins with {identity!r}", "give more of the id")
    row = next(_rows_by_id(tables, matching))
    edits = [edit for _, edit in _edits(path, matching)] if path.is_dir() else []
    return _sample(row, edits, 1 << 30)


def collect(path: Path, bounds: Bounds, signals: Sequence[str] = ()) -> Look:
    """Spreads, samples and cuts of a corpus.

    Args:
        path: a corpus folder, or a Parquet file with `signal.*` columns.
        bounds: language group -> measure -> (low, high), for the lines that are drawn.
        signals: measures to look at; empty for all.

    Raises:
        HainaError: nothing measured is there, or a name is unknown.
    """
    tables = tables_of(path)
    columns = _columns(tables)
    names = [MEASURED.sub("", column) for column in columns]
    unknown = [name for name in signals if name not in names]
    if unknown:
        raise HainaError(f"{path}: no measure {unknown[0]!r}", f"one of {', '.join(names)}")
    values, languages, places = _numbers(tables, columns)
    groups = np.array([group_of(lang) for lang in languages], dtype=object)
    spreads: dict[str, list[Spread]] = {}
    wanted: dict[tuple[str, str], list[int]] = {}
    for group in ("zh", "en"):
        rows = np.flatnonzero(groups == group)
        if not len(rows):
            continue
        spreads[group] = []
        for index, name in enumerate(names):
            known = rows[~np.isnan(values[rows, index])]
            if len(known) and (not signals or name in signals):
                bound = bounds.get(group, {}).get(name, (None, None))
                spread, shown = _spread(name, values[known, index], bound)
                spreads[group].append(spread)
                wanted[group, name] = known[shown].tolist()
    found = _rows_at(tables, sorted({places[row] for rows in wanted.values() for row in rows}))
    samples = {_key(place): _sample(row, [], SHOWN_CHARACTERS) for place, row in found.items()}
    for group, items in spreads.items():
        for spread in items:
            column = names.index(spread.name)
            spread.shown.extend(
                (_key(places[row]), float(values[row, column])) for row in wanted[group, spread.name]
            )
    cuts, cut_samples = _cut(path, tables) if (path / "edits").is_dir() else (Counter(), [])
    counted = {group: int((groups == group).sum()) for group in spreads}
    return Look(counted, spreads, samples, cuts, cut_samples)


def _key(place: Place) -> str:
    return f"{place[0]}.{place[1]}"
