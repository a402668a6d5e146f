"""Whole crawls over several hosts on loopback."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from haina.corpus.accounts import Account
from haina.corpus.crawl import CrawlOptions, crawl
from haina.corpus.read import read_source
from haina.corpus.records import Page, Quarantined
from haina.corpus.sources import list_sources
from haina.runtime.errors import HainaError

from .servers import Answer, Host, html, serving, text

MEBI = 1 << 20


def stored(out: Path) -> list[str]:
    """Addresses of the pages that `haina curate` would read; nothing in the files is damaged."""
    found = []
    for source in list_sources([out]).sources:
        account = Account()
        for record in read_source(source, 16 * MEBI, account):
            assert not isinstance(record, Quarantined) or record.reason == "http-status", record
            if isinstance(record, Page):
                found.append(record.url)
        assert account.balanced
        assert not account.lost
    return found


def plain_site(path: str, host: Host) -> Answer | None:  # noqa: PLR0911 - one a page
    if path == "/robots.txt":
        return text(
            "User-agent: *\nDisallow: /secret\n\nUser-agent: haina\nDisallow: /private\nDisallow: /no*end$\n"
        )
    if path == "/":
        names = (
            "one",
            "two",
            "private/x",
            "no-way/end",
            "oversize",
            "endless",
            "picture",
            "moved",
            "away",
            "loop",
            "gone",
        )
        links = "".join(f'<a href="/{name}">{name}</a>' for name in names)
        return html(
            f'<p>首页 start</p>{links}<a href="http://elsewhere.example/">out</a><a href="/one#again">1</a>'
        )
    if path == "/oversize":
        return 200, {"Content-Type": "text/html"}, b"x" * (2 * MEBI)
    if path in ("/endless", "/slow"):
        return None
    if path == "/picture":
        return 200, {"Content-Type": "image/png"}, b"\x89PNG" * 1000
    if path == "/moved":
        return 302, {"Location": "/target"}, b""
    if path == "/away":
        return 301, {"Location": "http://169.254.169.254/latest/meta-data/"}, b""
    if path == "/loop":
        return 302, {"Location": "/loop"}, b""
    if path == "/gone":
        return html("<p>gone</p>", 404)
    if path == "/two":
        status, headers, body = html('<p>第二页 two</p><a href="/deep">deep</a>')
        return status, {**headers, "Content-Encoding": "gzip"}, gzip.compress(body)
    return html(f"<p>{path} 网页</p>")


def patient_site(path: str, host: Host) -> Answer | None:
    """Asks for a Crawl-delay, and for patience with one page."""
    if path == "/robots.txt":
        return text("User-agent: *\nCrawl-delay: 0.5\n")
    if path == "/":
        return html('<a href="/busy">b</a><a href="/x">x</a>')
    if path == "/busy" and host.paths().count("/busy") == 1:
        return 503, {"Retry-After": "2", "Content-Type": "text/plain"}, b"later"
    return html(f"<p>{path}</p>")


def closed_site(path: str, host: Host) -> Answer | None:
    """Its robots.txt is broken: nothing may be fetched."""
    return text("down", 500) if path == "/robots.txt" else html("<p>must not be asked for</p>")


def free_site(path: str, host: Host) -> Answer | None:
    """No robots.txt; pages that drip, and one that is busy for ever."""
    if path == "/robots.txt":
        return text("none", 404)
    if path == "/":
        return html('<a href="/slow">s</a><a href="/busy">b</a><a href="/ok">o</a>')
    if path == "/slow":
        return None
    if path == "/busy":
        return text("too many", 429)
    return html("<p>fine</p>")


def test_a_crawl_of_several_hosts(tmp_path: Path) -> None:
    plain, patient = Host("127.0.0.1", plain_site), Host("127.0.0.2", patient_site)
    closed, free = Host("127.0.0.3", closed_site), Host("127.0.0.4", free_site)
    stranger = Host("127.0.0.5", plain_site)
    with serving(plain, patient, closed, free, stranger):
        options = CrawlOptions(
            seeds=tuple(host.url for host in (plain, patient, closed, free)), allow_private=True, delay=0.2,
            max_bytes=MEBI, timeout=1.5, retries=1, max_depth=2,
        )  # fmt: skip
        summary = crawl(options, tmp_path / "out")
    urls = stored(tmp_path / "out")
    assert len(urls) == len(set(urls))
    assert {url.removeprefix(plain.url) for url in urls if url.startswith(plain.url)} == {
        "/", "/one", "/two", "/target", "/deep",
    }  # fmt: skip
    # robots.txt, by its rules for haina and not those for everybody
    assert not [path for path in plain.paths() if path.startswith(("/private", "/no-way"))]
    assert plain.paths()[0] == "/robots.txt"
    assert plain.paths().count("/robots.txt") == 1
    # one request for a page, whatever number of links
    fetched = [path for path in plain.paths() if path not in ("/endless",)]
    assert len(fetched) == len(set(fetched))
    # starts of requests are `delay` apart; a Crawl-delay and a Retry-After are waited for
    for host, delay in ((plain, 0.2), (free, 0.2), (patient, 0.5)):
        times = host.times()
        # Requests are logged when they arrive, which a busy machine shifts a little.
        assert times[-1] - times[0] > 0.95 * delay * (len(times) - 1)
        assert min(after - before for before, after in pairwise(times)) > 0.5 * delay
    first, second = patient.times("/busy")
    assert second - first > 1.9
    assert not [when for when in patient.times() if first < when < first + 1.9]
    # nothing of a host whose robots.txt could not be read, nor of one out of scope
    assert set(closed.paths()) == {"/robots.txt"}
    assert not stranger.log
    assert summary["by_status"] == {"200": 10, "301": 1, "302": 2, "404": 1}
    assert summary["not_fetched"] == {
        "http-429": 1, "media-type": 1, "robots": 2, "robots-unreachable": 1, "timeout": 1, "too-large": 2,
    }  # fmt: skip
    assert summary["links_not_followed"] == {"redirect-out-of-scope": 1, "scope": 1}
    assert summary["queued"] == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["pages"] == summary["pages"] == 14


_WORKER = """
    # A worker for which 127.0.0.1 is public and 127.0.0.2 is not, with a name server of its own.
    import json, sys
    from twisted.internet import defer
    import haina.corpus.crawl.addresses as addresses
    from scrapy.resolver import CachingThreadedResolver
    names = json.loads(sys.argv.pop())
    asked = {}
    def resolve(self, name, timeout=()):
        asked[name] = asked.get(name, -1) + 1
        answers = names.get(name, [name])
        return defer.succeed(answers[min(asked[name], len(answers) - 1)])
    CachingThreadedResolver.getHostByName = resolve
    addresses.is_public = lambda address: address == "127.0.0.1"
    import haina.corpus.crawl.worker as worker
    worker.main()
