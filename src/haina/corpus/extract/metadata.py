"""What a page says about itself in its head: title, address, date, language, kind.

Comes in: the tags that the scan noted. Goes out: `Head`. Sources in order of trust: Open Graph (ogp.me),
schema.org in JSON-LD, `<meta>`, `<title>`, `<time>`, the address. Lengths are bounded: a head that is broken,
or several megabytes long, costs no more than another.
"""

from __future__ import annotations

import html
import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from haina.corpus.extract.scan import Notes
from haina.corpus.extract.tags import TAG

_LD_BYTES = 400_000
_TAG_BYTES = 8_000
# All tags of a head together: real ones have some ten thousand.
_HEAD_BYTES = 1_000_000
# What a tag of each kind must hold to say anything that is asked for; most tags say nothing of it.
_TELLING = {
    TAG["meta"]: re.compile(rb"og:|twitter:title|descr|date|time|create", re.I),
    TAG["link"]: re.compile(rb"canonical", re.I),
    TAG["time"]: re.compile(rb"datetime", re.I),
    TAG["html"]: re.compile(rb"lang", re.I),
}
# Python refuses to read longer numbers (CVE-2020-10735); as a character reference such a number is none.
_LONG_NUMBER = re.compile(r"&#[0-9]{4000,};?")
_ATTRIBUTE = re.compile(
    r"""([a-zA-Z:_-]{1,30})\s{0,4}=\s{0,4}(?:"([^"]{0,6000})"|'([^']{0,6000})'|([^\s"'>]{1,500}))"""
)
_LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(?:-[a-zA-Z0-9]{2,8}){0,3}")
_YEAR = r"(19[89]\d|20[0-4]\d)"
_DATE = re.compile(rf"(?<!\d){_YEAR}\s?[-/.年]\s?(1[0-2]|0?[1-9])\s?[-/.月]\s?(3[01]|[12]\d|0?[1-9])(?!\d)")
_PACKED_DATE = re.compile(r"(?<!\d)(20[0-4]\d)(1[0-2]|0[1-9])(3[01]|[12]\d|0[1-9])(?!\d)")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_ENGLISH_DATE = re.compile(
    rf"\b({'|'.join(_MONTHS)})[a-z]{{0,6}}\.?\s(3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?,?\s{_YEAR}(?!\d)", re.I
)
_ENGLISH_DATE_DAY_FIRST = re.compile(
    rf"\b(3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?\s({'|'.join(_MONTHS)})[a-z]{{0,6}}\.?,?\s{_YEAR}(?!\d)", re.I
)
_URL_DATE = re.compile(rf"/{_YEAR}[-/]?(1[0-2]|0[1-9])[-/]?(3[01]|[12]\d|0[1-9])?(?!\d)")
_DATE_NAMES = (
    "article:published_time", "og:article:published_time", "datepublished", "publishdate", "pubdate", "publish_date",
    "date", "dc.date", "dc.date.issued", "dcterms.created", "parsely-pub-date", "sailthru.date",
    "weibo:article:create_at",
    "bytedance:published_time", "firstcreatetime", "datecreated", "uploaddate",
)  # fmt: skip
_SEPARATOR = re.compile(r"\s+[|\-–—_·•»:：›/]+\s+|[|_｜—]+|(?<=[^\x00-\x7f])-(?=[^\x00-\x7f])")


@dataclass(frozen=True)
class Head:
    """What the head says; every text may be empty.

    Attributes:
        title: of the page, as the document gives it.
        headline: `og:title`, or the headline in JSON-LD.
        description: summary in the metadata.
        url: canonical address.
        date: yyyy-mm-dd.
        language: BCP 47 tag.
        types: schema.org and Open Graph types, lower-case.
    """

    title: str = ""
    headline: str = ""
    description: str = ""
    url: str = ""
    date: str = ""
    language: str = ""
    types: frozenset[str] = frozenset()


def unescape(text: str) -> str:
    """Text with its character references replaced (13.2.5.72 and on), those out of range by U+FFFD."""
    if "&" not in text:
        return text
    return html.unescape(_LONG_NUMBER.sub("\ufffd", text))


def _attributes(tag: str) -> dict[str, str]:
    return {name.lower(): unescape(a or b or c) for name, a, b, c in _ATTRIBUTE.findall(tag)}


def _line(text: str) -> str:
    return " ".join(text.split())


def iso_date(text: str) -> str:
    """The first date in a text as yyyy-mm-dd, empty when there is none.

    >>> iso_date("发表于 2024年5月9日 08:30"), iso_date("Published May 9, 2024"), iso_date("9 May 2024")
    ('2024-05-09', '2024-05-09', '2024-05-09')
    """
    found: list[tuple[int, int, int, int]] = []
    for match in (_DATE.search(text), _PACKED_DATE.search(text)):
        if match:
            found.append((match.start(), int(match[1]), int(match[2]), int(match[3])))
    if match := _ENGLISH_DATE.search(text):
        found.append((match.start(), int(match[3]), _MONTHS.index(match[1].lower()) + 1, int(match[2])))
    if match := _ENGLISH_DATE_DAY_FIRST.search(text):
        found.append((match.start(), int(match[3]), _MONTHS.index(match[2].lower()) + 1, int(match[1])))
    for _, year, month, day in sorted(found):
        if day <= (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]:
            return f"{year:04d}-{month:02d}-{day:02d}"
    return ""


