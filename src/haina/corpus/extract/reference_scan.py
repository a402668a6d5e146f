"""The scan in plain Python: what `scan.scan_into` must give, written to be read.

Comes in: markup as UTF-8. Goes out: the same elements, runs and notes. Regular expressions find the tokens of
the HTML Living Standard (13.2.5), a list holds the open elements (13.2.6). It is a hundred times slower, has no
bound on the number of elements, and is used by the tests alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from haina.corpus.extract.scan import (
    ARIA_HIDDEN,
    BLOCK,
    BREAK,
    EMPTY_LINE,
    HIDDEN,
    IN_LINK,
    MAX_DEPTH,
    MAX_FORMULA,
    MAX_NOTES,
    NO_BORDER,
    OWN_HIDDEN,
    PHRASING,
    PREFORMATTED,
    SKIPPED,
    UNDISPLAYED,
    Elements,
    Notes,
    Runs,
)  # fmt: skip
from haina.corpus.extract.tags import (
    AFFIX,
    CLOSES_P,
    FNV_PRIME,
    INLINE,
    NAMED,
    RAW,
    SCOPE,
    SKIP,
    TAG,
    TRANSPARENT,
    VOID,
    groups_of_words,
    hash_word,
    rules,
    tag_values,
)  # fmt: skip

_TEXT = re.compile(rb"(?:[^<]|<(?![!/?A-Za-z]))[^<]*")
_COMMENT = re.compile(rb"<!--(?:-?>|.*?(?:--!?>|\Z))", re.S)
_BOGUS = re.compile(rb"<(?:[!?]|/(?![A-Za-z]))[^>]*>?")
_NAME = re.compile(rb"</?([A-Za-z][^\s/>]*)")
_BETWEEN = re.compile(rb"[\s/]*")
_ATTRIBUTE = re.compile(
    rb"""([^\s/>][^\s/>=]*)\s*(?:=\s*(?:"([^"]*)(?:"|\Z)|'([^']*)(?:'|\Z)|([^\s>]*)))?""", re.S
)
_ANNOTATION = re.compile(rb"(</?math)|<annotation([^>]*)>([^<]*)", re.I)
_STYLED = re.compile(rb"\{\\(?:displaystyle|textstyle)(.*)\}", re.S | re.I)
_INHERITED = IN_LINK | SKIPPED | HIDDEN | UNDISPLAYED | ARIA_HIDDEN | PREFORMATTED
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_ROWS = {"tbody", "thead", "tfoot"}
_WORD_LETTERS = 32
_VALUE_BYTES = 512
_LEVELS = 24


@dataclass
class _Open:
    """An open element: number, tag name as `NAMED` has it, properties, its own name."""

    index: int
    tag: str
    properties: int
    name: bytes


@dataclass
class _Page:
    """What the scan has made so far: rows of the arrays, by column."""

    elements: list[list[int]] = field(default_factory=list)
    runs: list[list[int]] = field(default_factory=list)
    notes: list[list[int]] = field(default_factory=list)
    border: int = BLOCK
    spaced: bool = False
    formula: bytes = b""

    def add_run(self, start: int, end: int, parent: int, formula: bool) -> None:
        self.runs.append([start, end, parent, self.border, self.spaced, formula])
        self.border, self.spaced = NO_BORDER, False


def plain_mask(value: bytes) -> int:
    """Keyword groups of the words in an attribute's value: bit mask, as `scan.words_mask` gives it."""
    known = groups_of_words(rules()["class_words"], affixes=True)
    mask = 0
    for letters in re.findall("[A-Za-z]+", value.decode("ascii", "replace")):
        for word in re.split("(?<=[a-z])(?=[A-Z])", letters):
            if len(word) > _WORD_LETTERS:
                continue
            small = word.lower()
            mask |= known.get(small, 0)
            for size in range(4, len(small)):
                for part in (small[:size], small[-size:]):
                    if known.get(part, 0) & AFFIX:
                        mask |= known[part]
    return mask & ((1 << 40) - 1)


def _hides(style: bytes) -> bool:
    rules_of = (b"".join(rule.split()).lower() for rule in style.split(b";"))
    return any(rule.startswith((b"display:none", b"visibility:hidden")) for rule in rules_of)


def _annotation(page: bytes, place: int) -> tuple[int, int]:
    for match in _ANNOTATION.finditer(page, place):
        if match[1]:
            break
        if re.search(rb"tex(?!t)", match[2], re.I):
            return match.span(3)
    return 0, 0


