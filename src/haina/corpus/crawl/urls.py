"""Addresses in one spelling, and whether they are in scope.

Comes in: an address as a page or a person wrote it. Goes out: the form that every spelling of it shares (RFC
3986, 6.2.2 and 6.2.3), or None for what is not crawled. The order of a query is kept: servers may tell it apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

MAX_LENGTH = 2048
_PORTS = {"http": 80, "https": 443}
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")
_SAFE = "!$&'()*+,;=:@/~-._"


def _normal(part: str, safe: str) -> str:
    """Escapes in upper case, none where none is needed, one wherever one is."""
    kept: list[str] = []
    position = 0
    for match in _ESCAPE.finditer(part):
        kept.append(quote(part[position : match.start()].replace("%", "%25"), safe=safe + "%"))
        character = unquote_to_bytes(match[0])
        plain = character.decode("latin-1")
        unreserved = plain.isascii() and (plain.isalnum() or plain in "-._~")
        kept.append(plain if unreserved else match[0].upper())
        position = match.end()
    kept.append(quote(part[position:].replace("%", "%25"), safe=safe + "%"))
    return "".join(kept)


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4."""
    out: list[str] = []
    parts = path.split("/")
    for part in parts[1:]:
        if part == "..":
            del out[-1:]
        elif part != ".":
            out.append(part)
    if parts[-1] in (".", ".."):
        out.append("")
    return "/" + "/".join(out)


def canonical(address: str) -> str | None:  # noqa: PLR0911 - one return a fault
    """The one spelling of an http or https address; None for another scheme, a name that cannot be one, user names in
    the address, or more than 2,048 characters.
    """
    address = "".join(character for character in address.strip() if character >= " ")
    if not address or len(address) > MAX_LENGTH:
        return None
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not host or "@" in parts.netloc:
        return None
    try:
        name = host if ":" in host else host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    if ":" in name:
        name = f"[{name}]"
    elif not _HOST.fullmatch(name):
        return None
    netloc = name.rstrip(".") if port in (None, _PORTS[scheme]) else f"{name.rstrip('.')}:{port}"
    try:
        path = _without_dots(_normal(parts.path or "/", _SAFE))
        query = _normal(parts.query, _SAFE + "?[]")
    except UnicodeEncodeError:
        return None
    found = urlunsplit((scheme, netloc, path, query, ""))
    return found if len(found) <= MAX_LENGTH else None


def host_of(address: str) -> str:
    """Host name of a canonical address, without the port."""
    return urlsplit(address).hostname or ""


def origin_of(address: str) -> str:
    """Scheme, host and port of a canonical address: what one robots.txt and one queue is for."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def in_scope(address: str, hosts: Sequence[str], prefixes: Sequence[str]) -> bool:
    """Whether a canonical address is on one of the hosts or begins with one of the (canonical) prefixes."""
    host = host_of(address)
    for pattern in hosts:
        name = pattern.lower().rstrip(".")
        if name.startswith("*."):
            if host == name[2:] or host.endswith(name[1:]):
                return True
        elif host == name:
            return True
    return any(address.startswith(prefix) for prefix in prefixes)
