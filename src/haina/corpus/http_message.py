"""The payload of an HTTP response as a WARC or ARC record holds it.

Comes in: the block of a record. Goes out: status, media type, charset and the decoded payload, as browsers take it:
a body that is not coded as its header claims is taken as it stands, one that breaks off is kept up to there, and
Content-Length is not believed, since the record knows its own length. All of it is read here, because FastWARC gives
nothing of a body with one damaged chunk, and holds what a body coded twice unpacks to.
Formats: HTTP/1.1 (RFC 9112); content codings (RFC 9110, 8.4.1; RFC 7932; RFC 8878).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})")
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([A-Za-z0-9_:.\-]{2,40})""", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]{0,200})?\r?\n")
_MAX_HEAD = 64 << 10
_MAX_CODINGS = 4
_MAX_ZSTD_WINDOW = 1 << 27


@dataclass(frozen=True)
class HttpPayload:
    """Attributes: status (None without a status line), media type in lower case, charset, payload."""

    status: int | None
    media_type: str
    charset: str | None
    payload: bytes


def split_head(block: bytes) -> tuple[bytes, bytes]:
    """(head, body) of an HTTP message; old crawlers ended lines with a bare line feed."""
    head = block[:_MAX_HEAD]
    ends = [end for end in (head.find(b"\r\n\r\n"), head.find(b"\n\n")) if end >= 0]
    if not ends:
        return (block, b"") if _STATUS.match(block) and len(block) < _MAX_HEAD else (b"", block)
    end = min(ends)
    size = 4 if block[end : end + 1] == b"\r" else 2
    return block[:end], block[end + size :]


def fields_of(head: bytes) -> dict[str, str]:
    """Fields by lower-case name, folded lines joined, the first of those given twice."""
    fields: dict[str, str] = {}
    last = ""
    for line in head.splitlines()[1:]:
        text = line.decode("utf-8", "replace")
        if text[:1] in (" ", "\t") and last:
            fields[last] += " " + text.strip()
            continue
        name, colon, value = text.partition(":")
        name = name.strip().lower()
        last = name if colon and name not in fields else ""
        if last:
            fields[name] = value.strip()
    return fields


def dechunk(body: bytes) -> bytes:
    """The body of a chunked message; whatever follows the first damaged chunk is kept as it stands."""
    parts: list[bytes] = []
    position = 0
    while match := _CHUNK_SIZE.match(body, position):
        size, start = int(match[1], 16), match.end()
        if size == 0:
            return b"".join(parts)
        parts.append(body[start : start + size])
        position = start + size
        if position >= len(body):
            return b"".join(parts)
        position += 2 if body[position : position + 2] == b"\r\n" else int(body[position] == 10)
    return b"".join([*parts, body[position:]])


def _inflate(body: bytes, limit: int, wbits: int) -> bytes:
    decoder = zlib.decompressobj(wbits)
    return decoder.decompress(body, limit)


def _unpack(body: bytes, coding: str, limit: int) -> bytes:
    """Up to `limit` bytes of a body after one content coding.

    Raises:
        ValueError: it is not so coded.
    """
    try:
        if coding in ("gzip", "x-gzip"):
            return _inflate(body, limit, 31)
        if coding == "deflate":
            # Half of the world sends raw DEFLATE under this name, the other half zlib's format.
            try:
                return _inflate(body, limit, 15)
            except zlib.error:
                return _inflate(body, limit, -15)
        if coding == "br":
            import brotli

            return bytes(brotli.Decompressor().process(body, output_buffer_limit=limit))
        if coding == "zstd":
            import zstandard

            decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
            return bytes(decoder.stream_reader(body).read(limit))
    except Exception as error:  # each library has its own errors, and all of them mean the same here
        raise ValueError(coding) from error
    raise ValueError(coding)


def _decoded(body: bytes, codings: str, limit: int) -> bytes:
    """The body after its content codings, at most `limit + 1` bytes of it; as it stands when it is not so coded."""
    names = [name for part in codings.split(",") if (name := part.strip()) not in ("", "identity", "none")]
    for name in reversed(names[:_MAX_CODINGS]):
        try:
            body = _unpack(body, name, limit + 1) or body
        except ValueError:
            return body
    return body


def read_response(block: bytes, limit: int) -> HttpPayload:
    """Status, media type, charset and decoded payload of an HTTP response.

    Args:
        block: the message, head and body.
        limit: bytes of the payload; one that decodes to more comes with `limit + 1` of them.
    """
    head, body = split_head(block)
    fields = fields_of(head)
    status = _STATUS.match(head)
    media_type = fields.get("content-type", "").lower()
    charset = _CHARSET.search(media_type)
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body = dechunk(body)
    if body and (codings := fields.get("content-encoding", "").lower()):
        body = _decoded(body, codings, limit)
    return HttpPayload(
        int(status[1]) if status else None,
        media_type.partition(";")[0].strip(),
        charset[1] if charset else None,
        body,
    )
