"""Measure a model: bits per byte on held-out text, multiple-choice suites, samples.

evaluate_text(engine, sources)            bits per byte of text and Parquet files
run_suite(engine, suite, data, shots)     accuracy on C-Eval, CMMLU or MMLU files
stage.run(config, context)                the recipe's evaluate stage
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haina.evaluate.multiple_choice import run_suite as run_suite
    from haina.evaluate.perplexity import evaluate_text as evaluate_text

__all__ = ["evaluate_text", "run_suite"]


def __getattr__(name: str) -> Any:
    if name == "evaluate_text":
        from haina.evaluate.perplexity import evaluate_text

        return evaluate_text
    if name == "run_suite":
        from haina.evaluate.multiple_choice import run_suite

        return run_suite
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
