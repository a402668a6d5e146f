"""The trie that finds the longest piece at a place, as a double array.

Comes in: the bytes of all pieces. Goes out: slots of 64 bits. In the form with exclusive or of a double array (Aoe
1989, IEEE TSE 15(9)), the child of a node by byte `b` is slot `base ^ b`, and the slot holds `b` as its label. No two
nodes share a base, so the label alone says whose child a slot is. A slot is `longest << 32 | base << 9 | label`, where
`longest` is the longest piece on the way to the node, packed as `number << 11 | bytes`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.runtime.bpe.rules import BYTES

# The children of the root are slots 256 to 511; 0 to 255 stay empty, so that base 0 has no children.
ROOT_BASE = 256
LABEL_BITS, _EMPTY = 9, 256
LABEL_MASK = (1 << LABEL_BITS) - 1
LENGTH_BITS = 11
_MAX_SLOTS = 1 << (32 - LABEL_BITS)
_TRIES = 2000  # free slots looked at for a node before a new block is taken
LABEL, CHILD, CHILDREN, EARLIEST, LONGEST = range(5)  # columns of `_nodes`


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _nodes(
    order: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], room: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32], int]:
    """Nodes of the trie of pieces that `order` [pieces] sorts by their bytes, breadth first; and how many.

    A node is a run of sorted pieces that share their first bytes. Its row: label, first child, children, earliest piece
    of the run, longest piece that is a prefix (packed). The second value is `Tables.shorter`.
    """
    nodes = np.zeros((room, 5), np.int64)
    runs = np.zeros((room, 3), np.int64)  # first and last of the sorted pieces, and bytes that they share
    shorter = np.zeros(len(order), np.uint32)
    runs[0, 1] = len(order)
    count = 1
    node = 0
    while node < count:
        low, high, depth = runs[node]
        if offsets[order[low]] + depth == offsets[order[low] + 1]:
            piece = order[low]
            shorter[piece] = nodes[node, LONGEST]
            nodes[node, LONGEST] = (piece << LENGTH_BITS) | depth
            low += 1
        nodes[node, CHILD] = count
        for place in range(low, high):
            piece = order[place]
            byte = np.int64(data[offsets[piece] + depth])
            if count == nodes[node, CHILD] or nodes[count - 1, LABEL] != byte:
                nodes[count, LABEL] = byte
                nodes[count, LONGEST] = nodes[node, LONGEST]
                nodes[count, EARLIEST] = piece
                runs[count] = (place, place, depth + 1)
                count += 1
            nodes[count - 1, EARLIEST] = min(nodes[count - 1, EARLIEST], piece)
            runs[count - 1, 1] = place + 1
        nodes[node, CHILDREN] = count - nodes[node, CHILD]
        node += 1
    return nodes, shorter, count


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _base(
    wanted: npt.NDArray[np.int64],
    free: npt.NDArray[np.int64],
    used: npt.NDArray[np.bool_],
    first: int,
    end: int,
) -> int:
    """A base not `used` at which the slots of all labels `wanted` are free; -1 if none is found in time.

    `free` holds 0 for a slot that is taken, else a slot behind it: what lies between them is taken.
    """
    previous, slot, tries = first, first, 0
    while slot < end and tries < _TRIES:
        if free[slot] == 0:
            slot += 1
            continue
        free[previous] = slot if previous != slot else free[previous]
        tries += 1
        base = slot ^ wanted[0]
        fits = not used[base]
        for label in wanted:
            fits = fits and free[base ^ label] != 0
        if fits:
            return base
        previous, slot = slot, free[slot]
    return -1


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _double_array(nodes: npt.NDArray[np.int64], order: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The trie of `nodes` [nodes, 5], placed in `order`: parents before children, frequent pieces first.

    What most walks visit so lies together at the beginning. Empty for a trie of more slots than a base can name.
    """
    room = 4 * len(nodes) + 4 * BYTES
    slots = np.full(room, _EMPTY, np.uint64)
    free = np.arange(1, room + 1)
    free[:ROOT_BASE] = 0
    used = np.zeros(room, np.bool_)
    where = np.zeros(len(nodes), np.int64)  # of each node
    first, end = ROOT_BASE, ROOT_BASE  # the first slot that may be free; where no block was begun
    for node in order:
        child, children = nodes[node, CHILD], nodes[node, CHILDREN]
        if children == 0:
            continue
        wanted = nodes[child : child + children, LABEL].copy()
        while first < end and free[first] == 0:
            first += 1
        base = _base(wanted, free, used, first, end)
        if base < 0:
            base = end
            end += BYTES
            if end > min(room, _MAX_SLOTS):
                return np.empty(0, np.uint64)
        used[base] = True
        slots[where[node]] |= np.uint64(base << LABEL_BITS)
        for place in range(children):
            slot = base ^ wanted[place]
            free[slot] = 0
            where[child + place] = slot
            slots[slot] = np.uint64((nodes[child + place, LONGEST] << 32) | wanted[place])
    return slots[:end].copy()


def build_trie(
    pieces: list[bytes], data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """Slots (none for a trie that is too large), and of each piece the longest piece that is a shorter prefix, packed.

    Args:
        data, offsets: the bytes of `pieces` once more, piece p from offsets[p] to offsets[p + 1].
    """
    order = np.array(sorted(range(len(pieces)), key=pieces.__getitem__), np.int64)
    nodes, shorter, count = _nodes(order, data, offsets, len(data) + 1)
    nodes = nodes[:count]
    return _double_array(nodes, np.argsort(nodes[:, EARLIEST], kind="stable")), shorter
