"""Which `tokenizer.json` the fast encoder takes, and the merges it reads from one.

Comes in: the parsed file. Goes out: `Merges`, or None for any file whose ids could differ from those of the program
that wrote it (Hugging Face tokenizers). Pieces are numbered anew: the 256 bytes by their value, then the merges by
their rank, so that the number of a merged piece is above the numbers of its two parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from haina.runtime.byte_pieces import byte_characters

# Every number character alone, line ends in runs, all else a span. The kernel in spans.py cuts there.
PATTERN = r"\p{N}|[\r\n]+|[^\p{N}\r\n]+"
BYTES = 256
MAX_PIECES = 1 << 20  # the pair table packs three numbers into 60 bits
MAX_PIECE_BYTES = (1 << 11) - 1
_PLAIN_MODEL = {
    "type": ("BPE",),
    "dropout": (None, 0, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}


@dataclass(frozen=True)
class Merges:
    """Byte-level BPE in the numbering above."""

    left: npt.NDArray[np.int32]  # [pieces] first part, -1 for bytes
    right: npt.NDArray[np.int32]  # [pieces] second part
    ids: npt.NDArray[np.int32]  # [pieces] the file's ids
    special: frozenset[int]  # ids of added tokens, none of which is a piece
    cuts: bool  # text is cut at PATTERN's places; otherwise it is one span


def _cuts(steps: Any) -> bool | None:
    """Whether text is cut at PATTERN's places before BPE; None for any other pre-tokeniser."""
    steps = steps or {}
    steps = steps.get("pretokenizers") if steps.get("type") == "Sequence" else [steps]
    *cutters, last = steps or [{}]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True) or last.get("use_regex", True):
        return None
    if not cutters:
        return False
    expected = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    return True if cutters == [expected] else None


def _pairs(merges: list[Any]) -> list[tuple[str, str]]:
    """Merges of either form of the file: `"a b"` or `["a", "b"]`."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    return [(first, second) for first, second in pairs]


def read_merges(document: Any) -> Merges | None:
    """The merges of a file, or None where it is not byte-level BPE of the form that this package encodes.

    Each piece must come from exactly one merge of two earlier pieces. That each piece encodes to itself is checked
    in `tables.py`, which has the means.
    """
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        return None
    model, cuts = document["model"], _cuts(document.get("pre_tokenizer"))
    added = document.get("added_tokens") or []
    if (
        cuts is None
        or document.get("normalizer") is not None
        or any(model.get(field) not in allowed for field, allowed in _PLAIN_MODEL.items())
        or not all(token.get("special") for token in added)  # the others are found in text
    ):
        return None
    vocabulary: dict[str, int] = model["vocab"]
    number = dict(byte_characters())
    merges = _pairs(model["merges"])
    size = len(number) + len(merges)
    if size > MAX_PIECES or not number.keys() <= vocabulary.keys():
        return None
    left = np.full(size, -1, np.int32)
    right = np.full(size, -1, np.int32)
    for rank, (first, second) in enumerate(merges, len(number)):
        piece = first + second
        if piece in number or first not in number or second not in number or piece not in vocabulary:
            return None
        left[rank], right[rank] = number[first], number[second]
        number[piece] = rank
    ids = [vocabulary[piece] for piece in number]
    special = {token["id"]: token["content"] for token in added}
    others = vocabulary.keys() - number.keys()
    if len(set(ids)) != size or not special.keys().isdisjoint(ids) or not others <= set(special.values()):
        return None
    return Merges(left, right, np.array(ids, np.int32), frozenset(special), cuts)
