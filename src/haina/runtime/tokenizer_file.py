"""The tokenizer of a model folder, opened the same way by every part.

Text is text: a special token spelled out in a document or by a user is encoded as ordinary characters, so
nobody can forge an end-of-text or a turn border by typing it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders

from haina.runtime.byte_pieces import bytes_of_ids, joined_bytes
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_file, read_json

if TYPE_CHECKING:
    import pyarrow as pa

    from haina.runtime.bpe import FastEncoder

Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
REPLACEMENT = "\ufffd"
# Below so many characters, encoding with tokenizers takes less time than loading the kernels does, once.
_SHORT = 1 << 18


def check_characters(text: str) -> None:
    """Raise a `HainaError` when `text` holds half a surrogate pair, as broken JSON and file names give."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise HainaError(
            f"text has an unpaired surrogate U+{ord(text[error.start]):04X} at character {error.start}",
            "decode the source with its real encoding, or replace such characters by U+FFFD",
        ) from error


class TokenizerFile:
    """`tokenizer.json` of a folder, with the ids that the folder's `tokenizer_config.json` names.

    Args:
        folder: a folder with `tokenizer.json` and, optionally, `tokenizer_config.json`.

    Raises:
        HainaError: the file is missing or is not a tokenizer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise HainaError(
                f"{folder}: no tokenizer.json",
                "name a model folder or a folder made by `haina tokenizer train`",
            )
        try:
            self.backend = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception for any damage
            raise HainaError(
                f"{path}: not a tokenizer ({error})", "restore the file or train the tokenizer again"
            ) from error
        self.backend.no_padding()
        self.backend.no_truncation()
        self.backend.encode_special_tokens = True
        config_path = folder / "tokenizer_config.json"
        self.config: dict[str, object] = read_json(config_path) if config_path.is_file() else {}
        if not isinstance(self.config, dict):
            raise HainaError(f"{config_path}: does not hold a JSON object", "restore the file or delete it")

    def _special_id(self, field: str) -> int | None:
        token = self.config.get(field)
        if isinstance(token, dict):
            token = token.get("content")
        return self.backend.token_to_id(token) if isinstance(token, str) else None

    @cached_property
    def bos_id(self) -> int | None:
        return self._special_id("bos_token")

    @cached_property
    def eos_id(self) -> int | None:
        return self._special_id("eos_token")

    @cached_property
    def pad_id(self) -> int | None:
        return self._special_id("pad_token")

    @cached_property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_file(self.folder / "tokenizer.json")

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Ids of `text`, given `add_special_tokens` with the tokenizer's own frame, usually BOS.

        Raises:
            HainaError: the text holds half of a surrogate pair, which is no character and has no UTF-8.
        """
        check_characters(text)
        if self._quick(len(text)) is None:
            return self.backend.encode(text, add_special_tokens=add_special_tokens).ids
        ids = self._lists(*self.encode_batch_arrays([text]))[0]
        if not add_special_tokens:
            return ids
        before, after = self._frame
        return before + ids + after

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, without special tokens; errors as for `encode`."""
        for text in texts:
            check_characters(text)
        if self._quick(sum(map(len, texts))) is None:
            return self._encode_slowly(texts)
        return self._lists(*self.encode_batch_arrays(texts))

    def encode_batch_arrays(self, texts: Sequence[str]) -> tuple[Ids, Offsets]:
        """Ids of many texts in one array: int32 [tokens], and int64 [texts + 1] offsets; errors as for `encode`."""
        if self.fast is not None:
            return self.fast.encode_batch(texts)
        for text in texts:
            check_characters(text)
        return self._arrays(self._encode_slowly(texts))

    def encode_column(self, column: pa.StringArray | pa.LargeStringArray) -> tuple[Ids, Offsets]:
        """As `encode_batch_arrays`, for an Arrow column.

        Raises:
            HainaError: a value is null, the column is no string array, or, where `fast` is None, a value is no UTF-8.
        """
        if self.fast is not None:
            return self.fast.encode_column(column)
        from haina.runtime.bpe.encoder import check_column

        check_column(column)
        try:
            return self._arrays(self._encode_slowly(column.to_pylist()))
        except UnicodeDecodeError as error:
            raise HainaError(
                f"a value of the column is no UTF-8 ({error})", "decode the source with its real encoding"
            ) from error

    @cached_property
    def fast(self) -> FastEncoder | None:
        """The same ids many times as fast, where the file is of a form that `haina.runtime.bpe` encodes exactly."""
        from haina.runtime.bpe import FastEncoder

        return FastEncoder.from_document(json.loads(self.backend.to_str()))

    def _quick(self, characters: int) -> FastEncoder | None:
        """`fast`, if it is loaded or so much text is worth loading it."""
        return self.fast if "fast" in self.__dict__ or characters >= _SHORT else None

    def _encode_slowly(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    @staticmethod
    def _arrays(lists: list[list[int]]) -> tuple[Ids, Offsets]:
        offsets = np.zeros(len(lists) + 1, np.int64)
        np.cumsum([len(ids) for ids in lists], out=offsets[1:])
        parts = [np.array(ids, np.int32) for ids in lists if ids]
        return np.concatenate([np.empty(0, np.int32), *parts]), offsets

    def _lists(self, ids: Ids, offsets: Offsets) -> list[list[int]]:
        """Lists that share one `int` for each id: 8 bytes a token instead of 40."""
        shared = self._integers[ids]
        return [shared[start:end].tolist() for start, end in pairwise(offsets.tolist())]

    @cached_property
    def _integers(self) -> npt.NDArray[np.object_]:
        size = max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        return np.array(range(size), dtype=object)

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """Special tokens that `add_special_tokens` puts before and behind a text."""
        inner = self.backend.encode("a", add_special_tokens=False).ids
        outer = self.backend.encode("a", add_special_tokens=True).ids
        start = outer.index(inner[0])
        return outer[:start], outer[start + len(inner) :]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of `ids`; bytes that do not form UTF-8 become U+FFFD."""
        return self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Bytes of `ids`, special tokens left out: also of half a character, where the file is byte-level BPE.

        Other files, as SentencePiece's byte fallback, give the UTF-8 of `decode`.

        Raises:
            HainaError: an id is not in the vocabulary.
        """
        if not isinstance(self.backend.decoder, decoders.ByteLevel):
            return self.decode(ids).encode("utf-8")
        return joined_bytes(ids, self._bytes)

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        added = self.backend.get_added_tokens_decoder()
        texts = {number: "" if token.special else token.content for number, token in added.items()}
        return bytes_of_ids(self.backend.get_vocab(with_added_tokens=True), texts)


class StreamDecoder:
    """Turns ids into text piece by piece, holding back bytes that do not yet form a character.

    A Chinese character may be split over several tokens, and a token may end one character and begin the
    next; `push` returns only what can no longer change. The pieces joined are the text of all ids.
    """

    def __init__(self, tokenizer: TokenizerFile) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        # Only ids[start:] are decoded each time: the ids since the last boundary, where no character was
        # open, and one piece before it, because a decoder may treat its first piece specially.
        self.start = 0
        self.boundary = 0
        self.given = 0  # characters of decode(ids[start:]) that were returned

    def push(self, token_id: int) -> str:
        """Text that `token_id` completes, possibly empty."""
        self.ids.append(token_id)
        text = self.tokenizer.decode(self.ids[self.start :])
        settled = text.rstrip(REPLACEMENT)
        piece = settled[self.given :]
        self.given = max(self.given, len(settled))
        if settled == text:
            self._move_window()
        return piece

    def _move_window(self) -> None:
        recent = self.tokenizer.decode(self.ids[self.boundary :])
        if recent:
            self.start, self.given = self.boundary, len(recent)
        self.boundary = len(self.ids)

    def flush(self) -> str:
        """What is still held back, when no more ids come."""
        text = self.tokenizer.decode(self.ids[self.start :])
        piece = text[self.given :]
        self.given = len(text)
        return piece
