"""A polite, resumable crawl of chosen hosts into WARC files.

`crawl(options, out)` starts Scrapy in a process of its own (its event loop can be started only once in a process) and
gives back a summary. What was fetched and what is still to do stands in `OUT/crawl.sqlite`, page by page, so a
crawl that was killed goes on where it was. `haina curate OUT` reads the WARC files.
"""

from __future__ import annotations

from haina.corpus.crawl.options import CrawlOptions
from haina.corpus.crawl.run import crawl

__all__ = ["CrawlOptions", "crawl"]
