"""What a shards folder holds: splits, text by language, source and domain, files, tokenizer.

Comes in: a shards folder. Goes out: a description. Counts of documents and bytes come from the table of documents, read
column by column in bounded memory; nothing is read of the tokens. Files are held against the sizes in `shards.json`;
their checksums are `haina shards verify`'s work.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from haina.recipe.description import Description, Table, preview, short
from haina.runtime.errors import HainaError
from haina.shards.shard_set import read_description

LARGEST = 20
BATCH_ROWS = 1 << 16
Counts = tuple[int, int, int]  # documents, tokens, bytes
# The first folder of a source tells more than the thousand files below it.
SOURCE = "source"


def describe_shards(path: Path, rows: int) -> Description:
    """Explain the shards folder `path`, with the first `rows` documents.

    Raises:
        HainaError: `shards.json` or the table of documents is damaged.
    """
    content = read_description(path)
    splits = content["splits"]
    facts = {f"tokenizer {key}": short(value) for key, value in content["tokenizer"].items()}
    if "mixture" in content:
        facts["mixture"] = f"by {content['mixture']['by']}: {short(content['mixture']['weights'])}"
    if content.get("dropped", {}).get("documents"):
        facts["rows left out"] = short(content["dropped"]["documents"])
    tables = [_splits(splits)]
    documents = path / content["documents"] if content["documents"] else None
    if documents is not None:
        for column, counts in _counted(documents).items():
            tables.append(_group(column, counts))
    tables.append(_files(path, splits))
    if documents is not None:
        tables.append(preview(documents, ("shard", "index", "id", "lang", "tokens", "url"), rows))
    return Description("token shards", facts, tables)


def _splits(splits: Mapping[str, Any]) -> Table:
    found = []
    for name, split in splits.items():
        ratio = f"{split['bytes'] / split['tokens']:.3f}" if split["tokens"] and split["bytes"] else ""
        amounts = (f"{split[what]:,}" for what in ("documents", "tokens", "bytes"))
        found.append((name, *amounts, ratio, str(split["dtype"]), str(len(split["files"]))))
    columns = ("split", "documents", "tokens", "bytes", "bytes/token", "type", "files")
    return Table("splits", columns, found)


def _files(path: Path, splits: Mapping[str, Any]) -> Table:
    """Files with the state of each: present with its size or not. The checksum is shown, not compared."""
    found = []
    for split in splits.values():
        for entry in split["files"]:
            for suffix in ("bin", "idx"):
                file = path / f"{entry['name']}.{suffix}"
                size = file.stat().st_size if file.is_file() else None
                promised = entry["bytes"][suffix]
                if size is None:
                    state = "missing"
                elif size != promised:
                    state = f"{size:,} bytes: damaged"
                else:
                    state = "size right; not verified"
                found.append((file.name, f"{promised:,}", entry["sha256"][suffix][:12], state))
    title = "files; `haina shards verify` compares the checksums"
    return Table(title, ("file", "bytes", "sha256", "state"), found)


def _counted(path: Path) -> dict[str, dict[tuple[str, str], Counts]]:
    """By column the documents, tokens and bytes of each (split, value); of sources their first folder.

    Raises:
        HainaError: the table is damaged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in ("lang", "domain", SOURCE) if name in file.schema_arrow.names]
            found: dict[str, dict[tuple[str, str], Counts]] = {name: {} for name in columns}
            for batch in file.iter_batches(
                batch_size=BATCH_ROWS, columns=["shard", "tokens", "bytes", *columns]
            ):
                table = pa.Table.from_batches([batch])
                if SOURCE in columns:
                    folder = pc.list_element(pc.split_pattern(pc.fill_null(table[SOURCE], ""), "/"), 0)
                    table = table.set_column(table.schema.get_field_index(SOURCE), SOURCE, folder)
                for name in columns:
                    sums = table.group_by(["shard", name]).aggregate(
                        [("tokens", "count"), ("tokens", "sum"), ("bytes", "sum")]
                    )
                    for row in sums.to_pylist():
                        key = (row["shard"], row[name] or "none")
                        documents, tokens, size = found[name].get(key, (0, 0, 0))
                        found[name][key] = (
                            documents + row["tokens_count"],
                            tokens + row["tokens_sum"],
                            size + row["bytes_sum"],
                        )
            return found
    except (pa.ArrowException, OSError, KeyError) as error:
        raise HainaError(
            f"{path}: not the table of documents ({str(error).splitlines()[0]})",
            "write the shards again",
        ) from error


def _group(column: str, counts: Mapping[tuple[str, str], Counts]) -> Table:
    """The largest values of a column by tokens, split by split, and the rest in one row."""
    splits = dict.fromkeys(split for split, _ in counts)
    found = []
    for split in splits:
        mine = [(name, *numbers) for (at, name), numbers in counts.items() if at == split]
        shown = sorted(mine, key=lambda row: (-row[2], row[0]))
        total = sum(row[2] for row in mine)
        if rest := shown[LARGEST:]:
            others = (sum(row[1] for row in rest), sum(row[2] for row in rest), sum(row[3] for row in rest))
            shown = [*shown[:LARGEST], (f"{len(rest):,} others", *others)]
        for name, documents, tokens, size in shown:
            ratio = f"{size / tokens:.3f}" if tokens else ""
            share = f"{tokens / total:.1%}" if total else ""
            found.append((split, name, f"{documents:,}", f"{tokens:,}", share, f"{size:,}", ratio))
    columns = ("split", column, "documents", "tokens", "share", "bytes", "bytes/token")
    return Table(f"by {'language' if column == 'lang' else column}", columns, found)
