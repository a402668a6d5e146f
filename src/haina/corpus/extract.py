"""The main text of an HTML page.

Comes in: HTML, as bytes or text. Goes out: paragraphs, headings, lists, tables and code as readable plain
text, without what stands on every page of the site. Resiliparse finds the main content (Bevendorff et al.
2018); around it stand a list of selectors (`extract.yaml`), a way out where its rules leave too little, and
bounds for hostile
markup: its time grows with the square of the nesting depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from haina.corpus.encoding import decode
from haina.corpus.records import clean_text

MAX_DEPTH = 400
MAX_HTML_CHARACTERS = 8 << 20
# Below this share of the page's text, links left out, the main content has lost too much.
_MIN_SHARE = 0.1
_MIN_CHARACTERS = 80
_MAX_LINK_SHARE = 0.5
# Lists nest, and each is scanned for itself.
_MAX_LIST_CHARACTERS = 200_000

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)[^<>]*?(/?)>")
# Elements without an end tag, or with one that authors leave out, do not nest in practice.
_NOT_NESTING = frozenset(
    {
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    }
    | {"p", "li", "dt", "dd", "tr", "td", "th", "tbody", "thead", "tfoot", "option"}
)
_DROPPED_BLOCK = re.compile(
    r"<(script|style|noscript|template|svg|math|nav|footer|aside)\b.*?</\1\s*>|<!--.*?-->", re.I | re.S
)
_BLOCK_TAG = re.compile(
    r"</?(?:p|div|h[1-6]|li|ul|ol|tr|table|pre|section|article|br|dt|dd|blockquote|hr|title)\b[^>]*>", re.I
)
_ANY_TAG = re.compile(r"<[^>]*>")
_LIST_TAG = re.compile(r"<(/?)ul\b[^>]*>", re.I)
_LINK = re.compile(r"<a\b[^>]*\shref\b[^>]*>(.{0,2000}?)</a\s*>", re.I | re.S)
# Resiliparse 2.0.1 leaves out a text node that is one three-byte character: the 、 between two code words, a
# table cell 是. Such nodes are given a private-use character for company, which is taken away afterwards.
_COMPANION = "\uf8fe"
_LONE_CHARACTER = re.compile(r">(\s*(?:[^\x00-\x7f]|&#?\w{2,10};)\s*)(?=<)")
_SPACES = re.compile(r"[^\S\n\t]+")
_CELL_BORDER = re.compile(r" *\t[ \t]*")
_BLANK_LINES = re.compile(r"\n{3,}")
_BARE_MARK = re.compile(r"[\s•·|»«›‹*\-–—→←>/]*")


@dataclass(frozen=True)
class ExtractedPage:
    """What a page says.

    Attributes:
        text: main text; paragraphs are parted by a blank line; empty when the page says nothing.
        title: of the document, empty when it has none.
        url: canonical address that the page names, else the one given, else empty.
        encoding: Python name of the encoding the bytes were in, `str` for text.
    """

    text: str
    title: str
    url: str
    encoding: str


@cache
def _rules() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(
        Path(__file__).with_name("extract.yaml").read_text(encoding="utf-8")
    )
    return data


def nesting_depth(html: str) -> int:
    """Depth of nesting by a scan of the tags; an upper bound on well-formed pages, cheap on any."""
    depth = deepest = 0
    for closing, name, self_closed in _TAG.findall(html):
        if self_closed or name.lower() in _NOT_NESTING:
            continue
        if closing:
            depth = max(0, depth - 1)
        else:
            depth += 1
            deepest = max(deepest, depth)
    return deepest


def _tidy(text: str) -> str:
    """Spaces folded, empty lines at most one at a time, lines of nothing but bullets and arrows removed.

    Table cells are parted by one tab. Indentation by two or more spaces, of code and of nested lists, is
    kept.
    """
    lines: list[str] = []
    for line in text.replace("\xa0", " ").replace(_COMPANION, "").split("\n"):
        body = _CELL_BORDER.sub("\t", _SPACES.sub(" ", line)).strip()
        if body and _BARE_MARK.fullmatch(body):
            continue
        indent = len(line) - len(line.lstrip(" "))
        lines.append(
            (" " * min(indent, 16) if indent >= 2 and "\t" not in line else "") + body if body else ""
        )
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip("\n ")


def _keep_lists(html: str) -> str:
    """Markup in which lists of prose are spelled `<menu>`.

    Resiliparse 2.0.1 takes every `<ul>` for navigation and leaves it out of the main content; the standard gives
    `<menu>` the same meaning, and it is kept. A list is prose when less than half of its text stands in links.
    """
    spans: list[tuple[int, int, int, int]] = []
    opened: list[tuple[int, int]] = []
    for tag in _LIST_TAG.finditer(html):
        if not tag[1]:
            opened.append(tag.span())
        elif opened:
            start, inside = opened.pop()
            if tag.start() - inside > _MAX_LIST_CHARACTERS:
                continue
            markup = html[inside : tag.start()]
            text = len("".join(_ANY_TAG.sub("", markup).split()))
            if text and _link_characters(markup) < _MAX_LINK_SHARE * text:
                spans += [(start + 1, start + 3, tag.start() + 2, tag.start() + 4)]
    pieces: list[str] = []
    last = 0
    for begin, end in sorted((pair for a, b, c, d in spans for pair in ((a, b), (c, d)))):
        pieces += [html[last:begin], "menu"]
        last = end
    return "".join([*pieces, html[last:]])


def _strip_tags(html: str) -> str:
    """Text of markup too deep or too large for a tree: tags removed, block tags as line ends."""
    from html import unescape

    html = _DROPPED_BLOCK.sub(" ", html[:MAX_HTML_CHARACTERS])
    return unescape(_ANY_TAG.sub("", _BLOCK_TAG.sub("\n", html)))


def _show_alternatives(document: Any) -> None:
    """Unhide one of several hidden alternatives.

    Manuals carry a text per platform, all hidden, and let a script show one. Where an element has hidden
    children only, the last is shown: it is the default by custom. Without it sentences lose their object.
    """
    for hidden in document.query_selector_all("span[hidden]"):
        parent = hidden.parent
        if parent is None or not hidden.hasattr("hidden"):
            continue
        children = [child for child in parent.child_nodes if child.type == 1 or child.text.strip()]
        if len(children) > 1 and all(child.type == 1 and child.hasattr("hidden") for child in children):
            children[-1].delattr("hidden")


def _link_characters(html: str) -> int:
    """Characters of visible text inside links, by a scan: the tree's own search is slower than a parse."""
    return sum(len(_ANY_TAG.sub("", inside).strip()) for inside in _LINK.findall(html))


