"""What readers give: every record of an input is a page, is quarantined with a reason, or is of a kind that
is no page.

Nothing else leaves a reader, and nothing leaves it silently: that makes `pages = documents + dropped` hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Bytes that a record came from, half-open: of the file, or, when `inside` is the offset of a compressed
    member that holds several records, of what that member unpacks to.
    """

    start: int
    end: int
    inside: int | None = None

    def __str__(self) -> str:
        within = "" if self.inside is None else f" of what the member at {self.inside} holds"
        return f"bytes {self.start}-{self.end}{within}"


@dataclass(frozen=True)
class Page:
    """One page as it was found.

    Attributes:
        position: where in its source, unique there: byte offset, line or row number.
        data: raw bytes, or text that its container had already decoded.
        is_html: markup to extract from, rather than plain text.
        url: address, empty when unknown.
        charset: what the transport said about the encoding, None when it said nothing.
        title: as the container gives it, empty when unknown.
        license: as the container gives it, empty when unknown.
        span: bytes it came from, None for a row of a table.
    """

    position: str
    data: bytes | str
    is_html: bool
    url: str = ""
    charset: str | None = None
    title: str = ""
    license: str = ""
    span: Span | None = None


@dataclass(frozen=True)
class Quarantined:
    """A record that could not be read, and why; `span` names its bytes where they can be told apart."""

    position: str
    reason: str
    evidence: str
    url: str = ""
    span: Span | None = None


@dataclass(frozen=True)
class Ignored:
    """A record of a kind that is no page: a request, an image, a warcinfo record."""

    kind: str
    span: Span | None = None


Record = Page | Quarantined | Ignored

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NEWLINE = re.compile("\r\n?|\u0085|\u2028|\u2029")


def clean_text(text: str) -> str:
    """Text that every later step can encode: no control characters but tab and newline, no lone surrogates,
    \\n line ends.

    A lone surrogate (JSON can spell one) becomes U+FFFD; NUL and other control characters go.
    """
    text = _NEWLINE.sub("\n", text)
    text = _CONTROL.sub("", text)
    return _SURROGATE.sub("\ufffd", text)


def looks_like_html(data: bytes | str) -> bool:
    """Whether the first kilobyte carries the marks of an HTML document."""
    head = data[:1024].lower()
    if isinstance(head, str):
        head = head.encode("utf-8", "replace")
    return any(mark in head for mark in (b"<!doctype html", b"<html", b"<head", b"<body"))