def _raw_end(page: bytes, place: int, name: bytes) -> int:
    match = re.compile(rb"</" + re.escape(name) + rb"(?=[\s/>]|\Z)", re.I).search(page, place)
    return match.start() if match else len(page)


def _closed_by(tag: str, stack: list[_Open]) -> int:  # noqa: PLR0911, PLR0912 - the standard's cases
    """Place in the stack of the element whose end tag a start tag implies, 0 for none (13.1.2.4)."""
    cut = 0
    for level in range(len(stack) - 1, max(0, len(stack) - 1 - _LEVELS), -1):
        held, properties = stack[level].tag, stack[level].properties
        if tag == "a":
            if held == "a":
                return level
            if not properties & INLINE:
                return 0
        elif tag == "li":
            if held == "li":
                return level
            if held in ("ul", "ol", "menu") or properties & SCOPE:
                return 0
        elif tag in ("dt", "dd"):
            if held in ("dt", "dd"):
                return level
            if held == "dl" or properties & SCOPE:
                return 0
        elif tag == "option":
            return level if held == "option" else 0
        elif tag in _HEADINGS:
            return level if held in _HEADINGS else 0
        elif held == "table":
            return cut
        elif tag in ("td", "th"):
            if held in ("td", "th"):
                return level
            if held == "tr":
                return 0
        elif tag == "tr":
            if held == "tr":
                cut = level
            if held in _ROWS:
                return cut
        elif held in _ROWS:
            cut = level
    return cut


def _end_tag(stack: list[_Open], tag: str, properties: int, name: bytes) -> None:
    """Close the innermost element of that name, unless a border of scope is in the way."""
    for level in range(len(stack) - 1, 0, -1):
        held = stack[level]
        if held.name == name or (tag in _HEADINGS and held.tag in _HEADINGS):
            del stack[level:]
            return
        if properties & INLINE and not held.properties & INLINE:
            return
        if held.properties & SCOPE and not properties & SCOPE and tag not in {"tr", *_ROWS}:
            return


