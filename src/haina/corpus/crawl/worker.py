"""The crawl itself, in a process of its own: `python -m haina.corpus.crawl.worker OUT`.

Comes in: `OUT/crawl.json` (options) and `OUT/crawl.sqlite` (what is done). Goes out: WARC files, and one JSON
line a second on standard output. Scrapy fetches; which address is next, when, and whether it may be, is decided here:

1. `Hosts` says which host has its turn.
2. A host's robots.txt is fetched before anything else of it (RFC 9309): 4xx means that all is allowed, an
   error that nothing is.
3. An answer is appended to the WARC file, then noted in the frontier, in that order.
4. Redirects are answers like any other; where they lead is a link, so scope, robots.txt and address checks
   hold for it too.

The process ends when its standard input does, so it never outlives the one that started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import scrapy
from protego import Protego
from scrapy import signals
from scrapy.crawler import CrawlerProcess
from scrapy.exceptions import StopDownload

from haina.corpus.crawl.addresses import PublicResolver, is_public
from haina.corpus.crawl.frontier import Entry, Frontier, Link
from haina.corpus.crawl.hosts import Hosts, retry_after
from haina.corpus.crawl.messages import links_of, request_message, response_message
from haina.corpus.crawl.options import CrawlOptions
from haina.corpus.crawl.urls import canonical, host_of, in_scope
from haina.corpus.crawl.warc_file import Exchange, WarcFiles
from haina.runtime.lock import exclusive

OPTIONS_FILE = "crawl.json"
FRONTIER_FILE = "crawl.sqlite"
LOG_FILE = "crawl.log"
_ROBOTS_BYTES = 512 << 10
_MAX_HOPS = 10
_MAX_ROBOTS_HOPS = 5
_POLL_SECONDS = 0.05
_REDIRECTS = (301, 302, 303, 307, 308)
_TRY_AGAIN = (429, 500, 502, 503, 504)


class FetchError(Exception):
    """A request without an answer; the message is one of the reasons in the summary."""


def reason_of(error: Exception, url: str) -> str:
    """The reason in the summary for an error of Scrapy or Twisted."""
    name = type(error).__name__
    if isinstance(error, StopDownload):
        return "media-type"
    if host_of(url) in PublicResolver.refused:
        return "private-address"
    if "Timeout" in name or isinstance(error, TimeoutError):
        return "timeout"
    if "Cancelled" in name:
        return "too-large"
    return "unknown-host" if "Resolve" in name or "DNS" in name else "connection"


class HainaSpider(scrapy.Spider):
    """Fetches what the frontier holds."""

    name = "haina"

    def __init__(self, options: CrawlOptions, out: Path, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options = options
        self.out = out
        self.hosts = Hosts(options.delay, options.per_host, options.max_retry_after)
        self.robots: dict[str, Protego | str] = {}
        self.robots_attempts: Counter[str] = Counter()
        self.loading: set[str] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.pages_in_flight = 0
        self.scope_hosts = options.scope_hosts()
        self.scope_prefixes = [address for prefix in options.prefixes if (address := canonical(prefix))]
        self.headers = {
            "User-Agent": options.agent(),
            "Accept": "text/html,application/xhtml+xml,text/plain;q=0.8,*/*;q=0.1",
            "Accept-Encoding": "gzip, deflate",
        }
        self.frontier = Frontier(out / FRONTIER_FILE)
        self.pages = self.frontier.pages()
        self.bytes = 0
        index, size = (self.frontier.note("warc") or "0 0").split()
        about = {
            "software": options.agent(),
            "format": "WARC File Format 1.1",
            "conformsTo": "http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/",
            "robots": "obey",
        }
        self.warc = WarcFiles(out, int(index), int(size), options.warc_bytes, about)

    @classmethod
    def from_crawler(cls, crawler: Any, *args: Any, **kwargs: Any) -> HainaSpider:
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.on_headers, signal=signals.headers_received)
        return spider

    def on_headers(self, headers: Any, request: scrapy.Request, **_: Any) -> None:
        """Stop an answer of a type that is not wanted before its body."""
        media_type = (headers.get(b"Content-Type") or b"").decode("latin-1").partition(";")[0].strip().lower()
        if media_type and not request.meta.get("any_type") and media_type not in self.options.media_types:
            raise StopDownload(fail=True)

    async def start(self) -> AsyncIterator[Any]:
        """The crawl; nothing is left to Scrapy's own scheduler."""
        try:
            await self.run()
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            self.warc.close()
            self.frontier.close()
        nothing: tuple[Any, ...] = ()
        for request in nothing:
            yield request

    async def run(self) -> None:
        """Give every host its turns until nothing is left or a limit is reached."""
        seeds = [Link(url, 0, 0, "") for seed in self.options.seeds if (url := canonical(seed))]
        self.frontier.add(seeds)
        for queued in self.frontier.origins():
            self.hosts.add(queued)
        end = time.monotonic() + 60 * self.options.max_minutes if self.options.max_minutes else float("inf")
        told = 0.0
        while True:
            now = time.monotonic()
            if now - told >= 1:
                told = now
                self.tell()
            full = self.pages + self.pages_in_flight >= self.options.max_pages
            if now >= end or full:
                if not self.tasks:
                    break
            elif len(self.tasks) < self.options.concurrency and (origin := self.hosts.take(now)) is not None:
                self.begin(origin)
                continue
            elif not self.tasks and self.hosts.next_turn() is None:
                break
            await asyncio.sleep(_POLL_SECONDS)
        self.tell()

    def tell(self) -> None:
        """One line for the process that waits."""
        print(json.dumps({"pages": self.pages, "bytes": self.bytes}), flush=True)

    def begin(self, origin: str) -> None:
        """Use a host's turn: for its robots.txt, or for its next page."""
        if origin in self.loading:
            self.hosts.give_back(origin)
            return
        robots = self.robots.get(origin)
        if robots is None:
            self.loading.add(origin)
            self.spawn(self.load_robots(origin))
            return
        while (entry := self.frontier.take(origin)) is not None:
            reason = self.refusal(entry, robots)
            if not reason:
                self.pages_in_flight += 1
                self.spawn(self.fetch(entry))
                return
            self.frontier.failed(entry, reason)
        self.hosts.give_back(origin)

    def refusal(self, entry: Entry, robots: Protego | str) -> str:
        """Why an address is not fetched, empty when it is."""
        if not in_scope(entry.url, self.scope_hosts, self.scope_prefixes):
            return "scope"
        if isinstance(robots, str):
            return robots
        return "" if robots.can_fetch(entry.url, self.options.agent()) else "robots"

    def spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault of ours on one page must be seen and must not end the crawl.
            self.logger.error("a page was given up", exc_info=error)

    async def download(self, url: str, max_bytes: int, *, any_type: bool = False) -> Any:
        """The answer to a GET request.

        Raises:
            FetchError: there is none that may be used.
        """
        meta = {
            "download_timeout": self.options.timeout, "download_maxsize": max_bytes, "download_warnsize": 0,
            "any_type": any_type,
        }  # fmt: skip
        request = scrapy.Request(url, headers=self.headers, meta=meta, dont_filter=True)
        assert self.crawler.engine is not None
        try:
            response = await self.crawler.engine.download_async(request)
        except Exception as error:
            raise FetchError(reason_of(error, url)) from error
        address = str(response.ip_address or "")
        if address and not self.options.allow_private and not is_public(address):
            raise FetchError("private-address")
        return response

    async def load_robots(self, origin: str) -> None:
        """Learn the rules of a host."""
        rules: Protego | str
        wait: float | None = None
        try:
            rules, wait = await self.robots_of(origin)
        except FetchError as error:
            rules = str(error)
        self.loading.discard(origin)
        self.robots_attempts[origin] += 1
        now = time.monotonic()
        final = isinstance(rules, Protego) or rules in ("private-address", "unknown-host")
        if final or self.robots_attempts[origin] > self.options.retries:
            self.robots[origin] = rules
            if isinstance(rules, Protego):
                delay = rules.crawl_delay(self.options.agent())
                self.hosts.slow_down(origin, float(delay) if delay is not None else None, now)
            elif not final:
                self.robots[origin] = "robots-unreachable"
        else:
            self.hosts.hold(
                origin, wait if wait is not None else self.backoff(self.robots_attempts[origin]), now
            )
        self.hosts.finished(origin)

    async def robots_of(self, origin: str) -> tuple[Protego | str, float | None]:
        """The rules of a host, or why there are none and how long to wait."""
        url = origin + "/robots.txt"
        for _ in range(_MAX_ROBOTS_HOPS + 1):
            response = await self.download(url, _ROBOTS_BYTES, any_type=True)
            location = (response.headers.get(b"Location") or b"").decode("latin-1")
            target = canonical(urljoin(url, location)) if response.status in _REDIRECTS and location else None
            if target is None:
                break
            url = target
        if 200 <= response.status < 300:
            text = read_text(response)
            return Protego.parse(text), None
        if response.status == 429 or response.status >= 500:
            return "robots-unreachable", self.asked_wait(response)
        return Protego.parse(""), None

    def asked_wait(self, response: Any) -> float | None:
        value = (response.headers.get(b"Retry-After") or b"").decode("latin-1")
        return retry_after(value, time.time())

    def backoff(self, attempt: int) -> float:
        return max(1.0, self.options.delay) * 2.0 ** (attempt - 1)

    async def fetch(self, entry: Entry) -> None:
        """One attempt at a page."""
        try:
            await self.attempt(entry)
        finally:
            self.pages_in_flight -= 1
            self.hosts.finished(entry.origin)

    async def attempt(self, entry: Entry) -> None:
        began = time.monotonic()
        try:
            response = await self.download(entry.url, self.options.max_bytes)
        except FetchError as error:
            if str(error) in ("timeout", "connection") and entry.attempts < self.options.retries:
                self.hosts.hold(entry.origin, self.backoff(entry.attempts + 1), time.monotonic())
                self.frontier.put_back(entry)
            else:
                self.frontier.failed(entry, str(error))
            return
        if response.status in _TRY_AGAIN:
            wait = self.asked_wait(response)
            if response.status in (429, 503) or wait is not None:
                pause = wait if wait is not None else self.backoff(entry.attempts + 1)
                self.hosts.hold(entry.origin, pause, time.monotonic())
            if entry.attempts < self.options.retries:
                self.frontier.put_back(entry)
            else:
                self.frontier.failed(entry, f"http-{response.status}", response.status)
            return
        self.store(entry, response, time.monotonic() - began)

    def store(self, entry: Entry, response: Any, seconds: float) -> None:
        """Append an answer to the WARC file and note it, with its links, in the frontier."""
        message = response_message(response)
        links, passed_over = self.links(entry, response, message)
        fields = {
            "fetchTimeMs": str(round(1000 * seconds)),
            "hopsFromSeed": "L" * entry.depth + "R" * entry.hops,
        }
        if entry.via:
            fields["via"] = entry.via
        body = bytes(response.body)
        index, size = self.warc.append(
            Exchange(
                entry.url, request_message(entry.url, self.headers), message, body,
                str(response.ip_address or "0.0.0.0"), fields, "disconnect" if "dataloss" in response.flags else "",
            )
        )  # fmt: skip
        notes = {"warc": f"{index} {size}"}
        for origin in self.frontier.done(entry, response.status, len(body), links, passed_over, notes):
            self.hosts.add(origin)
        self.pages += 1
        self.bytes += len(body)

    def links(self, entry: Entry, response: Any, message: bytes) -> tuple[list[Link], Counter[str]]:
        """What an answer leads to, and how many links are not followed and why."""
        passed_over: Counter[str] = Counter()
        location = (response.headers.get(b"Location") or b"").decode("utf-8", "replace")
        if response.status in _REDIRECTS and location:
            target = canonical(urljoin(entry.url, location))
            if target is None or not in_scope(target, self.scope_hosts, self.scope_prefixes):
                passed_over["redirect-out-of-scope"] += 1
            elif entry.hops >= _MAX_HOPS:
                passed_over["too-many-redirects"] += 1
            else:
                return [Link(target, entry.depth, entry.hops + 1, entry.url)], passed_over
            return [], passed_over
        if not 200 <= response.status < 300:
            return [], passed_over
        found = []
        for url in links_of(entry.url, message, self.options.max_bytes):
            if not in_scope(url, self.scope_hosts, self.scope_prefixes):
                passed_over["scope"] += 1
            elif entry.depth >= self.options.max_depth:
                passed_over["depth"] += 1
            else:
                found.append(Link(url, entry.depth + 1, entry.hops, entry.url))
        return found, passed_over


