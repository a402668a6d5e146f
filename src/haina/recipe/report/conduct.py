"""The run's own part of the report: key figures, time and memory, recipe, conditions.

In: `manifest.json`, `recipe.yaml` and the closing numbers of the stages. Out: what each section's template
shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from haina.recipe.report import numbers
from haina.recipe.report.data import RunData
from haina.recipe.report.learning import int4_cost
from haina.recipe.report.text import STAGES, recipe_lines


def _by_language(values: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """(language, shown value) for the languages that have one."""
    names = {"zh": "中", "en": "EN"}
    return [(names.get(code, code), shown) for code, shown in values.items() if shown is not None]


def _evaluation_figures(run: RunData) -> Iterator[dict[str, Any]]:
    evaluate = run.evaluate.get()
    model = (evaluate.get("perplexity") or {}).get("bf16") or {}
    bits = {code: numbers.decimal(row.get("bits_per_byte")) for code, row in model.items()}
    below = {code: numbers.share(row.get("below_unigram")) for code, row in model.items()}
    costs = {code: int4_cost(evaluate, code) for code in evaluate.get("int4_over_bf16") or {}}
    shown = {code: numbers.signed_share(cost) for code, cost in costs.items() if cost is not None}
    if bits:
        yield {"name": "bits per byte, held out", "name_zh": "每字节比特数", "pairs": _by_language(bits)}
        yield {"name": "below a unigram model", "name_zh": "低于一元模型", "pairs": _by_language(below)}
    if shown:
        yield {"name": "what INT4 costs", "name_zh": "INT4 的代价", "pairs": _by_language(shown)}


def _key_figures(run: RunData) -> Iterator[dict[str, Any]]:
    corpus, train = run.corpus.get(), run.train.get()
    if corpus:
        kept = numbers.ratio(corpus.get("documents"), corpus.get("pages"))
        note = f"of {numbers.count(corpus.get('pages'))} pages, {numbers.share(kept)} kept"
        yield {
            "name": "documents",
            "name_zh": "文档",
            "value": numbers.count(corpus.get("documents")),
            "note": note,
        }
    splits = run.shards.get().get("splits") or {}
    if "train" in splits:
        held_out = sum(split.get("tokens") or 0 for name, split in splits.items() if name != "train")
        note = f"and {numbers.short(held_out)} held out"
        value = numbers.short(splits["train"].get("tokens"))
        yield {"name": "training tokens", "name_zh": "训练词元", "value": value, "note": note}
    if train:
        note = f"{numbers.count(train.get('steps'))} steps, {numbers.short(train.get('tokens'))} tokens seen"
        yield {
            "name": "parameters",
            "name_zh": "参数",
            "value": numbers.short(train.get("parameters")),
            "note": note,
        }
    yield from _evaluation_figures(run)


def headline(run: RunData) -> dict[str, Any]:
    """Name, key figures, whole time and largest memory, and the moment the last stage finished."""
    stages = list(run.stages.values())
    memory = [
        stage["peak_memory_bytes"] for stage in stages if isinstance(stage.get("peak_memory_bytes"), int)
    ]
    finished = max((str(stage.get("finished") or "") for stage in stages), default="")
    return {
        "name": run.name,
        "version": run.manifest.get().get("haina"),
        "figures": list(_key_figures(run)),
        "seconds": sum(stage.get("seconds") or 0 for stage in stages) if stages else None,
        "peak_memory": max(memory, default=None),
        "finished": re.sub(r"(\d)T(\d)", r"\1 \2", finished).replace("Z", " UTC"),
        "stages": len(stages),
    }


def cost(run: RunData) -> dict[str, Any]:
    """Seconds, memory, records and bytes written of each stage."""
    run.manifest.need()
    stages = run.stages
    slowest = max((stage.get("seconds") or 0 for stage in stages.values()), default=0) or 1
    largest = max((stage.get("peak_memory_bytes") or 0 for stage in stages.values()), default=0) or 1
    rows = []
    for name, stage in stages.items():
        outputs = stage.get("outputs") or {}
        seconds, memory = stage.get("seconds"), stage.get("peak_memory_bytes")
        row = {"name": name, "name_zh": STAGES.get(name, ""), "seconds": seconds, "memory": memory}
        bars = {"seconds_bar": (seconds or 0) / slowest, "memory_bar": (memory or 0) / largest}
        written = sum(output.get("bytes") or 0 for output in outputs.values())
        rows.append({**row, **bars, "records": stage.get("records") or {}, "written": written})
    return {"rows": rows, "seconds": sum(row["seconds"] or 0 for row in rows)}


def recipe(run: RunData) -> dict[str, Any]:
    """The recipe as it ran."""
    return {"lines": recipe_lines(run.recipe.need())}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested JSON with dotted names; sizes in bytes are shown in binary multiples."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{path}[{index}]")
    elif isinstance(value, list):
        yield path, ", ".join(map(str, value)) or "none"
    elif any(word in path for word in ("memory", "disk", "bytes")) and isinstance(value, int):
        yield path, numbers.data_size(value)
    else:
        yield path, numbers.DASH if value in (None, "") else str(value)


def conditions(run: RunData) -> dict[str, Any]:
    """The machine and the versions, and the fingerprints by which stages are known again."""
    manifest = run.manifest.need()
    rows = [("haina", str(manifest.get("haina") or numbers.DASH)), *_flat(manifest.get("machine") or {})]
    prints = [(name, str(stage.get("fingerprint") or "")) for name, stage in run.stages.items()]
    return {"rows": [(name.replace("_", " "), value) for name, value in rows], "fingerprints": prints}
