"""A bounded sample of documents from each file that vocabularies are compared on.

In: Parquet, JSON-lines and text files. Out: for each the documents with the smallest hashes of their ids, as many as
fit into the given bytes: the same documents whatever the order of rows, and all of a file that is small enough. What
is no document is counted with its reason.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from haina.runtime.documents import LANGUAGE_GROUPS
from haina.runtime.errors import HainaError
from haina.runtime.progress import Reporter
from haina.runtime.text_files import input_files, plan_blocks, read_block

BLOCK_BYTES = 16 << 20
LONGEST_BYTES = 1 << 20  # of one document: what comes after adds time and nothing that the rest does not show
NO_LANGUAGE = "unlabelled"


@dataclass
class Sample:
    """Documents of one file.

    Attributes:
        name: short name of the file in tables. path: the file.
        documents: (language, text) in the order of the file. bytes: of their UTF-8.
        read: documents that the file holds. read_bytes: of their text.
        shortened: documents that were cut to `LONGEST_BYTES`.
        bad: rows that are no documents, by reason.
        first_bad: where the first of them stands.
    """

    name: str
    path: Path
    documents: list[tuple[str, str]] = field(default_factory=list)
    bytes: int = 0
    read: int = 0
    read_bytes: int = 0
    shortened: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    first_bad: str = ""

    def by_language(self) -> dict[str, list[str]]:
        """Texts of each language, languages sorted."""
        found: dict[str, list[str]] = {}
        for language, text in self.documents:
            found.setdefault(language, []).append(text)
        return dict(sorted(found.items()))


def order_of(document_id: str) -> int:
    """A fixed 64-bit number for a document; the smallest are measured."""
    digest = hashlib.blake2b(document_id.encode("utf-8"), digest_size=8, person=b"haina.compare")
    return int.from_bytes(digest.digest(), "big")


def shorten(text: str) -> str:
    """The text, or as many whole characters of it as `LONGEST_BYTES` hold."""
    if len(text) * 4 <= LONGEST_BYTES:
        return text
    return text.encode("utf-8")[:LONGEST_BYTES].decode("utf-8", "ignore")


class _Smallest:
    """Keeps the documents of the smallest order numbers that fit into `limit` bytes, one at least."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self.below: tuple[int, int] | None = None  # the smallest (order, row) that did not fit
        self.heap: list[tuple[int, int, int, str, str]] = []

    def offer(self, order: int, row: int, language: str, text: str) -> None:
        if self.below is not None and (order, row) >= self.below:
            return
        size = len(text.encode("utf-8"))
        heapq.heappush(self.heap, (-order, -row, size, language, text))
        self.bytes += size
        while self.bytes > self.limit and len(self.heap) > 1:
            lost, lost_row, size, _, _ = heapq.heappop(self.heap)
            self.below = (-lost, -lost_row)
            self.bytes -= size


def read_samples(
    inputs: Sequence[Path], sample_bytes: int, reporter: Reporter, language: str | None = None
) -> list[Sample]:
    """A sample of every file.

    Args:
        inputs: files, or folders of them.
        sample_bytes: UTF-8 bytes of text of each file, at most.
        language: of all documents, in place of what their column `lang` says.

    Raises:
        HainaError: a file is missing, damaged, of an unknown kind, or holds no text.
    """
    files = input_files(inputs)
    blocks = plan_blocks(files, BLOCK_BYTES)
    samples = {block.name: Sample(Path(block.name).stem, Path(str(block.path))) for block in blocks}
    kept = {name: _Smallest(sample_bytes) for name in samples}
    if len({sample.name for sample in samples.values()}) < len(samples):
        for name, sample in samples.items():
            sample.name = name
    with reporter.task("read", sum(block.bytes for block in blocks), "bytes") as task:
        for block in blocks:
            sample, smallest = samples[block.name], kept[block.name]

            def bad(reason: str, where: str, sample: Sample = sample) -> None:
                sample.bad[reason.partition(":")[0]] += 1
                sample.first_bad = sample.first_bad or where

            for batch in read_block(block, ["lang"], bad):
                columns = (batch.column(name).to_pylist() for name in ("id", "lang", "text"))
                for document_id, lang, text in zip(*columns, strict=True):
                    if not text:
                        bad("empty", str(document_id))
                        continue
                    short = shorten(text)
                    sample.shortened += len(short) < len(text)
                    group = language or LANGUAGE_GROUPS.get(lang or "", lang or NO_LANGUAGE)
                    smallest.offer(order_of(document_id), sample.read, group, short)
                    sample.read += 1
                    sample.read_bytes += len(text.encode("utf-8"))
            task.advance(block.bytes)
    for name, sample in samples.items():
        if not sample.read:
            reasons = ", ".join(f"{count} x {reason}" for reason, count in sorted(sample.bad.items()))
            raise HainaError(
                f"{sample.path}: no text in it" + (f" ({reasons})" if reasons else ""),
                "name files that hold documents in a column or field `text`",
            )
        chosen = sorted(kept[name].heap, key=lambda item: -item[1])
        sample.documents = [(lang, text) for _, _, _, lang, text in chosen]
        sample.bytes = kept[name].bytes
    return list(samples.values())