"""


def test_private_addresses_are_refused_after_every_look_up(tmp_path: Path) -> None:
    inner = Host("127.0.0.2", lambda path, host: html("<p>secret</p>"))

    def site(path: str, host: Host) -> Answer | None:
        if path == "/robots.txt":
            return 302, {"Location": f"http://127.0.0.2:{inner.port}/robots.txt"}, b""
        return html("x")

    def public(path: str, host: Host) -> Answer | None:
        if path == "/robots.txt":
            return text("")
        if path == "/":
            return html(f'<a href="/redirect">r</a><a href="http://inner.test:{inner.port}/page">i</a>')
        if path == "/redirect":
            return 302, {"Location": f"http://127.0.0.2:{inner.port}/secret"}, b""
        return html("x")

    outer, sly = Host("127.0.0.1", public), Host("127.0.0.1", site)
    with serving(inner, outer, sly):
        names = {
            "outer.test": ["127.0.0.1"], "sly.test": ["127.0.0.1"], "inner.test": ["127.0.0.2"],
            # One address when asked first and another from then on: the first answer is the one that counts.
            "rebind.test": ["127.0.0.1", "127.0.0.2"], "flip.test": ["127.0.0.2", "127.0.0.1"],
        }  # fmt: skip
        options = CrawlOptions(
            seeds=(
                f"http://outer.test:{outer.port}/", f"http://sly.test:{sly.port}/", f"http://rebind.test:{outer.port}/",
                f"http://127.0.0.2:{inner.port}/", f"http://flip.test:{outer.port}/",
            ),
            hosts=("*.test", "127.0.0.2"), delay=0.05, retries=0, timeout=5,
        )  # fmt: skip
        out = tmp_path / "out"
        out.mkdir()
        (out / "crawl.json").write_text(options.model_dump_json())
        command = [sys.executable, "-c", textwrap.dedent(_WORKER), str(out), json.dumps(names)]
        assert _run(command) == 0
    assert not inner.log
    assert sorted(stored(out)) == [f"http://{name}.test:{outer.port}/" for name in ("outer", "rebind")]
    from haina.corpus.crawl.frontier import Frontier

    frontier = Frontier(out / "crawl.sqlite")
    refused = frontier.summary()["not_fetched"]
    frontier.close()
    assert refused == {"private-address": 5}


def _run(command: list[str]) -> int:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        return process.wait(60)
    finally:
        process.kill()


def test_loopback_is_refused_unless_allowed(tmp_path: Path) -> None:
    host = Host("127.0.0.1", plain_site)
    with serving(host):
        seeds = (f"{host.url}/", f"http://localhost:{host.port}/", f"http://0x7f.1:{host.port}/")
        summary = crawl(CrawlOptions(seeds=seeds, delay=0.0), tmp_path / "out")
    assert not host.log
    assert summary["not_fetched"] == {"private-address": 3}


def star_site(pages: int) -> Callable[[str, Host], Answer | None]:
    def answer(path: str, host: Host) -> Answer | None:
        if path == "/robots.txt":
            return text("")
        if path == "/":
            return html("".join(f'<a href="/p{index}">页 {index}</a>' for index in range(pages)))
        return html(f"<p>第 {path[2:]} 页</p>" + "文字 text " * 200)

    return answer


_CLI = """
    import sys
    import haina.cli.app as app
    from haina.cli.crawl import crawl
    if "crawl" not in {command.name for command in app.app.registered_commands}:
        app.app.command("crawl")(crawl)
    from haina.cli import main
    main(["crawl", *sys.argv[1:]])
