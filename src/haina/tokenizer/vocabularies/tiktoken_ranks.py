"""tiktoken files (`*.tiktoken`): lines of a piece in base64 and its rank; encoded by the tiktoken library.

The file does not say where text is cut before merging. That is given by name or as an expression; files that are named
as their makers name them need nothing (`cl100k_base`, `o200k_base`, `qwen`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError, os_errors_about
from haina.tokenizer.vocabularies.split_patterns import expressions, pattern_names
from haina.tokenizer.vocabularies.vocabulary import Encoded, PieceKind, Vocabulary, library


def parse_ranks(data: bytes, path: Path) -> dict[bytes, int]:
    """Piece -> rank.

    Raises:
        HainaError: a line has another form, or a piece or rank stands there twice; it names line and byte.
    """
    ranks: dict[bytes, int] = {}
    seen: set[int] = set()
    offset = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        where = f"{path}: line {number} (byte {offset})"
        offset += len(line) + 1
        fields = line.split()
        if not fields:
            continue
        try:
            encoded, digits = fields
            piece, rank = base64.b64decode(encoded, validate=True), int(digits)
        except (ValueError, binascii.Error) as error:
            raise HainaError(
                f"{where} is not a piece in base64 and a rank", "restore the file; it may be cut off"
            ) from error
        if not piece or rank < 0 or piece in ranks or rank in seen:
            raise HainaError(f"{where} repeats a piece or a rank, or holds none", "restore the file")
        ranks[piece] = rank
        seen.add(rank)
    if not ranks:
        raise HainaError(f"{path}: no pieces in it", "restore the file")
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise HainaError(
            f"{path}: no piece for byte 0x{missing[0]:02X}, so that it cannot write every text",
            "restore the file; it may be cut off",
        )
    return ranks


def split_expression(name: str, path: Path) -> str:
    """The one expression that `name` stands for, or `name` itself when it is an expression.

    Raises:
        HainaError: the name is not known and is no expression, or stands for several that one cannot replace.
    """
    found = expressions(name)
    if found is not None and len(found) == 1:
        return found[0]
    if found is None and any(character in name for character in "\\[(|+"):
        return name
    known = [known for known in pattern_names() if len(expressions(known) or ()) == 1]
    raise HainaError(
        f"{path}: a tiktoken file does not say where text is cut, and {name!r} is not known as a pattern",
        f"give --pattern {path.stem}=NAME with one of {', '.join(known)}, or a regular expression as NAME",
    )


def open_tiktoken(path: Path, name: str, pattern: str | None = None) -> Vocabulary:
    """Open a rank file; `pattern` is a name or an expression, the file's own name when None."""
    tiktoken = library("tiktoken", path)
    with os_errors_about(path):
        ranks = parse_ranks(path.read_bytes(), path)
    pattern = pattern or path.stem
    expression = split_expression(pattern, path)
    try:
        encoding = tiktoken.Encoding(name, pat_str=expression, mergeable_ranks=ranks, special_tokens={})
    except ValueError as error:
        raise HainaError(
            f"{path}: the pattern {pattern!r} is not a regular expression ({error})", "mend it"
        ) from error
    pieces = [b""] * (max(ranks.values()) + 1)
    kinds: NDArray[np.uint8] = np.full(len(pieces), PieceKind.SPECIAL, np.uint8)
    for piece, rank in ranks.items():
        pieces[rank], kinds[rank] = piece, PieceKind.TEXT

    def encode_one(text: str) -> list[int]:
        try:
            ids: list[int] = encoding.encode_ordinary(text)
        except BaseException as error:
            # Its Rust code panics where the expression runs out of stack, as on a megabyte of spaces.
            if type(error).__name__ != "PanicException":
                raise
            raise HainaError(
                f"{path}: tiktoken gave up on a text of {len(text):,} characters that begins {text[:20]!r}",
                "leave out documents with very long runs of spaces, or compare without this vocabulary",
            ) from None
        return ids

    def encode(texts: Sequence[str]) -> Encoded:
        return [encode_one(text) for text in texts]

    def decode(ids: Sequence[NDArray[np.int64]]) -> Sequence[str]:
        return [encoding.decode(row.tolist()) for row in ids]

    shown = pattern if expressions(pattern) is not None else "own pattern"
    return Vocabulary(name, path, f"tiktoken ({shown})", pieces, kinds, encode, decode)
