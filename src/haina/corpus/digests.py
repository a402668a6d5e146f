"""Digests that a WARC record carries of its own content, and whether they fit.

Comes in: `WARC-Block-Digest` or `WARC-Payload-Digest` and the bytes. Goes out: True, False, or None where nothing
can be said. Written `sha1:` and Base32 by most crawlers, hexadecimal or Base64 by some (WARC 1.1, 5.8 and 5.9).
"""

from __future__ import annotations

import base64
import hashlib

_ALGORITHMS = {
    "md5": "md5", "sha1": "sha1", "sha-1": "sha1", "sha256": "sha256", "sha-256": "sha256",
    "sha384": "sha384", "sha-384": "sha384", "sha512": "sha512", "sha-512": "sha512",
}  # fmt: skip


def matches(label: str, data: bytes) -> bool | None:
    """Whether `data` has the digest that `label` names; None for an unknown algorithm or form."""
    algorithm, _, value = label.strip().partition(":")
    name = _ALGORITHMS.get(algorithm.strip().lower())
    if name is None:
        return None
    digest = hashlib.new(name, data, usedforsecurity=False)
    raw, value = digest.digest(), value.strip().rstrip("=")
    forms = {
        len(raw) * 2: raw.hex(),
        len(base64.b32encode(raw).rstrip(b"=")): base64.b32encode(raw).decode().rstrip("=").lower(),
    }
    if len(value) in forms:
        return value.lower() == forms[len(value)]
    plain = base64.b64encode(raw).decode().rstrip("=")
    if len(value) != len(plain):
        return None
    return value in (plain, base64.urlsafe_b64encode(raw).decode().rstrip("="))
