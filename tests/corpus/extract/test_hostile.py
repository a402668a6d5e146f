"""Markup that means harm, or is broken: bounded time, no exception, nothing that cannot be encoded."""

from __future__ import annotations

import contextlib
import json
import random
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from haina.cli.extract import extract
from haina.corpus.encoding import UndecodableError
from haina.corpus.extract import MAX_DEPTH, extract_page, nesting_depth
from haina.corpus.extract.metadata import _DATE_NAMES, clean_title, iso_date, url_date
from haina.corpus.extract.synthesize import make_page

SIZE = 300_000
PROSE = "深处的文字在这里，很容易找到它。The text in the deep is easy to find. "
HOSTILE = {
    "deep": "<div>" * SIZE + PROSE + "</div>" * SIZE,
    "deep spans": "<span>" * SIZE + PROSE,
    "deep lists": "<ul><li>" * SIZE + PROSE,
    "deep tables": "<table><tr><td>" * SIZE + PROSE,
    "deep formatting, stray ends": "<b>" * SIZE + "</i>" * SIZE + PROSE,
    "stray ends under a cell": "<div>" * 300 + "<table><td>" + "<span>" * 90 + "</div>" * SIZE + PROSE,
    "links in links": "<a href=x>" * SIZE + PROSE,
    "open comment": PROSE + "<!--" * SIZE,
    "open scripts": PROSE + "<script>" * SIZE,
    "open formulas": PROSE + "<math>" * SIZE,
    "open annotations": PROSE + "<math><annotation tex" * SIZE,
    "formulas with text": PROSE + '<math alttext="x"></math><p>' * (SIZE // 10),
    "open tags": PROSE + "<a " * SIZE,
    "open quotes": PROSE + '<a href="' * SIZE,
    "attributes": "<p " + "a=b " * SIZE + ">" + PROSE,
    "long class": '<p class="' + "nav content " * SIZE + '">' + PROSE,
    "angle brackets": PROSE + "<" * SIZE,
    "references": PROSE + "&" * SIZE + "&#x110000;&#99999999999;&#;&#x;&" + "&nbsp;" * SIZE,
    "one line": PROSE * (SIZE // 10),
    "nul": PROSE + "\0" * SIZE,
    "surrogates": "\ud800\udfff<p>\udc00" * 1000 + PROSE,
    "metadata": "<meta name=a content=b>" * SIZE + PROSE,
    "linked data": '<script type="application/ld+json">' + "[" * SIZE + "</script>" + PROSE,
    "hidden": "<p hidden>" * SIZE + "</p>" * SIZE + PROSE,
    "breaks": PROSE + "<br>" * SIZE + PROSE,
    "cells": "<table>" + "<tr><td>1<td>2" * SIZE + "</table>" + PROSE,
    "marks": "\u0301" * SIZE + "\u202e\ue000\ufffe" + PROSE,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_markup_is_bounded(name: str) -> None:
    html = HOSTILE[name]
    extract_page("<p>compile</p>")
    start = time.process_time()
    page = extract_page(html)
    # A megabyte takes tens of milliseconds; anything that grows with the square would take minutes.
    assert time.process_time() - start < 1 + len(html) / 500_000
    page.text.encode("utf-8")
    page.title.encode("utf-8")
    if name not in {"deep scripts", "open comment", "nul", "surrogates", "cells", "marks"}:
        assert "easy to find" in page.text or name in {"hidden", "open quotes"}


@pytest.mark.parametrize(
    "html",
    ["", " ", "x", "好", "<html>", "\0\0<p>", "<p>" + "\ud800", "<!-- ", "<a" * 50, "<script>x</script>", "<p>&#x;", "<math", "</",
     "<table>", "<img alt='\\frac'>", "<math alttext='{\\displaystyle'>", "<title>", "<p class=", "<!", "<?", "<br><br>"],
)  # fmt: skip
def test_fragments(html: str) -> None:
    extract_page(html).text.encode("utf-8")
    with contextlib.suppress(UndecodableError):
        extract_page(html.encode("utf-8", "replace"))


def test_depth_is_flattened_not_lost() -> None:
    deep = "<div>" * 10_000 + PROSE + "</div>" * 10_000
    assert nesting_depth(deep) > MAX_DEPTH
    assert extract_page(f"<body>{deep}</body>").text == PROSE.strip()
    assert nesting_depth("<p>x<li>y<br>" * 5000) == 0


def test_mutations_of_pages() -> None:
    """Bytes changed, cut, doubled and moved: text or `UndecodableError`, never anything else."""
    chance = random.Random(11)
    text = "".join(
        f"{word}这是一句完整的话，用来检查网页。This is a full sentence {word}. " for word in "abcdefgh"
    )
    sources = [make_page(text, seed % 2 == 0, seed % 3 == 0, seed)[0].encode("utf-8") for seed in range(12)]
    for _ in range(250):
        data = bytearray(chance.choice(sources))
        for _ in range(chance.randint(1, 30)):
            place = chance.randrange(len(data))
            kind = chance.randrange(5)
            if kind == 0:
                data[place] = chance.randrange(256)
            elif kind == 1:
                del data[place : place + chance.randint(1, 40)]
            elif kind == 2:
                data[place:place] = data[place : place + chance.randint(1, 400)]
            elif kind == 3:
                data[place:place] = chance.choice(
                    [b"<", b">", b'"', b"<!--", b"</div>", b"<table>", b"<math>", b"&#", b"\0", b"<script>"]
                )
            else:
                data[place:] = data[place + chance.randint(1, 2000) :] or b"x"
        try:
            extract_page(bytes(data)).text.encode("utf-8")
        except UndecodableError:
            continue


def test_dates_and_titles() -> None:
    for text, date in (
        ("2024年5月9日", "2024-05-09"),
        ("发布时间：2024-05-09 08:30", "2024-05-09"),
        ("20240509", "2024-05-09"),
        ("May 9th, 2024", "2024-05-09"),
        ("9 May 2024", "2024-05-09"),
        ("2024-02-31", ""),
        ("tel 12024-05-099", ""),
        ("", ""),
    ):
        assert iso_date(text) == date, text
    assert url_date("https://news.example.cn/c/2024-05-10/doc-1.shtml") == "2024-05-10"
    assert url_date("https://example.com/2024/05/story") == ""
    assert clean_title("大海与河流_新闻中心_海纳网", []) == "大海与河流"
    assert clean_title("How rivers meet the sea | The Daily", []) == "How rivers meet the sea"
    assert clean_title("A - B", ["A title of it"]) == "A - B"
    assert clean_title("海 - 大海与河流的故事 - 站", ["大海与河流的故事"]) == "大海与河流的故事"


def test_every_name_of_a_date_is_read() -> None:
    for name in _DATE_NAMES:
        assert (
            extract_page(f'<META Name="{name.upper()}" content="2024-05-09 08:00"><p>x').date == "2024-05-09"
        ), name


def test_the_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(extract)
    good, bad = tmp_path / "a.html", tmp_path / "b.html"
    good.write_text(f"<title>海 sea</title><p>{PROSE * 3}</p>", encoding="utf-8")
    bad.write_bytes(random.Random(7).randbytes(5000))
    result = CliRunner().invoke(
        app,
        [str(good), str(tmp_path / "missing.html"), str(bad), "-", "--json"],
        input=b"<p>standard input works fine here.</p>",
    )
    assert result.exit_code == 2
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [list(line) for line in lines] == [["text", "title", "lang", "kind", "url", "date"]] * 2
    assert lines[0]["title"] == "海 sea"
    assert "深处的文字" in lines[0]["text"]
    assert "standard input" in lines[1]["text"]
    assert "missing.html" in result.stderr
    assert "b.html" in result.stderr
    plain = CliRunner().invoke(app, [str(good)])
    assert plain.exit_code == 0
    assert plain.stdout.startswith("海 sea\n\n深处")
