"""Signals as columns of a Parquet file, and bounds applied to those columns.

Comes in: a Parquet file with `text`; or one that has `signal.*` columns already. Goes out: the same rows with signal
columns; or the rows that keep every bound, and a table of those that do not. Applying bounds reads `id`, `lang` and
the signals that have bounds, never the text, unless the rows that stay are to be written. Batches stream through:
memory does not grow with the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.signals.batch import measure_batch
from haina.corpus.signals.names import COUNT_SIGNALS, PAGE_SIGNALS, SIGNALS, Group, language_group
from haina.corpus.signals.presets import GROUPS, Bound, Preset, first_broken
from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import atomic_path
from haina.runtime.progress import Reporter, SilentProgress

PREFIX = "signal."
STAGE = "signals"
_BATCH_ROWS = 512
_DECISION_ROWS = 65536
DROPPED_SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in ("id", "stage", "reason", "evidence", "lang")]
)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file; what is wrong with it is said in one line."""
    with os_errors_about(path):
        path.open("rb").close()
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise HainaError(
            f"{path}: not readable as Parquet ({str(error).splitlines()[0]})", "check the file"
        ) from error


def _require_different(source: Path, *targets: Path) -> None:
    for target in targets:
        if target.resolve() == source.resolve():
            raise HainaError(f"{target}: is the input", "write to another file")


def _strings(batch: pa.RecordBatch, name: str) -> list[str]:
    """A column of strings, null as the empty string."""
    values: list[str | None] = batch.column(name).to_pylist()
    return [value or "" for value in values]


