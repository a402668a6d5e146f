"""`haina crawl`: pages of chosen hosts into WARC files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from haina.cli.common import JsonOption, human_bytes, print_json, print_table


def crawl(
    seeds: Annotated[
        list[str],
        typer.Argument(metavar="SEEDS...", help="Addresses to begin with, or files with one a line."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the WARC files; an interrupted crawl goes on.")
    ],
    hosts: Annotated[
        list[str] | None,
        typer.Option("--host", help="Host in scope, `*.example.org` with all below; the seeds' by default."),
    ] = None,
    prefixes: Annotated[
        list[str] | None, typer.Option("--prefix", help="Addresses that begin so are in scope.")
    ] = None,
    max_pages: Annotated[int, typer.Option(min=1, help="Answers stored, then the crawl ends.")] = 1000,
    max_depth: Annotated[int, typer.Option(min=0, help="Links between a seed and a page.")] = 5,
    max_bytes: Annotated[int, typer.Option(min=1024, help="Largest answer, in bytes.")] = 8 << 20,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer, all of it.")] = 30.0,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Begin no page after so many minutes.")
    ] = None,
    delay: Annotated[
        float, typer.Option(min=0.0, help="Seconds between requests to a host; robots.txt may ask for more.")
    ] = 1.0,
    per_host: Annotated[int, typer.Option(min=1, max=16, help="Requests to a host at the same time.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at the same time in all.")] = 16,
    user_agent: Annotated[
        str, typer.Option(help="How to name the crawler; put an address to reach you in it.")
    ] = "",
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Also fetch from private and loopback addresses.")
    ] = False,
    warc_bytes: Annotated[
        int, typer.Option(min=1 << 16, help="Begin a new WARC file after so many bytes.")
    ] = 1 << 30,
    json_output: JsonOption = False,
) -> None:
    """Fetch pages politely into WARC files: robots.txt, delays, Retry-After, size and time limits.

    Run the same command again to go on with an interrupted crawl.

    Example: haina crawl https://example.org/ --out crawl/ --max-pages 200
    """
    from pydantic import ValidationError

    from haina.corpus.crawl import CrawlOptions
    from haina.corpus.crawl import crawl as run_crawl
    from haina.corpus.crawl.seeds import read_seeds
    from haina.runtime.errors import HainaError
    from haina.runtime.progress import default_reporter

    try:
        options = CrawlOptions(
            seeds=read_seeds(seeds), hosts=tuple(hosts or ()), prefixes=tuple(prefixes or ()), max_pages=max_pages,
            max_depth=max_depth, max_bytes=max_bytes, timeout=timeout, max_minutes=max_minutes, delay=delay,
            per_host=per_host, concurrency=concurrency, user_agent=user_agent, allow_private=allow_private,
            warc_bytes=warc_bytes,
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise HainaError(
            f"crawl: {f'{place}: ' if place else ''}{first['msg']}", "see `haina crawl --help`"
        ) from error
    summary = run_crawl(options, out, default_reporter())
    if json_output:
        print_json(summary)
        return
    print_table(
        "answers stored",
        ("status", "pages"),
        [(status, f"{n:,}") for status, n in summary["by_status"].items()],
    )
    others = [(f"not fetched: {reason}", f"{n:,}") for reason, n in summary["not_fetched"].items()]
    others += [
        (f"link not followed: {reason}", f"{n:,}") for reason, n in summary["links_not_followed"].items()
    ]
    if summary["queued"]:
        others.append(("still queued: run again with a higher --max-pages", f"{summary['queued']:,}"))
    if others:
        print_table("not stored", ("reason", "addresses"), others)
    if summary["not_fetched"].get("private-address") and not allow_private:
        print("private and loopback addresses were refused; --allow-private lets them in")
    print(
        f"{out}: {summary['pages']:,} answers, {human_bytes(summary['bytes'])}. Next: haina curate {out} --out corpus/"
    )
