"""`tokenizer.json` of Hugging Face tokenizers: byte-level BPE, byte-fallback BPE, Unigram, WordPiece."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer.pieces import piece_bytes
from haina.tokenizer.vocabularies.huggingface import decode_with, encode_with, one_thread
from haina.tokenizer.vocabularies.vocabulary import Encoded, PieceKind, Vocabulary

SPACE = "\u2581"
BYTE_PIECE_LENGTH = len("<0x00>")


def _component_types(component: Any) -> set[str]:
    """Types of a pre-tokenizer or decoder and of all that it is made of."""
    if not isinstance(component, dict):
        return set()
    parts = component.get("pretokenizers") or component.get("decoders") or []
    return {str(component.get("type"))}.union(*(_component_types(part) for part in parts))


def _unknown_piece(model: dict[str, Any]) -> str | None:
    unknown = model.get("unk_token")
    if unknown is None and model.get("type") == "Unigram" and model.get("unk_id") is not None:
        unknown = model["vocab"][model["unk_id"]][0]
    return unknown


def piece_table(tokenizer: Any) -> tuple[list[bytes], NDArray[np.uint8]]:
    """Bytes and kind of each id of a `tokenizers.Tokenizer`; ids that nothing stands for are special."""
    config = json.loads(tokenizer.to_str())
    decoder = _component_types(config.get("decoder"))
    byte_level = "ByteLevel" in decoder or "ByteLevel" in _component_types(config.get("pre_tokenizer"))
    byte_fallback = "ByteFallback" in decoder
    unknown = _unknown_piece(config["model"])
    prefix = str(config["model"].get("continuing_subword_prefix") or "")
    added = tokenizer.get_added_tokens_decoder()
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
    kinds = np.full(len(pieces), PieceKind.SPECIAL, np.uint8)
    for piece, number in vocabulary.items():
        if piece == unknown:
            kinds[number] = PieceKind.UNKNOWN
            continue
        if number in added:
            if not added[number].special:
                pieces[number], kinds[number] = added[number].content.encode("utf-8"), PieceKind.TEXT
            continue
        kinds[number] = PieceKind.TEXT
        if byte_level:
            pieces[number] = piece_bytes(piece)
        elif byte_fallback and len(piece) == BYTE_PIECE_LENGTH and piece.startswith("<0x"):
            pieces[number], kinds[number] = bytes([int(piece[3:5], 16)]), PieceKind.BYTE
        else:
            pieces[number] = piece.removeprefix(prefix).replace(SPACE, " ").encode("utf-8")
    return pieces, kinds


def from_tokenizer(tokenizer: Any, name: str, path: Path, kind: str) -> Vocabulary:
    """The vocabulary of a `tokenizers.Tokenizer`; special tokens spelled out in a text are text."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    pieces, kinds = piece_table(tokenizer)
    return Vocabulary(
        name, path, kind, pieces, kinds, partial(encode_with, tokenizer), partial(decode_with, tokenizer)
    )


def from_tokenizer_file(opened: TokenizerFile, name: str) -> Vocabulary:
    """A tokenizer of ours or a model's, encoded the way every stage does it."""
    pieces, kinds = piece_table(opened.backend)
    opened.encode_batch_arrays([""])  # what is made on first use is no part of the speed

    def encode(texts: Sequence[str]) -> Encoded:
        with one_thread():
            return opened.encode_batch_arrays(texts)

    path = opened.folder / "tokenizer.json"
    return Vocabulary(
        name, path, "tokenizer.json", pieces, kinds, encode, partial(decode_with, opened.backend)
    )


def open_json(path: Path, name: str) -> Vocabulary:
    """A tokenizer file that may have any name.

    Raises:
        HainaError: the file is not a tokenizer.
    """
    from tokenizers import Tokenizer

    with os_errors_about(path):
        data = path.read_bytes()
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # tokenizers raises bare Exception for any damage
        raise HainaError(f"{path}: not a tokenizer ({error})", "restore the file") from error
    return from_tokenizer(tokenizer, name, path, "tokenizer.json")
