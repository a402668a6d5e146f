from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import haina.evaluate.held_out
from haina.evaluate.config import EvaluateConfig
from haina.evaluate.held_out import choose_documents
from haina.evaluate.stage import run
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree, read_json, write_json
from haina.runtime.stage import StageContext
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards import ShardSet, write_arrays

CONFIG: dict[str, Any] = {
    "samples": {"prompts": {"zh": ["海纳"], "en": ["The sea"]}, "max_tokens": 8},
    "max_documents": 40,
}


def write_shards(folder: Path, model_folder: Path) -> Path:
    """Shards of made-up documents: 60 Chinese and 50 English ones held out."""
    folder.mkdir()
    tokenizer = TokenizerFile(model_folder)
    texts = {
        "train": [f"第{n}条河流进大海。River {n} runs to the sea." for n in range(30)],
        "validation-zh": [f"第{n}条河。" * (1 + n % 3) for n in range(60)],
        "validation-en": [f"River number {n}. " * (1 + n % 3) for n in range(50)],
    }
    rows, splits = [], {}
    for name, documents in texts.items():
        ids = [np.array([0, *tokenizer.encode(text), 1]) for text in documents]
        splits[name] = ids
        rows += [
            {"shard": name, "index": index, "bytes": len(text.encode()), "tokens": len(tokens)}
            for index, (text, tokens) in enumerate(zip(documents, ids, strict=True))
        ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "documents.parquet")
    described = {"fingerprint": "", "vocab_size": 261, "bos_id": 0, "eos_id": 1}
    write_arrays(folder, splits, described, np.dtype("<u2"), documents_a_shard=30)
    return folder


@pytest.fixture(scope="module")
def inputs(
    tmp_path_factory: pytest.TempPathFactory, model_folder: Path, other_model_folder: Path
) -> dict[str, Path]:
    shards = write_shards(tmp_path_factory.mktemp("shards") / "shards", model_folder)
    return {"shards": shards, "model": model_folder, "model-int4": other_model_folder}


def context(work: Path, inputs: dict[str, Path], workers: int = 1) -> StageContext:
    return StageContext(work, inputs, seed=7, workers=workers)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, inputs: dict[str, Path]) -> Path:
    """The output of an undisturbed run."""
    work = tmp_path_factory.mktemp("whole")
    result = run(EvaluateConfig(**CONFIG), context(work, inputs))
    assert (result.records_in, result.records_out, result.records_dropped) == (110, 80, 30)
    assert result.metrics["bits_per_byte.bf16.zh"] > 0
    return work / "out" / "evaluate"


def test_summary_says_what_was_measured(whole: Path, inputs: dict[str, Path]) -> None:
    summary = read_json(whole / "summary.json")
    lengths = ShardSet.open(inputs["shards"], "validation-zh").lengths
    chosen = choose_documents(lengths, 40, 100_000)
    for label in ("bf16", "int4"):
        zh = summary["perplexity"][label]["zh"]
        assert zh["documents"] == 40 == summary["perplexity"][label]["en"]["documents"]
        # A byte a token, and </s> beside them; <s> is given.
        assert zh["tokens"] == zh["bytes"] + 40 == int(lengths[chosen].sum()) - 40
        assert zh["below_unigram"] == pytest.approx(
            1 - zh["bits_per_byte"] / zh["unigram_bits_per_byte"], abs=1e-5
        )
        assert zh["bits_per_byte"] == pytest.approx(
            zh["loss"] / np.log(2) * zh["tokens"] / zh["bytes"], rel=1e-4
        )
    bf16, int4 = summary["perplexity"]["bf16"], summary["perplexity"]["int4"]
    assert bf16["en"]["unigram_bits_per_byte"] == int4["en"]["unigram_bits_per_byte"] < 8
    assert summary["int4_over_bf16"]["en"] == pytest.approx(
        int4["en"]["bits_per_byte"] / bf16["en"]["bits_per_byte"], rel=1e-4
    )
    assert [(s["model"], s["lang"], s["prompt"]) for s in summary["samples"]] == [
        ("bf16", "zh", "海纳"),
        ("bf16", "en", "The sea"),
        ("int4", "zh", "海纳"),
        ("int4", "en", "The sea"),
    ]


