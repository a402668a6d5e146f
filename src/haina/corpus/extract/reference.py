"""Blocks, features, completion and text in plain Python: what the kernels must give, written to be read.

Comes in and goes out: what `blocks.block_into`, `features.features_into`, `select.complete` and `render.render`
take and give; hashes of text and of paths are left out, their equality is what counts. Used by the tests alone;
the scan's reference is in `reference_scan`, that of the trees beside them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from math import log1p, sqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from haina.corpus.characters import DIGIT, HAN, KANA, OTHER, PUNCTUATION, SPACE, class_table
from haina.corpus.extract.blocks import Blocks
from haina.corpus.extract.features import GROUPS, NEAR
from haina.corpus.extract.scan import (
    ARIA_HIDDEN,
    BREAK,
    EMPTY_LINE,
    HIDDEN,
    IN_LINK,
    PHRASING,
    PREFORMATTED,
    UNDISPLAYED,
    Elements,
    Runs,
)  # fmt: skip
from haina.corpus.extract.tags import NAMED, groups_of_words, rules
from haina.corpus.extract.tokens import tokens

_REFERENCE = re.compile(rb"&[^;\x00-\x22]{0,11};")
_WHITE = b" \t\n\x0b\f\r"
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_FAR = 16


class Character(NamedTuple):
    """A character of the text: code point, class, and its bytes in the page."""

    code: int
    kind: int
    start: int
    end: int


def characters_of(page: bytes, start: int, end: int) -> Iterator[Character]:
    """Characters of a run. A named reference is a space or an apostrophe, what such marks do to tokens."""
    table = class_table()
    while start < end:
        match = _REFERENCE.match(page, start, end)
        if match:
            inside, to = match[0][1:-1], match.end()
            code = 32
            if inside[:1] == b"#":
                hexadecimal = inside[1:2] in (b"x", b"X")
                digits = inside[2:] if hexadecimal else inside[1:]
                if re.fullmatch(rb"[0-9a-fA-F]+" if hexadecimal else rb"[0-9]+", digits):
                    number = int(digits, 16 if hexadecimal else 10)
                    code = number if 0 < number < 0x110000 else 32
            elif len(inside) > 1 and inside[:1] in (b"'", b"a", b"l", b"q", b"r", b"s"):
                code = 39
        else:
            to = start + 1
            while to < end and page[to] & 0xC0 == 0x80:
                to += 1
            code = ord(page[start:to].decode("utf-8"))
        yield Character(code, int(table[code]) if code < len(table) else OTHER, start, to)
        start = to


def _ancestors(elements: Elements, e: int) -> Iterator[int]:
    """The element and those that hold it, the document left out."""
    while e > 0:
        yield e
        e = int(elements.parent[e])


def _groups(elements: Elements, runs: Runs) -> list[list[tuple[int, int, bool]]]:
    """Visible runs by block: number, border and whether white space stood before; hidden ones pass theirs on."""
    groups: list[list[tuple[int, int, bool]]] = []
    border, spaced = 0, False
    for r in range(len(runs.start)):
        border, spaced = max(border, int(runs.border[r])), spaced or bool(runs.spaced[r])
        if elements.flags[runs.parent[r]] & HIDDEN:
            continue
        if not groups or border >= EMPTY_LINE:
            groups.append([])
        groups[-1].append((r, border, spaced))
        border, spaced = 0, False
    return groups


def plain_blocks(  # noqa: PLR0912, PLR0915 - a branch a kind of character
    page: bytes, elements: Elements, runs: Runs, title: str, description: str
) -> list[dict[str, Any]]:
    """Blocks as dictionaries by the names of `Blocks`, `key` being the text itself."""
    phrases = {
        word.encode(): mask for word, mask in groups_of_words(rules()["text_words"], affixes=False).items()
    }
    titled = {token.encode() for token in tokens(title)[:64]}
    described = set(pairwise(token.encode() for token in tokens(description)[:200]))
    made = []
    for group in _groups(elements, runs):
        block: dict[str, Any] = defaultdict(int)
        words: list[bytes] = []  # Han characters, and others joined to words
        joins = False  # whether the next letter goes on with the last word
        hits = [0, 0, 0, 0]
        text: list[int] = []

        def seen(word: bytes, hits: list[int] = hits) -> None:
            for g in range(4):
                hits[g] += phrases.get(word, 0) >> g & 1

        for place, (r, border, spaced) in enumerate(group):
            start, end, flags = int(runs.start[r]), int(runs.end[r]), elements.flags[runs.parent[r]]
            block["breaks"] += place > 0 and border == BREAK
            joins = joins and border == 0 and not spaced
            count, length = len(words), len(text)
            for code, kind, first, to in characters_of(page, start, end):
                if kind == SPACE:
                    block["breaks"] += bool(flags & PREFORMATTED) and code == 10
                    joins = False
                    continue
                if kind == OTHER:
                    continue
                text.append(code)
                if len(text) == 1:
                    block["first_kind"] = kind
                if kind in (HAN, KANA):
                    words.append(page[first:to])
                    block["han"] += 1
                    block["closed"] = 0
                    joins = False
                    if len(words) <= 48 and to - first == 3:
                        for size in (6, 9, 12):
                            if to - size >= start:
                                seen(page[to - size : to])
                elif kind <= DIGIT:
                    small = chr(code).lower().encode() if code < 128 else page[first:to]
                    block["digits"] += kind == DIGIT
                    block["upper"] += chr(code) in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                    block["closed"] = 0
                    if joins:
                        words[-1] += small
                    else:
                        words.append(small)
                        block[f"word {len(words)}"] = True
                    joins = True
                else:
                    joins = False
                    if chr(code) in ".!?。！？…۔।":
                        if code != ord(".") or to >= end or page[to] <= 32 or page[to] in b'"&':
                            block["sentences"] += 1
                            block["closed"] = 1
                    elif chr(code) in ",，、;；،":
                        block["clauses"] += 1
                        block["closed"] = 0
                    elif chr(code) in ":：":
                        block["colons"] += 1
                        block["closed"] = 0.5
                    elif chr(code) == "©":
                        hits[0] += 2
                    elif kind != PUNCTUATION:
                        block["closed"] = 0
            if flags & IN_LINK:
                block["linked"] += len(words) - count
                block["linked_characters"] += len(text) - length
        if not text:
            continue
        for number, word in enumerate(words[:48], 1):
            if block[f"word {number}"]:
                seen(word)
        parent = int(runs.parent[group[0][0]])
        levels = (e for e in _ancestors(elements, parent) if not elements.flags[e] & PHRASING)
        block |= {
            "first": group[0][0],
            "last": group[-1][0] + 1,
            "element": next(levels, 0),
            "inner": parent,
            "tokens": len(words),
            "characters": len(text),
            "phrases": hits,
            "key": tuple(text),
            "flags": elements.flags[parent],
            "in_title": sum(word in titled for word in words) / max(len(words), 1),
            "in_description": sum(pair in described for pair in pairwise(words)) / max(len(described), 8),
        }
        made.append(block)
    return made


class _Tree:
    """Elements with what their subtrees hold."""

    def __init__(self, elements: Elements, blocks: Blocks) -> None:
        self.elements, self.blocks = elements, blocks
        self.prose = [
            float(t - linked) if t >= 8 and s + c > 0 and linked < 0.5 * t else 0.0
            for t, linked, s, c in zip(
                blocks.tokens, blocks.linked, blocks.sentences, blocks.clauses, strict=True
            )
        ]
        # Tokens, linked tokens, blocks, prose.
        self.sums = [[0.0] * 4 for _ in elements.tag]
        for b, e in enumerate(blocks.element):
            own = (float(blocks.tokens[b]), float(blocks.linked[b]), 1.0, self.prose[b])
            for holder in [*_ancestors(elements, int(e)), 0]:
                self.sums[holder] = [x + y for x, y in zip(self.sums[holder], own, strict=True)]
        self.children: dict[int, list[int]] = defaultdict(list)
        self.alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for e in range(1, len(elements.tag)):
            self.children[int(elements.parent[e])].append(e)
            if self.sums[e][2]:
                self.alike[self.kind(e)].append(e)

    def kind(self, e: int) -> tuple[int, int]:
        """Siblings of one tag and class are alike."""
        return int(self.elements.parent[e]), int(self.elements.signature[e])

    def name(self, e: int) -> str:
        return NAMED[self.elements.tag[e]]

    def main(self, share: float) -> int:
        """The innermost element on the way down to `share` of the prose."""
        least, e = share * max(self.sums[0][3], 1.0), 0
        while below := [child for child in self.children[e] if self.sums[child][3] >= least]:
            e = below[0]
        return e

    def distance(self, e: int, kind: str) -> int:
        """Steps up to the nearest element with a word of the group, or of the tag, `kind`."""
        for steps, up in enumerate(_ancestors(self.elements, e)):
            if kind in GROUPS:
                found = bool(self.elements.words[up] >> GROUPS.index(kind) & 1)
            else:
                found = self.name(up) == kind[1:-1] or (kind == "<h1>" and self.name(up) in _HEADINGS)
            if found:
                return min(steps, _FAR)
        return _FAR

    def near(self, e: int) -> int:
        """The nearest element of block level of which there are three alike, 0 for none."""
        for up in _ancestors(self.elements, e):
            if len(self.alike[self.kind(up)]) >= 3 and not self.elements.flags[up] & PHRASING:
                return up
        return 0

    def largest(self, e: int) -> int:
        """Of the elements around with others alike, the innermost whose kind holds about the most, 0 for none."""
        best = 0
        for up in reversed(list(_ancestors(self.elements, e))):
            like = self.alike[self.kind(up)]
            if len(like) < 2 or self.name(up) == "p":
                continue
            if not best or self.held(up) > 0.7 * self.held(best):
                best = up
        return best

    def held(self, e: int) -> float:
        """Tokens of all elements alike."""
        return sum(self.sums[other][0] for other in self.alike[self.kind(e)])

    def way(self, e: int) -> tuple[int, ...]:
        return tuple(int(self.elements.signature[up]) for up in _ancestors(self.elements, e))


def _share(part: float, whole: float) -> float:
    return float(part) / max(float(whole), 1.0)


def _distance(places: list[int], b: int, most: int) -> int:
    """From the last of `places` before a block to it, at most `most`."""
    return min([b - place for place in places if place < b] + [most], key=lambda steps: steps)


def plain_features(  # noqa: PLR0915 - a list of features
    elements: Elements, blocks: Blocks, page: npt.NDArray[np.float32]
) -> tuple[list[dict[str, float]], list[int]]:
    """Features of every block by name, and the element, one of several alike, that it belongs to."""
    tree = _Tree(elements, blocks)
    n = len(blocks.first)
    count = {name: [float(x) for x in getattr(blocks, name)] for name in ("tokens", "linked", "characters")}
    size = count["tokens"]
    total = sum(size)
    path = [
        (
            tree.way(int(e)),
            tree.way(int(e)) if i == e else (int(elements.signature[i]),),
        )
        for e, i in zip(blocks.element, blocks.inner, strict=True)
    ]
    repeats = Counter(int(key) for key in blocks.key)
    prose = [b for b in range(n) if tree.prose[b] >= 20]
    names = [tree.name(int(e)) for e in blocks.element]
    headings = [b for b in range(n) if names[b] in ("h1", "h2")]
    ranks = [
        float(blocks.in_title[b]) * min(size[b], 8.0) * (2 if names[b] in _HEADINGS else 1)
        if blocks.in_title[b] >= np.float32(0.6) and size[b] <= 60
        else 0.0
        for b in range(n)
    ]
    titled = ranks.index(max(ranks)) if max(ranks, default=0) > 0 else -1
    mains = {k: tree.main(k / 10) for k in (9, 6, 4)}

    def inside(b: int, k: int) -> bool:
        return mains[k] in [*_ancestors(elements, int(blocks.element[b])), 0]

    within = [b for b in range(n) if inside(b, 6)]
    rows, items = [], []
    for b in range(n):
        e, inner = int(blocks.element[b]), int(blocks.inner[b])
        flags, many = int(blocks.flags[b]), max(size[b], 1.0)
        parent = elements.parent[e]
        window = slice(max(0, b - 4), b + 5)
        row = {
            "tokens": log1p(size[b]),
            "characters": log1p(max(count["characters"][b], 1.0)),
            "link_share": _share(blocks.linked_characters[b], count["characters"][b]),
            "sentences": blocks.sentences[b] / many,
            "clauses": blocks.clauses[b] / many,
            "digit_share": _share(blocks.digits[b], count["characters"][b]),
            "upper_share": _share(blocks.upper[b], count["characters"][b]),
            "breaks": blocks.breaks[b],
            "colons": blocks.colons[b] / many,
            "closed": blocks.closed[b],
            "in_title": blocks.in_title[b],
            "first_kind": blocks.first_kind[b],
            "tag_kind": elements.tag[e],
            "undisplayed": bool(flags & UNDISPLAYED),
            "aria_hidden": bool(flags & ARIA_HIDDEN),
            "preformatted": bool(flags & PREFORMATTED),
            "depth": elements.depth[e],
            "han_share": blocks.han[b] / many,
            "repeats": repeats[int(blocks.key[b])],
            "token_length": max(count["characters"][b], 1.0) / many,
            "index": b / n,
            "token_place": _share(sum(size[:b]), total),
            "blocks_after_heading": _distance(headings, b, 200),
            "after_title": min(b - titled, 200) if titled >= 0 else -50,
            "in_description": blocks.in_description[b],
            "to_prose_before": _distance(prose, b, 99),
            "to_prose_after": _distance([-c for c in prose], -b, 99),
            "window_link_share": _share(sum(count["linked"][window]), sum(size[window])),
            "window_tokens": log1p(sum(size[window])),
            "same_parent_before": b > 0 and elements.parent[blocks.element[b - 1]] == parent,
            "same_parent_after": b + 1 < n and elements.parent[blocks.element[b + 1]] == parent,
        }
        for g, name in enumerate(("legal", "action", "meta", "related")):
            row[name] = blocks.phrases[b, g] / min(many, 24.0)
        for step, where in ((-2, "before_2"), (-1, "before"), (1, "after"), (2, "after_2")):
            c = b + step
            there = 0 <= c < n
            row[f"tokens_{where}"] = log1p(size[c]) if there else -1
            row[f"link_share_{where}"] = _share(count["linked"][c], size[c]) if there else 0
            row[f"closed_{where}"] = blocks.closed[c] if there else 0
            row[f"same_path_{where}"] = there and path[c] == path[b]
        for kind in NEAR:
            row[f"near_{kind}"] = tree.distance(inner, kind)
        up = e
        for level in range(1, 6):
            up = max(int(elements.parent[up]), 0)
            held = tree.sums[up]
            row[f"tokens_{level}"] = log1p(held[0])
            row[f"link_share_{level}"] = _share(held[1], held[0])
            row[f"tokens_a_block_{level}"] = log1p(_share(held[0], held[2]))
            row[f"prose_share_{level}"] = _share(held[3], held[0])
            row[f"of_page_prose_{level}"] = _share(held[3], tree.sums[0][3])
        for k in (9, 6, 4):
            row[f"in_main_{k}"] = inside(b, k)
        held = tree.sums[mains[4]]
        row["main_4_tokens"], row["main_4_link_share"] = log1p(held[0]), _share(held[1], held[0])
        row["after_main_6"] = min(max(b - max(within, default=-1), 0), 50)
        row["before_main_6"] = min(max(min(within, default=n) - b, 0), 50)
        items.append(tree.largest(inner))
        for which, item in (("near", tree.near(inner)), ("largest", items[-1])):
            like = [tree.sums[other] for other in tree.alike[tree.kind(item)]] if item else []
            values = [-1.0] * 6
            if like:
                all_tokens = sum(one[0] for one in like)
                mean = all_tokens / len(like)
                spread = sqrt(sum((one[0] - mean) ** 2 for one in like) / len(like))
                links = _share(sum(one[1] for one in like), all_tokens)
                values = [log1p(len(like)), log1p(mean), spread / max(mean, 1.0), links]
                values += [log1p(tree.sums[item][0]), _share(all_tokens, total)]
            for what, value in zip(
                ("count", "mean_tokens", "variation", "link_share", "item_tokens", "of_page"),
                values,
                strict=True,
            ):
                row[f"{which}_{what}"] = value
        same = [c for c in range(n) if path[c] == path[b]]
        of_path = sum(size[c] for c in same)
        row |= {
            "path_count": log1p(len(same)),
            "path_mean_tokens": log1p(of_path / len(same)),
            "path_link_share": _share(sum(count["linked"][c] for c in same), of_path),
            "path_largest": log1p(max(size[c] for c in same)),
            "path_prose_share": _share(sum(tree.prose[c] for c in same), of_path),
            "path_of_page": _share(of_path, total),
            # A text counts where it stands first on the page.
            "path_distinct": sum(blocks.key[c] not in blocks.key[:c] for c in same) / len(same),
            "page_tokens": log1p(total),
            "page_blocks": log1p(n),
            "page_link_share": _share(sum(count["linked"]), total),
            "page_prose_share": _share(sum(tree.prose), total),
            "page_han_share": _share(blocks.han.sum(), total),
            "page_forum_address": page[0],
            "page_forum_type": page[1],
            "page_article_type": page[2],
        }
        for name in ("post", "comment"):
            near = [c for c in range(n) if tree.distance(int(blocks.element[c]), name) < _FAR]
            row[f"page_{name}_share"] = _share(sum(size[c] for c in near), total)
        rows.append({name: float(value) for name, value in row.items()})
    return rows, items


def plain_complete(
    elements: Elements, blocks: Blocks, probability: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]
) -> list[bool]:
    """`select.complete`: structures among kept text, block by block."""
    structures = ("table", "pre", "ul", "ol", "menu", "dl", *_HEADINGS)
    ways = [[*_ancestors(elements, int(e))] for e in blocks.element]
    units = [[e for e in way if NAMED[elements.tag[e]] in structures] for way in ways]
    out = []
    for b in range(len(kept)):
        more = False
        if units[b] and not kept[b] and blocks.tokens[b] > 0 and probability[b] >= np.float32(0.05):
            around = int(elements.parent[units[b][-1]])
            beside = [c for c in range(len(kept)) if not units[c] and (around == 0 or around in ways[c])]
            prose = sum(float(blocks.tokens[c]) for c in beside)
            found = sum(float(blocks.tokens[c]) for c in beside if kept[c])
            more = prose >= 20 and found >= 0.9 * prose
        out.append(bool(kept[b]) or more)
    return out


class _Place(NamedTuple):
    """Where a block stands: nearest list item, depth of lists, outermost list, cell, row, data table, preformatted
    element; 0 for none.
    """

    item: int
    lists: int
    outermost: int
    cell: int
    row: int
    table: int
    pre: int


def _place(elements: Elements, e: int, layout: set[int]) -> _Place:
    item = lists = outermost = cell = row = table = pre = 0
    for up in reversed(list(_ancestors(elements, e))):
        name = NAMED[elements.tag[up]]
        if name == "li":
            item = up
        elif name in ("ul", "ol", "menu", "dl"):
            lists, outermost = lists + 1, outermost or up
        elif name in ("table", "td", "th"):
            item = lists = outermost = 0
            cell, row, table = (0, 0, up) if name == "table" else (up, row, table)
        elif name == "tr":
            row = up
        elif name == "pre":
            pre = up
    return _Place(item, lists, outermost, *((0, 0, 0) if table in layout else (cell, row, table)), pre)


def _layout_tables(elements: Elements, blocks: Blocks, kept: list[int]) -> set[int]:
    """Tables that hold tables, prose, or code."""
    tables = [e for e in range(1, len(elements.tag)) if NAMED[elements.tag[e]] == "table"]
    layout = {_place(elements, int(elements.parent[e]), set()).table for e in tables} - {0}
    in_cell: Counter[int] = Counter()
    for b in kept:
        at = _place(elements, int(blocks.element[b]), set())
        in_cell[at.cell] += int(blocks.tokens[b])
        if at.table and (not at.cell or at.pre):
            layout.add(at.table)
    for cell, many in in_cell.items():
        if cell and many > 120 and (table := _place(elements, cell, set()).table):
            layout.add(table)
    return layout


def _text_of_block(
    page: bytes, elements: Elements, runs: Runs, rows: range, exact: bool, row_break: str
) -> str:
    """Text of a block: white space folded unless `exact`, line breaks as `row_break`."""
    text, space, broken = "", False, False
    blank = "[ \t\n\x0b\f\r\u00a0\u3000]|&nbsp;"
    for r in rows:
        space, broken = space or bool(runs.spaced[r]), broken or runs.border[r] == BREAK
        if elements.flags[runs.parent[r]] & HIDDEN:
            continue
        if broken and text:
            text, space = text + row_break, False
        broken = False
        piece = page[runs.start[r] : runs.end[r]].decode("utf-8")
        if runs.formula[r]:
            piece = "$" + re.sub(r"\A[\x00-\x20]+|[\x00-\x20]+\Z", "", piece)
            piece = piece if exact else re.sub(f"(?:{blank})+", " ", piece)
            piece += "$"
        elif not exact:
            piece = re.sub(f"(?:{blank})+", " ", piece)
            space, piece = space or piece.startswith(" "), piece.removeprefix(" ")
        if not piece:
            continue
        if space and text and not text.endswith("\n"):
            text += " "
        space = not exact and piece.endswith(" ")
        text += piece.removesuffix(" ") if space else piece
    if exact:
        text = re.sub(r"\A[ \t\r\n]*\n", "", text)
    return text.rstrip(_WHITE.decode())


def plain_render(
    page: bytes, elements: Elements, runs: Runs, blocks: Blocks, kept: npt.NDArray[np.bool_]
) -> str:
    """`render.render`: the kept blocks as text."""
    chosen = [int(b) for b in np.flatnonzero(kept)]
    layout = _layout_tables(elements, blocks, chosen)
    places = {b: _place(elements, int(blocks.element[b]), layout) for b in chosen}
    in_item = Counter(at.item for at in places.values())

    def short(item: int) -> bool:
        return in_item[item] <= 3

    text = ""
    before: _Place | None = None
    for b in chosen:
        at = places[b]
        listed = bool(at.item and short(at.item) and not at.cell)
        if before is not None:
            same_list = at.outermost and before.outermost == at.outermost
            if at.cell and before.table == at.table:
                text += "\n" if before.row != at.row else "\t" if before.cell != at.cell else " "
            elif (at.pre and before.pre == at.pre) or (
                same_list
                and (listed or not (at.item or before.item))
                and (not before.item or short(before.item))
            ):
                text += "\n"
            else:
                text += "\n\n"
        if listed and (before is None or before.item != at.item):
            text += "  " * min(max(at.lists - 1, 0), 8)
            holder = int(elements.parent[at.item])
            if NAMED[elements.tag[holder]] == "ol":
                siblings = [
                    e
                    for e in np.flatnonzero(elements.parent == holder).tolist()
                    if NAMED[elements.tag[e]] == "li"
                ]
                text += f"{siblings.index(at.item) + 1}. "
            else:
                text += "• "
        exact = bool(blocks.flags[b] & PREFORMATTED) and not at.cell
        rows = range(int(blocks.first[b]), int(blocks.last[b]))
        text += _text_of_block(page, elements, runs, rows, exact, " " if at.cell else "\n")
        before = at
    return text
