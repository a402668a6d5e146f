"""What a batch holds, row by row and document by document.

Comes in: a `Batch` of the loader and the shards it was read from. Goes out: the documents that stand in each row, where
each begins, which are cut, what is padding, and which stretches see one another in attention. Attention, positions and
padding are read from the arrays that the model gets, so that what is drawn is what is trained on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from haina.shards.batch import IGNORED, PADDING, Batch
from haina.shards.look import document_rows, strip_frame
from haina.shards.shard_set import ShardSet

if TYPE_CHECKING:
    from haina.runtime.tokenizer_file import TokenizerFile

SHOWN_TOKENS = 60


@dataclass(frozen=True)
class Block:
    """One piece of a document in a row.

    Attributes:
        column: its first column.
        length: columns that it takes up.
        document: number of the document in the split.
        first: place of its first token in the document.
        position: position that the model is given there.
        cut_before: whether the document began earlier, in another row.
        cut_after: whether more of it is to be predicted, in another row.
    """

    column: int
    length: int
    document: int
    first: int
    position: int
    cut_before: bool
    cut_after: bool


@dataclass(frozen=True)
class RowLook:
    """One row.

    Attributes:
        blocks: its documents, from left to right.
        spans: (first column, end) of the stretches whose tokens see one another.
        positions: (first column, end, position of the first) of the stretches in which positions count up.
        padding: columns that hold nothing.
        predicted: columns with a target.
    """

    blocks: list[Block]
    spans: list[tuple[int, int]]
    positions: list[tuple[int, int, int]]
    padding: int
    predicted: int


@dataclass(frozen=True)
class BatchLook:
    """A batch to look at.

    Attributes:
        sequence_length: columns of a row.
        rows: from top to bottom.
        documents: facts of every document in it by its number: its row of the table of documents, `tokens`, and `text`,
            its beginning, where a tokenizer is known.
    """

    sequence_length: int
    rows: list[RowLook]
    documents: dict[int, dict[str, Any]]

    @property
    def padding(self) -> float:
        """Share of all columns that hold nothing."""
        return sum(row.padding for row in self.rows) / (self.sequence_length * len(self.rows))

    @property
    def cut(self) -> int:
        """Documents of which a part stands elsewhere."""
        return len({b.document for row in self.rows for b in row.blocks if b.cut_before or b.cut_after})


def look_at_batch(
    batch: Batch, shards: ShardSet, folder: Path, split: str, tokenizer: TokenizerFile | None
) -> BatchLook:
    """Explain a batch.

    Args:
        batch: of the loader.
        shards: the split that it was read from.
        folder: the shards folder, for the table of documents.
        split: name of the split.
        tokenizer: shows how each document begins; None where it is not at hand.

    Raises:
        HainaError: the table of documents is damaged or knows one of the documents not.
    """
    rows = batch_rows(batch, shards)
    numbers = sorted({block.document for row in rows for block in row.blocks})
    facts = document_rows(folder, split, numbers)
    return BatchLook(
        int(batch.inputs.shape[1]),
        rows,
        {number: _facts(facts[number], shards, number, tokenizer) for number in numbers},
    )


def batch_rows(batch: Batch, shards: ShardSet) -> list[RowLook]:
    """The rows of a batch, without what the table of documents knows."""
    length = int(batch.inputs.shape[1])
    blocks: list[list[Block]] = [[] for _ in range(len(batch.inputs))]
    for row, column, document, first, size in batch.pieces.tolist():
        # The last token of a document has no target of its own, so it may be missing without a loss.
        after = first + size + 1 < int(shards.lengths[document])
        position = int(batch.positions[row, column])
        blocks[row].append(Block(column, size, document, first, position, first > 0, after))
    found = []
    for number, (segments, positions) in enumerate(zip(batch.segments, batch.positions, strict=True)):
        spans = [(start, end) for start, end in _runs(np.diff(segments) != 0) if segments[start] != PADDING]
        held = length - int((segments == PADDING).sum())
        counting = [
            (start, min(end, held), int(positions[start]))
            for start, end in _runs(np.diff(positions) != 1)
            if start < held
        ]
        predicted = int((batch.targets[number] != IGNORED).sum())
        found.append(RowLook(blocks[number], spans, counting, length - held, predicted))
    return found


def _runs(borders: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(start, end) of the stretches between borders; `borders[i]` stands between i and i + 1."""
    cuts = [0, *(np.flatnonzero(borders) + 1).tolist(), len(borders) + 1]
    return list(itertools.pairwise(cuts))


def _facts(
    row: Mapping[str, Any], shards: ShardSet, number: int, tokenizer: TokenizerFile | None
) -> dict[str, Any]:
    text = ""
    if tokenizer is not None:
        ids = strip_frame(shards[number], tokenizer)[1][:SHOWN_TOKENS]
        text = " ".join(tokenizer.decode_bytes(ids.tolist()).decode("utf-8", "ignore").split())
    return {**row, "tokens": int(shards.lengths[number]), "text": text}
