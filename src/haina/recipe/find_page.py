"""The way from a document of the shards back to its page.

Comes in: the document's row (`id`, `source`), and the corpus folder or the inputs that the corpus was made from. Goes
out: the document as the corpus has it, and the record of the file that it was extracted from. A document's id is a hash
of its source's name and its place there, so the record is found without guessing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haina.runtime.errors import HainaError

if TYPE_CHECKING:
    from haina.corpus.records import Page

SHOWN_CHARACTERS = 300
_FACTS = ("title", "url", "source", "lang", "kind", "date", "license", "duplicate_count", "cluster_id")


@dataclass(frozen=True)
class CorpusDocument:
    """A document as the corpus has it.

    Attributes:
        corpus: the folder.
        facts: title, url, source, language and kind, as far as known.
        text_bytes: UTF-8 bytes of its text.
        agrees: whether the bytes of the token stand where the shards say.
    """

    corpus: str
    facts: dict[str, str]
    text_bytes: int
    agrees: bool


@dataclass(frozen=True)
class PageRecord:
    """The record that a document was extracted from.

    Attributes:
        location: file or address that holds it.
        position: its place there: byte offset, line or row.
        span: its bytes in words; empty for a row of a table.
        url: as the file gives it.
        size: bytes, or characters where its container had decoded it.
        markup: whether text was extracted from it.
        beginning: how it begins.
    """

    location: str
    position: str
    span: str
    url: str
    size: int
    markup: bool
    beginning: str

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def document_in_corpus(corpus: Path, row: Mapping[str, Any], start: int, piece: bytes) -> CorpusDocument:
    """The document `row` of the shards in its corpus.

    Args:
        corpus: a corpus folder or a Parquet file with documents.
        row: of the shards' table of documents.
        start: byte of the text at which the token stands.
        piece: the token's bytes.

    Raises:
        HainaError: the corpus does not have it.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    folder = corpus / "documents" if (corpus / "documents").is_dir() else corpus
    tables = [folder] if folder.is_file() else sorted(folder.glob("*.parquet"))
    if not tables:
        raise HainaError(
            f"{corpus}: no Parquet table", "name a corpus folder or a Parquet file with documents"
        )
    identity = _known(row, "id")
    try:
        documents = ds.dataset([str(table) for table in tables], format="parquet")
        names = [name for name in (*_FACTS, "text") if name in documents.schema.names]
        found = documents.to_table(names, filter=ds.field("id") == identity).to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise HainaError(
            f"{corpus}: no readable documents ({str(error).splitlines()[0]})", "restore it"
        ) from error
    if not found:
        raise HainaError(
            f"{corpus}: no document {identity}", "name the corpus that the shards were made from"
        )
    text = found[0].pop("text").encode("utf-8")
    return CorpusDocument(
        corpus=str(corpus),
        facts={name: str(value) for name, value in found[0].items() if value},
        text_bytes=len(text),
        agrees=text[start : start + len(piece)] == piece,
    )


def find_page(pages: Sequence[Path | str], row: Mapping[str, Any]) -> PageRecord:
    """The record of a document in the files that the corpus was made from.

    Args:
        pages: the files, folders, patterns and addresses that were given to the corpus stage, in the same order.
        row: of the shards' table of documents.

    Raises:
        HainaError: no file of that name is there, or it has no such record any more.
    """
    from haina.corpus.config import CorpusConfig
    from haina.corpus.documents import document_id
    from haina.corpus.read import read_source
    from haina.corpus.records import Page
    from haina.corpus.sources import list_sources

    name, identity = _known(row, "source"), _known(row, "id")
    sources = [source for source in list_sources(pages).sources if source.name == name]
    places = ", ".join(map(str, pages))
    if not sources:
        raise HainaError(
            f"{places}: no source {name!r}, which document {identity} came from",
            "name the same inputs as for the corpus, in the same order",
        )
    limit = CorpusConfig().max_record_bytes
    for source in sources:
        for record in read_source(source, limit):
            if isinstance(record, Page) and document_id(source.name, record.position) == identity:
                return PageRecord(
                    location=source.location,
                    position=record.position,
                    span=str(record.span) if record.span else "",
                    url=record.url,
                    size=len(record.data),
                    markup=record.is_html,
                    beginning=_beginning(record),
                )
    raise HainaError(
        f"{sources[0].location}: no record with the id {identity}",
        "the file has changed since the corpus was made; restore it",
    )


def _beginning(page: Page) -> str:
    """How a page begins, in the encoding that the corpus stage would find."""
    from haina.corpus.encoding import UndecodableError, decode

    data = page.data
    if isinstance(data, str):
        text = data
    else:
        try:
            text = decode(data, page.charset, is_html=page.is_html).text
        except UndecodableError:
            text = data[: 4 * SHOWN_CHARACTERS].decode("utf-8", "replace")
    return " ".join(text[:SHOWN_CHARACTERS].split())


def _known(row: Mapping[str, Any], column: str) -> str:
    if not row.get(column):
        raise HainaError(
            f"document {row.get('index', '')}: the shards know no {column} of it",
            "write the shards from documents that have one",
        )
    return str(row[column])
