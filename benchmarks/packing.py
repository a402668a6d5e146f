"""Claim: packed rows hold <= 1 % padding, and no document is cut that fits into a row.

Documents of Wikipedia in both languages, laws and poems, each source alone and all together, in rows of 4,096 and
2,048, packed three ways:

    best fit     ours, from real shards and a real plan
    concatenate  ours, the option: one stream, cut into windows that overlap by one token
    crop         best fit as nanochat's loader is described, written from the description: a buffer of 1,000
                 documents; into a row goes the longest one that fits whole, and when none does, the shortest one,
                 cropped to what is free; what is cropped is not read

Printed: share of all places that are padding; documents cut although they would fit into a row, as number and share of
all documents; share of the tokens to be predicted that are never read; CPU seconds to make the plan.

With --tokenizer the lengths are those of its tokens; without, bytes of UTF-8 over the bytes a token that
`haina tokenizer compare` gives for the source, about: the claim does not depend on it.

Run: OMP_NUM_THREADS=1 python benchmarks/packing.py [--data ../shared/data] [--tokenizer DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numba import njit

from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards import LoaderSection, open_loader
from haina.shards.plan import PackPlan
from haina.shards.shard_set import write_arrays
from trained_tokenizer import tokenizer_folder

SOURCES = ("zh_wikipedia", "en_wikipedia", "zh_laws", "zh_tang_poems")
TOKENIZER = {"fingerprint": "made-up", "vocab_size": 64_000, "bos_id": 0, "eos_id": 1}
LENGTHS = (4096, 2048)
BUFFER = 1000
FRAME = 2  # <s> and </s>


def lengths_of(path: Path, tokenizer: TokenizerFile) -> np.ndarray:
    """Tokens of each document of a file, with its frame."""
    found = []
    for batch in pq.ParquetFile(path).iter_batches(1024, columns=["text"]):
        found.append(np.diff(tokenizer.encode_column(batch.column("text"))[1]))
    lengths: np.ndarray = np.concatenate(found) + FRAME
    return lengths


@njit(cache=False)  # type: ignore[untyped-decorator]
def crop_best_fit(lengths: np.ndarray, room: int, buffer: int) -> tuple[int, int, int, int]:
    """The baseline over documents of `lengths` tokens; a row holds `room` tokens.

    Returns:
        rows, documents cropped although they fit into a row, tokens that are never predicted, cropped documents.
    """
    held = np.empty(buffer, np.int64)
    rows = needless = lost = cropped = 0
    kept = taken = 0
    free = room
    while True:
        while kept < buffer and taken < len(lengths):
            held[kept] = lengths[taken]
            kept += 1
            taken += 1
        if kept == 0:
            break
        best = -1
        shortest = 0
        for place in range(kept):
            if held[place] <= free and (best < 0 or held[place] > held[best]):
                best = place
            if held[place] < held[shortest]:
                shortest = place
        if best >= 0:
            free -= held[best]
        else:
            best = shortest
            lost += min(held[best] - free, held[best] - 1)
            needless += held[best] <= room
            cropped += 1
            free = 0
        held[best] = held[kept - 1]
        kept -= 1
        if free == 0:
            rows += 1
            free = room
    return rows + (free < room), needless, lost, cropped


def cuts(plan: PackPlan, lengths: np.ndarray, room: int) -> int:
    """Documents that stand in several pieces although their n - 1 inputs fit into a row, counted in the plan itself.

    In a stream every window begins with the token that the one before ends in, so a piece of one token, or one that
    begins with the last token of its document, brings no cut.
    """
    pieces = plan.pieces
    if plan.identity["packing"] == "concatenate":
        tokens = np.minimum(pieces["length"], lengths[pieces["document"]] - pieces["first"])
        pieces = pieces[tokens > 1]
    parts = np.bincount(pieces["document"], minlength=len(lengths))
    return int(((parts > 1) & (lengths - 1 <= room)).sum())


def measure(name: str, lengths: np.ndarray, room: int, work: Path) -> dict[str, Any]:
    """All three for one set of documents."""
    shards = work / name
    if not shards.exists():
        stream = np.zeros(int(lengths.sum()), np.uint16)
        documents = np.split(stream, np.cumsum(lengths)[:-1])
        write_arrays(shards, {"train": documents}, TOKENIZER, np.dtype("<u2"))
    targets = int((lengths - 1).sum())
    found: dict[str, Any] = {}
    for packing in ("best_fit", "concatenate"):
        settings = LoaderSection(packing=packing).with_sizes(room, 1, 0)
        open_loader(shards, settings)  # compiles
        started = time.process_time()
        plan = open_loader(shards, settings).plan
        seconds = time.process_time() - started
        read = sum(domain.targets for domain in plan.domains)
        if packing == "concatenate":
            # Targets across borders are no tokens of a document's own.
            read = targets - (int(lengths.sum()) - 1 - plan.packs * room)
        found[packing] = {
            "rows": plan.packs,
            "padding": plan.padding,
            "needless_cuts": cuts(plan, lengths, room),
            "never_read": 1 - read / targets,
            "seconds": seconds,
        }
    shuffled = np.random.default_rng(0).permutation(lengths)
    rows, needless, lost, _ = crop_best_fit(shuffled, room + 1, BUFFER)
    found["crop"] = {
        "rows": rows,
        "padding": 0.0,
        "needless_cuts": int(needless),
        "never_read": lost / targets,
        "seconds": None,
    }
    longer = int((lengths - 1 > room).sum())
    print(
        f"{name}, rows of {room:,}: {len(lengths):,} documents, {longer:,} longer than a row, {targets:,} targets"
    )
    for packing, row in found.items():
        took = "" if row["seconds"] is None else f", plan {row['seconds']:.2f} s"
        print(
            f"  {packing:12s} {row['rows']:7,} rows, padding {row['padding']:7.3%}, needless cuts "
            f"{row['needless_cuts']:7,} ({row['needless_cuts'] / len(lengths):6.2%}), never read "
            f"{row['never_read']:7.3%}{took}"
        )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tokenizer", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    tokenizer = TokenizerFile(tokenizer_folder(options.tokenizer))
    print(
        f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}; {tokenizer.folder}"
    )
    sets: dict[str, np.ndarray] = {
        name: lengths_of(options.data / "text" / f"{name}.parquet", tokenizer) for name in SOURCES
    }
    sets["together"] = np.concatenate(list(sets.values()))
    report: Mapping[str, Any]
    with tempfile.TemporaryDirectory(prefix="haina-packing-") as work:
        report = {
            name: {str(room): measure(name, lengths, room, Path(work)) for room in LENGTHS}
            for name, lengths in sets.items()
        }
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