def read_text(response: Any) -> str:
    """The text of a robots.txt, whatever its coding."""
    from haina.corpus.http_message import read_response

    payload = read_response(response_message(response), _ROBOTS_BYTES).payload
    return payload.decode("utf-8-sig", "replace").replace("\0", "")


def settings_for(options: CrawlOptions, out: Path) -> dict[str, Any]:
    """Scrapy's settings: its downloader and nothing else, since order, delays, robots.txt, redirects and
    retries are ours.
    """
    return {
        "DOWNLOADER_MIDDLEWARES_BASE": {}, "SPIDER_MIDDLEWARES_BASE": {}, "EXTENSIONS_BASE": {},
        "DOWNLOAD_HANDLERS": {"data": None, "file": None, "s3": None, "ftp": None},
        "ROBOTSTXT_OBEY": False, "COOKIES_ENABLED": False, "TELNETCONSOLE_ENABLED": False,
        "CONCURRENT_REQUESTS": options.concurrency, "CONCURRENT_REQUESTS_PER_DOMAIN": options.concurrency,
        "DOWNLOAD_DELAY": 0, "DOWNLOAD_TIMEOUT": options.timeout,
        "DOWNLOAD_MAXSIZE": options.max_bytes, "DOWNLOAD_WARNSIZE": 0, "DOWNLOAD_FAIL_ON_DATALOSS": False,
        "TWISTED_DNS_RESOLVER": "haina.corpus.crawl.addresses.PublicResolver",
        "DNS_TIMEOUT": min(20.0, options.timeout),
        "HAINA_ALLOW_PRIVATE": options.allow_private,
        "LOG_FILE": str(out / LOG_FILE), "LOG_LEVEL": "WARNING",
    }  # fmt: skip


def _end_with_parent() -> None:
    """Stop at once when standard input ends: the process that started this one is gone."""
    # Not through sys.stdin, whose lock the interpreter wants when it ends.
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    out = Path(sys.argv[1])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    options = CrawlOptions.model_validate_json((out / OPTIONS_FILE).read_text(encoding="utf-8"))
    with exclusive(out, "wait for the other crawl to end, or choose another --out"):
        process = CrawlerProcess(settings_for(options, out))
        process.crawl(HainaSpider, options=options, out=out)
        process.start()


if __name__ == "__main__":
    main()
