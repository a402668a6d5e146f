"""What the commands share: option types, and printing for people and for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from haina.recipe.alone import ExecutorChoice

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Override one setting; the value is YAML. May be given again."
    ),
]
ExecutorOption = Annotated[
    str,
    typer.Option(
        "--executor", metavar="local|ray", help="Where the work runs: processes here, or a Ray cluster."
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="Ray cluster, such as auto or HOST:6379; without it one is started on this machine.",
    ),
]
SharedOption = Annotated[
    str | None,
    typer.Option(
        "--shared",
        metavar="PLACE",
        help="Folder that all machines see, a path or an address (s3://bucket/tmp); default: beside --out.",
    ),
]
WIDE = 160
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def executor_choice(kind: str, address: str | None, shared: str | None) -> ExecutorChoice:
    """The executor that the options name; a wrong kind is found out when it is made."""
    from haina.recipe.alone import ExecutorChoice

    return ExecutorChoice(cast(Literal["local", "ray"], kind), address, shared)


def console() -> Console:
    """Standard output for people."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, fold: bool = True
) -> None:
    """A table; numbers should already be formatted. A column of numbers is right-aligned.

    With `fold` long cells go on in the next line; without, a line is as long as it has to be.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for number, name in enumerate(columns):
        numeric = bool(rows) and all(row[number][:1].isdigit() or row[number][:1] in "-" for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=not fold)
    for row in rows:
        table.add_row(*row)
    # A table that may not fold is given the width it asks for, whatever the terminal is thought to have.
    out = console() if fold else Console(highlight=False, width=WIDE)
    out.print(table)


def human_bytes(count: float) -> str:
    """`1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """`4 min 05 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def existing(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The paths, after a check that each is there."""
    from haina.runtime.errors import HainaError

    for path in paths:
        if not path.exists():
            raise HainaError(f"{path}: no such file or folder", "check the path")
    return tuple(paths)