def _main_text(tree: Any, html: str) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    options = {
        "links": False,
        "alt_texts": False,
        "form_fields": False,
        "noscript": False,
        "skip_elements": _rules()["skip"],
    }
    main = _tidy(extract_plain_text(tree, main_content=True, **options))
    if len(main) >= 2000:
        return main
    whole = _tidy(extract_plain_text(tree, main_content=False, **options))
    substance = len(whole) - _link_characters(html)
    if substance >= _MIN_CHARACTERS and len(main) < _MIN_SHARE * substance:
        return whole
    return main


def _canonical(tree: Any) -> str:
    link = tree.head.query_selector('link[rel="canonical"][href^="http"]') if tree.head else None
    return str(link.getattr("href")).strip() if link else ""


def extract_page(html: bytes | str, url: str | None = None, charset: str | None = None) -> ExtractedPage:
    """Main text, title and address of an HTML page.

    Args:
        html: the page, raw or decoded.
        url: where it came from.
        charset: label from the HTTP header.

    Raises:
        UndecodableError: the bytes are in no known encoding.
    """
    from resiliparse.parse.html import HTMLTree

    if isinstance(html, bytes):
        decoded = decode(html, charset)
        html, encoding = decoded.text, decoded.encoding
    else:
        encoding = "str"
    html = clean_text(html).replace(_COMPANION, "")
    too_deep = html.count("<") > MAX_DEPTH and nesting_depth(html) > MAX_DEPTH
    if len(html) > MAX_HTML_CHARACTERS or too_deep:
        found = re.search(r"<title[^>]*>([^<]{0,1000})", html[:65536], re.I)
        title = found[1].strip() if found else ""
        return ExtractedPage(_tidy(_strip_tags(html)), title, url or "", encoding)
    tree = HTMLTree.parse(_LONE_CHARACTER.sub(rf">{_COMPANION}\1", _keep_lists(html)))
    if tree.document is None:
        return ExtractedPage("", "", url or "", encoding)
    if "hidden" in html:
        _show_alternatives(tree.document)
    text = clean_text(_main_text(tree, html))
    if len(text) <= _rules()["redirect_characters"] and text.startswith(tuple(_rules()["redirects"])):
        text = ""
    title = " ".join((tree.title or "").replace(_COMPANION, "").split())
    return ExtractedPage(text, title, url or _canonical(tree), encoding)
