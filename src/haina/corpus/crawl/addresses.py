"""Only addresses of the public internet are connected to.

Comes in: a host name. Goes out: an IPv4 address to connect to, or an error. The check is on the address that the
connection is then made to, not on the name: a name that leads to a public address when asked first and to a
private one when connecting (DNS rebinding) has nothing to win. Odd spellings of an address (`0x7f.1`,
`2130706433`) go through the same resolver and so through the same check.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, ClassVar

from scrapy.resolver import CachingThreadedResolver
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError


class PrivateAddressError(DNSLookupError):
    """A name leads to an address that is not public."""


def is_public(address: str) -> bool:
    """Whether an IP address may be anybody's on the internet: not private, loopback, link-local, multicast,
    reserved, or one of the shared and documentation ranges; an IPv4 address inside an IPv6 one counts as itself.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


class PublicResolver(CachingThreadedResolver):
    """Scrapy's resolver (IPv4), which refuses names that lead to addresses that are not public.

    Attributes:
        refused: names that were refused. Twisted reports every failed look-up in the same words, so this tells why.
    """

    refused: ClassVar[set[str]] = set()

    def __init__(self, reactor: Any, cache_size: int, timeout: float, allow_private: bool = False) -> None:
        super().__init__(reactor, cache_size, timeout)
        self.allow_private = allow_private

    @classmethod
    def from_crawler(cls, crawler: Any, reactor: Any) -> PublicResolver:
        settings = crawler.settings
        return cls(
            reactor,
            settings.getint("DNSCACHE_SIZE"),
            settings.getfloat("DNS_TIMEOUT"),
            settings.getbool("HAINA_ALLOW_PRIVATE"),
        )

    def getHostByName(self, name: str, timeout: Sequence[int] = ()) -> Deferred[str]:  # noqa: N802 - Twisted's name
        def check(address: str) -> str:
            if not self.allow_private and not is_public(address):
                self.refused.add(name)
                raise PrivateAddressError(f"{name} leads to {address}, which is no public address")
            return address

        return super().getHostByName(name, timeout).addCallback(check)
