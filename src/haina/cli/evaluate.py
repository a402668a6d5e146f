"""`haina evaluate`: bits per byte of a text, accuracy on a multiple-choice suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from haina.cli.common import JsonOption, existing, print_json, print_table


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, bf16 or INT4.")],
    text: Annotated[
        list[Path] | None, typer.Option("--text", help="UTF-8 text or Parquet files, or folders of them.")
    ] = None,
    column: Annotated[str, typer.Option(help="Text column of Parquet files.")] = "text",
    suite: Annotated[str, typer.Option("--suite", help="ceval, cmmlu or mmlu.")] = "",
    data: Annotated[Path | None, typer.Option("--data", help="The suite's files: a folder or a zip.")] = None,
    shots: Annotated[int, typer.Option(min=0, max=5, help="Solved examples before each question.")] = 5,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many documents or questions.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json_output: JsonOption = False,
) -> None:
    """Measure a model: bits per byte and perplexity of text, accuracy on a suite of questions.

    Example: haina evaluate runs/quickstart/model --suite cmmlu --data cmmlu.zip --limit 200
    """
    from haina.evaluate import evaluate_text, run_suite
    from haina.inference import Engine
    from haina.runtime.errors import HainaError
    from haina.runtime.progress import default_reporter

    if not text and not suite:
        raise HainaError("nothing to measure", "give --text FILE, or --suite NAME --data PATH")
    if suite and data is None:
        raise HainaError(f"--suite {suite}: needs --data", "name the folder or zip with the suite's files")
    sources = existing([*(text or []), *([data] if data else [])])
    engine = Engine.load(model, device=device)
    found: dict[str, Any] = {"model": str(model)}
    if text:
        found["text"] = evaluate_text(
            engine, sources[: len(text)], column=column, max_documents=limit, reporter=default_reporter()
        )
    if suite:
        assert data is not None
        found["suite"], _ = run_suite(engine, suite, data, shots, limit, reporter=default_reporter())
    if json_output:
        print_json(found)
        return
    for name in ("text", "suite"):
        if name in found:
            print_table(
                name,
                ("", ""),
                [(key, _show(value)) for key, value in found[name].items() if key != "subjects"],
            )


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show(item)}" for key, item in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
