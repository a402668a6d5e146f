"""Token pools: the drawn documents of each domain as token ids.

Comes in: drawn documents, and a tokenizer or none. Goes out: one file a domain with its training, validation and test
tokens. Training documents are cut into pieces and the pieces shuffled, so that the little that a proxy reads of a
domain comes from many documents: fourteen long pages say more about themselves than about the domain. Without a
tokenizer a byte-level BPE of `VOCABULARY` pieces is learned from the same number of bytes of every domain, so that no
domain's text costs more only because it is rare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from haina.corpus.mixture.sample import DOCUMENT_BYTES
from haina.runtime.tokenizer_file import TokenizerFile

VOCABULARY = 8192
BPE_BYTES = 3_000_000  # of all domains together
PIECE_BYTES = 1_000
SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class EncodeTask:
    """Task: encode one domain.

    Attributes:
        documents: table of all domains' documents, a row group each.
        number: of the row group.
        tokenizer: a `tokenizer.json` or a tokenizer folder.
    """

    documents: Path
    number: int
    tokenizer: Path


@dataclass(frozen=True)
class Pools:
    """What proxies are trained and measured on.

    Attributes:
        names: domains.
        vocabulary: token ids, the separator included.
        separator: id after each piece and each held-out document, the last one.
        train: tokens of each domain.
        held_out: held-out tokens of each domain, under `validation` and `test`.
        held_bytes: UTF-8 bytes of these: int64 [domains] each.
        bytes_per_token: of each domain's training text, separators counted as tokens: float64 [domains].
    """

    names: tuple[str, ...]
    vocabulary: int
    separator: int
    train: tuple[NDArray[np.int32], ...]
    held_out: dict[str, tuple[NDArray[np.int32], ...]]
    held_bytes: dict[str, NDArray[np.int64]]
    bytes_per_token: NDArray[np.float64]


def _texts(documents: Path, number: int) -> dict[str, list[str]]:
    """Texts of one domain by side."""
    with pq.ParquetFile(documents) as file:
        table = file.read_row_group(number).to_pydict()
    texts: dict[str, list[str]] = {side: [] for side in SIDES}
    for side, text in zip(table["side"], table["text"], strict=True):
        texts[side].append(text)
    return texts


def _beginning(text: str, size: int) -> str:
    """Up to `size` bytes of UTF-8, whole characters."""
    return text.encode()[:size].decode("utf-8", "ignore")


def _pieces(texts: Sequence[str]) -> list[str]:
    """The texts in pieces of at most `PIECE_BYTES` of UTF-8, whole characters, in the order of their hashes."""
    pieces = []
    for text in texts:
        data, start = text.encode(), 0
        while start < len(data):
            end = min(start + PIECE_BYTES, len(data))
            while end < len(data) and data[end] & 0xC0 == 0x80:
                end -= 1
            pieces.append(data[start:end])
            start = end
    pieces.sort(key=lambda piece: (hashlib.blake2b(piece, digest_size=8).digest(), piece))
    return [piece.decode() for piece in pieces]


def train_bpe(documents: Path, output: Path) -> None:
    """Learn a byte-level BPE from the beginnings of all domains' training documents."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def texts() -> Iterator[str]:
        with pq.ParquetFile(documents) as file:
            domains = file.num_row_groups
        for number in range(domains):
            left = BPE_BYTES // domains
            for text in _texts(documents, number)["train"]:
                if left <= 0:
                    break
                piece = _beginning(text, left)
                yield piece
                left -= max(1, len(piece.encode()))

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        max_token_length=16,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    output.write_text(tokenizer.to_str(), encoding="utf-8")


class _Encoder:
    """Both kinds of tokenizer behind one call."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        if path.is_dir():
            file = TokenizerFile(path)
            self.size, self.encode = file.vocab_size, file.encode_batch
        else:
            bpe = Tokenizer.from_file(str(path))
            self.size = bpe.get_vocab_size()
            self.encode = lambda texts: [item.ids for item in bpe.encode_batch_fast(list(texts))]


@lru_cache(maxsize=1)
def _encoder(path: Path) -> _Encoder:
    return _Encoder(path)


def encode_domain(task: EncodeTask, output: Path) -> None:
    """Write `train`, `validation`, `test` and their sizes in bytes."""
    encoder = _encoder(task.tokenizer)
    texts = _texts(task.documents, task.number)
    arrays = {}
    for side in SIDES:
        if side == "train":
            texts[side] = _pieces(texts[side])
        else:
            texts[side] = [_beginning(text, DOCUMENT_BYTES) for text in texts[side]]
        ids = encoder.encode(texts[side])
        arrays[side] = np.array([token for document in ids for token in (*document, encoder.size)], np.int32)
    arrays["bytes"] = np.array([sum(len(text.encode()) for text in texts[side]) for side in SIDES], np.int64)
    arrays["separator"] = np.array(encoder.size)
    with output.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_pools(names: Sequence[str], paths: Sequence[Path]) -> Pools:
    """The pools of all domains."""
    files = []
    for path in paths:
        with np.load(path) as file:
            files.append(dict(file))
    separator = int(files[0]["separator"])
    sizes = np.array([file["bytes"] for file in files]).T
    return Pools(
        tuple(names),
        separator + 1,
        separator,
        tuple(file["train"] for file in files),
        held_out={side: tuple(file[side] for file in files) for side in SIDES[1:]},
        held_bytes=dict(zip(SIDES[1:], sizes[1:], strict=True)),
        bytes_per_token=sizes[0] / np.array([len(file["train"]) for file in files]),
    )
