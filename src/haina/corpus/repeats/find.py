"""Everything that stands twice in a corpus, with counts and with where its first occurrence is.

Comes in: Parquet files of documents. Goes out: `repeats/part-*.parquet`, a row an occurrence of something repeated, and
`units/part-*.parquet`, a row a repeated thing with its text. Two exchanges over the same blocks of documents:

    hashes     what might stand twice: one 64-bit hash a unit, or a few a hundred tokens of windows. A partition of the
               hashes says which were seen twice; each block hears which of its own were.
    keys       only what survived, with 128-bit keys, counts and the best occurrence in the block. A partition adds up
               and answers: documents, occurrences, and the first occurrence of all.

Then each block writes its rows. Exact: equal units and equal windows have equal hashes, so the first exchange loses
nothing, and unequal ones agree in 128 bits with a chance below 1e-18 for 1e10 keys. Work and traffic are linear: a
block sends a key once, however often it stands there, and partitions count without comparing pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from haina.corpus.blocks import Block, plan_blocks
from haina.corpus.documents import part_name
from haina.corpus.repeats.blocks import ids_of, rank_keys, ranks, token_batches
from haina.corpus.repeats.config import RepeatsConfig
from haina.corpus.repeats.messages import Message, as_occurrences, message_of
from haina.corpus.repeats.rows import write_rows, write_units
from haina.corpus.repeats.scanner import Scanner
from haina.corpus.repeats.tables import I64, U64, HashSet, KeyTable
from haina.runtime.errors import HainaError
from haina.runtime.executor import Buckets, Executor, Location, iter_exchange

_PARTITION_BYTES = 64 << 20
_MOST_PARTITIONS = 1024


@dataclass(frozen=True)
class Scan:
    """What a task over a block is given: the block, settings, and the answers of the exchanges before."""

    block: Block
    config: RepeatsConfig
    partitions: int
    twice: tuple[Location, ...] = ()
    counted: tuple[Location, ...] = ()


@dataclass(frozen=True)
class Share:
    """What a task over a partition of keys is given."""

    partition: int
    config: RepeatsConfig
    exchanged: tuple[Location, ...]


@dataclass(frozen=True)
class Found:
    """Where the results are: one file a block each."""

    blocks: tuple[Block, ...]
    repeats: tuple[Path, ...]
    units: tuple[Path, ...]


def partition_of(route: U64, partitions: int) -> I64:
    """Share of the keys that a hash belongs to: int64 [hashes]."""
    return (((route >> np.uint64(32)) * np.uint64(partitions)) >> np.uint64(32)).astype(np.int64)


def send_hashes(item: Scan, buckets: Buckets) -> None:
    """Exchange task: the distinct hashes of a block, each with its lowest bit set when it stands there twice."""
    scanner, found = Scanner(item.config), HashSet()
    for batch in token_batches(item.block, scanner.overlap, scanner.level):
        found.add(*scanner.hashes(batch))
    values = found.values[: found.count] | found.seen[: found.count].astype(np.uint64)
    values = np.sort(values)
    cuts = np.searchsorted(partition_of(values, item.partitions), np.arange(item.partitions + 1))
    for partition in range(item.partitions):
        if cuts[partition] < cuts[partition + 1]:
            buckets.add(partition, values[cuts[partition] : cuts[partition + 1]].astype("<u8").tobytes())


def answer_hashes(item: Share, buckets: Buckets) -> None:
    """Exchange task: to each block those of its hashes that stand twice, in it or in all blocks together."""
    sent = [
        [np.frombuffer(data, dtype="<u8") for data in iter_exchange([path], item.partition)]
        for path in item.exchanged
    ]
    every = np.sort(
        np.concatenate([part for parts in sent for part in parts] or [np.empty(0, dtype=np.uint64)])
    )
    names = every >> np.uint64(1)
    twice = (every & np.uint64(1)).astype(np.bool_)
    twice[1:] |= names[1:] == names[:-1]
    repeated = np.unique(names[twice])
    if not len(repeated):
        return
    for block, parts in enumerate(sent):
        for part in parts:
            name = part >> np.uint64(1)
            place = np.minimum(np.searchsorted(repeated, name), len(repeated) - 1)
            own = name[repeated[place] == name] << np.uint64(1)
            if len(own):
                buckets.add(block, own.astype("<u8").tobytes())


def _repeated_hashes(item: Scan) -> HashSet:
    repeated = HashSet()
    for data in iter_exchange(item.twice, item.block.number):
        repeated.add(np.frombuffer(data, dtype="<u8"))
    return repeated


def send_keys(item: Scan, buckets: Buckets) -> None:
    """Exchange task: the keys of a block whose hashes are repeated, once each."""
    repeated = _repeated_hashes(item)
    if not repeated.count:
        return
    scanner, table = Scanner(item.config), KeyTable()
    ids = ids_of(item.block)
    ranked = rank_keys(item.block, ids, item.config.priority)
    rank = ranks(ranked)
    for batch in token_batches(item.block, scanner.overlap, scanner.level):
        table.add(scanner.rows(batch, repeated, rank))
    rows = table.rows()
    shares = partition_of(rows.route, item.partitions)
    order = np.argsort(shares, kind="stable")
    cuts = np.searchsorted(shares[order], np.arange(item.partitions + 1))
    for partition in range(item.partitions):
        own = order[cuts[partition] : cuts[partition + 1]]
        if len(own):
            buckets.add(partition, message_of(item.block.number, rows, own, rows.document[own], ranked, ids))


def answer_keys(item: Share, buckets: Buckets) -> None:
    """Exchange task: to each block, what all blocks know together about the keys it sent, where they are repeated."""
    messages = [Message.decode(data) for data in iter_exchange(item.exchanged, item.partition)]
    if not messages:
        return
    ranked = np.concatenate([message.ranked for message in messages])
    ids = [name for message in messages for name in message.ids]
    rank = ranks(ranked)
    at_rank = np.argsort(rank)
    table = KeyTable()
    first = 0
    for number, message in enumerate(messages):
        rows = as_occurrences(message, number, rank[first + message.document.astype(np.int64)])
        table.add(rows)
        first += len(message.ids)
    known = table.rows()
    least = item.config.documents if item.config.level == "substring" else min(2, item.config.documents)
    repeated = (known.occurrences > 1) & (known.documents >= least)
    for message in messages:
        place = table.find(message.high, message.low)
        place = place[repeated[place]]
        if len(place):
            best = at_rank[known.rank[place]]
            buckets.add(message.block, message_of(message.block, known, place, best, ranked, ids))


def write_block(item: Scan, output: Path) -> None:
    """Task: the repeats of a block."""
    messages = [Message.decode(data) for data in iter_exchange(item.counted, item.block.number)]
    write_rows(item.block, item.config, _repeated_hashes(item), messages, output)


def plan_partitions(config: RepeatsConfig, text_bytes: int) -> int:
    """Shares of the keys."""
    return config.partitions or max(1, min(_MOST_PARTITIONS, -(-text_bytes // _PARTITION_BYTES)))


def find_repeats(
    executor: Executor, work: Path, parts: Sequence[Path], config: RepeatsConfig, out: Path
) -> Found:
    """Find what stands more than once.

    Args:
        executor: where tasks run.
        work: folder for files in between.
        parts: Parquet files with `id` and `text`, and `config.priority` if it is set.
        config: see `RepeatsConfig`.
        out: folder for `repeats/` and `units/`.

    Raises:
        HainaError: a file is missing or damaged, or lacks a column, or there are no documents.
    """
    blocks, text_bytes = plan_blocks(parts, config.block_bytes, config.priority)
    if not blocks:
        raise HainaError("there is no document in the input", "name Parquet files with documents")
    partitions = plan_partitions(config, text_bytes)

    def files(name: str, count: int) -> tuple[Path, ...]:
        return tuple(work / name / f"part-{index:05d}.exchange" for index in range(count))

    hashes, twice = files("hashes", len(blocks)), files("twice", partitions)
    keys, counted = files("keys", len(blocks)), files("counted", partitions)
    unit = config.level
    executor.exchange(
        send_hashes,
        [Scan(block, config, partitions) for block in blocks],
        hashes,
        partitions=partitions,
        description=f"{unit}s: hashes",
    )
    executor.exchange(
        answer_hashes,
        [Share(partition, config, hashes) for partition in range(partitions)],
        twice,
        partitions=len(blocks),
        description=f"{unit}s: seen twice",
    )
    executor.exchange(
        send_keys,
        [Scan(block, config, partitions, twice) for block in blocks],
        keys,
        partitions=partitions,
        description=f"{unit}s: keys",
    )
    executor.exchange(
        answer_keys,
        [Share(partition, config, keys) for partition in range(partitions)],
        counted,
        partitions=len(blocks),
        description=f"{unit}s: counts",
    )
    repeats = tuple(out / "repeats" / part_name(block.number) for block in blocks)
    units = tuple(out / "units" / part_name(block.number) for block in blocks)
    executor.map(
        write_block,
        [Scan(block, config, partitions, twice, counted) for block in blocks],
        repeats,
        description="repeats",
    )
    executor.map(write_units, list(zip(blocks, repeats, strict=True)), units, description="repeated units")
    return Found(tuple(blocks), repeats, units)
