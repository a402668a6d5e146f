"""A batch: rows of packed documents, and which token belongs to what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORED = -100
PADDING = -1
# row and column: where the piece stands; document: its number in the split; first: place of its first token in the
# document; length: tokens.
BATCH_PIECE = np.dtype(
    [("row", "<i4"), ("column", "<i4"), ("document", "<i8"), ("first", "<i4"), ("length", "<i4")], align=True
)


@dataclass(frozen=True)
class Batch:
    """Rows of a step that one rank computes.

    Attributes:
        step: of the run.
        inputs: int64 [rows, length]; 0 where there is padding.
        targets: int64 [rows, length], the token after each input; `IGNORED` where nothing is to be predicted.
        positions: int32 [rows, length]; where documents are kept apart they restart with each of them.
        segments: int32 [rows, length], which stretch of the row a token may attend to: 0, 1, ... from the left;
            `PADDING` where there is none.
        pieces: BATCH_PIECE [pieces], every stretch of a document in these rows, row by row, from the left.
        separate: whether attention must not cross from one segment into another; if not, rows are single segments.
        step_targets: targets to be predicted in the whole step, over all ranks: what a sum of losses is divided by.
    """

    step: int
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    positions: NDArray[np.int32]
    segments: NDArray[np.int32]
    pieces: NDArray[np.void]
    separate: bool
    step_targets: int

    def rows(self, start: int, stop: int) -> Batch:
        """Some of the rows, as a micro-batch of the same step."""
        chosen = slice(start, stop)
        pieces = self.pieces[(self.pieces["row"] >= start) & (self.pieces["row"] < stop)].copy()
        pieces["row"] -= start
        return Batch(
            self.step,
            self.inputs[chosen],
            self.targets[chosen],
            self.positions[chosen],
            self.segments[chosen],
            pieces,
            self.separate,
            self.step_targets,
        )

    def cumulative_lengths(self) -> NDArray[np.int32]:
        """int32 [segments + 1]: where segments begin in the flattened batch, then rows * length: the `cu_seqlens` of
        attention kernels for sequences of varying length. The padding of a row is a segment.
        """
        begins = np.ones(self.segments.shape, np.bool_)
        begins[:, 1:] = self.segments[:, 1:] != self.segments[:, :-1]
        return np.append(np.flatnonzero(begins), begins.size).astype(np.int32)

    def attention_mask(self) -> NDArray[np.bool_]:
        """bool [rows, 1, length, length], True where a query (second to last axis) may look at a key: the `attn_mask`
        of `scaled_dot_product_attention`.
        """
        length = self.segments.shape[1]
        same = self.segments[:, None, :, None] == self.segments[:, None, None, :]
        return same & np.tri(length, dtype=np.bool_)
