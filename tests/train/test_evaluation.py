"""Held-out documents: which are taken, how they lie in rows, and what they cost, against the plain definition."""

import json
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime.errors import HainaError
from haina.runtime.files import write_json
from haina.shards import write_arrays
from haina.train.evaluation import Score, document_nats, evaluate, token_costs
from haina.train.held_out import LARGEST, choose, lay_out, read_held_out

from .small import PLAIN, small_model

TOKENIZER = {"fingerprint": "", "vocab_size": 20, "bos_id": 0, "eos_id": 1}


def documents_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(2, 20, length).astype(np.int64) for length in lengths]


@settings(max_examples=60)
@given(lengths=st.lists(st.integers(0, 60), max_size=30), length=st.integers(1, 25))
def test_rows_hold_every_predicted_token_once(lengths, length):
    documents = documents_of(lengths)
    rows = lay_out(documents, length)
    found = Counter()
    for row in range(len(rows.inputs)):
        column = 0
        while column < length and rows.targets[row, column] >= 0:
            same = rows.segments[row] == rows.segments[row, column]
            owner = int(rows.owners[row, column])
            count = int(same.sum())
            piece = rows.inputs[row, same].tolist()
            assert rows.positions[row, same].tolist() == list(range(count))
            assert (rows.owners[row, same] == owner).all()
            found[owner, tuple(piece), tuple(rows.targets[row, same].tolist())] += 1
            column += count
        assert (rows.targets[row, column:] == -100).all()
        assert (np.diff(rows.segments[row]) >= 0).all()
        assert column < length or (rows.targets[row] >= 0).all()
    wanted = Counter(
        (number, tuple(part[:-1].tolist()), tuple(part[1:].tolist()))
        for number, document in enumerate(documents)
        for start in range(0, len(document) - 1, length)
        for part in [document[start : start + length + 1]]
    )
    assert found == wanted
    if found:
        used = sum(len(key[1]) for key in found)
        # No two rows are so empty that one would do.
        assert len(rows.inputs) < 2 * used / length + 1


@settings(max_examples=60)
@given(lengths=st.lists(st.integers(0, 50), max_size=40), limit=st.integers(1, 300))
def test_chosen_documents_reach_the_limit_and_no_further_one_is_begun(lengths, limit):
    chosen = choose(lengths, limit)
    assert chosen == sorted(set(chosen))
    assert all(lengths[number] >= 2 for number in chosen)
    fitting = [number for number, length in enumerate(lengths) if 2 <= length <= limit]
    total = sum(lengths[number] for number in chosen)
    if fitting:
        assert set(chosen) <= set(fitting)
        assert total >= limit or len(chosen) == len(fitting)
        assert total - min(lengths[number] for number in chosen) < limit + max(lengths)
    else:
        assert len(chosen) == (max(lengths, default=0) > 1)


