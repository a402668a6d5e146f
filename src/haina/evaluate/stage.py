"""The evaluate stage: what the trained model and its INT4 form know of text they have not seen.

In: `model`, `model-int4` where there is one, and `shards`. Out: `evaluate/summary.json`, and each suite's
predictions as `evaluate/predictions/SUITE-MODEL.jsonl`. Nothing that comes out depends on time, place or
number of workers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haina.evaluate.config import EvaluateConfig, SuiteConfig
from haina.evaluate.held_out import HeldOut, read_held_out, score_held_out, score_unigram, train_costs
from haina.evaluate.multiple_choice import Prediction, run_suite
from haina.evaluate.perplexity import scoring_window, summarise
from haina.evaluate.samples import write_samples
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_file, fingerprint_tree, read_json, write_json, write_text
from haina.runtime.stage import StageContext, StageResult

if TYPE_CHECKING:
    from haina.inference import Engine

MODELS = {"bf16": "model", "int4": "model-int4"}
CONVENTION = (
    "bits per byte: -log2 p of each document's tokens and </s>, <s> given, over UTF-8 bytes; "
    "windows do not overlap and each follows its own <s>"
)


def run(config: EvaluateConfig, context: StageContext) -> StageResult:
    """Measure every model there is and write the summary.

    Raises:
        HainaError: an input is missing or damaged, or there is nothing held out in any language.
    """
    from haina.inference import Engine

    shards = context.input("shards")
    folders = {
        label: context.input(name)
        for label, name in MODELS.items()
        if label == "bf16" or name in context.inputs
    }
    found = [
        read_held_out(shards, language, config.max_documents, config.max_tokens)
        for language in config.languages
    ]
    held_out = [texts for texts in found if texts is not None]
    if not held_out:
        raise HainaError(f"{shards}: no held-out documents in {' or '.join(config.languages)}",
                         "raise shards.validation_fraction or give more input")  # fmt: skip
    costs = train_costs(shards)
    unigram = {texts.language: summarise(score_unigram(texts, costs))["bits_per_byte"] for texts in held_out}

    summary: dict[str, Any] = {
        "convention": CONVENTION,
        "windows": {},
        "perplexity": {},
        "int4_over_bf16": {},
        "suites": [],
        "samples": [],
    }
    for label, folder in folders.items():
        engine = Engine.load(folder)
        context.events.write("evaluate", model=label, engine=engine.description)
        window = summary["windows"][label] = scoring_window(engine, config.window)
        summary["perplexity"][label] = {
            texts.language: _perplexity(
                engine, texts, unigram[texts.language], window=window, label=label, context=context
            )
            for texts in held_out
        }
        summary["suites"] += [_suite(engine, suite, label, context) for suite in config.suites]
        summary["samples"] += _samples(engine, config, label, context)
        del engine
    if "int4" in folders:
        bf16, int4 = summary["perplexity"]["bf16"], summary["perplexity"]["int4"]
        summary["int4_over_bf16"] = {
            language: round(int4[language]["bits_per_byte"] / bf16[language]["bits_per_byte"], 6)
            for language in bf16
        }
    write_json(context.out("evaluate") / "summary.json", summary)
    return _result(held_out, summary)


def _perplexity(
    engine: Engine, texts: HeldOut, unigram: float, *, window: int, label: str, context: StageContext
) -> dict[str, Any]:
    pieces = context.scratch / f"perplexity-{label}-{texts.language}"
    scores = score_held_out(
        engine,
        texts,
        window,
        pieces=pieces,
        reporter=context.reporter,
        description=f"held-out {texts.language}, {label}",
    )
    measured = summarise(scores)
    return {
        **measured,
        "unigram_bits_per_byte": unigram,
        "below_unigram": round(1 - measured["bits_per_byte"] / unigram, 6),
    }


def _suite(engine: Engine, suite: SuiteConfig, label: str, context: StageContext) -> dict[str, Any]:
    # The number of shots is part of the name: a recipe may ask for a suite with and without examples.
    name = f"{suite.suite}-{suite.shots}shot-{label}"
    summary, predictions = run_suite(
        engine,
        suite.suite,
        suite.data,
        suite.shots,
        suite.limit,
        pieces=context.scratch / "suites" / name,
        reporter=context.reporter,
    )
    write_text(context.out("evaluate") / "predictions" / f"{name}.jsonl", _prediction_lines(predictions))
    return {**summary, "model": label, "data_fingerprint": _fingerprint(suite.data)}


def _fingerprint(data: Path) -> str:
    return fingerprint_tree(data) if data.is_dir() else fingerprint_file(data)


def _prediction_lines(predictions: dict[str, list[Prediction]]) -> str:
    rows = [
        {
            "subject": subject,
            "question": number,
            "answer": item.answer,
            "predicted": item.predicted,
            "shots": item.shots,
            "logprobs": [round(value, 6) for value in item.logprobs],
        }
        for subject, items in predictions.items()
        for number, item in enumerate(items)
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _samples(
    engine: Engine, config: EvaluateConfig, label: str, context: StageContext
) -> list[dict[str, str]]:
    piece = context.scratch / f"samples-{label}.json"
    if not piece.exists():
        write_json(piece, write_samples(engine, config.samples, label, context.seed))
    samples: list[dict[str, str]] = read_json(piece)
    return samples


def _result(held_out: list[HeldOut], summary: dict[str, Any]) -> StageResult:
    available = sum(texts.available for texts in held_out)
    measured = sum(len(texts.documents) for texts in held_out)
    metrics: dict[str, Any] = {}
    for label, languages in summary["perplexity"].items():
        for language, values in languages.items():
            metrics[f"bits_per_byte.{label}.{language}"] = values["bits_per_byte"]
            metrics[f"below_unigram.{label}.{language}"] = values["below_unigram"]
    metrics |= {f"int4_over_bf16.{language}": ratio for language, ratio in summary["int4_over_bf16"].items()}
    metrics |= {
        f"{suite['suite']}.{suite['shots']}shot.{suite['model']}": suite["accuracy"]
        for suite in summary["suites"]
    }
    return StageResult(available, measured, available - measured, "documents", metrics)
