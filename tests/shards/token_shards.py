"""Shards of made-up tokens, for the tests of packing and loading: a token tells its document and its place in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from haina.runtime.files import read_json, write_json
from haina.shards import write_arrays

TOKENIZER = {"fingerprint": "made-up", "vocab_size": 1 << 30, "bos_id": 0, "eos_id": 1}


def write_lengths(
    folder: Path,
    lengths: Sequence[int],
    langs: Sequence[str] | None = None,
    mixture: dict[str, float] | None = None,
    documents_a_shard: int = 37,
    wide: bool = True,
) -> Path:
    """A shards folder whose document i has `lengths[i]` tokens: i * 1,000 + place, in int32, or in
    uint16 where not `wide`. With `langs`, a table of documents;
    with `mixture`, its languages are its domains.
    """
    arrays = [1000 * number + np.arange(length) for number, length in enumerate(lengths)]
    dtype = np.dtype("<i4" if wide else "<u2")
    write_arrays(folder, {"train": arrays}, TOKENIZER, dtype, documents_a_shard)
    if langs is not None:
        columns = {
            "shard": ["train"] * len(lengths),
            "index": range(len(lengths)),
            "lang": langs,
            "source": [f"{lang}/{number % 2}" for number, lang in enumerate(langs)],
        }
        if mixture is not None:
            columns["domain"] = langs
        pq.write_table(
            pa.table({name: list(values) for name, values in columns.items()}), folder / "d.parquet"
        )
        description = read_json(folder / "shards.json") | {"documents": "d.parquet"}
        if mixture is not None:
            description["mixture"] = {"by": "lang", "weights": mixture}
        write_json(folder / "shards.json", description)
    return folder
