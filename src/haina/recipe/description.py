"""A description: facts and tables about something on disk, ready to be printed or written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PREVIEW_CHARACTERS = 160


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Description:
    """A path, explained."""

    kind: str
    facts: dict[str, str]
    tables: list[Table] = field(default_factory=list)
    text: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def preview(path: Path, columns: tuple[str, ...], rows: int) -> Table:
    """The first rows of a Parquet file, in those of the columns that it has."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    present = [name for name in columns if name in file.schema_arrow.names]
    shown: list[tuple[str, ...]] = []
    if file.metadata.num_rows:
        for item in next(file.iter_batches(batch_size=max(rows, 1), columns=present)).to_pylist()[:rows]:
            shown.append(tuple(short(item[name]) for name in present))
    return Table(f"first rows of {path.name}", tuple(present), shown)


def short(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(short(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {short(item)}" for key, item in value.items())
    text = " ".join(str(value).split())
    return text if len(text) <= PREVIEW_CHARACTERS else text[: PREVIEW_CHARACTERS - 1] + "…"