"""


def command_for(url: str, out: Path) -> list[str]:
    options = ["--out", str(out), "--allow-private", "--delay", "0.03", "--json"]
    return [sys.executable, "-c", textwrap.dedent(_CLI), url, *options]


def _wait_for(host: Host, requests: int) -> None:
    end = time.monotonic() + 30
    while len(host.log) < requests:
        assert time.monotonic() < end, "the crawl does not get on"
        time.sleep(0.01)


def test_kill_at_any_moment_and_go_on(tmp_path: Path) -> None:
    host, out = Host("127.0.0.1", star_site(60)), tmp_path / "out"
    with serving(host):
        command = command_for(host.url, out)
        for requests in (15, 35):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
            _wait_for(host, requests)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        with next(out.glob("crawl-*.warc.gz")).open("ab") as file:
            file.write(b"\x1f\x8b\x08\x00 half a record, as a kill in the middle of a write leaves it")
        # The worker notices that nobody waits for it; until then the folder is in use.
        for _ in range(50):
            finished = subprocess.run(command, capture_output=True, text=True, check=False)
            if "already being worked on" not in finished.stderr:
                break
            time.sleep(0.05)
    assert finished.returncode == 0, finished.stderr
    summary = json.loads(finished.stdout)
    assert summary["pages"] == 61
    urls = stored(out)
    assert len(urls) == len(set(urls)) == 61
    pages = [path for path in host.paths() if path != "/robots.txt"]
    # Twice at most what was in flight when a kill came: one request a host, two kills.
    assert len(pages) <= 61 + 2
    assert len(set(pages)) == 61


def test_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    # Large enough that a busy machine does not finish it before the interrupt arrives.
    host, out = Host("127.0.0.1", star_site(2000)), tmp_path / "out"
    with serving(host):
        process = subprocess.Popen(
            command_for(host.url, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        _wait_for(host, 10)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "run the same command again to go on" in stderr
        before = len(stored(out))
        assert before >= 5
        # A limit on pages counts those of earlier runs.
        limited = subprocess.run(
            [*command_for(host.url, out), "--max-pages", str(before + 5)],
            capture_output=True,
            text=True,
            check=True,
        )
    summary: dict[str, Any] = json.loads(limited.stdout)
    assert summary["pages"] == before + 5
    assert summary["queued"] > 0
    pages = [path for path in host.paths() if path != "/robots.txt"]
    assert len(pages) - len(set(pages)) <= 1


def test_one_crawl_at_a_time_and_bad_input(tmp_path: Path) -> None:
    from haina.runtime.lock import exclusive

    with exclusive(tmp_path / "out", "advice"), pytest.raises(HainaError, match="already being worked on"):
        crawl(CrawlOptions(seeds=("http://127.0.0.1:9/",)), tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(HainaError):
        crawl(CrawlOptions(seeds=("http://127.0.0.1:9/",)), tmp_path / "file")
