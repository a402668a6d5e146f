"""HTTP messages as a WARC file holds them, and the links of a page.

Scrapy gives an answer as status, headers and body, the transfer coding taken off. The message is put together
from that: header fields as they came but for those of the connection, and a Content-Length that fits.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from haina.corpus.crawl.urls import canonical
from haina.corpus.encoding import UndecodableError, decode
from haina.corpus.http_message import read_response

# Fields about the connection and about what was taken off the body with it.
_CONNECTION = frozenset({b"transfer-encoding", b"content-length", b"connection", b"keep-alive"})
_MAX_LINKS = 5000


def request_message(url: str, headers: dict[str, str]) -> bytes:
    """A GET request as it was sent."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = {"Host": parts.netloc, **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode()


def response_message(response: Any) -> bytes:
    """An answer, as it came but for the transfer coding."""
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {response.status} {phrase}".rstrip().encode()]
    for name, values in response.headers.items():
        if name.lower() not in _CONNECTION:
            lines += [name + b": " + value.replace(b"\r", b" ").replace(b"\n", b" ") for value in values]
    lines.append(b"Content-Length: %d" % len(response.body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body)


def links_of(url: str, message: bytes, limit: int) -> list[str]:
    """Canonical addresses that an HTML page links to, in order, each once; none of a page of another type.

    Links that say `nofollow` are left out.
    """
    from scrapy.http import HtmlResponse
    from scrapy.linkextractors import LinkExtractor

    answer = read_response(message, limit)
    if answer.media_type not in ("text/html", "application/xhtml+xml", "") or not answer.payload:
        return []
    try:
        text = decode(answer.payload, answer.charset).text
    except UndecodableError:
        return []
    page = HtmlResponse(url, body=text.encode("utf-8", "replace"), encoding="utf-8")
    try:
        found = LinkExtractor(canonicalize=False, unique=True).extract_links(page)
    except (ValueError, RecursionError):  # markup that lxml gives up on
        return []
    links = (canonical(link.url) for link in found[:_MAX_LINKS] if not link.nofollow)
    return list(dict.fromkeys(link for link in links if link))
