"""The learning part of the report: tokenizer, training, perplexity, suites, samples.

In: the summaries of tokenizer, shards, train, quantize and evaluate, and the metrics of every logged step.
Out: what each section's template shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from haina.recipe.report import charts
from haina.recipe.report.data import RunData
from haina.recipe.report.numbers import ratio
from haina.recipe.report.text import readable_pieces

MODEL_NAMES = {"unigram": "unigram baseline", "bf16": "bfloat16", "int4": "INT4"}


def tokenizer(run: RunData) -> dict[str, Any]:
    """Compression by language and examples cut into their pieces."""
    summary = run.tokenizer.need()
    examples = [
        {
            "lang": example.get("lang", ""),
            "pieces": readable_pieces(str(example["text"]), list(map(str, example["pieces"]))),
        }
        for example in summary.get("examples", [])
    ]
    byte_share = summary.get("byte_tokens_share") or {}
    compression = summary["compression"]
    best = max((row.get("bytes_per_token") or 0 for row in compression.values()), default=0) or 1
    rows = [
        {
            "code": code,
            **row,
            "byte_share": byte_share.get(code),
            "bar": (row.get("bytes_per_token") or 0) / best,
        }
        for code, row in compression.items()
    ]
    listed = summary.get("longest_pieces") or []
    by_language = listed.values() if isinstance(listed, dict) else [listed]
    longest = [str(piece) for pieces in by_language for piece in pieces[:24]]
    return {"vocab_size": summary.get("vocab_size"), "rows": rows, "examples": examples, "longest": longest}


def training(run: RunData) -> dict[str, Any]:
    """Curves from every logged step, the closing summary, and what the token shards hold."""
    metrics = run.metrics.need()
    has = {key for row in metrics for key in row}
    figures: dict[str, charts.Figure] = {}
    if "loss" in has:
        figures["loss"] = charts.loss_curve(metrics)
    if "learning_rate" in has:
        figures["learning-rate"] = charts.step_curve(metrics, "learning_rate", "learning rate")
    if "gradient_norm" in has:
        figures["gradient-norm"] = charts.step_curve(
            metrics, "gradient_norm", "gradient norm", logarithmic=True
        )
    splits = run.shards.get().get("splits") or {}
    return {
        "summary": run.train.get(),
        "finished": run.train.value is not None,
        "figures": figures,
        "splits": [{"name": name, **split} for name, split in splits.items()],
        "mixture": list((run.shards.get().get("mixture_weights") or {}).items()),
    }


def _rows_of_language(code: str, models: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The unigram baseline first, then each model, with bars on the baseline's scale."""
    present = {name: rows[code] for name, rows in models.items() if code in rows}
    first = next(iter(present.values()))
    baseline = first.get("unigram_bits_per_byte")
    rows: list[dict[str, Any]] = [
        {"name": MODEL_NAMES["unigram"], "kind": "unigram", "bits_per_byte": baseline}
    ]
    rows += [{"name": MODEL_NAMES.get(name, name), "kind": name, **row} for name, row in present.items()]
    largest = max((row.get("bits_per_byte") or 0 for row in rows), default=0) or 1
    return [{**row, "bar": (row.get("bits_per_byte") or 0) / largest} for row in rows]


def perplexity(run: RunData) -> dict[str, Any]:
    """Held-out perplexity and bits per byte, Chinese and English apart, with what INT4 costs."""
    summary = run.evaluate.need()
    models = summary["perplexity"]
    codes = sorted({code for rows in models.values() for code in rows}, reverse=True)
    languages = [
        {
            "code": code,
            "rows": _rows_of_language(code, models),
            "cost": int4_cost(summary, code),
            "held_out": next((rows[code] for rows in models.values() if code in rows), {}),
        }
        for code in codes
    ]
    return {"languages": languages, "quantize": quantization(run)}


def int4_cost(summary: Mapping[str, Any], code: str) -> float | None:
    """Relative rise of bits per byte through INT4, None when it was not measured."""
    value = (summary.get("int4_over_bf16") or {}).get(code)
    return value - 1 if isinstance(value, (int, float)) else None


def quantization(run: RunData) -> dict[str, Any]:
    """What quantisation did to the size of the model and to its tensors; empty when it has not run."""
    quantize = run.quantize.get()
    if not quantize:
        return {}
    tensors = [
        tensor for tensor in quantize.get("tensors", []) if isinstance(tensor.get("relative_error"), float)
    ]
    worst = max(tensors, key=lambda tensor: tensor["relative_error"], default=None)
    return {
        **quantize,
        "ratio": ratio(quantize.get("bytes_before"), quantize.get("bytes_after")),
        "worst": worst,
    }


def suites(run: RunData) -> dict[str, Any]:
    """Multiple-choice suites with intervals and the constant-answer baseline."""
    rows = []
    for suite in run.evaluate.need().get("suites") or []:
        baseline = [
            value
            for value in (suite.get("constant_answer") or {}).values()
            if isinstance(value, (int, float))
        ]
        error = suite.get("standard_error")
        interval = 1.96 * error if isinstance(error, (int, float)) else None
        name = str(suite["suite"])
        if suite.get("model"):
            name += ", " + MODEL_NAMES.get(str(suite["model"]), str(suite["model"]))
        rows.append({**suite, "suite": name, "constant": max(baseline, default=None), "interval": interval})
    drawn = [row for row in rows if isinstance(row.get("accuracy"), (int, float))]
    return {"rows": rows, "figures": {"suites": charts.suite_bars(drawn)} if drawn else {}}


def samples(run: RunData) -> dict[str, Any]:
    """Continuations that the model wrote, Chinese and English by turns as the summary lists them."""
    listed = run.evaluate.need().get("samples") or []
    keys = ("lang", "prompt", "text", "model")
    rows = []
    for sample in listed:
        row = {key: str(sample.get(key) or "") for key in keys}
        # A continuation may be recorded with or without its prompt; the page shows the prompt once.
        row["model"] = MODEL_NAMES.get(row["model"], row["model"])
        rows.append({**row, "text": row["text"].removeprefix(row["prompt"])})
    return {"rows": rows}
