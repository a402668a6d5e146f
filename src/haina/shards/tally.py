"""Counting what the pieces hold, each piece by a task of its own.

In: a piece and a rule. Out: a small JSON file: documents, tokens and bytes of each split, tokens by language, source
and domain, rows that are no documents by reason, and the clusters that decide what is held out. So the process that
divides the documents reads a few numbers a piece, however many documents there are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from haina.runtime.executor import Location, local_copy
from haina.shards.encode import DOMAIN
from haina.shards.pieces import Rule, chunk, piece_rows

OTHER_SOURCES = "(other sources)"
_SOURCES_NAMED = 256
_COLUMNS = ("cluster_id", "position", "group", "reason", "lang", "source", DOMAIN, "bytes", "length")


@dataclass
class Split:
    """What was counted in a split.

    Attributes:
        documents, tokens, bytes: of UTF-8. tokens_by: tokens by language, source and domain. bytes_by_domain: UTF-8.
    """

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    tokens_by: dict[str, Counter[str]] = field(
        default_factory=lambda: {"language": Counter(), "source": Counter(), "domain": Counter()}
    )
    bytes_by_domain: Counter[str] = field(default_factory=Counter)


@dataclass
class Tally:
    """What was counted in a piece, or in several.

    Attributes:
        splits: by name. dropped: rows that are no documents, by reason.
        smallest: the cluster with the smallest position of each language group, behind that position.
        largest: the largest position of each.
    """

    splits: dict[str, Split] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    smallest: dict[str, tuple[float, str]] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)

    def lone_clusters(self, fraction: float) -> tuple[str, ...]:
        """The clusters that are held out although their position is not below `fraction`: the smallest of each language
        that has several. See `runtime.held_out.held_out_clusters`."""
        several = (group for group in sorted(self.smallest) if self.largest[group] > self.smallest[group][0])
        return tuple(self.smallest[group][1] for group in several if self.smallest[group][0] >= fraction)


def tally_piece(item: tuple[Location, Rule], output: Path) -> None:
    """Task: count one piece."""
    piece, rule = item
    rows = piece_rows(piece, _COLUMNS)
    found = Tally(dropped=Counter(rows["reason"].drop_null().to_pylist()))
    positions = chunk(rows, "position").to_numpy(zero_copy_only=False)
    coded = chunk(rows, "group").dictionary_encode()
    codes = pc.fill_null(coded.indices, -1).to_numpy()
    for code, group in enumerate(coded.dictionary.to_pylist()):
        of_group = np.flatnonzero(codes == code)
        first = int(of_group[np.argmin(positions[of_group])])
        found.smallest[group] = float(positions[first]), rows["cluster_id"][first].as_py()
        found.largest[group] = float(positions[of_group].max())
    names = rule.splits(rows)
    for name in sorted({name for name in names.tolist() if name is not None}):
        found.splits[name] = _count_split(rows.filter(pa.array(names == name)))
    output.write_text(json.dumps(found, default=vars, ensure_ascii=False), encoding="utf-8")


def _count_split(rows: pa.Table) -> Split:
    lengths, sizes = rows["length"].to_numpy(), rows["bytes"].to_numpy()
    # The first part of a path: of the pages of a folder, the folder is what one wants counted.
    sources = pc.list_element(pc.split_pattern(rows["source"], "/", max_splits=1), 0)
    by = {
        "language": _sums(rows["lang"], lengths),
        "source": _sums(sources, lengths),
        "domain": _sums(rows[DOMAIN], lengths),
    }
    return Split(rows.num_rows, int(lengths.sum()), int(sizes.sum()), by, _sums(rows[DOMAIN], sizes))


def _sums(names: pa.ChunkedArray, amounts: NDArray[np.int64]) -> Counter[str]:
    table = pa.table({"name": names, "amount": amounts}).group_by("name").aggregate([("amount", "sum")])
    pairs = zip(table["name"].to_pylist(), table["amount_sum"].to_pylist(), strict=True)
    return Counter({name: amount for name, amount in pairs if name is not None})


def read_tally(location: Location) -> Tally:
    """What a task counted."""
    with local_copy(location) as path:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    splits = {}
    for name, split in content["splits"].items():
        by = {what: Counter(counts) for what, counts in split.pop("tokens_by").items()}
        splits[name] = Split(
            **split | {"tokens_by": by, "bytes_by_domain": Counter(split["bytes_by_domain"])}
        )
    smallest = {group: (position, cluster) for group, (position, cluster) in content["smallest"].items()}
    return Tally(splits, Counter(content["dropped"]), smallest, content["largest"])


def add_up(tallies: Iterable[Tally]) -> Tally:
    """All of them together, sources beyond the largest 256 of a split in one number."""
    result = Tally()
    for tally in tallies:
        result.dropped += tally.dropped
        for group, found in tally.smallest.items():
            result.smallest[group] = min(result.smallest.get(group, found), found)
            result.largest[group] = max(result.largest.get(group, 0.0), tally.largest[group])
        for name, split in tally.splits.items():
            into = result.splits.setdefault(name, Split())
            into.documents += split.documents
            into.tokens += split.tokens
            into.bytes += split.bytes
            into.bytes_by_domain += split.bytes_by_domain
            for what, counts in split.tokens_by.items():
                into.tokens_by[what].update(counts)
    for split in result.splits.values():
        split.tokens_by["source"] = _largest(split.tokens_by["source"])
    return result


def _largest(counts: Counter[str]) -> Counter[str]:
    """The largest by name, the others together; ties by name."""
    order = sorted(counts, key=lambda name: (-counts[name], name))
    kept = Counter({name: counts[name] for name in order[:_SOURCES_NAMED]})
    if rest := sum(counts[name] for name in order[_SOURCES_NAMED:]):
        kept[OTHER_SOURCES] += rest
    return kept