@pytest.mark.parametrize("normalized", [False, True])
def test_costs_of_documents_are_those_of_each_document_alone(normalized):
    model = small_model(normalized_head=normalized, tie_word_embeddings=not normalized)
    documents = documents_of([2, 30, 7, 11, 3, 24, 2, 19], seed=3)
    rows = lay_out(documents, 10)
    nats = document_nats(model, rows, len(documents), 2, 4, PLAIN)
    plain = model.double()
    for document, cost in zip(documents, nats, strict=True):
        wanted = 0.0
        for start in range(0, len(document) - 1, 10):
            ids = torch.from_numpy(document[start : start + 11])
            with torch.no_grad():
                logits = plain(ids[None, :-1])[0]
            wanted += float(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum"))
        assert cost == pytest.approx(wanted, rel=1e-5)


def test_costs_of_tokens_against_float64_and_what_is_not_counted():
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(33, 6, generator=generator), torch.randn(17, 6, generator=generator)
    targets = torch.randint(0, 17, (33,), generator=generator)
    targets[::5] = -100
    wanted = torch.nn.functional.cross_entropy(
        hidden.double() @ weight.double().t(), targets, reduction="none", ignore_index=-100
    )
    found = token_costs(hidden, weight, targets, 8, torch.float32)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    rounded = token_costs(hidden, weight, targets, 8, torch.bfloat16)
    torch.testing.assert_close(rounded.double(), wanted, rtol=5e-2, atol=5e-2)


def make_shards(folder, columns, documents):
    content = write_arrays(folder, {"train": documents, "validation-zh": documents}, TOKENIZER, "uint16")
    rows = [
        {"shard": split, "index": number, "bytes": 10 + number, **columns(number)}
        for split in ("train", "validation-zh")
        for number in range(len(documents))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "documents.parquet")
    write_json(folder / "shards.json", content | {"documents": "documents.parquet"})


def test_scores_of_groups_add_up_to_the_whole(tmp_path):
    documents = documents_of(range(3, 33), seed=5)
    make_shards(
        tmp_path,
        lambda number: {"source": f"site-{number % 3}/page {number}", "domain": ["law", "诗"][number % 2]},
        documents,
    )
    (split,) = read_held_out(tmp_path, 16, 10_000)
    assert (split.name, split.documents) == ("zh", 30)
    scores = evaluate(small_model(), [split], 3, 8, PLAIN)["zh"]
    assert set(scores.groups) == {"source", "domain"}
    assert set(scores.groups["domain"]) == {"law", "诗"}
    assert set(scores.groups["source"]) == {"site-0", "site-1", "site-2"}
    size = sum(10 + number for number in range(30))
    for groups in scores.groups.values():
        assert sum(score.tokens for score in groups.values()) == scores.whole.tokens == sum(range(2, 32))
        assert sum(score.loss * score.tokens for score in groups.values()) == pytest.approx(
            scores.whole.loss * scores.whole.tokens
        )
    bits = scores.whole.loss * scores.whole.tokens / math.log(2) / size
    assert scores.whole.bits_per_byte == pytest.approx(bits)


def test_of_many_sources_the_largest_are_named(tmp_path):
    make_shards(tmp_path, lambda number: {"source": f"site-{number}"}, documents_of([40] * 20 + [3] * 20))
    (split,) = read_held_out(tmp_path, 16, 10_000)
    counts = Counter(split.groups["source"])
    assert len(counts) == LARGEST + 1
    assert counts["(others)"] == 40 - LARGEST


def test_one_source_is_no_group_and_shards_without_a_table_have_no_bytes(tmp_path):
    make_shards(tmp_path / "one", lambda number: {"source": "a"}, documents_of([5, 6]))
    (split,) = read_held_out(tmp_path / "one", 16, 100)
    assert split.groups == {}
    write_arrays(tmp_path / "none", {"validation-en": documents_of([5, 6])}, TOKENIZER, "uint16")
    (split,) = read_held_out(tmp_path / "none", 16, 100)
    score = evaluate(small_model(), [split], 3, 8, PLAIN)["en"].whole
    assert score.bits_per_byte is None
    assert json.loads(json.dumps(score.as_dict())) == {"loss": score.loss, "tokens": 9, "bits_per_byte": None}


def test_a_table_of_other_shards_is_named(tmp_path):
    make_shards(tmp_path, lambda number: {}, documents_of([5, 6, 7]))
    rows = pq.read_table(tmp_path / "documents.parquet").slice(0, 4)
    pq.write_table(rows, tmp_path / "documents.parquet")
    with pytest.raises(
        HainaError, match=r"documents.parquet: not the table of documents of split validation-zh"
    ):
        read_held_out(tmp_path, 16, 100)


@pytest.mark.parametrize(("kind", "wrong"), [("uint16", 20), ("uint16", 65535), ("int32", -7)])
def test_a_held_out_document_with_ids_that_are_no_tokens_is_named(kind, wrong, tmp_path):
    documents = documents_of([5, 6, 7])
    documents[1][3] = wrong
    write_arrays(tmp_path, {"validation-zh": documents}, TOKENIZER, kind)
    with pytest.raises(HainaError, match=rf"document 1 of split validation-zh .*{wrong}.* vocabulary has 20"):
        read_held_out(tmp_path, 16, 100)


def test_a_loss_that_is_not_finite_is_null():
    score = Score.of(np.array([math.nan]), np.array([3]), np.array([4]))
    assert score.as_dict() == {"loss": None, "tokens": 3, "bits_per_byte": None}
