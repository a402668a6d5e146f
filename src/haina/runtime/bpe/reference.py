"""Byte-pair encoding as it is defined, in a few lines: what the kernels of this package are held against.

Source: Sennrich et al. 2016, arXiv:1508.07909, algorithm 1 turned into an encoder: of all neighbouring pairs that
the merge list names, the one with the lowest rank is merged, of equal ones the leftmost, until none is left. It takes
quadratic time.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

Pieces = list[bytes]


def encode(text: bytes, ranks: Mapping[tuple[bytes, bytes], int]) -> Pieces:
    """Pieces of `text`, which is one span: nothing is cut before."""
    pieces = [text[place : place + 1] for place in range(len(text))]
    while True:
        pairs = list(pairwise(pieces))
        known = [(ranks[pair], place) for place, pair in enumerate(pairs) if pair in ranks]
        if not known:
            return pieces
        place = min(known)[1]
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]


def spans(text: bytes, numbers: frozenset[str], line_ends: str = "\r\n") -> list[bytes]:
    """`text` cut around number characters and runs of line ends; bytes that are no UTF-8 stand alone."""
    out: list[bytes] = []
    last = ""
    # The error handler turns each byte that belongs to no character into one lone surrogate, U+DC00 + byte.
    for character in text.decode("utf-8", "surrogateescape"):
        alone = character in numbers or "\udc80" <= character <= "\udcff"
        kind = "alone" if alone else "line end" if character in line_ends else "other"
        piece = character.encode("utf-8", "surrogateescape")
        if kind == last and kind != "alone":
            out[-1] += piece
        else:
            out.append(piece)
        last = kind
    return out
