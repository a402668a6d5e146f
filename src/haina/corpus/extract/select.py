"""Which blocks make the main text of a page.

Comes in: a probability for each block. Goes out: the set of blocks with the greatest expected F1 over tokens. For a
given size of the set its best members are the most probable blocks; so the probabilities are sorted once, and every
prefix is weighed (Lewis 1995; Ye et al. 2012, Optimizing F-measures). The bound that results is half the F1 it
expects: low on pages that puzzle the classifier, high on those it is sure of. Then tables, lists, code and headings
are kept where nearly all the prose beside them was: a cell alone says little to a classifier.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.extract.blocks import Blocks
from haina.corpus.extract.scan import Elements
from haina.corpus.extract.tags import TAG

_WHOLE = np.array(
    [TAG[name] for name in ("table", "pre", "ul", "ol", "menu", "dl", "h1", "h2", "h3", "h4", "h5", "h6")]
)
# A structure is completed where this share of the prose in its parent was kept, of at least so many tokens, and where
# its own block is not all but ruled out.
_SHARE = 0.9
_TOKENS = 20
_PROBABILITY = 0.05


def select(probability: npt.NDArray[np.float32], tokens: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Blocks to keep: bool [blocks], from float32 [blocks] probabilities and token counts."""
    if not len(probability):
        return np.zeros(0, np.bool_)
    order = np.argsort(-probability, kind="stable")
    weight = tokens[order].astype(np.float64) + 1e-3
    hit = np.cumsum(weight * probability[order])
    expected = 2 * hit / (np.cumsum(weight) + hit[-1])
    kept = np.zeros(len(probability), np.bool_)
    kept[order[: int(np.argmax(expected)) + 1]] = True
    return kept


def complete(
    elements: Elements, blocks: Blocks, probability: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """`kept` with the rest of tables, lists and code, and the headings, that stand among kept text: bool [blocks]."""
    out = kept.copy()
    _complete_into(elements, blocks, _WHOLE, probability, kept, out)
    return out


@nb.njit(cache=True, nogil=True)
def _complete_into(
    elements: Elements,
    blocks: Blocks,
    whole: npt.NDArray[np.int64],
    probability: npt.NDArray[np.float32],
    kept: npt.NDArray[np.bool_],
    out: npt.NDArray[np.bool_],
) -> None:
    count = len(elements.tag)
    # The outermost structure around each element, 0 for none.
    around = np.zeros(count, np.int32)
    for e in range(1, count):
        around[e] = around[elements.parent[e]]
        if around[e] == 0:
            for tag in whole:
                if elements.tag[e] == tag:
                    around[e] = e
    # Tokens outside structures, and how many of them were kept.
    prose = np.zeros((count, 2))
    for b in range(len(blocks.first)):
        e = blocks.element[b]
        if around[e] == 0:
            prose[e, 0] += blocks.tokens[b]
            prose[e, 1] += blocks.tokens[b] * kept[b]
    for e in range(count - 1, 0, -1):
        prose[elements.parent[e]] += prose[e]
    for b in range(len(blocks.first)):
        unit = around[blocks.element[b]]
        if unit == 0 or kept[b] or blocks.tokens[b] == 0 or probability[b] < _PROBABILITY:
            continue
        beside = prose[elements.parent[unit]]
        if beside[0] >= _TOKENS and beside[1] >= _SHARE * beside[0]:
            out[b] = True
