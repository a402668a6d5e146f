"""The search for repeats said plainly: a dictionary of everything, and Python strings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.dedup.shingles import tokenize_batch
from haina.corpus.repeats.config import RepeatsConfig
from haina.corpus.repeats.find import Found, find_repeats
from haina.corpus.repeats.units import plain_units
from haina.corpus.repeats.windows import repeated_windows_plain
from haina.corpus.utf8 import pack
from haina.runtime.executor import LocalExecutor
from haina.runtime.executor.exchange import BucketWriter

Documents = Sequence[tuple[str, str]]
COLUMNS = (
    "id", "start", "end", "tokens", "documents", "occurrences", "is_first", "first_id", "first_start", "first_end",
)  # fmt: skip


class Direct:
    """An executor without processes, manifests and flushed files: hundreds of small searches in seconds."""

    def map(self, task: Any, items: Sequence[Any], outputs: Sequence[Path], *, description: str) -> None:
        for item, output in zip(items, outputs, strict=True):
            output.parent.mkdir(parents=True, exist_ok=True)
            task(item, output)

    def exchange(
        self, task: Any, items: Sequence[Any], outputs: Sequence[Path], *, partitions: int, description: str
    ) -> None:
        for item, output in zip(items, outputs, strict=True):
            output.parent.mkdir(parents=True, exist_ok=True)
            buckets = BucketWriter(output, partitions)
            task(item, buckets)
            buckets.finish()


def write_parts(folder: Path, documents: Documents, parts: int, **columns: list[Any]) -> list[Path]:
    """The documents in `parts` Parquet files, in order."""
    paths = []
    for part in range(parts):
        low, high = (len(documents) * index // parts for index in (part, part + 1))
        table = {
            "id": pa.array([name for name, _ in documents[low:high]], pa.string()),
            "text": pa.array([text for _, text in documents[low:high]], pa.string()),
            **{name: values[low:high] for name, values in columns.items()},
        }
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(folder / f"in-{part}.parquet")
        pq.write_table(pa.table(table), paths[-1])
    return paths


def found_in(folder: Path, paths: Sequence[Path], config: RepeatsConfig, workers: int = 1) -> Found:
    with LocalExecutor(workers) as executor:
        return find_repeats(executor, folder / "work", paths, config, folder / "out")


def rows_of(found: Found) -> list[tuple[Any, ...]]:
    """Rows of `repeats`, all blocks, sorted."""
    return sorted(
        tuple(row[name] for name in COLUMNS)
        for path in found.repeats
        for row in pq.read_table(path).to_pylist()
    )


def tokens_plain(text: str) -> tuple[list[int], list[int], list[int]]:
    tokens = tokenize_batch(*pack([text]))
    return tokens.hashes.tolist(), tokens.starts.tolist(), tokens.ends.tolist()


Rank = Callable[[int], tuple[float, int, int]]
Every = list[tuple[list[int], list[int], list[int]]]


def _expected_units(
    documents: Documents, config: RepeatsConfig, every: Every, rank: Rank
) -> list[tuple[Any, ...]]:
    assert config.level != "substring"
    places: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
    for number, ((_, text), (hashes, starts, _)) in enumerate(zip(documents, every, strict=True)):
        for start, end in plain_units(text, config.level):
            own = tuple(value for value, at in zip(hashes, starts, strict=True) if start <= at < end)
            if own:
                places.setdefault(own, []).append((number, start, end))
    rows = []
    for own, found in places.items():
        holders = {place[0] for place in found}
        if len(found) < 2 or len(holders) < min(2, config.documents):
            continue
        first = min(found, key=lambda place: (rank(place[0]), place[1]))
        rows += [
            (
                documents[number][0], start, end, len(own), len(holders), len(found), (number, start, end) == first,
                documents[first[0]][0], first[1], first[2],
            )
            for number, start, end in found
        ]  # fmt: skip
    return sorted(rows)


def _expected_spans(
    documents: Documents, config: RepeatsConfig, every: Every, rank: Rank
) -> list[tuple[Any, ...]]:
    width = config.tokens
    known: dict[tuple[int, int], tuple[int, int, int, int]] = {}
    for found in repeated_windows_plain([hashes for hashes, _, _ in every], width).values():
        holders = {number for number, _ in found}
        if len(holders) >= config.documents:
            first = min(found, key=lambda place: (rank(place[0]), place[1]))
            for place in found:
                known[place] = (*first, len(holders), len(found))
    rows = []
    for number, (hashes, starts, ends) in enumerate(every):
        runs: list[list[tuple[int, ...]]] = []
        for place in range(len(hashes) - width + 1):
            if (number, place) not in known:
                continue
            window = (place, *known[number, place])
            if runs and tuple(
                value - last for value, last in zip(window[:3], runs[-1][-1][:3], strict=True)
            ) == (1, 0, 1):
                runs[-1].append(window)
            else:
                runs.append([window])
        for run in runs:
            begin, last = run[0], run[-1]
            other = begin[1]
            rows.append(
                (
                    documents[number][0], starts[begin[0]], ends[last[0] + width - 1], last[0] - begin[0] + width,
                    min(window[3] for window in run), min(window[4] for window in run),
                    (other, begin[2]) == (number, begin[0]), documents[other][0], every[other][1][begin[2]],
                    every[other][2][last[2] + width - 1],
                )
            )  # fmt: skip
    return sorted(rows)


def expected_rows(
    documents: Documents, config: RepeatsConfig, priority: Sequence[float] | None = None
) -> list[tuple[Any, ...]]:
    """What `rows_of` has to be."""

    def rank(number: int) -> tuple[float, int, int]:
        digest = hashlib.blake2b(documents[number][0].encode(), digest_size=8).digest()
        return -(priority[number] if priority else 0), int.from_bytes(digest, "little"), number

    every = [tokens_plain(text) for _, text in documents]
    expected = _expected_spans if config.level == "substring" else _expected_units
    return expected(documents, config, every, rank)