def _with_signals(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with its language and signals, as `schema` orders them."""
    texts = _strings(batch, "text")
    languages = _strings(batch, "lang") if "lang" in batch.schema.names else [""] * len(texts)
    if not all(languages):
        from haina.corpus.language import identify_language

        languages = [
            language or identify_language(text).language
            for language, text in zip(languages, texts, strict=True)
        ]
    measured = measure_batch(texts, languages)
    columns: list[Any] = []
    for field in schema:
        name = field.name.removeprefix(PREFIX)
        if field.name == "lang":
            columns.append(pa.array(languages, field.type))
        elif field.name.startswith(PREFIX) and name in SIGNALS and name not in PAGE_SIGNALS:
            columns.append(pa.array(measured[name], field.type))
        elif field.name in batch.schema.names:
            # What extraction knew of the page cannot be measured again.
            columns.append(batch.column(field.name).cast(field.type))
        else:
            columns.append(pa.nulls(len(texts), field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def scored_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of a file after `add_signals`: its columns but older signals, `lang`, and a column a signal."""
    signals = [
        pa.field(PREFIX + name, pa.int64() if name in COUNT_SIGNALS else pa.float64()) for name in SIGNALS
    ]
    names = {field.name for field in signals}
    lang = pa.field("lang", pa.string())
    kept = [lang if field.name == "lang" else field for field in schema if field.name not in names]
    return pa.schema([*kept, *([] if "lang" in schema.names else [lang]), *signals])


def add_signals(source: Path, target: Path, reporter: Reporter | None = None) -> int:
    """Write `source` with a `signal.*` column for each signal, all other columns and the order of rows kept.

    `lang` chooses the form of the signals and is identified where it is absent or empty. A null text counts as
    empty. Signals of the page stay as they are in `source`, and are null where it has none.

    Returns:
        How many documents were measured.

    Raises:
        HainaError: no column `text` of strings, not Parquet, or not to be written.
    """
    _require_different(source, target)
    documents = 0
    with ExitStack() as stack:
        file = stack.enter_context(_opened(source))
        names = file.schema_arrow.names
        if "text" not in names:
            raise HainaError(
                f"{source}: no column `text` (it has {', '.join(names)})", "name the column of texts `text`"
            )
        for name in {"text", "lang"} & set(names):
            kind = file.schema_arrow.field(name).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise HainaError(f"{source}: column `{name}` holds {kind}, not strings", "convert it")
        schema = scored_schema(file.schema_arrow)
        total = file.metadata.num_rows
        task = stack.enter_context((reporter or SilentProgress()).task("signals", total, "documents"))
        temporary = stack.enter_context(atomic_path(target))
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                writer.write_batch(_with_signals(batch, schema))
                documents += batch.num_rows
                task.advance(batch.num_rows)
    return documents


@dataclass(frozen=True)
class Taken:
    """What one bound did.

    Attributes:
        group: `zh` or `en`.
        signal: name.
        bound: smallest and largest value allowed.
        breaks: documents that break it.
        takes: documents dropped for it: it is the first that they break.
        alone: documents that break no other bound, and would stay without this one.
    """

    group: Group
    signal: str
    bound: Bound
    breaks: int
    takes: int
    alone: int


@dataclass(frozen=True)
class Decided:
    """What a preset does to a file: documents in, documents that stay, and each bound's part in the rest."""

    documents: int
    kept: int
    taken: tuple[Taken, ...]


def broken_bounds(
    values: dict[str, npt.NDArray[np.float64]], bounds: dict[str, Bound]
) -> npt.NDArray[np.bool_]:
    """Which documents break which bounds: bool [bounds, documents]; NaN breaks none."""
    rows = len(next(iter(values.values()), np.empty(0)))
    out = np.zeros((len(bounds), rows), dtype=np.bool_)
    for row, (name, bound) in enumerate(bounds.items()):
        if bound.min is not None:
            out[row] |= values[name] < bound.min
        if bound.max is not None:
            out[row] |= values[name] > bound.max
    return out


class _Tally:
    """Counts of what the bounds of each group do, and the verdict on each row."""

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        self.counts = {group: np.zeros((3, len(preset[group])), dtype=np.int64) for group in GROUPS}

    def judge(self, batch: pa.RecordBatch, first_row: int) -> tuple[npt.NDArray[np.bool_], pa.RecordBatch]:
        """(which rows stay, the dropped table of the others)."""
        languages = _strings(batch, "lang")
        chinese = np.array([language_group(language) == "zh" for language in languages], dtype=np.bool_)
        stays = np.ones(len(languages), dtype=np.bool_)
        rows: list[tuple[int, tuple[str, str]]] = []
        for group in GROUPS:
            members = np.flatnonzero(chinese if group == "zh" else ~chinese)
            bounds = self.preset[group]
            if not bounds or not len(members):
                continue
            values = {
                name: batch.column(PREFIX + name).cast(pa.float64()).to_numpy(zero_copy_only=False)[members]
                for name in bounds
            }
            broken = broken_bounds(values, bounds)
            any_broken = broken.any(axis=0)
            stays[members[any_broken]] = False
            self.counts[group] += (
                broken.sum(axis=1),
                np.bincount(broken.argmax(axis=0)[any_broken], minlength=len(bounds)),
                broken[:, broken.sum(axis=0) == 1].sum(axis=1),
            )
            for place in np.flatnonzero(any_broken).tolist():
                found = first_broken({name: column[place] for name, column in values.items()}, bounds)
                assert found is not None
                rows.append((int(members[place]), found))
        rows.sort()
        ids = (
            _strings(batch, "id")
            if "id" in batch.schema.names
            else [str(first_row + row) for row in range(len(stays))]
        )
        dropped = [(ids[row], STAGE, reason, evidence, languages[row]) for row, (reason, evidence) in rows]
        columns = (
            [pa.array(list(column), pa.string()) for column in zip(*dropped, strict=True)]
            if dropped
            else [pa.array([], pa.string()) for _ in DROPPED_SCHEMA]
        )
        return stays, pa.RecordBatch.from_arrays(columns, schema=DROPPED_SCHEMA)

    def taken(self) -> tuple[Taken, ...]:
        return tuple(
            Taken(group, name, bound, *(int(count) for count in self.counts[group][:, place]))
            for group in GROUPS
            for place, (name, bound) in enumerate(self.preset[group].items())
        )


def dropped_path(kept: Path) -> Path:
    """Where the table of dropped documents stands: `KEPT.parquet` -> `KEPT.dropped.parquet`."""
    return kept.with_name(f"{kept.stem}.dropped{kept.suffix}")


def apply_preset(
    source: Path, preset: Preset, kept: Path | None = None, reporter: Reporter | None = None
) -> Decided:
    """Hold a file's `signal.*` columns against a preset.

    Args:
        source: Parquet with `lang` and the signals that the preset bounds; `id` if it has one.
        preset: bounds by language group.
        kept: where the rows that stay go, all their columns with them; `dropped_path(kept)` gets the others with
            `id` (else the row number), `stage`, `reason`, `evidence`, `lang`. None writes nothing, and reads no text.
        reporter: where progress is shown.

    Raises:
        HainaError: a column is missing, not Parquet, or not to be written.
    """
    if kept is not None:
        _require_different(source, kept, dropped_path(kept))
    tally = _Tally(preset)
    documents = stayed = 0
    with ExitStack() as stack:
        file = stack.enter_context(_opened(source))
        schema = file.schema_arrow
        wanted = [
            "lang",
            *(PREFIX + name for name in SIGNALS if any(name in preset[group] for group in GROUPS)),
        ]
        missing = [name for name in wanted if name not in schema.names]
        if missing:
            raise HainaError(f"{source}: no column {', '.join(missing)}", "run `haina signals` on it first")
        if "id" in schema.names:
            wanted.append("id")
        task = stack.enter_context(
            (reporter or SilentProgress()).task("bounds", file.metadata.num_rows, "documents")
        )
        writers: list[pq.ParquetWriter] = []
        if kept is not None:
            for path, columns in ((kept, schema), (dropped_path(kept), DROPPED_SCHEMA)):
                temporary = stack.enter_context(atomic_path(path))
                writers.append(stack.enter_context(pq.ParquetWriter(temporary, columns, compression="zstd")))
        rows = _DECISION_ROWS if kept is None else _BATCH_ROWS
        for batch in file.iter_batches(batch_size=rows, columns=None if kept is not None else wanted):
            stays, dropped = tally.judge(batch, documents)
            if writers:
                writers[0].write_batch(batch.filter(pa.array(stays)))
                writers[1].write_batch(dropped)
            documents += batch.num_rows
            stayed += int(stays.sum())
            task.advance(batch.num_rows)
    return Decided(documents, stayed, tally.taken())
