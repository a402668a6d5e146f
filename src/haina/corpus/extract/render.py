"""The chosen blocks as readable plain text.

Comes in: elements, runs, blocks and which of them to keep. Goes out: UTF-8. Paragraphs and headings are parted
by an empty line, items of a list by a line end, each behind its bullet or number; rows of a table by a line
end, cells by one tab. Preformatted text keeps its lines and indentation; elsewhere white space folds into one
space. A table that holds prose or code is layout, and its cells are paragraphs. Character references are left
to the caller.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.extract.blocks import Blocks
from haina.corpus.extract.scan import BREAK, HIDDEN, PREFORMATTED, Bytes, Elements, Runs
from haina.corpus.extract.tags import TAG

_LI, _UL, _OL, _MENU, _TR, _TD, _TH = (TAG[name] for name in ("li", "ul", "ol", "menu", "tr", "td", "th"))
_TABLE, _PRE, _DT, _DD, _DL = (TAG[name] for name in ("table", "pre", "dt", "dd", "dl"))
_CELL_TOKENS = 120
_ITEM_BLOCKS = 3
_MAX_INDENT = 8
# Beyond its own text a block writes a border, an indent, and a number or a bullet.
_EXTRA_A_BLOCK = 2 + 2 * _MAX_INDENT + 12


@nb.njit(cache=True, nogil=True)
def _places(  # noqa: PLR0912 - a branch a kind of element
    elements: Elements, blocks: Blocks, kept: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int32]:
    """Where each element stands: int32 [elements, 8].

    Columns: nearest list item, depth of lists, outermost list, nearest cell, row, data table, preformatted element, and
    the number of an item in its list. 0 for none.
    """
    ne = len(elements.tag)
    at = np.zeros((ne, 8), np.int32)
    items = np.zeros(ne, np.int32)
    layout = np.zeros(ne, np.bool_)
    cell_tokens = np.zeros(ne, np.float32)
    for e in range(1, ne):
        tag, parent = elements.tag[e], elements.parent[e]
        for k in range(7):
            at[e, k] = at[parent, k]
        if tag == _LI:
            at[e, 0] = e
            items[parent] += 1
            at[e, 7] = items[parent]
        elif tag in (_UL, _OL, _MENU, _DL):
            at[e, 1] += 1
            if at[parent, 1] == 0:
                at[e, 2] = e
        elif tag == _TABLE:
            if at[parent, 5]:
                layout[at[parent, 5]] = True
            at[e, 3] = at[e, 4] = 0
            at[e, 5] = e
            at[e, 0] = at[e, 1] = at[e, 2] = 0
        elif tag == _TR:
            at[e, 4] = e
        elif tag in (_TD, _TH):
            at[e, 3] = e
            at[e, 0] = at[e, 1] = at[e, 2] = 0
        elif tag == _PRE:
            at[e, 6] = e
    for b in range(len(blocks.first)):
        e = blocks.element[b]
        cell, table = at[e, 3], at[e, 5]
        if table and kept[b]:
            cell_tokens[cell] += blocks.tokens[b]
            if not cell or cell_tokens[cell] > _CELL_TOKENS or at[e, 6]:
                layout[table] = True
    for e in range(1, ne):
        if layout[at[e, 5]]:
            at[e, 3] = at[e, 4] = at[e, 5] = 0
    return at


@nb.njit(cache=True, nogil=True)
def render_into(  # noqa: PLR0912, PLR0915 - one pass over the text is the point of it
    data: Bytes, elements: Elements, runs: Runs, blocks: Blocks, kept: npt.NDArray[np.bool_], out: Bytes
) -> int:
    """Write the text to `out` uint8; how many bytes."""
    at = _places(elements, blocks, kept)
    item_blocks = np.zeros(len(elements.tag), np.int32)
    for b in range(len(blocks.first)):
        if kept[b]:
            item_blocks[at[blocks.element[b], 0]] += 1
    size = 0
    last = -1
    for b in range(len(blocks.first)):
        if not kept[b]:
            continue
        e = blocks.element[b]
        item, cell, pre = at[e, 0], at[e, 3], at[e, 6]
        listed = item > 0 and item_blocks[item] <= _ITEM_BLOCKS and not cell
        new_item = listed
        if last >= 0:
            o = blocks.element[last]
            before = at[o, 0]
            new_item = listed and before != item
            if cell and at[o, 5] == at[e, 5]:
                if at[o, 4] != at[e, 4]:
                    out[size] = 10
                elif at[o, 3] != cell:
                    out[size] = 9
                else:
                    out[size] = 32
                size += 1
            elif (pre and at[o, 6] == pre) or (
                at[e, 2]
                and at[o, 2] == at[e, 2]
                and (listed or (not item and not before))
                and (not before or item_blocks[before] <= _ITEM_BLOCKS)
            ):
                out[size] = 10
                size += 1
            else:
                out[size] = out[size + 1] = 10
                size += 2
        if new_item:
            for _ in range(2 * min(at[e, 1] - 1, _MAX_INDENT)):
                out[size] = 32
                size += 1
            if elements.tag[elements.parent[item]] == _OL:
                number, scale = at[item, 7], 1
                while scale * 10 <= number:
                    scale *= 10
                while scale:
                    out[size] = 48 + number // scale % 10
                    size += 1
                    scale //= 10
                out[size] = 46
            else:
                out[size], out[size + 1], out[size + 2] = 0xE2, 0x80, 0xA2
                size += 2
            out[size + 1] = 32
            size += 2
        start = size
        preformatted = (blocks.flags[b] & PREFORMATTED) != 0 and not cell
        space = broken = False
        for r in range(blocks.first[b], blocks.last[b]):
            # Border and white space before hidden text stand before what follows it.
            broken |= runs.border[r] == BREAK
            space |= runs.spaced[r]
            if elements.flags[runs.parent[r]] & HIDDEN:
                continue
            if broken and size > start:
                out[size] = 32 if cell else 10
                size += 1
                space = False
            broken = False
            place, end = runs.start[r], runs.end[r]
            formula = runs.formula[r]
            if formula:
                if space and size > start and out[size - 1] != 10:
                    out[size] = 32
                    size += 1
                space = False
                out[size] = 36
                size += 1
                while place < end and data[place] <= 32:
                    place += 1
                while end > place and data[end - 1] <= 32:
                    end -= 1
            while place < end:
                byte = data[place]
                length = 1
                if byte >= 0xF0:
                    length = 4
                elif byte >= 0xE0:
                    length = 3
                elif byte >= 0xC0:
                    length = 2
                blank = byte == 32 or 9 <= byte <= 13
                if preformatted:
                    blank = False
                elif (byte == 0xC2 and data[place + 1] == 0xA0) or (
                    byte == 0xE3 and data[place + 1] == 0x80 and data[place + 2] == 0x80
                ):
                    blank = True
                elif (
                    byte == 38
                    and place + 5 < end
                    and data[place + 1] == 110
                    and data[place + 2] == 98
                    and (data[place + 3] == 115 and data[place + 4] == 112 and data[place + 5] == 59)
                ):
                    blank = True
                    length = 6
                if blank:
                    space = True
                else:
                    if space and size > start and out[size - 1] != 10:
                        out[size] = 32
                        size += 1
                    space = False
                    for i in range(length):
                        out[size] = data[place + i]
                        size += 1
                place += length
            if formula:
                out[size] = 36
                size += 1
        if preformatted:
            # The line end after the start tag and the blank ones at the end are markup.
            skip = start
            for i in range(start, size):
                if out[i] == 10:
                    skip = i + 1
                elif out[i] != 32 and out[i] != 9 and out[i] != 13:
                    break
            if skip > start:
                for i in range(skip, size):
                    out[start + i - skip] = out[i]
                size -= skip - start
        while size > start and (out[size - 1] == 32 or 9 <= out[size - 1] <= 13):
            size -= 1
        last = b
    return size


def render(data: Bytes, elements: Elements, runs: Runs, blocks: Blocks, kept: npt.NDArray[np.bool_]) -> bytes:
    """The kept blocks as text: UTF-8."""
    room = 0
    if len(kept):
        spans = (runs.end - runs.start + 4).cumsum()
        first, last = blocks.first[kept], blocks.last[kept]
        room = int((spans[last - 1] - np.where(first > 0, spans[first - 1], 0)).sum())
    out = np.empty(room + _EXTRA_A_BLOCK * (int(kept.sum()) + 1), np.uint8)
    return out[: render_into(data, elements, runs, blocks, kept, out)].tobytes()
