"""When the next request to a host may start.

Comes in: what the crawl does and hears, with the time. Goes out: whose turn it is. A host gets at most
`per_host` requests at a time, their starts `delay` apart (or the Crawl-delay of its robots.txt, when longer),
and none before a Retry-After has passed. No clock is read here, so tests need not wait.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime


@dataclass
class Host:
    """One origin: `http://host:port`."""

    delay: float
    next_start: float = 0.0
    in_flight: int = 0
    scheduled: bool = field(default=False, repr=False)


class Hosts:
    """All hosts with something to do."""

    def __init__(self, delay: float, per_host: int, longest: float) -> None:
        self.delay = delay
        self.per_host = per_host
        self.longest = longest
        self.hosts: dict[str, Host] = {}
        self._turns: list[tuple[float, int, str]] = []
        self._count = 0

    def add(self, origin: str) -> None:
        """There is something to fetch from a host."""
        host = self.hosts.setdefault(origin, Host(self.delay))
        if not host.scheduled and host.in_flight < self.per_host:
            host.scheduled = True
            self._count += 1
            heapq.heappush(self._turns, (host.next_start, self._count, origin))

    def take(self, now: float) -> str | None:
        """The host whose turn it is, None when nobody's is. A request to it has to start now, or `give_back`."""
        while self._turns and self._turns[0][0] <= now:
            _, _, origin = heapq.heappop(self._turns)
            host = self.hosts[origin]
            host.scheduled = False
            if host.next_start > now:
                self.add(origin)
                continue
            host.in_flight += 1
            host.next_start = now + host.delay
            self.add(origin)
            return origin
        return None

    def give_back(self, origin: str) -> None:
        """The host had nothing to fetch after all."""
        self.hosts[origin].in_flight -= 1

    def finished(self, origin: str) -> None:
        """A request has ended; the host may have a turn again."""
        self.hosts[origin].in_flight -= 1
        self.add(origin)

    def slow_down(self, origin: str, crawl_delay: float | None, now: float) -> None:
        """Heed a Crawl-delay, which counts from the request of robots.txt on."""
        if crawl_delay is not None and crawl_delay > 0:
            host = self.hosts[origin]
            host.delay = max(self.delay, min(crawl_delay, self.longest))
            host.next_start = max(host.next_start, now + host.delay)

    def hold(self, origin: str, seconds: float, now: float) -> None:
        """Start nothing with a host for some seconds."""
        host = self.hosts[origin]
        host.next_start = max(host.next_start, now + min(max(0.0, seconds), self.longest))

    def next_turn(self) -> float | None:
        """When the next host has its turn, None when none waits."""
        return self._turns[0][0] if self._turns else None


def retry_after(value: str, wall_clock: float) -> float | None:
    """Seconds that a Retry-After header asks to wait (RFC 9110, 10.2.3), None when it says nothing."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - wall_clock)
    except (ValueError, TypeError, OverflowError):
        return None
