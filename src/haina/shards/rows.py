"""Fills rows with the tokens of their pieces, straight from the memory maps of the shards.

In: addresses of the shards' tokens, a plan, the packs to read. Out: inputs, targets, positions and segments. One
kernel call fills all rows of a batch, from any number of files, and holds no lock of Python meanwhile. `plain_rows`
does the same with slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.shards.batch import BATCH_PIECE, IGNORED, PADDING
from haina.shards.plan import PackPlan
from haina.shards.token_files import TokenFiles

UNLIMITED = 1 << 40  # longer than any document

Arrays = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.void]]


@intrinsic
def _pointer(typing: Any, address: Any, like: Any) -> Any:  # pragma: no cover - compiled
    """A pointer to elements of the type of the array `like` at an address."""
    signature = types.CPointer(like.dtype)(address, like)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, generate


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _place(
    positions: NDArray[np.int32], segments: NDArray[np.int32], first: int, window: int, segment: int
) -> int:
    """Positions and segments of one piece; both start anew at multiples of `window` in the document.

    Returns:
        the next segment.
    """
    position = 0
    for column in range(len(positions)):
        if column > 0 and (first + column) % window == 0:
            position = 0
            segment += 1
        positions[column] = position
        segments[column] = segment
        position += 1
    return segment + 1


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _fill_row(
    addresses: NDArray[np.int64],
    ends: NDArray[np.int64],
    like: NDArray[np.integer],
    pieces: NDArray[np.void],
    stream: bool,
    separate: bool,
    window: int,
    inputs: NDArray[np.int64],
    targets: NDArray[np.int64],
    positions: NDArray[np.int32],
    segments: NDArray[np.int32],
    found: NDArray[np.void],
) -> int:
    """`fill_rows` for the pieces of one row; arrays [length], `found` [pieces].

    Returns:
        columns filled, or -1 - the place of the first piece that reaches too far.
    """
    length = len(inputs)
    column = segment = 0
    for place in range(len(pieces)):
        piece = pieces[place]
        position, tokens = piece.position, piece.length + (0 if stream else 1)
        file = np.searchsorted(ends, position, side="right")
        if position < 0 or piece.length < 1 or column + tokens > length + 1:
            return -1 - place
        if file == len(ends) or position + tokens > ends[file]:
            return -1 - place
        source = _pointer(addresses[file], like)
        start = position - (ends[file - 1] if file > 0 else 0)
        count = min(piece.length, length - column)
        for offset in range(count):
            inputs[column + offset] = source[start + offset]
        if stream and column > 0:
            targets[column - 1] = IGNORED if separate else source[start]
        for offset in range(tokens - 1):
            targets[column + offset] = source[start + offset + 1]
        if separate and count > 0:
            end = column + count
            segment = _place(positions[column:end], segments[column:end], piece.first, window, segment)
        found[place].column = column
        found[place].document = piece.document
        found[place].first = piece.first
        found[place].length = count
        column += count
    if not separate:
        _place(positions[:column], segments[:column], 0, window, 0)
    return column


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def fill_rows(
    addresses: NDArray[np.int64],
    ends: NDArray[np.int64],
    like: NDArray[np.integer],
    pieces: NDArray[np.void],
    pack_first: NDArray[np.int64],
    packs: NDArray[np.int64],
    stream: bool,
    separate: bool,
    window: int,
    inputs: NDArray[np.int64],
    targets: NDArray[np.int64],
    positions: NDArray[np.int32],
    segments: NDArray[np.int32],
    found: NDArray[np.void],
) -> int:
    """Fill the rows with `packs` [rows].

    Args:
        addresses, ends, like: of `TokenFiles`; `like` is an array of the tokens' type.
        pieces, pack_first: of the plan.
        stream: rows are stretches of a stream, one token longer than the row; else a piece of n places brings n + 1
            tokens, of which the last is a target only.
        separate: documents do not see each other.
        window: positions and segments start anew after so many tokens of a document.
        inputs, targets, positions, segments: [rows, length], as in `Batch`; filled.
        found: BATCH_PIECE [pieces of these packs], filled.

    Returns:
        -1, or the number of the first piece that reaches beyond its file or its row.
    """
    place = 0
    for row in range(len(packs)):
        begin, end = pack_first[packs[row]], pack_first[packs[row] + 1]
        if begin < 0 or end < begin or end > len(pieces) or place + end - begin > len(found):
            return 0
        column = _fill_row(
            addresses,
            ends,
            like,
            pieces[begin:end],
            stream,
            separate,
            window,
            inputs[row],
            targets[row],
            positions[row],
            segments[row],
            found[place : place + end - begin],
        )
        if column < 0:
            return begin - 1 - column
        for number in range(place, place + end - begin):
            found[number].row = row
        place += end - begin
        for rest in range(column, inputs.shape[1]):
            inputs[row, rest] = 0
            targets[row, rest] = IGNORED
            positions[row, rest] = rest - column
            segments[row, rest] = PADDING
    return -1


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def count_places(pieces: NDArray[np.void], pack_first: NDArray[np.int64], packs: NDArray[np.int64]) -> int:
    """Places that the pieces of `packs` [n] take up."""
    total = 0
    for pack in packs:
        for number in range(pack_first[pack], pack_first[pack + 1]):
            total += pieces[number].length
    return total


def read_rows(
    files: TokenFiles, plan: PackPlan, packs: NDArray[np.int64], stream: bool, separate: bool, window: int
) -> Arrays:
    """Inputs, targets, positions, segments [len(packs), length] and pieces of packs; arguments as in `fill_rows`, but a
    window as long as a row is no limit.

    Raises:
        HainaError: the plan asks for what is not there.
    """
    shape = (len(packs), int(plan.identity["sequence_length"]))
    window = UNLIMITED if window >= shape[1] else window
    arrays = (
        np.empty(shape, np.int64),
        np.empty(shape, np.int64),
        np.empty(shape, np.int32),
        np.empty(shape, np.int32),
    )
    found = np.zeros(int((plan.pack_first[packs + 1] - plan.pack_first[packs]).sum()), BATCH_PIECE)
    like = np.empty(0, files.dtype)
    wrong = fill_rows(
        files.addresses,
        files.ends,
        like,
        plan.pieces,
        plan.pack_first,
        packs,
        stream,
        separate,
        window,
        *arrays,
        found,
    )
    if wrong >= 0:
        raise HainaError(
            f"packing plan of {files.paths[0].parent}: piece {wrong:,} (document "
            f"{int(plan.pieces[wrong]['document']):,}) reaches beyond its file or its row",
            "delete the plan; it is made again",
        )
    # The single token by which a stream's row ends in the next document is a target, no piece of this row.
    return (*arrays, found[found["length"] > 0])


def plain_rows(
    files: TokenFiles, plan: PackPlan, packs: Sequence[int], stream: bool, separate: bool, window: int
) -> Arrays:
    """`read_rows` without a kernel; the tests hold the two together."""
    length = int(plan.identity["sequence_length"])
    shape = (len(packs), length)
    window = UNLIMITED if window >= length else window
    inputs, targets = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
    positions, segments = np.zeros(shape, np.int32), np.full(shape, PADDING, np.int32)
    found = []
    for row, pack in enumerate(packs):
        column = segment = 0
        for piece in plan.pieces[plan.pack_first[pack] : plan.pack_first[pack + 1]]:
            document, position, first, places = (int(value) for value in piece)
            tokens = files.read(position, places + (not stream))
            count = min(places, length - column)
            inputs[row, column : column + count] = tokens[:count]
            targets[row, column : column + len(tokens) - 1] = tokens[1:]
            if stream and column and not separate:
                targets[row, column - 1] = tokens[0]
            for offset in range(count):
                at = first + offset if separate else column + offset
                if at % window == 0 and column + offset > 0 and (offset > 0 or not separate):
                    segment += 1
                fresh = (offset == 0 and (separate or column == 0)) or at % window == 0
                positions[row, column + offset] = 0 if fresh else positions[row, column + offset - 1] + 1
                segments[row, column + offset] = segment
            segment += separate
            if count:
                found.append((row, column, document, first, count))
            column += count
        positions[row, column:] = np.arange(length - column)
    return inputs, targets, positions, segments, np.array(found, BATCH_PIECE)
