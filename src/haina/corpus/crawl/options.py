"""What a crawl is told: where to begin, how far to go, how gently."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from haina.corpus.crawl.urls import canonical, host_of


class CrawlOptions(BaseModel):
    """Seeds, scope, limits and manners of a crawl."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: tuple[str, ...] = Field(min_length=1, description="addresses to begin with, http or https")
    hosts: tuple[str, ...] = Field(
        (),
        description="hosts that are in scope, `*.example.org` with all below; the seeds' when neither is given",
    )
    prefixes: tuple[str, ...] = Field((), description="addresses that begin so are in scope")
    max_pages: int = Field(1000, ge=1, description="answers stored, after which the crawl ends")
    max_depth: int = Field(5, ge=0, description="links between a seed and a page")
    max_bytes: int = Field(8 << 20, ge=1024, le=1 << 30, description="bytes of an answer's body")
    timeout: float = Field(30.0, gt=0, description="seconds for one answer, from connecting to the last byte")
    max_minutes: float | None = Field(None, gt=0, description="minutes after which no new page is begun")
    delay: float = Field(1.0, ge=0, description="seconds between the starts of two requests to one host")
    per_host: int = Field(1, ge=1, le=16, description="requests to one host at the same time")
    concurrency: int = Field(16, ge=1, le=256, description="requests at the same time, all hosts together")
    retries: int = Field(2, ge=0, le=10, description="further attempts after a broken connection, 429 or 5xx")
    max_retry_after: float = Field(
        600.0, ge=0, description="longest Retry-After or Crawl-delay waited for, in seconds"
    )
    media_types: tuple[str, ...] = Field(
        ("text/html", "application/xhtml+xml", "text/plain"),
        description="answers of other types are not read",
    )
    user_agent: str = Field("", description="how the crawler names itself; haina and its version when empty")
    allow_private: bool = Field(
        False, description="also fetch from private, loopback and link-local addresses"
    )
    warc_bytes: int = Field(1 << 30, ge=1 << 16, description="size after which a new WARC file is begun")

    @model_validator(mode="after")
    def _addresses(self) -> Self:
        for name in ("seeds", "prefixes"):
            for address in getattr(self, name):
                if canonical(address) is None:
                    raise ValueError(f"{name}: {address}: not an http or https address")
        return self

    def scope_hosts(self) -> tuple[str, ...]:
        """The hosts in scope, the seeds' own when no scope was given."""
        if self.hosts or self.prefixes:
            return self.hosts
        return tuple(sorted({host_of(address) for seed in self.seeds if (address := canonical(seed))}))

    def agent(self) -> str:
        """The User-Agent header; its first word is what robots.txt rules are looked up by."""
        from haina import __version__

        return self.user_agent or f"haina/{__version__} (web crawler for language data; obeys robots.txt)"
