"""Reading pieces, and telling to which split each of their documents goes.

In: the Arrow files that `encode.py` makes. Out: their rows, and the split of each row. A document goes to a validation
split when its near-duplicate cluster is held out, and to `train` otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from haina.runtime.executor import DamagedFile, Location, local_copy
from haina.shards.encode import TOKENS
from haina.shards.shard_set import TRAIN

VALIDATION = "validation-"


@contextmanager
def _mapped(location: Location) -> Iterator[pa.MemoryMappedFile]:
    with local_copy(location) as piece:
        try:
            with pa.memory_map(str(piece)) as source:
                yield source
        except (pa.ArrowException, OSError) as error:
            raise DamagedFile(location, f"damaged ({error})") from error


def piece_batches(location: Location) -> Iterator[pa.RecordBatch]:
    """The rows of a piece with their tokens, which stay in the file until they are read."""
    with _mapped(location) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def piece_rows(location: Location, columns: Sequence[str] = ()) -> pa.Table:
    """The rows of a piece without their tokens, in one chunk; only `columns` where some are named."""
    with _mapped(location) as source:
        names = pa.ipc.open_file(source).schema.names
        chosen = [
            place for place, name in enumerate(names) if (name in columns if columns else name != TOKENS)
        ]
        reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=chosen))
        return reader.read_all().combine_chunks()


def chunk(table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    """A column of a batch, or of a table in one chunk, as an array."""
    column = table[name]
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks else pa.nulls(0, column.type)


@dataclass(frozen=True)
class Rule:
    """What is kept away from training.

    Attributes:
        fraction: clusters with a position below are held out.
        clusters: so are these: the one with the smallest position of each language that has several.
    """

    fraction: float
    clusters: tuple[str, ...] = ()

    def splits(self, rows: pa.Table | pa.RecordBatch) -> NDArray[np.object_]:
        """The split of each row of a piece [rows], None for a row that is no document. Reads the columns `position`,
        `cluster_id` and `group`."""
        held = pc.less(chunk(rows, "position"), self.fraction)
        if self.clusters:
            named = pc.is_in(chunk(rows, "cluster_id"), pa.array(self.clusters, pa.string()))
            held = pc.or_(held, named)
        coded = chunk(rows, "group").dictionary_encode()
        names = np.array([*(VALIDATION + group for group in coded.dictionary.to_pylist()), None], np.object_)
        found: NDArray[np.object_] = names[pc.fill_null(coded.indices, len(names) - 1).to_numpy()]
        trained = pc.and_(coded.is_valid(), pc.invert(pc.fill_null(held, False)))
        found[trained.to_numpy(zero_copy_only=False)] = TRAIN
        return found
