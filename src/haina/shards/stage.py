"""Writing token shards: documents and a tokenizer in, a shards folder out. `haina shards write` and the shards stage.

    plan      files are cut into blocks of bounded size
    encode    each block becomes a piece: its documents as token ids (`encode.py`)
    count     what each piece holds (`tally.py`)
    divide    documents go to splits, splits are cut into shards of bounded size (`division.py`)
    assemble  each file of the folder is written by a task of its own (`assemble.py`), then read for its checksum

All but planning and dividing, which take a moment, runs on the context's executor. Bytes do not depend on the number of
workers, and finished files outlive a kill.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from haina.runtime.errors import HainaError
from haina.runtime.executor import Location, local_copy
from haina.runtime.files import write_json
from haina.runtime.stage import StageContext, StageResult
from haina.runtime.text_files import Block, input_files, plan_blocks
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards.assemble import Documents, Dropped, Index, Tokens, write_checksum, write_file
from haina.shards.config import ShardsConfig
from haina.shards.division import Shard, divide
from haina.shards.domains import Mixture, read_mixture, token_weights
from haina.shards.encode import RECOVERY, Encoding, encode_blocks, frame_ids
from haina.shards.indexed import shard_paths, token_dtype
from haina.shards.pieces import Rule
from haina.shards.shard_set import SHARDS_FILE, SHARDS_VERSION, TRAIN, describe_shard, describe_split
from haina.shards.tally import Split, Tally, add_up, read_tally, tally_piece

DOCUMENTS_FILE = "documents.parquet"
DROPPED_FILE = "dropped.parquet"


def run(config: ShardsConfig, context: StageContext) -> StageResult:
    """Encode the `corpus` output, or the context's sources where there is none, with `tokenizer`; write `shards`.

    Raises:
        HainaError: no documents, none left for training, a tokenizer without begin and end tokens, a mixture that does
            not fit the documents, or an input that cannot be read.
    """
    mixture = read_mixture(config.mixture)
    tokenizer = TokenizerFile(context.input("tokenizer"))
    frame_ids(tokenizer)
    inputs = (
        [context.input("corpus")] if "corpus" in context.inputs else [Path(name) for name in context.sources]
    )
    files = input_files(inputs)
    pieces = _encode(files, tokenizer, mixture, config, context)
    rule, tallies = _tally(pieces, config.validation_fraction, context)
    total = add_up(tallies)
    _check(total, inputs)
    shard_tokens = max(1, config.shard_bytes // token_dtype(tokenizer.vocab_size).itemsize)
    shards = divide(pieces, tallies, rule, shard_tokens)
    entries = _assemble(shards, pieces, rule, tokenizer, mixture is not None, context)
    write_json(context.out("shards") / SHARDS_FILE, _description(total, entries, tokenizer, mixture))
    documents, dropped = sum(split.documents for split in total.splits.values()), total.dropped.total()
    return StageResult(
        records_in=documents + dropped,
        records_out=documents,
        records_dropped=dropped,
        unit="documents",
        metrics={f"tokens.{name}": total.splits[name].tokens for name in shards},
    )


def _encode(
    files: Sequence[Path],
    tokenizer: TokenizerFile,
    mixture: Mixture | None,
    config: ShardsConfig,
    context: StageContext,
) -> list[Location]:
    """The pieces of all blocks, in order."""
    groups = _grouped(plan_blocks(files, config.block_bytes), config.block_bytes)
    pieces = [context.scratch / "pieces" / f"{number:07d}.arrow" for number in range(len(groups))]
    context.executor.map(
        encode_blocks,
        [Encoding(group, tokenizer.folder, tokenizer.fingerprint, mixture) for group in groups],
        pieces,
        description="encoding documents",
        unit="blocks",
        # One worker is this process, unless it may die of a document.
        recovery=RECOVERY if context.workers > 1 else None,
    )
    return pieces


def _grouped(blocks: Sequence[Block], block_bytes: int) -> list[tuple[Block, ...]]:
    """Blocks that follow one another, as many together as make one of full size: files may be small and many."""
    groups: list[list[Block]] = []
    held = 0
    for block in blocks:
        if not groups or held + block.bytes > block_bytes:
            groups.append([])
            held = 0
        groups[-1].append(block)
        held += block.bytes
    return [tuple(group) for group in groups]


def _tally(pieces: list[Location], fraction: float, context: StageContext) -> tuple[Rule, list[Tally]]:
    """The rule that divides these documents, and what each piece holds under it."""
    rule = Rule(fraction)
    while True:
        folder = context.scratch / ("tallies-again" if rule.clusters else "tallies")
        files = [folder / f"{piece.stem}.json" for piece in pieces]
        context.executor.map(
            tally_piece, [(piece, rule) for piece in pieces], files, description="counting", unit="blocks"
        )
        tallies = [read_tally(file) for file in files]
        clusters = add_up(tallies).lone_clusters(fraction)
        if clusters == rule.clusters:
            return rule, tallies
        rule = Rule(fraction, clusters)


def _check(total: Tally, inputs: Sequence[Path]) -> None:
    if not total.splits:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(total.dropped.items()))
        raise HainaError(
            f"{inputs[0]}: no documents{f' (dropped: {reasons})' if reasons else ''}",
            "name files that hold text",
        )
    if TRAIN not in total.splits:
        raise HainaError(
            "shards: no documents are left to train on", "lower shards.validation_fraction or bring more text"
        )


def _assemble(
    divided: dict[str, list[Shard]],
    pieces: list[Location],
    rule: Rule,
    tokenizer: TokenizerFile,
    domains: bool,
    context: StageContext,
) -> dict[str, list[dict[str, Any]]]:
    """Write all files but `shards.json`; the entries of the shards of each split."""
    home = context.pieces("shards")
    shards = [shard for of_split in divided.values() for shard in of_split]
    table = Documents(tuple(pieces), tuple(divided), rule, domains)
    # The longest task first, so that no worker is left alone with it.
    items: list[Any] = [
        table,
        *map(Tokens, shards),
        *(Index(shard, tokenizer.vocab_size) for shard in shards),
    ]
    items.append(Dropped(tuple(pieces)))
    bins, indices = zip(*(shard_paths(home / shard.name) for shard in shards), strict=True)
    outputs = [home / DOCUMENTS_FILE, *bins, *indices, home / DROPPED_FILE]
    context.executor.map(write_file, items, outputs, description="writing shards", unit="files")
    sums = [context.scratch / "checksums" / f"{path.name}.json" for path in (*bins, *indices)]
    context.executor.map(write_checksum, [*bins, *indices], sums, description="checksums", unit="files")
    context.collect("shards")
    found = []
    for location in sums:
        with local_copy(location) as path:
            found.append(json.loads(path.read_bytes()))
    entries: dict[str, list[dict[str, Any]]] = {name: [] for name in divided}
    for shard, of_bin, of_index in zip(shards, found[: len(shards)], found[len(shards) :], strict=True):
        entry = describe_shard(shard.name, shard.documents, shard.tokens, of_bin, of_index)
        entries[shard.split].append(entry)
    return entries


def _description(
    total: Tally,
    entries: dict[str, list[dict[str, Any]]],
    tokenizer: TokenizerFile,
    mixture: Mixture | None,
) -> dict[str, Any]:
    bos, eos = frame_ids(tokenizer)
    train, dtype = total.splits[TRAIN], token_dtype(tokenizer.vocab_size)
    content: dict[str, Any] = {
        "version": SHARDS_VERSION,
        "tokenizer": {
            "fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "bos_id": bos,
            "eos_id": eos,
        },
        "documents": DOCUMENTS_FILE,
        "dropped": {"file": DROPPED_FILE, "documents": dict(sorted(total.dropped.items()))},
        "splits": {
            name: describe_split(files, dtype, total.splits[name].bytes)
            | {"tokens_by": _tokens_by(total.splits[name])}
            for name, files in entries.items()
        },
        "mixture_weights": {
            lang: round(tokens / train.tokens, 6)
            for lang, tokens in sorted(train.tokens_by["language"].items())
        },
    }
    if mixture is not None:
        weights = token_weights(mixture, train.tokens_by["domain"], train.bytes_by_domain)
        content["mixture"] = {"by": mixture.by, "weights": weights}
    return content


def _tokens_by(split: Split) -> dict[str, dict[str, int]]:
    return {what: dict(sorted(counts.items())) for what, counts in split.tokens_by.items() if counts}
