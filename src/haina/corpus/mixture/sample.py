"""Draws the documents that proxies are trained and measured on.

Comes in: files of documents. Goes out: for each domain how much text it has, some documents held out and some to
train on. Both are the documents with the smallest hashes until there is enough text, so the draw does not depend on
the order of rows, files or workers. What is held out is chosen by the near-duplicate cluster where the documents name
one, else by the text, and never by the seed; `leaks.py` then takes copies of it out of the training side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.mixture.domains import Origin
from haina.corpus.quality.rows import iterate
from haina.corpus.records import clean_text
from haina.runtime.errors import HainaError

HELD_OUT_BYTES = 200_000  # a domain, validation and test together
HELD_OUT_SHARE = 0.2  # of a domain at most
DOCUMENT_BYTES = 8_000  # of a held-out document, so that a few long ones do not stand for a domain
LEAST_DOCUMENTS = 20
LEAST_BYTES = 20_000
_SCHEMA = pa.schema(
    [
        ("domain", pa.string()),
        ("text", pa.string()),
        ("size", pa.int64()),
        ("held", pa.binary(8)),
        ("order", pa.binary(8)),
    ]
)


@dataclass(frozen=True)
class Part:
    """Task: draw from one file.

    Attributes:
        origin: the file.
        by: column that names the domain; empty where the file is of one domain.
        seed: another seed draws other training documents.
        train_bytes: text to draw of each domain.
    """

    origin: Origin
    by: str
    seed: int
    train_bytes: int


@dataclass(frozen=True)
class Document:
    """A drawn document of `size` bytes; `held` and `order` are its places among held-out and training documents."""

    text: str
    size: int
    held: bytes
    order: bytes


@dataclass
class Domain:
    """What was drawn from one domain.

    Attributes:
        documents, bytes: of the whole domain, UTF-8.
        without_text: documents that hold only space; not counted above.
        validation, test: held out; laws are fitted to the first and mixtures compared on the second.
        train: to train on, in the order in which proxies read them.
    """

    documents: int = 0
    bytes: int = 0
    without_text: int = 0
    validation: list[Document] = field(default_factory=list)
    test: list[Document] = field(default_factory=list)
    train: list[Document] = field(default_factory=list)


def _digest(person: bytes, *parts: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join(parts), digest_size=8, person=person).digest()


def _smallest(documents: Iterable[Document], key: str, enough: int) -> list[Document]:
    """Documents by `key` until they hold `enough` bytes; those of one cluster stay together."""
    kept: list[Document] = []
    total = 0
    for document in sorted(documents, key=lambda item: (getattr(item, key), item.order, item.text)):
        if total >= enough and getattr(document, key) != getattr(kept[-1], key):
            break
        kept.append(document)
        total += min(document.size, DOCUMENT_BYTES) if key == "held" else document.size
    return kept


class _Reservoir:
    """Documents of one domain, cut back now and then to those that can still be drawn.

    What a part of the documents cannot give, all of them cannot give either, so cutting changes no draw.
    """

    def __init__(self, train_bytes: int) -> None:
        self.train_bytes = train_bytes
        self.documents: list[Document] = []
        self.waiting = 0
        self.counts = [0, 0, 0]

    def add(self, document: Document) -> None:
        self.documents.append(document)
        self.waiting += document.size
        if self.waiting > 2 * (self.train_bytes + HELD_OUT_BYTES):
            self.cut()

    def cut(self) -> None:
        held, rest = _parted(self.documents, HELD_OUT_BYTES)
        self.documents = [*held, *_smallest(rest, "order", self.train_bytes)]
        self.waiting = 0


def _parted(documents: Sequence[Document], enough: int) -> tuple[list[Document], list[Document]]:
    """The clusters that are held out, and the other documents."""
    held = _smallest(documents, "held", enough)
    clusters = {item.held for item in held}
    return held, [item for item in documents if item.held not in clusters]


def draw_part(part: Part, output: Path) -> None:
    """Write the documents of one file that may be drawn; the sizes of its domains stand in the file's metadata."""
    reservoirs: dict[str, _Reservoir] = {}
    seed = str(part.seed).encode()
    named = part.by == "" or _has_column(part.origin.path, part.by)
    if not named:
        raise HainaError(
            f"{part.origin.path}: no column {part.by!r}", "name a column that the documents have"
        )
    for row in iterate(part.origin.path, ["text", "cluster_id", *([part.by] if part.by else [])]):
        value = row.get(part.by) if part.by else part.origin.domain
        if value is None or not str(value).strip():
            raise HainaError(
                f"{part.origin.path}: a document without {part.by!r}", "fill the column for all documents"
            )
        reservoir = reservoirs.setdefault(str(value), _Reservoir(part.train_bytes))
        if not row["text"].strip():
            reservoir.counts[2] += 1
            continue
        text = row["text"].encode("utf-8", "surrogatepass")
        content = _digest(b"haina.mix.text", text)
        cluster = row.get("cluster_id")
        held = _digest(b"haina.split", cluster.encode()) if cluster else content
        order = _digest(b"haina.mix.order", seed, content)
        reservoir.counts[0] += 1
        reservoir.counts[1] += len(text)
        reservoir.add(Document(row["text"], len(text), held, order))
    rows = []
    for name, reservoir in sorted(reservoirs.items()):
        reservoir.cut()
        rows += [
            {"domain": name, **vars(item), "text": clean_text(item.text)} for item in reservoir.documents
        ]
    sizes = {f"size {name}": repr(reservoir.counts) for name, reservoir in sorted(reservoirs.items())}
    pq.write_table(
        pa.Table.from_pylist(rows, schema=_SCHEMA.with_metadata(sizes)), output, compression="zstd"
    )


