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
    from haina.runtime.rates import measure_rates

    machine = describe_machine(folder)
    checks, rates = diagnose(folder, machine), measure_rates(machine)
    if json_output:
        print_json(
            {
                "machine": machine.as_dict(),
                "rates": [vars(rate) for rate in rates],
                "checks": [vars(check) for check in checks],
            }
        )
        return
    print_table(
        "measured now: median, and the range of the runs",
        ("rate", "median", "lowest", "highest", "unit"),
        [
            (
                f"{rate.name} ({rate.device})",
                *(f"{value / 1e9:,.1f}" for value in (rate.median, rate.low, rate.high)),
                f"G{rate.unit}",
            )
            for rate in rates
        ],
    )
    print_table(
        "",
        ("check", "value", "", "what to do"),
        [(check.name, check.value, MARKS[check.ok], check.advice) for check in checks],
    )
