"""WARC, ARC and WET files, record by record, with nothing lost between records.

Comes in: a path. Goes out: pages (responses, resources and conversions that hold HTML or text), quarantined
records, ignored ones. The framing is ours: FastWARC 2.0 gives a record with lower-case header names as an
empty one of unknown type, and skips over damage without a word. HTTP heads and transfer and content codings
are FastWARC's.
Formats: WARC 1.1 (ISO 28500:2017); ARC 1.0 and 2.0 (Internet Archive, 1996); HTTP/1.1 (RFC 9112).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from haina.corpus.gzip_members import CHUNK, gzip_members, starts_gzip
from haina.corpus.records import Ignored, Page, Quarantined, Record, looks_like_html

MAX_HEADER_BYTES = 64 << 10
_ARC_LINE = re.compile(rb"^(\S.*?) (\S+) (\d{14}) (\S+) (?:.* )?(\d+)$")
_TEXT_TYPES = ("text/plain", "text/markdown")
_HTML_TYPES = ("text/html", "application/xhtml+xml")


class Window:
    """Bytes drawn from a chunk function, with push-back and a running offset."""

    def __init__(self, draw: Callable[[], bytes]) -> None:
        self.draw = draw
        self.buffer = b""
        self.offset = 0

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; fewer only at the end."""
        parts, have = [self.buffer], len(self.buffer)
        while have < count and (chunk := self.draw()):
            parts.append(chunk)
            have += len(chunk)
        whole = b"".join(parts)
        self.buffer = whole[count:]
        self.offset += min(count, len(whole))
        return whole[:count]

    def line(self) -> bytes:
        """One line with its end, at most MAX_HEADER_BYTES of it; empty at the end."""
        data = self.read(512)
        while b"\n" not in data and len(data) < MAX_HEADER_BYTES and (more := self.read(4096)):
            data += more
        end = data.find(b"\n") + 1 or len(data)
        self.unread(data[end:])
        return data[:end]

    def unread(self, data: bytes) -> None:
        self.buffer = data + self.buffer
        self.offset -= len(data)

    def skip(self, count: int) -> int:
        """Pass over `count` bytes without keeping them; how many there were."""
        left = count
        while left and (data := self.read(min(left, CHUNK))):
            left -= len(data)
        return count - left


def begins_archive(data: bytes) -> bool:
    """Whether a stream starts with a WARC or an ARC record."""
    return data.startswith((b"WARC/", b"filedesc:")) or bool(
        _ARC_LINE.match(data[:4096].split(b"\n")[0].rstrip(b"\r"))
    )


def _http_payload(body: bytes, limit: int) -> tuple[int | None, str, str | None, bytes]:
    """Status, media type, charset and decoded payload of an HTTP response message.

    A payload that does not decode as its header claims is taken as it stands, as browsers and crawlers do.
    """
    from fastwarc.warc import WarcRecord

    bare = body.find(b"\n\n")
    if bare >= 0 and b"\r\n\r\n" not in body[:bare]:
        # Old crawlers kept heads with bare line feeds, which FastWARC takes for no head at all.
        body = body[:bare].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + b"\r\n\r\n" + body[bare + 2 :]
    for coding in ("all", "none"):
        record = WarcRecord()
        record.set_bytes_content(body)
        record.is_http = True
        try:
            record.parse_http(auto_decode=coding)
            payload = record.reader.read(limit + 1)
        except (OSError, ValueError):
            continue
        media_type = (record.http_content_type or "").lower().strip()
        status = record.http_headers.status_code
        return status, media_type, record.http_charset, payload
    head, _, payload = body.partition(b"\r\n\r\n")
    return None, "", None, payload or head


def _page(  # noqa: PLR0911 - one return per kind of record
    position: str, url: str, kind: str, media_type: str, body: bytes, limit: int
) -> Record:
    """The page in one record's block, or why there is none."""
    url = url.strip().removeprefix("<").removesuffix(">")
    if kind in ("request", "warcinfo", "metadata", "revisit", "continuation"):
        return Ignored(kind)
    if kind not in ("response", "resource", "conversion"):
        return Quarantined(position, "unknown-record-type", kind or "no WARC-Type", url)
    charset: str | None = None
    if media_type.startswith("application/http") or (kind == "response" and body.startswith(b"HTTP/")):
        status, media_type, charset, body = _http_payload(body, limit)
        if status is not None and not 200 <= status < 300:
            return Quarantined(position, "http-status", str(status), url)
    elif "charset=" in media_type:
        charset = media_type.partition("charset=")[2].strip("\"' ;")
    media_type = media_type.partition(";")[0].strip()
    if kind == "response" and url.startswith(("dns:", "whois:")):
        return Ignored(media_type or "dns")
    is_html = media_type in _HTML_TYPES or (not media_type and looks_like_html(body))
    if not is_html and media_type not in _TEXT_TYPES:
        return Ignored(media_type or "unknown media type")
    if len(body) > limit:
        return Quarantined(position, "too-large", f"more than {limit} bytes when decoded", url)
    if not body.strip():
        return Quarantined(position, "empty", "no payload", url)
    return Page(position, body, is_html, url, charset)


def _resynchronise(window: Window) -> None:
    """Go forward to the next line that starts a WARC record."""
    while line := window.line():
        if line.startswith(b"WARC/"):
            window.unread(line)
            return


