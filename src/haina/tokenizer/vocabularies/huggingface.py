"""How Hugging Face tokenizers are run here: one thread, no special tokens, texts as they are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

THREADS_VARIABLE = "TOKENIZERS_PARALLELISM"


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep tokenizers to the calling thread: it reads this variable at each call."""
    before = os.environ.get(THREADS_VARIABLE)
    os.environ[THREADS_VARIABLE] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS_VARIABLE]
        else:
            os.environ[THREADS_VARIABLE] = before


def encode_with(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of texts by a `tokenizers.Tokenizer`."""
    with one_thread():
        return [
            encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ]


def decode_with(tokenizer: Any, ids: Sequence[NDArray[np.int64]]) -> list[str]:
    """Texts of ids by a `tokenizers.Tokenizer`."""
    with one_thread():
        texts: list[str] = tokenizer.decode_batch([row.tolist() for row in ids], skip_special_tokens=False)
        return texts
