"""The parallel half of the shards stage: one part of the corpus in, its documents as token ids out.

A piece is an Arrow file with a row a document: which shard it goes to, where it came from, and its tokens.
Pieces are finished work that outlives a kill; `stage.py` strings them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from haina.runtime.documents import language_group, read_batches
from haina.runtime.errors import HainaError
from haina.runtime.files import read_json
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards.domains import Mixture
from haina.shards.indexed import token_dtype

TRAIN = "train"
DOCUMENT_COLUMNS = ("id", "source", "url", "lang", "cluster_id")
DOMAIN = "domain"
BATCH_DOCUMENTS = 256


@dataclass(frozen=True)
class Part:
    """One task: encode the documents of the part file `path`.

    Attributes:
        path: the part.
        tokenizer: a tokenizer folder.
        held_out: a JSON list of the held-out clusters.
        mixture: says which domain a document belongs to, None where no one asks.
    """

    path: Path
    tokenizer: Path
    held_out: Path
    mixture: Mixture | None = None


def validation_shard(lang: str) -> str:
    """Name of the validation shard of a language."""
    return f"validation-{language_group(lang)}"


def piece_schema(vocab_size: int, domains: bool) -> pa.Schema:
    """Columns of a piece, with or without the domain; `tokens` has the type of the shards."""
    names = ("shard", *DOCUMENT_COLUMNS, *([DOMAIN] if domains else []))
    text = [pa.field(name, pa.string()) for name in names]
    tokens = pa.large_list(pa.from_numpy_dtype(token_dtype(vocab_size)))
    return pa.schema([*text, pa.field("bytes", pa.int64()), pa.field("tokens", tokens)])


def frame_ids(tokenizer: TokenizerFile) -> tuple[int, int]:
    """Ids put before and after each document.

    Raises:
        HainaError: the tokenizer names no begin or end token.
    """
    if tokenizer.bos_id is None or tokenizer.eos_id is None:
        raise HainaError(
            f"{tokenizer.folder}: no bos_token or no eos_token",
            "name both in tokenizer_config.json; documents are framed by them",
        )
    return tokenizer.bos_id, tokenizer.eos_id


@lru_cache(maxsize=1)
def _opened(tokenizer: Path, held_out: Path) -> tuple[TokenizerFile, frozenset[str]]:
    """What every task of a worker needs, read once a process."""
    return TokenizerFile(tokenizer), frozenset(read_json(held_out))


def encode_part(part: Part, output: Path) -> None:
    """Write the piece of one part file."""
    tokenizer, held_out = _opened(part.tokenizer, part.held_out)
    bos, eos = frame_ids(tokenizer)
    dtype = token_dtype(tokenizer.vocab_size)
    mixture = part.mixture
    schema = piece_schema(tokenizer.vocab_size, mixture is not None)
    read = dict.fromkeys([*DOCUMENT_COLUMNS, "text", *([mixture.by] if mixture else [])])
    with pa.OSFile(str(output), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in read_batches([part.path], list(read), BATCH_DOCUMENTS):
            columns = {name: batch[name].to_pylist() for name in DOCUMENT_COLUMNS}
            texts = batch["text"].to_pylist()
            shards = [
                validation_shard(lang) if cluster_id in held_out else TRAIN
                for lang, cluster_id in zip(columns["lang"], columns["cluster_id"], strict=True)
            ]
            encoded = [np.array([bos, *ids, eos], dtype) for ids in tokenizer.encode_batch(texts)]
            ends = np.cumsum([0, *(len(ids) for ids in encoded)], dtype=np.int64)
            values = np.concatenate(encoded) if encoded else np.empty(0, dtype)
            arrays = [
                pa.array(shards, pa.string()),
                *(pa.array(columns[name], pa.string()) for name in DOCUMENT_COLUMNS),
                *(
                    [pa.array(map(mixture.domain_of, batch[mixture.by].to_pylist()), pa.string())]
                    if mixture
                    else []
                ),
                pa.array([len(text.encode("utf-8")) for text in texts], pa.int64()),
                pa.LargeListArray.from_arrays(pa.array(ends), pa.array(values)),
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