def _warc_headers(window: Window) -> dict[str, str] | None:
    """Header fields by lower-case name; None when the header block does not end."""
    fields: dict[str, str] = {}
    used = 0
    while line := window.line():
        used += len(line)
        stripped = line.strip()
        if not stripped:
            return fields
        if used > MAX_HEADER_BYTES:
            return None
        name, _, value = stripped.decode("utf-8", "replace").partition(":")
        fields[name.strip().lower()] = value.strip()
    return None


def _block(window: Window, length: int, limit: int) -> tuple[bytes, str]:
    """The block of a record, and what is wrong with it (empty when nothing is)."""
    body = window.read(min(length, limit))
    rest = length - len(body)
    if len(body) == min(length, limit) and rest:
        rest -= window.skip(rest)
        if not rest:
            return b"", f"block of {length} bytes is above the limit of {limit}"
    if not rest:
        return body, ""
    # A length that reaches past the end may have swallowed the records after this one.
    swallowed = body.find(b"\r\n\r\nWARC/")
    if swallowed >= 0:
        window.unread(body[swallowed + 4 :])
    return b"", f"block ends {rest} bytes short of the {length} it promises"


def _warc_records(window: Window, place: Callable[[int], str], limit: int) -> Iterator[Record]:
    while True:
        start = window.offset
        line = window.line()
        if not line:
            return
        if not line.strip():
            continue
        if not line.startswith(b"WARC/"):
            _resynchronise(window)
            yield Quarantined(
                place(start), "not-a-record", f"{window.offset - start} bytes from {start} are no WARC record"
            )
            continue
        fields = _warc_headers(window)
        if fields is None:
            yield Quarantined(place(start), "truncated-record", f"header at {start} does not end")
            continue
        url = fields.get("warc-target-uri", "")
        length = fields.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            _resynchronise(window)
            yield Quarantined(
                place(start), "malformed-record", f"Content-Length {length or 'missing'!s:.40}", url
            )
            continue
        body, problem = _block(window, int(length), limit)
        if problem:
            yield Quarantined(
                place(start),
                "too-large" if "above the limit" in problem else "truncated-record",
                problem,
                url,
            )
            continue
        tail = window.read(4)
        if tail not in (b"\r\n\r\n", b"") and not tail.startswith((b"\n", b"\r\n")):
            # More bytes than promised, or fewer with the next record inside: the block cannot be trusted.
            swallowed = body.find(b"\r\n\r\nWARC/")
            window.unread(tail if swallowed < 0 else body[swallowed + 4 :] + tail)
            if swallowed >= 0 or not tail.startswith(b"WARC"):
                if swallowed < 0:
                    _resynchronise(window)
                yield Quarantined(
                    place(start), "malformed-record", f"block is not the {length} bytes it promises", url
                )
                continue
        elif tail != b"\r\n\r\n":
            window.unread(tail)
        kind = fields.get("warc-type", "").lower()
        yield _page(place(start), url, kind, fields.get("content-type", "").lower(), body, limit)


def _arc_records(window: Window, place: Callable[[int], str], limit: int) -> Iterator[Record]:
    while True:
        start = window.offset
        line = window.line()
        if not line:
            return
        if not line.strip():
            continue
        match = _ARC_LINE.match(line.strip())
        if match is None:
            while (following := window.line()) and not _ARC_LINE.match(following.strip()):
                pass
            window.unread(following)
            yield Quarantined(
                place(start), "not-a-record", f"{window.offset - start} bytes from {start} are no ARC record"
            )
            continue
        url, media_type, length = (
            match[1].decode("utf-8", "replace"),
            match[4].decode("latin-1").lower(),
            int(match[5]),
        )
        body, problem = _block(window, length, limit)
        if problem:
            yield Quarantined(
                place(start),
                "too-large" if "above the limit" in problem else "truncated-record",
                problem,
                url,
            )
        elif url.startswith("filedesc:"):
            yield Ignored("warcinfo")
        else:
            yield _page(place(start), url, "response", media_type, body, limit)


def _records(window: Window, place: Callable[[int], str], limit: int) -> Iterator[Record]:
    head = window.read(4096)
    window.unread(head)
    if not head.startswith(b"WARC/") and begins_archive(head):
        return _arc_records(window, place, limit)
    return _warc_records(window, place, limit)


def _member_records(file: BinaryIO, size: int, limit: int) -> Iterator[Record]:
    for member in gzip_members(file, size, begins_archive):
        held: Record | None = None

        def place(inner: int, offset: int = member.offset) -> str:
            return f"{offset}+{inner}" if inner else str(offset)

        for record in _records(Window(member.read_chunk), place, limit):
            if held is not None:
                yield held
            held = record
        member.drain()
        if member.error:
            # The checksum stands at the end, so the record in hand is not known to be sound.
            url = held.url if isinstance(held, (Page, Quarantined)) else ""
            position = held.position if isinstance(held, (Page, Quarantined)) else str(member.offset)
            yield Quarantined(position, member.error, f"gzip member at byte {member.offset} of {size}", url)
        elif held is not None:
            yield held


def read_archive(path: Path, limit: int) -> Iterator[Record]:
    """Records of one WARC, ARC or WET file, gzip-compressed by member or as a whole, or not at all.

    Args:
        path: the file.
        limit: bytes a record may have, raw and decoded; larger ones are quarantined.
    """
    with path.open("rb") as file:
        if starts_gzip(file):
            yield from _member_records(file, path.stat().st_size, limit)
        else:
            yield from _records(Window(lambda: file.read(CHUNK)), str, limit)
