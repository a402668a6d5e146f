"""SentencePiece models (`*.model`): read and encoded by the sentencepiece library.

Format: sentencepiece_model.proto of google/sentencepiece. Whether a space is put before the text, how text is
normalised and what bytes fall back to stands in the file, and only the library follows all of it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError, os_errors_about
from haina.tokenizer.vocabularies.vocabulary import PieceKind, Vocabulary, library

SPACE = "\u2581"  # how SentencePiece writes a space


def piece_table(processor: Any) -> tuple[list[bytes], NDArray[np.uint8]]:
    """Bytes and kind of each id of a loaded `SentencePieceProcessor`."""
    pieces, kinds = [], np.zeros(processor.vocab_size(), np.uint8)
    for number in range(processor.vocab_size()):
        piece = processor.id_to_piece(number)
        if processor.is_unknown(number):
            kind, data = PieceKind.UNKNOWN, b""
        elif processor.is_control(number) or processor.is_unused(number):
            kind, data = PieceKind.SPECIAL, b""
        elif processor.is_byte(number):
            kind, data = PieceKind.BYTE, bytes([int(piece[3:5], 16)])
        else:
            kind, data = PieceKind.TEXT, piece.replace(SPACE, " ").encode("utf-8")
        pieces.append(data)
        kinds[number] = kind
    return pieces, kinds


def from_model(data: bytes, name: str, path: Path, kind: str) -> Vocabulary:
    """The vocabulary of a serialized `ModelProto`.

    Raises:
        HainaError: `data` is none, or sentencepiece is not installed.
    """
    sentencepiece = library("sentencepiece", path)
    sentencepiece.set_min_log_level(3)  # remarks on single pieces would stand between the lines of the table
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    except (RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise HainaError(
            f"{path}: not a SentencePiece model, or damaged within its {len(data):,} bytes ({reason})",
            "restore the file",
        ) from error
    if processor.vocab_size() == 0:
        raise HainaError(f"{path}: a SentencePiece model without pieces", "restore the file")
    pieces, kinds = piece_table(processor)

    def encode(texts: Sequence[str]) -> Sequence[Sequence[int]]:
        ids: Sequence[Sequence[int]] = processor.encode(list(texts), num_threads=1)
        return ids

    def decode(ids: Sequence[NDArray[np.int64]]) -> Sequence[str]:
        texts: Sequence[str] = processor.decode([row.tolist() for row in ids], num_threads=1) if ids else []
        return texts

    return Vocabulary(name, path, kind, pieces, kinds, encode, decode)


def open_sentencepiece(path: Path, name: str) -> Vocabulary:
    """Open a `.model` file."""
    with os_errors_about(path):
        data = path.read_bytes()
    return from_model(data, name, path, "SentencePiece")