@pytest.mark.parametrize("dies_after", [1, 3, 6])
def test_a_killed_run_ends_with_the_same_bytes_and_repeats_nothing(
    tmp_path: Path, inputs: dict[str, Path], whole: Path, monkeypatch: pytest.MonkeyPatch, dies_after: int
) -> None:
    calls = []
    original = haina.evaluate.held_out.score_documents

    def dying(engine: Any, documents: Any, window: int) -> list[float]:
        calls.append(len(documents))
        if len(calls) == dies_after + 1:
            raise KeyboardInterrupt
        return original(engine, documents, window)

    monkeypatch.setattr(haina.evaluate.held_out, "score_documents", dying)
    with pytest.raises(KeyboardInterrupt):
        run(EvaluateConfig(**CONFIG), context(tmp_path, inputs))
    calls.clear()
    finished, dies_after = dies_after, 10**9
    run(EvaluateConfig(**CONFIG), context(tmp_path, inputs, workers=2))
    assert fingerprint_tree(tmp_path / "out" / "evaluate") == fingerprint_tree(whole)
    # Two models, two languages, groups of 32 and 8: eight pieces in all.
    assert len(calls) == 8 - finished
    assert not list(tmp_path.rglob("*.partial"))


def test_a_model_without_int4_and_a_language_without_documents(
    tmp_path: Path, inputs: dict[str, Path]
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for path in inputs["shards"].iterdir():
        if "-en" not in path.name:
            (shards / path.name).write_bytes(path.read_bytes())
    description = read_json(shards / "shards.json")
    del description["splits"]["validation-en"]
    write_json(shards / "shards.json", description)
    given = {"shards": shards, "model": inputs["model"]}
    run(EvaluateConfig(**CONFIG), context(tmp_path / "work", given))
    summary = read_json(tmp_path / "work/out/evaluate/summary.json")
    assert list(summary["perplexity"]) == ["bf16"]
    assert list(summary["perplexity"]["bf16"]) == ["zh"]
    assert summary["int4_over_bf16"] == {}
    with pytest.raises(HainaError, match="no held-out documents in en"):
        run(EvaluateConfig(**CONFIG, languages=("en",)), context(tmp_path / "other", given))


def test_missing_inputs_are_named(tmp_path: Path, inputs: dict[str, Path]) -> None:
    with pytest.raises(HainaError, match="shards output is missing"):
        run(EvaluateConfig(), context(tmp_path, {"model": inputs["model"]}))
    with pytest.raises(HainaError, match="model output is missing"):
        run(EvaluateConfig(), context(tmp_path, {"shards": inputs["shards"]}))


def test_documents_are_drawn_evenly_and_within_the_limits() -> None:
    lengths = np.full(1000, 10)
    chosen = choose_documents(lengths, 100, None)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 100
    assert 350 < sum(chosen) / 100 < 650
    assert len(choose_documents(lengths, None, 95)) == 10
    assert len(choose_documents(lengths, None, 1)) == 1
    assert choose_documents(lengths, None, None) == list(range(1000))
    # A larger limit keeps what a smaller one drew.
    assert set(choose_documents(lengths, 10, None)) < set(chosen)


def test_config_refuses_what_it_does_not_know() -> None:
    for bad in (
        {"languages": ["fr"]},
        {"window": 1},
        {"suites": [{"suite": "ceval", "data": "x", "shots": 6}]},
        {"suites": [{"suite": "ceval", "data": "x"}, {"suite": "ceval", "data": "y"}]},
        {"perplexity": True},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            EvaluateConfig(**bad)
    assert json.loads(EvaluateConfig().model_dump_json())["languages"] == ["zh", "en"]