def _linked_data(scripts: list[str]) -> Iterator[dict[str, Any]]:
    """Objects of the JSON-LD scripts, nested ones too, at most a few thousand."""
    for script in scripts:
        try:
            todo: deque[Any] = deque([json.loads(script.strip().rstrip(";"), strict=False)])
        except (ValueError, RecursionError):
            continue
        seen = 0
        while todo and seen < 5000:
            item = todo.popleft()
            seen += 1
            if isinstance(item, dict):
                yield item
                todo.extend(value for value in item.values() if isinstance(value, (dict, list)))
            elif isinstance(item, list):
                todo.extend(item[:500])


def read_head(page: bytes, notes: Notes) -> Head:  # noqa: PLR0912 - one branch a kind of tag
    """What a page says about itself: `page` is UTF-8, `notes` what the scan noted of it."""

    def between(first: int, last: int) -> str:
        return page[first:last].decode("utf-8", "replace")

    meta: dict[str, str] = {}
    title = url = language = time = headline = ld_description = ld_date = ""
    types: set[str] = set()
    scripts: list[str] = []
    left, room = _LD_BYTES, _HEAD_BYTES
    for tag, name, inside, end in notes.tolist():
        if tag == TAG["script"]:
            if b"ld+json" in page[name : min(inside, name + _TAG_BYTES)] and end - inside <= left:
                scripts.append(between(inside, end))
                left -= end - inside
            continue
        if tag == TAG["title"]:
            title = title or _line(unescape(between(inside, min(end, inside + _TAG_BYTES))))
            continue
        until = min(inside, name + _TAG_BYTES)
        if until - name > room or not _TELLING[tag].search(page, name, until):
            continue
        room -= until - name
        attributes = _attributes(between(name, until))
        if tag == TAG["meta"]:
            key = (
                attributes.get("property") or attributes.get("name") or attributes.get("itemprop") or ""
            ).lower()
            if key and attributes.get("content"):
                meta.setdefault(key, _line(attributes["content"]))
        elif tag == TAG["link"]:
            if not url and attributes.get("rel", "").lower() == "canonical":
                address = attributes.get("href", "").strip()
                url = address if address.startswith("http") else ""
        elif tag == TAG["time"]:
            time = time or iso_date(attributes.get("datetime", ""))
        elif not language and (declared := _LANGUAGE.match(attributes.get("lang", ""))):
            language = declared[0]
    if "og:type" in meta:
        types.add(meta["og:type"].lower())
    for item in _linked_data(scripts):
        kind = item.get("@type")
        types.update(str(one).lower() for one in (kind if isinstance(kind, list) else [kind]) if one)
        if isinstance(item.get("headline"), str):
            headline = headline or _line(unescape(item["headline"]))
            if isinstance(item.get("description"), str):
                ld_description = ld_description or _line(unescape(item["description"]))
        if isinstance(item.get("datePublished"), str):
            ld_date = ld_date or iso_date(item["datePublished"])
    date = next((found for name in _DATE_NAMES if (found := iso_date(meta.get(name, "")))), "")
    return Head(
        title=title,
        headline=meta.get("og:title") or meta.get("twitter:title") or headline,
        description=meta.get("og:description") or meta.get("description") or ld_description,
        url=url or (meta["og:url"] if meta.get("og:url", "").startswith("http") else ""),
        date=date or ld_date or time,
        language=language,
        types=frozenset(types),
    )


def url_date(url: str) -> str:
    """The date that an address carries, empty when it carries no full one.

    >>> url_date("https://example.org/c/2024-05-10/doc.shtml"), url_date("https://example.org/2024/05/x")
    ('2024-05-10', '')
    """
    found = _URL_DATE.search(url)
    if not found or not found[3]:
        return ""
    return iso_date(f"{found[1]}-{found[2]}-{found[3]}")


def clean_title(title: str, headlines: list[str]) -> str:
    """A title without the site's name.

    A headline of the page that begins or ends the title is the title; else the longest part between separators is,
    where the rest is short.

    >>> clean_title("海纳百川 - 海纳新闻网", ["海纳百川"]), clean_title("How rivers flow | The Daily", [])
    ('海纳百川', 'How rivers flow')
    """
    for headline in headlines:
        if len(headline) >= 4 and headline in title:
            return headline
    parts = [part.strip() for part in _SEPARATOR.split(title) if part and part.strip()]
    if len(parts) < 2:
        return title
    best = max(parts, key=len)
    return best if len(best) >= 4 and len(best) >= 0.4 * sum(len(part) for part in parts) else title
