"""Entries of a byte-level vocabulary as bytes, and as a person reads them."""

from __future__ import annotations

from haina.runtime.byte_pieces import byte_characters


def piece_bytes(piece: str) -> bytes:
    """The bytes that a vocabulary entry such as `Ġthe` stands for; a special token gives its own UTF-8."""
    table = byte_characters()
    try:
        return bytes([table[character] for character in piece])
    except KeyError:
        return piece.encode("utf-8")


def readable(piece: str) -> str:
    """A vocabulary entry as a person reads it: its text, or `<E4><BD>` for bytes inside a character."""
    data = piece_bytes(piece)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<{byte:02X}>" for byte in data)


def is_part_of_character(data: bytes) -> bool:
    """Whether bytes begin or end inside a character."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def is_fragment(piece: str) -> bool:
    """Whether a vocabulary entry begins or ends inside a character."""
    return is_part_of_character(piece_bytes(piece))
