"""A vocabulary of any origin, as the comparison sees it.

Every reader of this package gives a `Vocabulary`: what each id stands for in bytes, and how texts are encoded and
decoded. Encoding and decoding are the origin's own library, never an imitation: two programs that read one file may
differ in normalisation, dummy prefixes and byte fallback, and such differences would be measured as the vocabulary's.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError

# Ids of texts: one sequence a text, or all ids in one array with the border of each text (int64 [texts + 1]).
Encoded = Sequence[Sequence[int]] | tuple[NDArray[Any], NDArray[np.int64]]


class PieceKind(enum.IntEnum):
    """What an id is."""

    TEXT = 0  # stands for its bytes
    SPECIAL = 1  # a mark that no text gives: control tokens, reserved and unused ids
    UNKNOWN = 2  # stands for text that the vocabulary cannot write
    BYTE = 3  # a byte that SentencePiece falls back to where no piece fits


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary that was opened.

    Attributes:
        name: short name for tables.
        path: the file it was read from.
        kind: the form of the file and what encodes it, for people.
        pieces: bytes of each id, empty for special and unknown ids.
        kinds: uint8 [ids], a `PieceKind` each.
        encode: ids of texts without special tokens, on one thread, in the form that the library is quickest in.
        decode: texts of ids, one a sequence.
    """

    name: str
    path: Path
    kind: str
    pieces: Sequence[bytes]
    kinds: NDArray[np.uint8]
    encode: Callable[[Sequence[str]], Encoded]
    decode: Callable[[Sequence[NDArray[np.int64]]], Sequence[str]]

    @property
    def size(self) -> int:
        """Number of ids, special ones included."""
        return len(self.pieces)


def flatten(encoded: Encoded) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of all texts in one array, and where each text begins: int64 [ids], int64 [texts + 1]."""
    if isinstance(encoded, tuple) and len(encoded) == 2 and isinstance(encoded[1], np.ndarray):
        return np.asarray(encoded[0], np.int64), np.asarray(encoded[1], np.int64)
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(ids) for ids in encoded], out=offsets[1:])
    ids = np.empty(int(offsets[-1]), np.int64)
    for number, sequence in enumerate(encoded):
        ids[offsets[number] : offsets[number + 1]] = sequence
    return ids, offsets


def library(module: str, path: Path) -> Any:
    """The Python package that reads `path`.

    Raises:
        HainaError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise HainaError(
            f"{path}: reading it needs the Python package {module}, which is not installed",
            "run `pip install 'haina[compare]'`",
        ) from error
