"""How well a vocabulary fits a language.

In: a tokenizer and texts. Out: bytes a token, tokens a character, and the share of tokens that hold only a
piece of a character. `bytes_per_token` is the rate that fixes how much text fits a context window;
`tokens_per_character` is the rate that published comparisons of Chinese vocabularies use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from haina.runtime.tokenizer_file import TokenizerFile

# Byte-level BPE writes each byte as a printable character (Radford et al. 2019); this is the way back.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHER = [byte for byte in range(256) if byte not in set(_PRINTABLE)]
BYTE_OF_CHARACTER = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + n): byte for n, byte in enumerate(_OTHER)
}

BATCH = 256


def piece_bytes(piece: str) -> bytes:
    """The bytes that a vocabulary entry such as `Ġthe` stands for; a special token gives its own UTF-8."""
    try:
        return bytes(BYTE_OF_CHARACTER[character] for character in piece)
    except KeyError:
        return piece.encode("utf-8")


def readable(piece: str) -> str:
    """A vocabulary entry as a person reads it: its text, or `<E4><BD>` for bytes inside a character."""
    data = piece_bytes(piece)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<{byte:02X}>" for byte in data)


def is_fragment(piece: str) -> bool:
    """Whether a vocabulary entry begins or ends inside a character."""
    try:
        piece_bytes(piece).decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _batches(texts: Iterable[str]) -> Iterator[Sequence[str]]:
    stream = iter(texts)
    while batch := list(islice(stream, BATCH)):
        yield batch


def compression(tokenizer: TokenizerFile, texts: Iterable[str]) -> dict[str, float | int]:
    """Rates over all texts together, special tokens not counted.

    Returns:
        `bytes_per_token` (UTF-8 bytes), `tokens_per_character` (Unicode code points), `byte_tokens_share` (0
        to 1: tokens that hold only a piece of a character), `bytes`, `characters`, `tokens`; rates are 0 for
        no text.
    """
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
    fragments = frozenset(token_id for piece, token_id in vocabulary.items() if is_fragment(piece))
    size = characters = tokens = in_fragments = 0
    for batch in _batches(texts):
        size += sum(len(text.encode("utf-8")) for text in batch)
        characters += sum(len(text) for text in batch)
        for ids in tokenizer.encode_batch(batch):
            tokens += len(ids)
            in_fragments += sum(token_id in fragments for token_id in ids)
    return {
        "bytes_per_token": round(size / tokens, 4) if tokens else 0.0,
        "tokens_per_character": round(tokens / characters, 4) if characters else 0.0,
        "byte_tokens_share": round(in_fragments / tokens, 4) if tokens else 0.0,
        "bytes": size,
        "characters": characters,
        "tokens": tokens,
    }