def plain_scan(page: bytes) -> tuple[Elements, Runs, Notes]:  # noqa: PLR0912, PLR0915 - the standard's cases
    """Elements, runs of text and notes of an HTML page, valid UTF-8."""
    made = _Page(elements=[[0, -1, 0, 0, 0, 0, 0]])
    stack = [_Open(0, "other", 0, b"")]
    beyond = place = 0
    values = tag_values()
    formula_bit = 1 << list(rules()["class_words"]).index("formula")
    while place < len(page):
        if match := _TEXT.match(page, place):
            place = match.end()
            flags = made.elements[stack[-1].index][5]
            if flags & SKIPPED:
                continue
            if match[0].strip() or flags & PREFORMATTED:
                made.add_run(*match.span(), stack[-1].index, False)
            else:
                made.spaced = True
            continue
        if match := _COMMENT.match(page, place) or _BOGUS.match(page, place):
            place = match.end()
            continue
        match = _NAME.match(page, place)
        assert match  # nothing else begins so
        closing = page[place + 1 : place + 2] == b"/"
        name, name_place, place = match[1].lower(), match.start(1), match.end()
        value = values.get(name.decode("utf-8", "replace"), 0)
        tag, properties = NAMED[value & 255], value >> 8
        words = own = 0
        classes: bytes | None = None
        href = self_closed = is_tex = False
        tex = tex_end = 0
        while True:
            match = _BETWEEN.match(page, place)
            assert match  # it may be empty
            if match[0]:
                self_closed = match[0].endswith(b"/")
            place = match.end()
            match = _ATTRIBUTE.match(page, place)
            if not match:
                break
            place, self_closed = match.end(), False
            group = match.lastindex or 1
            inside = match[group] if group > 1 else b""
            if closing:
                continue
            attribute = match[1].lower()
            if attribute in (b"class", b"id", b"role", b"itemprop", b"itemtype"):
                words |= plain_mask(inside) if len(inside) <= _VALUE_BYTES else 0
                if attribute == b"class":
                    classes = re.sub(rb"[0-9]", b"", inside)
            elif attribute == b"hidden":
                own |= OWN_HIDDEN
            elif attribute == b"style":
                own |= UNDISPLAYED if _hides(inside) else 0
            elif attribute == b"aria-hidden":
                own |= ARIA_HIDDEN if len(inside) == len("true") else 0
            elif attribute == b"href":
                href = True
            elif attribute == b"alt" and tag == "img":
                tex, tex_end = match.span(group) if group > 1 else (place, place)
                is_tex |= b"\\" in inside
            elif attribute == b"alttext" and tag == "math":
                tex, tex_end = match.span(group) if group > 1 else (place, place)
                is_tex = True
            elif attribute == b"type" and tag == "script":
                is_tex = inside.lower().startswith(b"math/tex")
            elif attribute == b"src" and tag == "img":
                is_tex |= bool(re.search(rb"\?tex..", inside, re.S))
        if place >= len(page):
            break
        place += 1
        if not closing and tag in ("meta", "link", "title", "script", "time", "html"):
            made.notes.append([TAG[tag], name_place, place, place])
        if properties & TRANSPARENT:
            made.border = BLOCK
            continue
        if closing:
            if not properties & INLINE:
                made.border = BLOCK
            if properties & VOID:
                if tag == "br":
                    made.border = max(made.border, BREAK)
            elif beyond:
                beyond -= 1
            else:
                _end_tag(stack, tag, properties, name)
            continue
        if tag == "br":
            made.border = max(made.border, EMPTY_LINE if made.border == BREAK else BREAK)
        elif not properties & INLINE and tag != "img":
            made.border = BLOCK
        holder = made.elements[stack[-1].index]
        if tag == "img":
            holder[6] += 1
            is_tex = (is_tex or bool(words & formula_bit)) and not own & ARIA_HIDDEN
        elif tag == "math" and tex == tex_end:
            tex, tex_end = _annotation(page, place)
            is_tex = tex_end > tex
        elif tag == "script" and is_tex:
            tex, tex_end = place, _raw_end(page, place, name)
        if is_tex and 0 < tex_end - tex <= MAX_FORMULA and not holder[5] & SKIPPED:
            if match := _STYLED.fullmatch(page, tex, tex_end):
                tex, tex_end = match.span(1)
            if tex_end > tex and page[tex:tex_end] != made.formula:
                made.add_run(tex, tex_end, stack[-1].index, True)
                made.formula = page[tex:tex_end]
            if tag == "math":
                own |= SKIPPED
        if properties & VOID:
            continue
        if properties & CLOSES_P or tag in ("li", "dt", "dd"):
            level = len(stack) - 1
            while level > 0 and stack[level].properties & INLINE:
                level -= 1
            if level > 0 and stack[level].tag == "p":
                del stack[level:]
        if tag in {"a", "li", "dt", "dd", "option", "tr", "td", "th", *_ROWS, *_HEADINGS} and (
            cut := _closed_by(tag, stack)
        ):
            del stack[cut:]
        parent = made.elements[stack[-1].index]
        flags = parent[5] & _INHERITED | own
        if properties & SKIP or (properties & INLINE and own & ARIA_HIDDEN):
            flags |= SKIPPED
        if tag == "a" and href:
            flags |= IN_LINK
        if tag == "pre":
            flags |= PREFORMATTED
        if properties & INLINE:
            flags |= PHRASING
        class_hash = 0 if classes is None else hash_word(classes)
        signature = (class_hash ^ hash_word(name)) * int(FNV_PRIME) % 2**64
        made.elements.append([TAG[tag], stack[-1].index, parent[2] + 1, words, signature, flags, 0])
        if properties & RAW:
            place = _raw_end(page, place, name)
            if made.notes and made.notes[-1][1] == name_place:
                made.notes[-1][3] = place
            place = page.find(b">", place) + 1 or len(page)
        elif self_closed and flags & SKIPPED:
            continue
        elif len(stack) > MAX_DEPTH:
            beyond += 1
        else:
            stack.append(_Open(len(made.elements) - 1, tag, properties, name))
    kinds = (np.int16, np.int32, np.int16, np.int64, np.uint64, np.uint8, np.int32)
    elements = Elements._make(
        np.array(column, kind) for column, kind in zip(zip(*made.elements, strict=True), kinds, strict=True)
    )
    run_kinds = (np.int64, np.int64, np.int32, np.uint8, np.bool_, np.bool_)
    columns = list(zip(*made.runs, strict=True)) or [()] * 6
    runs = Runs._make(np.array(column, kind) for column, kind in zip(columns, run_kinds, strict=True))
    return elements, runs, np.array(made.notes[:MAX_NOTES], np.int64).reshape(-1, 4)
