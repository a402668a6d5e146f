"""A table of runs that were trained elsewhere: one row a run, CSV with a header.

Columns: `parameters`, `tokens`, `loss` or `loss.SET` for each held-out set (nats a token) and, if there are, `name` and
`seed`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from haina.runtime.errors import HainaError, os_errors_about
from haina.train.scaling.runs import Run

GIVEN = "given"
ONLY = "all"
# Of any size, tokens or FLOPs: products of three such numbers are still finite.
MOST = 1e60


def read_table(path: Path) -> list[Run]:
    """The runs of a table.

    Raises:
        HainaError: a column is missing, or a value is no number above 0; it names the line.
    """
    with os_errors_about(path), path.open(encoding="utf-8-sig", newline="") as file:
        try:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise HainaError(f"{path}: not a CSV table ({error})", "save it as UTF-8 CSV") from error
    sets = [name for name in columns if name == "loss" or name.startswith("loss.")]
    missing = [name for name in ("parameters", "tokens") if name not in columns]
    if missing or not sets:
        raise HainaError(
            f"{path}: no column {', '.join(missing) or 'loss'}",
            "columns: parameters, tokens, loss or loss.SET",
        )
    runs = []
    for line, row in enumerate(rows, 2):
        parameters, tokens = (_number(path, line, row, name) for name in ("parameters", "tokens"))
        losses = {name.partition(".")[2] or ONLY: _number(path, line, row, name) for name in sets}
        seed = int(_number(path, line, row, "seed", least=0.0)) if row.get("seed") else None
        name = row.get("name") or f"{path.stem}:{line}"
        runs.append(Run(name, {GIVEN: parameters}, tokens, losses, 6.0 * parameters * tokens, seed))
    return runs


def _number(
    path: Path, line: int, row: Mapping[str, str | None], name: str, least: float | None = None
) -> float:
    text = row.get(name) or ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value < MOST or (value <= 0.0 if least is None else value < least):
        raise HainaError(
            f"{path}: line {line}: {name} is {text!r}, not a number above 0", "mend or remove the line"
        )
    return value
