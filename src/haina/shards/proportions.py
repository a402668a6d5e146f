"""In which proportions a run reads the shards: what the settings ask for, and to which domain each document belongs.

In: the settings, what the shards say of themselves, the table of documents. Out: domains with their shares, and the
place of each document among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.shards.loader_settings import LoaderSection
from haina.shards.split_files import SplitFiles

REST = "*"  # everything that `epochs` does not name
MOST_DOMAINS = 1 << 12


@dataclass(frozen=True)
class Proportions:
    """Domains and their shares.

    Attributes:
        by: column of the table of documents; None: there is one domain, everything.
        names: of the domains that are read.
        values: share of the tokens, or number of epochs, of each.
        left_out: values of the column that are not read.
        others: what values of the column that are not named are: `REST`, left out, or an error.
        of_epochs: whether the values are numbers of epochs.
    """

    by: str | None
    names: tuple[str, ...]
    values: tuple[float, ...]
    left_out: tuple[str, ...]
    others: Literal["rest", "out", "error"]
    of_epochs: bool


def proportions_of(split: SplitFiles, settings: LoaderSection) -> Proportions:
    """What the settings ask for; where they ask for nothing, the mixture of the shards, or the text as it lies.

    Raises:
        HainaError: the shards have no domains.
    """
    by, asked = settings.by, settings.weights
    others: Literal["rest", "out", "error"] = "error"
    if settings.epochs is not None:
        asked, others = {**settings.epochs, REST: settings.epochs.get(REST, 1.0)}, "rest"
    elif asked is None and split.mixture is not None:
        # It names the domains of a weight above 0.
        by, asked, others = "domain", split.mixture["weights"], "out"
    if asked is None:
        return Proportions(None, ("",), (1.0,), (), "rest", False)
    if by == "domain" and split.mixture is None:
        raise HainaError(
            f"{split.folder}: the documents have no domains",
            "set train.loader.by to lang or source, or give shards.mixture and write the shards again",
        )
    read = sorted((name, float(value)) for name, value in asked.items() if value > 0)
    if len(read) > MOST_DOMAINS:
        raise HainaError(
            f"train.loader: {len(read):,} values of {by} with a share of their own",
            f"at most {MOST_DOMAINS:,}; put them together with shards.mixture.sources",
        )
    return Proportions(
        by,
        tuple(name for name, _ in read),
        tuple(value for _, value in read),
        tuple(sorted(name for name, value in asked.items() if value == 0)),
        others,
        settings.epochs is not None,
    )


def document_places(split: SplitFiles, proportions: Proportions, documents: int) -> NDArray[np.int32] | None:
    """Place among the domains of each document [documents] of the split, -1 where it is left out; None: all are 0.

    Raises:
        HainaError: the table is damaged or not about these documents, has a value that nothing is said about, or a
            domain has no documents.
    """
    if proportions.by is None:
        return None
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if split.table is None:
        raise HainaError(
            f"{split.folder}: there is no table of documents to find their {proportions.by} in",
            "leave out weights and epochs, or make the shards with `haina shards write`",
        )
    names = pa.array([*proportions.names, *proportions.left_out], pa.string())
    has_rest = proportions.others == "rest" and REST in proportions.names
    rest = proportions.names.index(REST) if has_rest else -1
    result = np.full(documents, -2, np.int32)
    seen = 0
    try:
        with pq.ParquetFile(split.table) as file:
            for batch in file.iter_batches(1 << 16, columns=["shard", "index", proportions.by]):
                rows = batch.filter(pc.equal(batch["shard"], split.name))
                values = rows[proportions.by].cast(pa.string())
                found = pc.fill_null(pc.index_in(values, names), -1).to_numpy(zero_copy_only=False)
                if proportions.others == "error" and (found < 0).any():
                    value = values[int(np.flatnonzero(found < 0)[0])].as_py()
                    raise HainaError(
                        f"train.loader.weights: no weight for documents with {proportions.by} {value!r}",
                        "give it a weight; 0 leaves it out",
                    )
                found = np.where(found < 0, rest, np.where(found < len(proportions.names), found, -1))
                index = rows["index"].to_numpy()
                if len(index) and not (index.min() >= 0 and index.max() < documents):
                    seen = documents + 1
                    break
                result[index] = found
                seen += len(index)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise HainaError(
            f"{split.table}: no readable column `{proportions.by}` ({str(error).splitlines()[0]})",
            "write the shards again",
        ) from error
    if seen != documents or (result == -2).any():
        raise HainaError(
            f"{split.table}: its rows are not the {documents:,} documents of {split.name}",
            "write the shards again",
        )
    counts = np.bincount(result[result >= 0], minlength=len(proportions.names))
    for name, count in zip(proportions.names, counts, strict=True):
        if count == 0 and name != REST:
            raise HainaError(
                f"train.loader: no documents with {proportions.by} {name!r} to train on", "give it weight 0"
            )
    return result
