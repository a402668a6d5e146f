"""What a crawl leaves is an input of `haina curate`, byte for byte."""

from __future__ import annotations

from pathlib import Path

from haina.corpus.crawl import CrawlOptions, crawl
from haina.corpus.read import read_source
from haina.corpus.records import Page
from haina.corpus.sources import list_sources

from .servers import Answer, Host, serving, text

PAGE = "<html><meta charset=gb2312><p>海纳百川 all rivers run into the sea</p></html>".encode("gb18030")


def site(path: str, host: Host) -> Answer | None:
    return text("") if path == "/robots.txt" else (200, {"Content-Type": "text/html; charset=gb2312"}, PAGE)


def test_pages_come_out_as_they_were_served(tmp_path: Path) -> None:
    host = Host("127.0.0.1", site)
    with serving(host):
        crawl(CrawlOptions(seeds=(host.url,), allow_private=True, delay=0.0), tmp_path / "out")
    inputs = list_sources([tmp_path / "out"])
    # The log, the queue and the summary are no pages.
    assert [source.name for source in inputs.sources] == ["crawl-00000.warc.gz"]
    pages = [record for record in read_source(inputs.sources[0], 1 << 20) if isinstance(record, Page)]
    assert [(page.url, page.data, page.charset) for page in pages] == [(host.url + "/", PAGE, "gb2312")]
