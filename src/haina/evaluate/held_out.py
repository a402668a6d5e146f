"""The held-out documents of the shards, and how well a model predicts them.

In: `validation-<language>` shards with their documents.parquet. Out: each document's cost, group by group; a
finished group is a small file in the scratch folder, so that a killed run goes on from there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from haina.evaluate.perplexity import GROUP_DOCUMENTS, DocumentScore, score_documents, summarise
from haina.evaluate.unigram import token_counts, unigram_costs
from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import read_json, write_json
from haina.runtime.progress import Reporter
from haina.shards.shard_set import TRAIN, ShardSet, read_description

if TYPE_CHECKING:
    from haina.inference import Engine


@dataclass(frozen=True)
class HeldOut:
    """The documents of one language that are measured.

    Attributes:
        language: `zh` or `en`.
        documents: int64 [length] each, `<s>` first and `</s>` last.
        bytes: UTF-8 bytes of each document's text.
        available: how many the shards hold.
    """

    language: str
    documents: list[NDArray[np.int64]]
    bytes: list[int]
    available: int


def choose_documents(
    lengths: NDArray[np.integer], max_documents: int | None, max_tokens: int | None
) -> list[int]:
    """Which documents to measure, in ascending order.

    They are drawn by a hash of their number, so that a shard sorted by source or length is sampled evenly.
    The first one is always taken; another one only while the limit on tokens is not reached.
    """
    order = sorted(
        range(len(lengths)),
        key=lambda index: hashlib.blake2b(index.to_bytes(8, "little"), digest_size=8).digest(),
    )
    chosen: list[int] = []
    tokens = 0
    for index in order:
        if len(chosen) == max_documents or (max_tokens is not None and tokens >= max_tokens):
            break
        chosen.append(index)
        tokens += int(lengths[index])
    return sorted(chosen)


def read_held_out(
    shards: Path, language: str, max_documents: int | None, max_tokens: int | None
) -> HeldOut | None:
    """The held-out documents of `language`; None where the shards have none.

    Raises:
        HainaError: the shard and documents.parquet do not belong together.
    """
    import pyarrow.parquet as pq

    name = f"validation-{language}"
    if name not in read_description(shards)["splits"]:
        return None
    dataset = ShardSet.open(shards, name)
    with os_errors_about(shards / "documents.parquet"):
        table = pq.read_table(
            shards / "documents.parquet", columns=["shard", "index", "bytes"], filters=[("shard", "=", name)]
        )
    sizes = dict(zip(table["index"].to_pylist(), table["bytes"].to_pylist(), strict=True))
    chosen = choose_documents(dataset.lengths, max_documents, max_tokens)
    missing = next((index for index in chosen if index not in sizes), None)
    if missing is not None:
        raise HainaError(
            f"{shards}/documents.parquet: document {missing} of {name} is missing",
            "run the shards stage again",
        )
    documents = [np.asarray(dataset[index], dtype=np.int64) for index in chosen]
    return HeldOut(language, documents, [sizes[index] for index in chosen], len(dataset))


def score_held_out(
    engine: Engine, held_out: HeldOut, window: int, *, pieces: Path, reporter: Reporter, description: str
) -> list[DocumentScore]:
    """Cost of each document under the model. pieces: a folder for finished groups of documents."""
    nats: list[float] = []
    with reporter.task(description, len(held_out.documents), "documents") as task:
        for start in range(0, len(held_out.documents), GROUP_DOCUMENTS):
            piece = pieces / f"{start:07d}.json"
            group = held_out.documents[start : start + GROUP_DOCUMENTS]
            if piece.exists():
                values = [float(value) for value in read_json(piece)]
            else:
                values = score_documents(engine, [document.tolist() for document in group], window)
                write_json(piece, values)
            nats += values
            task.advance(len(group), f"{summarise(_scores(held_out, nats))['bits_per_byte']:.3f} bits/byte")
    return _scores(held_out, nats)


def _scores(held_out: HeldOut, nats: list[float]) -> list[DocumentScore]:
    return [
        DocumentScore(len(document) - 1, size, cost)
        for document, size, cost in zip(held_out.documents, held_out.bytes, nats, strict=False)
    ]


def train_costs(shards: Path) -> NDArray[np.float64]:
    """Unigram costs in nats [vocab_size], from the token counts of the training shards."""
    tokenizer: dict[str, Any] = read_description(shards)["tokenizer"]
    vocab_size = int(tokenizer["vocab_size"])
    counts = np.zeros(vocab_size, dtype=np.int64)
    for shard in ShardSet.open(shards, TRAIN).shards:
        counts += token_counts(shard.tokens, vocab_size)
    return unigram_costs(counts, tokenizer.get("bos_id"))


def score_unigram(held_out: HeldOut, costs: NDArray[np.float64]) -> list[DocumentScore]:
    """Cost of each document under the unigram baseline: the same tokens, the same bytes."""
    return _scores(held_out, [float(costs[document[1:]].sum()) for document in held_out.documents])