def _has_column(path: Path, column: str) -> bool:
    if path.suffix != ".parquet":
        return True
    return column in pq.read_schema(path).names


def _read_part(path: Path) -> Iterator[tuple[str, Document]]:
    for row in pq.read_table(path).to_pylist():
        yield row.pop("domain"), Document(**row)


def gather(parts: Sequence[Path], train_bytes: int) -> dict[str, Domain]:
    """The draw of all parts together, by domain, sorted by name.

    Raises:
        HainaError: a domain that is too small to be measured apart from its training text.
    """
    drawn: dict[str, Domain] = {}
    found: dict[str, _Reservoir] = {}
    for path in parts:
        metadata = pq.read_schema(path).metadata or {}
        for key, value in metadata.items():
            if key.startswith(b"size "):
                domain = drawn.setdefault(key[5:].decode(), Domain())
                documents, size, without_text = map(int, value.decode().strip("[]").split(","))
                domain.documents += documents
                domain.bytes += size
                domain.without_text += without_text
        for name, document in _read_part(path):
            found.setdefault(name, _Reservoir(train_bytes)).add(document)
    for name, domain in drawn.items():
        if domain.documents < LEAST_DOCUMENTS or domain.bytes < LEAST_BYTES:
            raise HainaError(
                f"domain {name!r}: {domain.documents:,} documents with {domain.bytes:,} bytes of text",
                f"a domain needs {LEAST_DOCUMENTS} documents and {LEAST_BYTES:,} bytes, part of which is held out; "
                "merge it with another domain or leave it out",
            )
        _split(domain, found[name].documents, train_bytes)
        if not (domain.validation and domain.test and domain.train):
            raise HainaError(
                f"domain {name!r}: nearly all of its {domain.documents:,} documents are one cluster",
                "merge it with another domain or leave it out",
            )
    return dict(sorted(drawn.items()))


def _split(domain: Domain, documents: Sequence[Document], train_bytes: int) -> None:
    """Clusters by their hash: in turn to validation and to test until there is enough; the rest to training."""
    enough = min(HELD_OUT_BYTES, int(HELD_OUT_SHARE * domain.bytes))
    held, rest = _parted(documents, enough)
    places = {key: number for number, key in enumerate(sorted({item.held for item in held}))}
    for item in held:
        (domain.validation, domain.test)[places[item.held] % 2].append(item)
    domain.train = _smallest(rest, "order", train_bytes)
