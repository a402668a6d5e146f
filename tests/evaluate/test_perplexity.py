from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from haina.evaluate import evaluate_text
from haina.evaluate.perplexity import (
    DocumentScore,
    encode_document,
    score_documents,
    summarise,
    texts_of,
    windows,
)
from haina.evaluate.unigram import BLOCK_TOKENS, token_counts, unigram_costs
from haina.inference import Engine
from haina.runtime.errors import HainaError

TEXTS = ["海纳百川，有容乃大。", "All rivers run to the sea.", "一" * 400, "word " * 150]


@given(st.lists(st.integers(1, 99), max_size=60), st.integers(2, 20))
def test_windows_hold_every_token_once_behind_a_start(content: list[int], length: int) -> None:
    pieces = windows([0, *content], 0, length)
    assert [token for piece in pieces for token in piece[1:]] == content
    assert all(piece[0] == 0 and 2 <= len(piece) <= length for piece in pieces)
    assert all(len(piece) == length for piece in pieces[:-1])


def slow_nats(engine: Engine, ids: list[int], window: int) -> float:
    """The definition, token by token, without batches or caches."""
    total = 0.0
    for start in range(1, len(ids), window - 1):
        piece = [ids[0], *ids[start : start + window - 1]]
        for place in range(1, len(piece)):
            with torch.inference_mode():
                logits = engine.model(torch.tensor([piece[:place]]))[0, -1].double()
            total -= float((logits - logits.logsumexp(-1))[piece[place]])
    return total


def test_document_costs_match_the_definition(engine: Engine) -> None:
    texts = ["海纳百川", "All rivers run"]
    documents = [encode_document(engine, text) for text in texts]
    assert documents[0][0] == 0
    assert documents[0][-1] == 1
    assert len(documents[0]) == 2 + len("海纳百川".encode())
    for window in (7, 512):
        expected = [slow_nats(engine, ids, window) for ids in documents]
        assert score_documents(engine, documents, window) == pytest.approx(expected, rel=1e-5)


def test_costs_do_not_depend_on_the_company_a_document_keeps(engine: Engine) -> None:
    documents = [encode_document(engine, text) for text in TEXTS]
    together = score_documents(engine, documents, 64)
    alone = [score_documents(engine, [document], 64)[0] for document in documents]
    assert together == pytest.approx(alone, rel=1e-5)


def test_summary_of_known_costs() -> None:
    # Two bytes a token and one bit a token: half a bit a byte, perplexity 2.
    bit = math.log(2)
    scores = [DocumentScore(10, 20, 10 * bit), DocumentScore(30, 60, 30 * bit)]
    result = summarise(scores)
    assert result["bits_per_byte"] == 0.5
    assert result["perplexity"] == 2.0
    assert result["loss"] == pytest.approx(bit, abs=1e-6)
    assert result["standard_error"] == 0.0
    assert (result["documents"], result["tokens"], result["bytes"]) == (2, 40, 80)
    assert summarise(scores[:1])["standard_error"] is None
    with pytest.raises(HainaError, match="empty"):
        summarise([])


def test_standard_error_covers_the_truth() -> None:
    """Over many draws of 50 documents, about 95 % of the intervals hold the true ratio."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        sizes = rng.integers(50, 500, 50)
        rates = rng.normal(1.5, 0.3, 50)
        scores = [
            DocumentScore(1, int(n), float(n * rate * math.log(2)))
            for n, rate in zip(sizes, rates, strict=True)
        ]
        result = summarise(scores)
        covered += abs(result["bits_per_byte"] - 1.5) < 1.96 * result["standard_error"]
    assert 0.89 < covered / 300 < 0.99


def test_unigram_is_add_one_over_the_vocabulary() -> None:
    counts = token_counts(np.array([0, 3, 3, 4, 1], dtype=np.uint16), 6)
    assert counts.tolist() == [1, 1, 0, 2, 1, 0]
    costs = unigram_costs(counts, start_id=0)
    assert np.exp(-costs).sum() == pytest.approx(1.0)
    assert costs[3] == pytest.approx(-math.log(3 / 10))
    assert costs[2] == pytest.approx(-math.log(1 / 10)) == costs[0]


def test_counts_of_blocks_are_counts_of_the_whole() -> None:
    tokens = np.tile(np.arange(7, dtype=np.int32), BLOCK_TOKENS // 7 + 3)
    assert token_counts(tokens, 9).tolist() == np.bincount(tokens, minlength=9).tolist()


def test_text_files_and_parquet_and_strings_agree(engine: Engine, tmp_path: Path) -> None:
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
    table = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [*TEXTS, None, ""], "n": list(range(6))}), table)
    from_parquet = evaluate_text(engine, [table])
    files = [tmp_path / f"{number}.txt" for number in range(len(TEXTS))]
    assert evaluate_text(engine, files) == from_parquet == evaluate_text(engine, TEXTS)
    assert from_parquet["bytes"] == sum(len(text.encode()) for text in TEXTS)
    assert evaluate_text(engine, [table], max_documents=2)["documents"] == 2
    assert from_parquet["window"] == 512


def test_more_documents_than_a_group(engine: Engine) -> None:
    many = [f"第{n}页 page {n}" for n in range(70)]
    result = evaluate_text(engine, many)
    parts = [evaluate_text(engine, part) for part in (many[:5], many[5:40], many[40:])]
    assert result["documents"] == 70
    bits = sum(part["bits_per_byte"] * part["bytes"] for part in parts)
    assert result["bits_per_byte"] == pytest.approx(bits / result["bytes"], rel=1e-5)


def test_bad_sources_are_named(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "gbk.txt").write_bytes("海纳".encode("gb18030"))
    (tmp_path / "x.parquet").write_bytes(b"not parquet")
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "y.parquet")
    reasons = {
        "gbk.txt": "not UTF-8",
        "x.parquet": "not a readable Parquet",
        "y.parquet": "no column 'text'",
        "none": "no such file",
    }
    for name, words in reasons.items():
        with pytest.raises(HainaError, match=words) as caught:
            list(texts_of([tmp_path / name]))
        assert name in str(caught.value)
    with pytest.raises(HainaError, match="empty"):
        evaluate_text(engine, [""])
    with pytest.raises(HainaError, match="do not fit"):
        evaluate_text(engine, ["a"], window=513)
