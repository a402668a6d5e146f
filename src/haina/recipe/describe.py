"""What a path holds, in facts and tables: the content of `haina inspect`.

Every kind of file that Haina writes is recognised by what is in it, never by its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from haina.recipe.describe_shards import describe_shards
from haina.recipe.description import Description, Table, preview, short
from haina.recipe.run_folder import MANIFEST
from haina.runtime.errors import HainaError
from haina.runtime.files import read_json

PREVIEWED = ("id", "lang", "stage", "reason", "evidence", "url", "preview", "text")
PAGE_SUFFIXES = (".html", ".htm", ".xhtml")


def describe(path: Path, rows: int = 5) -> Description:
    """Explain `path`.

    Args:
        path: a run, corpus, shards, tokenizer, model or checkpoint folder, a Parquet file, or an HTML page.
        rows: documents to show where there are documents.

    Raises:
        HainaError: nothing is there, or it is none of these.
    """
    if not path.exists():
        raise HainaError(f"{path}: no such file or folder", "check the path")
    for marker, function in _FOLDERS.items():
        if (path / marker).exists():
            return function(path, rows)
    if path.is_dir() and "perplexity" in _summary(path):
        return _evaluation(path, rows)
    tables = sorted(path.glob("*.parquet"))
    if path.suffix == ".parquet" or tables:
        return _parquet(tables or [path], rows)
    if path.suffix.lower() in PAGE_SUFFIXES:
        return _page(path)
    raise HainaError(
        f"{path}: not something haina made",
        "name a run, corpus, shards, tokenizer, model or checkpoint folder, a .parquet file or an .html page",
    )


def _run(path: Path, rows: int) -> Description:
    stages = read_json(path / MANIFEST)["stages"]
    table = Table(
        "stages",
        ("stage", "in", "out", "dropped", "seconds", "peak MiB"),
        [
            (
                name,
                f"{record['records']['in']:,} {record['records']['unit']}",
                f"{record['records']['out']:,}",
                f"{record['records']['dropped']:,}",
                f"{record['seconds']:,.1f}",
                f"{record['peak_memory_bytes'] / 2**20:,.0f}",
            )
            for name, record in stages.items()
        ],
    )
    metrics = [
        (name, key, short(value))
        for name, record in stages.items()
        for key, value in record["metrics"].items()
    ]
    facts = {"report": str(path / "report.html")} if (path / "report.html").exists() else {}
    return Description("run folder", facts, [table, Table("metrics", ("stage", "metric", "value"), metrics)])


def _corpus(path: Path, rows: int) -> Description:
    summary = read_json(path / "summary.json")
    reasons = [(item["stage"], item["reason"], f"{item['count']:,}") for item in summary["by_reason"]]
    languages = [
        (lang, f"{item['documents']:,}", f"{item['characters']:,}", f"{item['bytes']:,}")
        for lang, item in summary["by_language"].items()
    ]
    facts = {name: f"{summary[name]:,}" for name in ("pages", "documents", "dropped")}
    tables = [
        Table("languages", ("language", "documents", "characters", "bytes"), languages),
        Table("dropped", ("stage", "reason", "pages"), reasons),
    ]
    shown = next(iter(sorted((path / "documents").glob("*.parquet"))), None)
    if shown is not None:
        tables.append(preview(shown, ("id", "lang", "url", "text"), rows))
    return Description("curated corpus", facts, tables)


def _checkpoint(path: Path, rows: int) -> Description:
    state = read_json(path / "state.json")
    return Description(
        "training checkpoint", {key: short(value) for key, value in state.items() if key != "files"}
    )


def _model(path: Path, rows: int) -> Description:
    config = read_json(path / "config.json")
    if not isinstance(config, dict) or "architectures" not in config:
        raise HainaError(f"{path}/config.json: names no architecture", "name a model folder")
    weights = sorted(path.glob("*.safetensors"))
    names = (
        "architectures",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "rope_theta",
        "tie_word_embeddings",
        "torch_dtype",
    )
    facts = {name: short(config[name]) for name in names if name in config}
    facts["weights"] = (
        f"{len(weights)} file(s), {sum(file.stat().st_size for file in weights) / 2**20:,.1f} MiB"
    )
    tables = []
    if (path / "quantize.json").exists():
        quantized = read_json(path / "quantize.json")
        facts["bits per quantised weight"] = f"{quantized['bits_per_weight']:.2f}"
        worst = sorted(quantized["tensors"], key=lambda item: -item["relative_error"])[:rows]
        tables.append(
            Table(
                "tensors that lost most",
                ("tensor", "shape", "relative error"),
                [(item["name"], short(item["shape"]), f"{item['relative_error']:.4f}") for item in worst],
            )
        )
    return Description("model folder", facts, tables)


def _tokenizer(path: Path, rows: int) -> Description:
    from haina.runtime.tokenizer_file import TokenizerFile

    tokenizer = TokenizerFile(path)
    facts = {
        "pieces": f"{tokenizer.vocab_size:,}",
        "bos id": str(tokenizer.bos_id),
        "eos id": str(tokenizer.eos_id),
        "fingerprint": tokenizer.fingerprint,
    }
    return Description("tokenizer", facts)


def _summary(path: Path) -> dict[str, Any]:
    found = read_json(path / "summary.json") if (path / "summary.json").exists() else {}
    return found if isinstance(found, dict) else {}


def _parquet(paths: Sequence[Path], rows: int) -> Description:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = []
    for path in paths:
        try:
            files.append(pq.ParquetFile(path))
        except (pa.ArrowInvalid, OSError) as error:
            raise HainaError(f"{path}: not a Parquet file ({error})", "restore the file") from error
    schema = files[0].schema_arrow
    facts = {
        "files": f"{len(files):,}",
        "rows": f"{sum(file.metadata.num_rows for file in files):,}",
        "columns": str(len(schema.names)),
    }
    columns = Table("columns", ("column", "type"), [(item.name, str(item.type)) for item in schema])
    shown = tuple(name for name in PREVIEWED if name in schema.names)
    filled = next((path for path, file in zip(paths, files, strict=True) if file.metadata.num_rows), paths[0])
    return Description("Parquet table", facts, [columns, *([preview(filled, shown, rows)] if shown else [])])


def _page(path: Path) -> Description:
    from haina.corpus import extract_page

    page = extract_page(path.read_bytes())
    return Description(
        "HTML page", {"title": page.title, "characters": f"{len(page.text):,}"}, text=page.text
    )


def _training(path: Path, rows: int) -> Description:
    summary = read_json(path / "summary.json")
    steps = [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = [item for item in steps if "loss" in item][:: max(1, len(steps) // max(rows, 1))]
    table = Table(
        "loss",
        ("step", "tokens", "loss", "learning rate"),
        [
            (f"{item['step']:,}", f"{item['tokens']:,}", f"{item['loss']:.3f}", short(item["learning_rate"]))
            for item in shown
        ],
    )
    return Description("training", {key: short(value) for key, value in summary.items()}, [table])


def _evaluation(path: Path, rows: int) -> Description:
    summary = read_json(path / "summary.json")
    scores = [
        (
            f"{model}, {lang}",
            f"{item['bits_per_byte']:.3f}",
            f"{item['perplexity']:.2f}",
            f"{item['below_unigram']:.1%}",
        )
        for model, languages in summary["perplexity"].items()
        for lang, item in languages.items()
    ]
    samples = [(item["model"], item["prompt"], short(item["text"])) for item in summary["samples"][:rows]]
    suites = [(item["suite"], item.get("model", ""), f"{item['accuracy']:.1%}") for item in summary["suites"]]
    tables = [
        Table("held-out text", ("model, language", "bits per byte", "perplexity", "below unigram"), scores),
        Table("suites", ("suite", "model", "accuracy"), suites),
        Table("samples", ("model", "prompt", "text"), samples),
    ]
    return Description("evaluation", {}, [table for table in tables if table.rows])


_FOLDERS: dict[str, Callable[[Path, int], Description]] = {
    MANIFEST: _run,
    "documents": _corpus,
    "shards.json": describe_shards,
    "state.json": _checkpoint,
    "metrics.jsonl": _training,
    "config.json": _model,
    "tokenizer.json": _tokenizer,
}
