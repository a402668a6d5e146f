"""Any token of a shards folder: its document, its place there, and the text around it.

Comes in: a shards folder, a split and the number of a token in it. Goes out: the piece, the document's row of
`documents.parquet` (id, source, url: the way to its page), offsets in tokens and in UTF-8 bytes, and the bytes before
and after. A piece may end in the middle of a character, so places are bytes throughout and text is made for show alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.shards.checksums import check_tokenizer
from haina.shards.shard_set import ShardSet, read_description

if TYPE_CHECKING:
    from haina.runtime.tokenizer_file import TokenizerFile

CONTEXT_TOKENS = 60
# First byte of a character of UTF-8 that goes on: 10xxxxxx.
_CONTINUES, _MASK = 0x80, 0xC0


@dataclass(frozen=True)
class TokenPlace:
    """Where a token stands.

    Attributes:
        split: name of the split.
        token: number of the token in the split.
        token_id: its id.
        name: the piece as the tokenizer writes it, `<s>` for the beginning of a document.
        special: whether it frames the document and stands for no text.
        piece: its bytes; empty for a special token.
        document: number of the document in the split.
        offset: place of the token in the document, its frame counted.
        tokens: of the document, its frame counted.
        byte_start, byte_end: its bytes in the UTF-8 of the document's text.
        before, after: bytes of the text around it, up to `CONTEXT_TOKENS` tokens on each side.
        row: the document's row of `documents.parquet`.
    """

    split: str
    token: int
    token_id: int
    name: str
    special: bool
    piece: bytes
    document: int
    offset: int
    tokens: int
    byte_start: int
    byte_end: int
    before: bytes
    after: bytes
    row: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: the bytes of the piece in hexadecimal, its text where it is whole characters, and the
        characters that it touches."""
        before, touched, after = around(self.before, self.piece, self.after)
        whole = touched.encode("utf-8", "replace") == self.piece
        return {
            "split": self.split,
            "token": self.token,
            "id": self.token_id,
            "name": self.name,
            "special": self.special,
            "bytes": self.piece.hex(" "),
            "text": touched if whole else None,
            "characters": touched,
            "before": before,
            "after": after,
            "document": self.document,
            "offset": self.offset,
            "document_tokens": self.tokens,
            "byte_start": self.byte_start,
            "byte_end": self.byte_end,
            "row": self.row,
        }


def around(before: bytes, piece: bytes, after: bytes) -> tuple[str, str, str]:
    """The text before, the characters that the piece's bytes belong to, and the text after; what is cut off at the far
    ends within a character is left away."""
    data = before + piece + after
    start, end = len(before), len(before) + len(piece)
    first, last = 0, len(data)
    while first < start and data[first] & _MASK == _CONTINUES:
        first += 1
    if piece:
        while start > first and data[start] & _MASK == _CONTINUES:
            start -= 1
        while end < last and data[end] & _MASK == _CONTINUES:
            end += 1
    parts = (data[first:start], data[start:end], data[end:])
    one, two = (part.decode("utf-8", "replace") for part in parts[:2])
    # An incomplete character at the very end is ignored, not shown as damaged.
    kept = parts[2]
    for cut in range(min(4, len(kept) + 1)):
        try:
            return one, two, kept[: len(kept) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
    return one, two, kept.decode("utf-8", "replace")


def strip_frame(ids: NDArray[np.integer], tokenizer: TokenizerFile) -> tuple[int, NDArray[np.integer]]:
    """Tokens before the text of a document, and the tokens of the text: `<s>` and `</s>` are not among them."""
    start, end = 0, len(ids)
    if end and tokenizer.bos_id is not None and int(ids[0]) == tokenizer.bos_id:
        start = 1
    if end > start and tokenizer.eos_id is not None and int(ids[-1]) == tokenizer.eos_id:
        end -= 1
    return start, ids[start:end]


def find_token(folder: Path, split: str, token: int, tokenizer: TokenizerFile) -> TokenPlace:
    """Where token number `token` of a split stands.

    Raises:
        HainaError: there is no such token or split, the tokenizer is another, or a file is damaged.
    """
    check_tokenizer(folder, read_description(folder), tokenizer)
    shards = ShardSet.open(folder, split)
    if not 0 <= token < shards.total_tokens:
        raise HainaError(
            f"{folder}: no token {token:,} in split {split}",
            f"its tokens are 0 to {shards.total_tokens - 1:,}",
        )
    document, offset = document_of(shards, token)
    ids = np.asarray(shards[document])
    framed, inner = strip_frame(ids, tokenizer)
    place = offset - framed
    special = not 0 <= place < len(inner)
    at = min(max(place, 0), len(inner))
    after = at if special else at + 1

    def text_of(start: int, end: int) -> bytes:
        return tokenizer.decode_bytes(inner[max(0, start) : end].tolist())

    head, piece = text_of(0, at), b"" if special else text_of(at, after)
    number = int(ids[offset])
    return TokenPlace(
        split=split,
        token=token,
        token_id=number,
        name=tokenizer.backend.id_to_token(number) or "",
        special=special,
        piece=piece,
        document=document,
        offset=offset,
        tokens=len(ids),
        byte_start=len(head),
        byte_end=len(head) + len(piece),
        before=text_of(at - CONTEXT_TOKENS, at),
        after=text_of(after, after + CONTEXT_TOKENS),
        row=document_rows(folder, split, [document])[document],
    )


def document_of(shards: ShardSet, token: int) -> tuple[int, int]:
    """The document of token number `token` of the split, and the token's place in it."""
    number = int(np.searchsorted(shards.first_token, token, side="right")) - 1
    shard, inside = shards.shards[number], token - int(shards.first_token[number])
    # The last sequence that begins at or before the token; empty ones begin where the next does.
    document = int(np.searchsorted(shard.offsets, inside, side="right")) - 1
    return int(shards.first[number]) + document, inside - int(shard.offsets[document])


def document_rows(folder: Path, split: str, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Rows of the table of documents, by their numbers in the split; empty ones where the shards have no table. Row
    groups without any of them are not read.

    Raises:
        HainaError: the table is damaged, or knows one of them not.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    name = read_description(folder)["documents"]
    if name is None:
        return {number: {} for number in numbers}
    path = folder / name
    wanted = np.unique(np.array(numbers, np.int64))
    found: dict[int, dict[str, Any]] = {}
    try:
        with pq.ParquetFile(path) as file:
            place = file.schema_arrow.get_field_index("index")
            for group in range(file.num_row_groups):
                limits = file.metadata.row_group(group).column(place).statistics
                if limits is not None and limits.has_min_max:
                    near = np.searchsorted(wanted, [limits.min, limits.max + 1])
                    if near[0] == near[1]:
                        continue
                table = file.read_row_group(group)
                chosen = pc.and_(pc.equal(table["shard"], split), pc.is_in(table["index"], pa.array(wanted)))
                found |= {row["index"]: row for row in table.filter(chosen).to_pylist()}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise HainaError(
            f"{path}: not the table of documents ({str(error).splitlines()[0]})",
            "run the shards stage again",
        ) from error
    missing = [number for number in wanted.tolist() if number not in found]
    if missing:
        raise HainaError(
            f"{path}: no row for document {missing[0]:,} of split {split}", "run the shards stage again"
        )
    return found
