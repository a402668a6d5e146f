"""Byte-level vocabularies: which bytes a piece stands for.

Byte-level files (Radford et al. 2019, GPT-2's `encoder.json`) write each byte as one visible character. Comes in: a
vocabulary in that form. Goes out: the bytes of each id, and of rows of ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from haina.runtime.errors import HainaError


@lru_cache(maxsize=1)
def byte_characters() -> dict[str, int]:
    """The 256 characters that stand for bytes, in the order of the bytes.

    Printable Latin-1 characters stand for their own byte; the others, in order, for U+0100 and up.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte if byte in printable else 0x100 + others.index(byte)): byte for byte in range(256)}


def bytes_of_ids(vocabulary: Mapping[str, int], added: Mapping[int, str]) -> dict[int, bytes]:
    """Bytes of each id of a byte-level vocabulary.

    Args:
        added: what each added token gives, usually nothing; a piece that is not in byte characters must be among them.

    Raises:
        HainaError: a piece is not written in byte characters.
    """
    table = byte_characters()
    out = {number: text.encode("utf-8") for number, text in added.items()}
    for piece, number in vocabulary.items():
        if number in added:
            continue
        try:
            out[number] = bytes([table[character] for character in piece])
        except KeyError as error:
            raise HainaError(
                f"piece {piece!r} (id {number}): {error.args[0]!r} stands for no byte",
                "restore tokenizer.json; its decoder says that pieces are byte-level",
            ) from None
    return out


def joined_bytes(ids: Iterable[int], table: Mapping[int, bytes]) -> bytes:
    """The bytes of a row of ids.

    Raises:
        HainaError: an id is not in the vocabulary.
    """
    try:
        return b"".join([table[number] for number in ids])
    except KeyError as error:
        raise HainaError(
            f"token id {error.args[0]} is not in the vocabulary",
            "decode with the tokenizer that the text was encoded with",
        ) from None
