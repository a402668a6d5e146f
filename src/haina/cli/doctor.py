"""`haina doctor`: what this machine can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, print_json, print_table

MARKS = {True: "ok", False: "look", None: ""}


def doctor(
    folder: Annotated[
        Path, typer.Option("--folder", help="Where runs will be kept; its free space is checked.")
    ] = Path(),
    json_output: JsonOption = False,
) -> None:
    """Tell cores, memory, instruction sets, GPUs, and measured matmul and memory rates (some seconds).

    Example: haina doctor --json
    """
    from haina.runtime.devices import describe_machine, diagnose

    checks = diagnose(folder)
    if json_output:
        machine = describe_machine(folder).as_dict()
        print_json({"machine": machine, "checks": [vars(check) for check in checks]})
        return
    print_table(
        "",
        ("check", "value", "", "what to do"),
        [(check.name, check.value, MARKS[check.ok], check.advice) for check in checks],
    )
