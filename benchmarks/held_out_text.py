"""Which documents of ../shared/data/text a vocabulary may learn from, and which it is measured on.

In: the Parquet files of ../shared/data/text and the pages of ../shared/data/web. Out: the training part as
Parquet files with the same columns, and the held-out texts by name. A document is held out when a hash of its
id falls on 0 of 20; of a law the name without its date is hashed, so that all dated versions of one law are on
the same side. The main texts of the web pages are all held out: nothing is learnt from them; pages of Wikipedia
among them are left away, because their articles may stand in the training part.

Run: python benchmarks/held_out_text.py [--data ../shared/data] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ONE_IN = 20
LAW_DATE = re.compile(r"\s*[(（]\d{4}-\d{2}-\d{2}[)）]$")
TEXTS = {
    "zh wiki": "zh_wikipedia",
    "zh law": "zh_laws",
    "zh histories": "zh_histories_modern",
    "zh poems": "zh_tang_poems",
    "en wiki": "en_wikipedia",
}
PAGES = {"news": "magic_html_article", "forum": "magic_html_forum"}


def split_key(row: Mapping[str, Any]) -> str:
    """What is hashed of a document: its id; of a law its name without folder and date."""
    if row.get("source") == "laws":
        return LAW_DATE.sub("", str(row["title"]).rsplit("/", 1)[-1])
    return str(row["id"])


def is_held_out(row: Mapping[str, Any]) -> bool:
    """Whether training leaves the document out: blake2b-64 of its key, big-endian, is a multiple of 20."""
    digest = hashlib.blake2b(split_key(row).encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % ONE_IN == 0


def _batches(path: Path) -> Iterator[tuple[pa.RecordBatch, list[bool]]]:
    """Record batches of a file, and for each row whether it is held out."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=4096, use_threads=False):
            yield batch, [is_held_out(row) for row in batch.select(["id", "title", "source"]).to_pylist()]


def training_files(out: Path, data: Path = DATA) -> list[Path]:
    """Write the training part of every text file under `out`, same names; returns the paths."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path in sorted((data / "text").glob("*.parquet")):
        target = out / path.name
        with pq.ParquetWriter(target, pq.read_schema(path), compression="zstd") as writer:
            for batch, held in _batches(path):
                writer.write_batch(batch.filter(pa.array([not flag for flag in held])))
        written.append(target)
    return written


def _pages(path: Path) -> Iterator[tuple[str, str]]:
    """(`zh` or `en`, main text) of the pages of a file that are Chinese or English and not Wikipedia's."""
    from haina.corpus.language import identify_language

    groups = {"zh-Hans": "zh", "zh-Hant": "zh", "yue": "zh", "en": "en"}
    for row in pq.read_table(path, columns=["url", "gold"]).to_pylist():
        text = row["gold"] or ""
        group = groups.get(identify_language(text).language)
        if group is not None and "wikipedia.org" not in row["url"]:
            yield group, text


def held_out_texts(data: Path = DATA) -> dict[str, list[str]]:
    """The held-out documents by name: `zh wiki`, `zh law`, `zh news`, `en wiki`, ..., in file order."""
    found: dict[str, list[str]] = {}
    for name, stem in TEXTS.items():
        texts = found.setdefault(name, [])
        for batch, held in _batches(data / "text" / f"{stem}.parquet"):
            texts += batch.filter(pa.array(held)).column("text").to_pylist()
    for kind, stem in PAGES.items():
        for language, text in _pages(data / "web" / f"{stem}.parquet"):
            found.setdefault(f"{language} {kind}", []).append(text)
    return found


def main() -> None:
    """Print the two parts, and write the training part when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, help="write the training part here")
    options = parser.parse_args()
    for name, texts in held_out_texts(options.data).items():
        size = sum(len(text.encode("utf-8")) for text in texts)
        print(f"held out  {name:13} {len(texts):6,} documents {size / 1e6:6.2f} MB")
    if options.out is not None:
        for path in training_files(options.out, options.data):
            print(f"training  {path.name:28} {pq.ParquetFile(path).metadata.num_rows:7,} documents")


if __name__ == "__main__":
    main()
