"""Time grows with the page's size and no faster, whatever the page is made of; bounds on elements hold."""

from __future__ import annotations

import importlib
import time

import pytest

from haina.corpus.extract import extract_page
from haina.corpus.extract.metadata import unescape

PROSE = "深处的文字在这里，很容易找到它。The text in the deep is easy to find. "
SIZE = 16_000
GROWTH = 8
NAMES = "a p li ul dt td tr table h1 pre option select b svg math object textarea title script form x"
# What is repeated, and what stands before and behind it.
SHAPES: dict[str, tuple[str, str, str]] = {
    **{f"open {name}": (PROSE, f"<{name}>x1, ", PROSE) for name in NAMES.split()},
    **{f"end {name}": (PROSE, f"</{name}>海", PROSE) for name in ("p", "b", "h1", "td", "x")},
    "ends that no start has": ("<div>" * 399, "</x>", PROSE),
    "paragraphs too deep": ("<b>" * 401, "<p>", PROSE),
    "nested tables": (PROSE, "<table><tr><td>甲<table><tr><td>b</table>", PROSE),
    "rows": ("<table>", "<tr><td>1<td>二", "</table>"),
    "items": ("<ol>", "<li>x", "</ol>"),
    "attributes": ("<p ", "class='nav post' a=b ", ">" + PROSE),
    "long class": ('<p class="', "navPost", '">' + PROSE),
    "long name": ("<", "ab", ">" + PROSE),
    "comments": (PROSE, "<!-- x -->", PROSE),
    "open comment": ("<!--", "--", PROSE),
    "annotations": ("", "<math><annotation ", PROSE),
    "annotations in comments": ("", "<math><!--<annotation --></math>", PROSE),
    "formulas": (PROSE, '<img alt="\\f">x', PROSE),
    "references": (PROSE, "&#1&amp;&", PROSE),
    "digits of a reference": (PROSE + "&#", "9", ";"),
    "title": ("<title>", "海 x - ", "</title>" + PROSE),
    "white title": ("<title>a", " \n", "|b</title>" + PROSE),
    "metadata": ("", "<meta name=date content='2024 5'>", PROSE),
    "metadata of one long word": ("<meta og:", "a", ">" + PROSE),
    "linked data": ('<script type="application/ld+json">', "[", "</script>" + PROSE),
    "one line": ("", PROSE, ""),
    "one word": (PROSE, "a", PROSE),
    "white lines": ("<pre>x", "\n \n\x0b", "x</pre>" + PROSE),
    "spaces": (PROSE, "\u3000&nbsp;\n", PROSE),
    "marks": (PROSE, "\u0301。|", PROSE),
    "small paragraphs": ("", "<p>x", ""),
    "hidden": ("<p>", "<i hidden>x</i>", PROSE),
}


def seconds(html: str) -> float:
    best = float("inf")
    for _ in range(2):
        start = time.process_time()
        extract_page(html)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("name", SHAPES)
def test_time_is_linear(name: str) -> None:
    """Eight times the page may take three times eight times as long; with the square it would be sixty-four."""
    before, unit, after = SHAPES[name]
    extract_page("<p>compile</p>")
    few = SIZE // len(unit)
    small = seconds(before + unit * few + after)
    # What a page costs whatever it holds, the clock's grain too, stands in the way of small times.
    allowed = 3 * GROWTH * max(small, 0.0015)
    assert seconds(before + unit * few * GROWTH + after) < allowed


def test_elements_beyond_the_bound_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("haina.corpus.extract.scan"), "MAX_ELEMENTS", 500)
    for unit in ("<p>海 sea x.", "海 sea x.</p>", '<img alt="\\f">x', "x<br>"):
        page = extract_page(PROSE + unit * 5000)
        assert len(page.text) < 5000 * len(unit) // 4


@pytest.mark.parametrize(
    "place", ["<p>{}</p>", "<title>{}</title><p>x", "<meta name=description content='{}'><p>x"]
)
def test_numbers_too_long_to_read(place: str) -> None:
    """Python refuses to read a number of more than 4300 digits; the page is read all the same."""
    page = extract_page(place.format(PROSE + "&#" + "9" * 5000 + ";" + PROSE))
    assert "9" * 100 not in page.text + page.title
    assert unescape("&#" + "9" * 5000 + ";海&lt;") == "\ufffd海<"
    assert unescape("海 & x") == "海 & x"
