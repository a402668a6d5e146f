"""Texts to ids through the kernels, and ids back to bytes.

Comes in: a `tokenizer.json` of the form that `rules.py` accepts, then texts, byte strings or Arrow string columns.
Goes out: ids as int32, the same as Hugging Face tokenizers gives for every string. Special tokens are never found in
text: one that is spelled out is encoded as characters. Any byte string comes back: `decode_bytes(encode(x)) == x`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from haina.runtime.bpe.kernel import encode_documents
from haina.runtime.bpe.rules import Merges, read_merges
from haina.runtime.bpe.spans import classes
from haina.runtime.bpe.tables import Tables, addresses, build_tables
from haina.runtime.byte_pieces import joined_bytes
from haina.runtime.errors import HainaError
from haina.runtime.files import read_json
from haina.runtime.tokenizer_file import check_characters

if TYPE_CHECKING:
    import pyarrow as pa

Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
_GROUP_BYTES = 1 << 24  # documents are encoded in groups of about so many bytes; room is 4 bytes for each


def _utf8(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        check_characters(text)
        raise


def _groups(borders: Offsets) -> Iterator[tuple[int, int]]:
    """Runs of documents of `_GROUP_BYTES` or a little less; one document at least."""
    start, last = 0, len(borders) - 1
    while start < last:
        end = int(np.searchsorted(borders, borders[start] + _GROUP_BYTES, side="right")) - 1
        end = min(max(end, start + 1), last)
        yield start, end
        start = end


class FastEncoder:
    """Byte-level BPE of one `tokenizer.json`; several threads may use it at once. Make it with `open`."""

    def __init__(self, merges: Merges, tables: Tables, pieces: list[bytes]) -> None:
        self._tables, self._at = tables, addresses(tables)
        self._ids = merges.ids
        self._first, self._numbers = classes(merges.cuts)
        self._bytes = dict.fromkeys(merges.special, b"") | dict(zip(merges.ids.tolist(), pieces, strict=True))

    @classmethod
    def open(cls, tokenizer_json: Path) -> FastEncoder | None:
        """The encoder of a file; None where its ids could differ from those of Hugging Face tokenizers.

        That is any file but byte-level BPE without normaliser, with `rules.PATTERN` or nothing as pre-tokeniser, all
        of whose added tokens are special, each piece of which comes from one merge and encodes to itself.

        Raises:
            HainaError: the file is not there or is not JSON.
        """
        return cls.from_document(read_json(tokenizer_json))

    @classmethod
    def from_document(cls, document: Any) -> FastEncoder | None:
        """As `open`, of a file that is parsed already."""
        merges = read_merges(document)
        built = None if merges is None else build_tables(merges)
        return None if merges is None or built is None else cls(merges, *built)

    def encode(self, text: str | bytes) -> Ids:
        """Ids of one text, int32 [tokens].

        Raises:
            HainaError: a string holds half of a surrogate pair. Bytes may be any; those that are no UTF-8 become the
                pieces of their bytes.
        """
        data = np.frombuffer(_utf8(text), np.uint8)
        return self._run(data, np.array([0, len(data)], np.int64))[0]

    def encode_batch(self, texts: Sequence[str | bytes]) -> tuple[Ids, Offsets]:
        """Ids of many texts: int32 [tokens], and int64 [texts + 1] offsets into them; errors as for `encode`."""
        ids: list[Ids] = []
        offsets = np.zeros(len(texts) + 1, np.int64)
        group: list[bytes] = []
        size = done = 0
        for place, text in enumerate(texts, 1):
            group.append(_utf8(text))
            size += len(group[-1])
            if size >= _GROUP_BYTES or place == len(texts):
                borders = np.zeros(len(group) + 1, np.int64)
                np.cumsum([len(item) for item in group], out=borders[1:])
                data = group[0] if len(group) == 1 else b"".join(group)
                found, ends = self._run(np.frombuffer(data, np.uint8), borders)
                offsets[done + 1 : place + 1] = ends[1:] + offsets[done]
                ids.append(found)
                group, size, done = [], 0, place
        return _joined(ids), offsets

    def encode_column(self, column: pa.StringArray | pa.LargeStringArray) -> tuple[Ids, Offsets]:
        """As `encode_batch`, from the buffers of an Arrow column: no Python string is made.

        Raises:
            HainaError: a value is null, or the column is no string array.
        """
        data, borders = _buffers(column)
        ids: list[Ids] = []
        offsets = np.zeros(len(borders), np.int64)
        for start, end in _groups(borders):
            found, ends = self._run(data, borders[start : end + 1])
            offsets[start + 1 : end + 1] = ends[1:] + offsets[start]
            ids.append(found)
        return _joined(ids), offsets

    def decode_bytes(self, ids: Sequence[int] | Ids) -> bytes:
        """The bytes of `ids`, special tokens left out; the exact inverse of `encode`.

        Raises:
            HainaError: an id is not in the vocabulary.
        """
        return joined_bytes(ids.tolist() if isinstance(ids, np.ndarray) else ids, self._bytes)

    def _run(self, data: npt.NDArray[np.uint8], borders: Offsets) -> tuple[Ids, Offsets]:
        """Ids and their offsets of the documents `data[borders[i]:borders[i + 1]]`."""
        # Memory that is not written to is never given by the system: room for one id a byte costs what is used.
        out = np.empty(int(borders[-1] - borders[0]), np.int32)
        offsets = np.empty(len(borders), np.int64)
        # Addresses, not arrays (memory.py); `self` and this frame keep all of them alive.
        done = encode_documents(
            data.ctypes.data,
            borders.ctypes.data,
            len(borders) - 1,
            self._first.ctypes.data,
            self._numbers.ctypes.data,
            self._at,
            self._ids.ctypes.data,
            out.ctypes.data,
            offsets.ctypes.data,
        )
        if not done:
            raise RuntimeError("a text without an encoding: the tables do not belong together")
        return out[: offsets[-1]].copy(), offsets


def _joined(parts: list[Ids]) -> Ids:
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int32), *parts])


def check_column(column: pa.StringArray | pa.LargeStringArray) -> None:
    """Raise a `HainaError` for a column that is not text throughout."""
    import pyarrow as pa

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise HainaError(f"a column of type {column.type} holds no text", "cast it to string")
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise HainaError(f"row {row} of the column has no text (null)", "drop such rows or fill them in")


def _buffers(column: pa.StringArray | pa.LargeStringArray) -> tuple[npt.NDArray[np.uint8], Offsets]:
    """The bytes of a column and where each value begins and ends, without a copy of the bytes."""
    check_column(column)
    if not len(column):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    _, places, values = column.buffers()
    kind = np.int64 if str(column.type) == "large_string" else np.int32
    borders = np.frombuffer(places, kind)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    data = np.frombuffer(values, np.uint8) if values is not None and values.size else np.empty(0, np.uint8)
    return data, borders
