"""What the classifier sees of each block.

Comes in: elements, runs and blocks. Goes out: float32 [blocks, features]. Most features are shares and counts
that mean the same on every site - of the block, its neighbours, the subtrees around it, the elements built like
it - after Kohlschütter et al. 2010 (Boilerplate Detection using Shallow Text Features) and Vogels et al. 2018
(Web2Text). Names of classes enter only through groups of words (`rules.yaml`) and the distance to the nearest
ancestor that bears one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.extract.blocks import Blocks
from haina.corpus.extract.metadata import Head
from haina.corpus.extract.scan import ARIA_HIDDEN, PREFORMATTED, UNDISPLAYED, Elements
from haina.corpus.extract.tags import FNV_PRIME, TAG, rules

Floats = npt.NDArray[np.float32]
GROUPS = tuple(rules()["class_words"])
# Ancestors by tag, after the keyword groups.
_ANCESTOR_TAGS = ("article", "main", "section", "header", "footer", "aside", "table", "li", "blockquote", "figure",
                  "form", "button", "p", "h1", "label")  # fmt: skip
_N_GROUPS = len(GROUPS)
NEAR = GROUPS + tuple(f"<{name}>" for name in _ANCESTOR_TAGS)
_N_NEAR = len(NEAR)
_FAR = 16
_TAG_GROUP = np.full(64, -1, dtype=np.int64)
for _i, _name in enumerate(_ANCESTOR_TAGS):
    _TAG_GROUP[TAG[_name]] = _N_GROUPS + _i
for _name in ("h2", "h3", "h4", "h5", "h6"):
    _TAG_GROUP[TAG[_name]] = _N_GROUPS + _ANCESTOR_TAGS.index("h1")

_OWN = ("tokens", "characters", "link_share", "sentences", "clauses", "digit_share", "upper_share", "breaks",
        "colons", "legal", "action", "meta", "related", "closed", "in_title", "first_kind", "tag_kind", "undisplayed",
        "aria_hidden", "preformatted", "depth", "han_share", "repeats", "token_length")  # fmt: skip
_PLACE = ("index", "token_place", "blocks_after_heading", "after_title", "in_description",
          "to_prose_before", "to_prose_after", "window_link_share", "window_tokens",
          "same_parent_before", "same_parent_after")  # fmt: skip
_NEIGHBOURS = tuple(f"{what}_{where}" for where in ("before_2", "before", "after", "after_2")
                    for what in ("tokens", "link_share", "closed", "same_path"))  # fmt: skip
_LEVELS = 5
_SUBTREES = tuple(f"{what}_{level}" for level in range(1, _LEVELS + 1)
                  for what in ("tokens", "link_share", "tokens_a_block", "prose_share", "of_page_prose"))  # fmt: skip
_MAIN = (
    "in_main_9",
    "in_main_6",
    "in_main_4",
    "main_4_tokens",
    "main_4_link_share",
    "after_main_6",
    "before_main_6",
)
_OF_ITEMS = ("count", "mean_tokens", "variation", "link_share", "item_tokens", "of_page")
_REPEATED = tuple(f"{which}_{what}" for which in ("near", "largest") for what in _OF_ITEMS)
_PATH = ("path_count", "path_mean_tokens", "path_link_share", "path_largest", "path_prose_share", "path_of_page",
         "path_distinct")  # fmt: skip
PAGE = (
    "page_tokens",
    "page_blocks",
    "page_link_share",
    "page_prose_share",
    "page_han_share",
    "page_forum_address",
    "page_forum_type",
    "page_article_type",
    "page_post_share",
    "page_comment_share",
)
FEATURES = (
    _OWN
    + _PLACE
    + _NEIGHBOURS
    + tuple(f"near_{name}" for name in NEAR)
    + _SUBTREES
    + _MAIN
    + _REPEATED
    + _PATH
    + PAGE
)


@nb.njit(cache=True, nogil=True, inline="always")
def _log(value: float) -> float:
    return np.log1p(value)


@nb.njit(cache=True, nogil=True)
def group_ids(keys: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int32], int]:
    """Number of each distinct key in order of first appearance: int32 [keys], and how many there are."""
    size = 16
    while size < 2 * len(keys):
        size *= 2
    mask = np.uint64(size - 1)
    slots = np.full(size, -1, np.int32)
    ids = np.zeros(len(keys), np.int32)
    held = np.zeros(len(keys) + 1, np.uint64)
    count = 0
    for i in range(len(keys)):
        key = keys[i]
        mixed = (key ^ (key >> np.uint64(32))) * FNV_PRIME
        slot = (mixed ^ (mixed >> np.uint64(29))) & mask
        while slots[slot] >= 0 and held[slots[slot]] != key:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] < 0:
            slots[slot] = count
            held[count] = key
            count += 1
        ids[i] = slots[slot]
    return ids, count


@nb.njit(cache=True, nogil=True)
def features_into(  # noqa: PLR0912, PLR0915 - a list of features
    elements: Elements,
    blocks: Blocks,
    groups: int,
    kinds: int,
    tag_group: npt.NDArray[np.int64],
    page: Floats,
    out: Floats,
    items: npt.NDArray[np.int32],
    heading_tags: tuple[int, int],
) -> None:
    """Fill `out` float32 [blocks, features], and `items` int32 [blocks] with each block's repeated element."""
    ne, n = len(elements.tag), len(blocks.first)
    # Sums over subtrees: tokens, linked tokens, blocks, prose (unlinked tokens of blocks that hold sentences).
    sums = np.zeros((ne, 4), np.float32)
    prose = np.zeros(n, np.float32)
    total = linked = han = characters = 0.0
    for b in range(n):
        e = blocks.element[b]
        tokens, links = blocks.tokens[b], blocks.linked[b]
        if tokens >= 8 and blocks.sentences[b] + blocks.clauses[b] > 0 and links < 0.5 * tokens:
            prose[b] = tokens - links
        sums[e, 0] += tokens
        sums[e, 1] += links
        sums[e, 2] += 1
        sums[e, 3] += prose[b]
        total += tokens
        linked += links
        han += blocks.han[b]
        characters += blocks.characters[b]
    for e in range(ne - 1, 0, -1):
        parent = elements.parent[e]
        for k in range(4):
            sums[parent, k] += sums[e, k]
    all_prose = max(sums[0, 3], 1.0)
    # Distance to the nearest ancestor of each kind; the way from the root; groups of like siblings.
    near = np.full((ne, kinds), _FAR, np.uint8)
    way = np.zeros(ne, np.uint64)
    sibling_key = np.zeros(ne, np.uint64)
    main = np.zeros(3, np.int32)
    for e in range(1, ne):
        parent = elements.parent[e]
        for g in range(kinds):
            near[e, g] = min(near[parent, g] + 1, _FAR)
        words = elements.words[e]
        for g in range(groups):
            if words >> g & 1:
                near[e, g] = 0
        group = tag_group[elements.tag[e]]
        if group >= 0:
            near[e, group] = 0
        way[e] = (way[parent] ^ elements.signature[e]) * FNV_PRIME
        sibling_key[e] = (
            (np.uint64(parent) * np.uint64(0x9E3779B97F4A7C15)) ^ elements.signature[e]
        ) * FNV_PRIME
        for k in range(3):
            # Document order: a deeper element that still holds the share replaces its ancestor.
            if sums[e, 3] >= (0.9, 0.6, 0.4)[k] * all_prose and parent == main[k]:
                main[k] = e
    sibling, n_like = group_ids(sibling_key)
    like = np.zeros((n_like, 4), np.float64)
    for e in range(1, ne):
        if sums[e, 2] > 0:
            like[sibling[e], 0] += 1
            like[sibling[e], 1] += sums[e, 0]
            like[sibling[e], 2] += sums[e, 1]
            like[sibling[e], 3] += sums[e, 0] * sums[e, 0]
    near_of = np.zeros(ne, np.int32)
    largest_of = np.zeros(ne, np.int32)
    for e in range(1, ne):
        parent = elements.parent[e]
        own = sibling[e]
        near_of[e] = e if like[own, 0] >= 3 and not elements.flags[e] & 128 else near_of[parent]
        best = largest_of[parent]
        largest_of[e] = best
        if (
            like[own, 0] >= 2
            and elements.tag[e] != heading_tags[1]
            and (best == 0 or like[own, 1] > 0.7 * like[sibling[best], 1])
        ):
            largest_of[e] = e
    # Blocks built alike.
    keys = np.zeros(n, np.uint64)
    for b in range(n):
        inner = blocks.inner[b]
        keys[b] = way[blocks.element[b]] ^ (
            np.uint64(0) if inner == blocks.element[b] else elements.signature[inner] * FNV_PRIME
        )
    ways, n_ways = group_ids(keys)
    texts, n_texts = group_ids(blocks.key)
    seen = np.zeros(n_texts, np.int32)
    paths = np.zeros((n_ways, 6), np.float32)
    for b in range(n):
        w = ways[b]
        paths[w, 0] += 1
        paths[w, 1] += blocks.tokens[b]
        paths[w, 2] += blocks.linked[b]
        paths[w, 3] = max(paths[w, 3], blocks.tokens[b])
        paths[w, 4] += prose[b]
        if seen[texts[b]] == 0:
            paths[w, 5] += 1
        seen[texts[b]] += 1
    # Distance to prose before and after, to the last heading.
    before = np.full(n, 99.0, np.float32)
    after = np.full(n, 99.0, np.float32)
    heading = np.full(n, 200.0, np.float32)
    last = -99
    last_heading = -200
    for b in range(n):
        before[b] = min(b - last, 99)
        if prose[b] >= 20:
            last = b
        heading[b] = min(b - last_heading, 200)
        if heading_tags[0] <= elements.tag[blocks.element[b]] <= heading_tags[0] + 1:
            last_heading = b
    last = n + 99
    for b in range(n - 1, -1, -1):
        after[b] = min(last - b, 99)
        if prose[b] >= 20:
            last = b
    # The block that says the title, a heading rather than another.
    title_place, title_rank = -1, 0.0
    posts = comments = 0.0
    for b in range(n):
        tag = elements.tag[blocks.element[b]]
        rank = (
            blocks.in_title[b]
            * min(blocks.tokens[b], 8.0)
            * (2.0 if heading_tags[0] <= tag <= heading_tags[0] + 5 else 1.0)
        )
        if blocks.in_title[b] >= 0.6 and blocks.tokens[b] <= 60 and rank > title_rank:
            title_place, title_rank = b, rank
        if near[blocks.element[b], 1] < _FAR:
            posts += blocks.tokens[b]
        if near[blocks.element[b], 2] < _FAR:
            comments += blocks.tokens[b]
    # Spans of the elements that hold most of the prose.
    main_first, main_last = n, -1
    inside = np.zeros((ne, 3), np.bool_)
    for k in range(3):
        inside[main[k], k] = True
    for e in range(1, ne):
        for k in range(3):
            inside[e, k] |= inside[elements.parent[e], k]
    for b in range(n):
        if inside[blocks.element[b], 1]:
            main_first = min(main_first, b)
            main_last = b
    read = 0.0
    for b in range(n):
        e = blocks.element[b]
        tokens, size = blocks.tokens[b], max(blocks.characters[b], 1.0)
        row = out[b]
        row[0] = _log(tokens)
        row[1] = _log(size)
        row[2] = blocks.linked_characters[b] / size
        row[3] = blocks.sentences[b] / max(tokens, 1.0)
        row[4] = blocks.clauses[b] / max(tokens, 1.0)
        row[5] = blocks.digits[b] / size
        row[6] = blocks.upper[b] / size
        row[7] = blocks.breaks[b]
        row[8] = blocks.colons[b] / max(tokens, 1.0)
        for g in range(4):
            row[9 + g] = blocks.phrases[b, g] / min(max(tokens, 1.0), 24.0)
        row[13] = blocks.closed[b]
        row[14] = blocks.in_title[b]
        row[15] = blocks.first_kind[b]
        row[16] = elements.tag[e]
        row[17] = 1.0 if blocks.flags[b] & UNDISPLAYED else 0.0
        row[18] = 1.0 if blocks.flags[b] & ARIA_HIDDEN else 0.0
        row[19] = 1.0 if blocks.flags[b] & PREFORMATTED else 0.0
        row[20] = elements.depth[e]
        row[21] = blocks.han[b] / max(tokens, 1.0)
        row[22] = seen[texts[b]]
        row[23] = size / max(tokens, 1.0)
        row[24] = b / n
        row[25] = read / max(total, 1.0)
        read += tokens
        row[26] = heading[b]
        row[27] = min(b - title_place, 200) if title_place >= 0 else -50.0
        row[28] = blocks.in_description[b]
        row[29] = before[b]
        row[30] = after[b]
        window_tokens = window_links = 0.0
        for c in range(max(0, b - 4), min(n, b + 5)):
            window_tokens += blocks.tokens[c]
            window_links += blocks.linked[c]
        row[31] = window_links / max(window_tokens, 1.0)
        row[32] = _log(window_tokens)
        parent = elements.parent[e]
        row[33] = 1.0 if b > 0 and elements.parent[blocks.element[b - 1]] == parent else 0.0
        row[34] = 1.0 if b + 1 < n and elements.parent[blocks.element[b + 1]] == parent else 0.0
        f = 35
        for step in (-2, -1, 1, 2):
            c = b + step
            if 0 <= c < n:
                row[f] = _log(blocks.tokens[c])
                row[f + 1] = blocks.linked[c] / max(blocks.tokens[c], 1.0)
                row[f + 2] = blocks.closed[c]
                row[f + 3] = 1.0 if ways[c] == ways[b] else 0.0
            else:
                row[f] = -1.0
                row[f + 1] = row[f + 2] = row[f + 3] = 0.0
            f += 4
        inner = blocks.inner[b]
        for g in range(kinds):
            row[f + g] = near[inner, g]
        f += kinds
        up = e
        for _ in range(_LEVELS):
            up = elements.parent[up] if elements.parent[up] >= 0 else 0
            row[f] = _log(sums[up, 0])
            row[f + 1] = sums[up, 1] / max(sums[up, 0], 1.0)
            row[f + 2] = _log(sums[up, 0] / max(sums[up, 2], 1.0))
            row[f + 3] = sums[up, 3] / max(sums[up, 0], 1.0)
            row[f + 4] = sums[up, 3] / all_prose
            f += 5
        for k in range(3):
            row[f + k] = 1.0 if inside[e, k] else 0.0
        row[f + 3] = _log(sums[main[2], 0])
        row[f + 4] = sums[main[2], 1] / max(sums[main[2], 0], 1.0)
        row[f + 5] = min(max(b - main_last, 0), 50)
        row[f + 6] = min(max(main_first - b, 0), 50)
        f += 7
        items[b] = largest_of[inner]
        for which in range(2):
            item = near_of[inner] if which == 0 else largest_of[inner]
            if item > 0:
                g = sibling[item]
                mean = like[g, 1] / like[g, 0]
                row[f] = _log(like[g, 0])
                row[f + 1] = _log(mean)
                row[f + 2] = np.sqrt(max(like[g, 3] / like[g, 0] - mean * mean, 0.0)) / max(mean, 1.0)
                row[f + 3] = like[g, 2] / max(like[g, 1], 1.0)
                row[f + 4] = _log(sums[item, 0])
                row[f + 5] = like[g, 1] / max(total, 1.0)
            else:
                for k in range(6):
                    row[f + k] = -1.0
            f += 6
        w = ways[b]
        row[f] = _log(paths[w, 0])
        row[f + 1] = _log(paths[w, 1] / paths[w, 0])
        row[f + 2] = paths[w, 2] / max(paths[w, 1], 1.0)
        row[f + 3] = _log(paths[w, 3])
        row[f + 4] = paths[w, 4] / max(paths[w, 1], 1.0)
        row[f + 5] = paths[w, 1] / max(total, 1.0)
        row[f + 6] = paths[w, 5] / paths[w, 0]
        f += 7
        row[f] = _log(total)
        row[f + 1] = _log(n)
        row[f + 2] = linked / max(total, 1.0)
        row[f + 3] = sums[0, 3] / max(total, 1.0)
        row[f + 4] = han / max(total, 1.0)
        for k in range(3):
            row[f + 5 + k] = page[k]
        row[f + 8] = posts / max(total, 1.0)
        row[f + 9] = comments / max(total, 1.0)


_FORUM_ADDRESS = re.compile(
    r"forum|thread|topic|question|\bbbs|tieba|discuss|communit|/t/|\bask\b|answers|zhidao|wenda|zhihu|guba|club|board|viewtopic|"
    r"showthread|comments/|qna|/q/",
    re.I,
)
_FORUM_TYPES = {"qapage", "discussionforumposting", "question", "answer"}
_ARTICLE_TYPES = {"article", "newsarticle", "blogposting", "reportagenewsarticle", "news"}


def page_features(head: Head, url: str) -> Floats:
    """What address and metadata say of the kind of page: forum by address, forum by type, article by type."""
    return np.array(
        [
            bool(_FORUM_ADDRESS.search(head.url or url)),
            bool(head.types & _FORUM_TYPES),
            bool(head.types & _ARTICLE_TYPES),
        ],
        np.float32,
    )


class Described(NamedTuple):
    """Features of a page's blocks.

    Attributes:
        features: float32 [blocks, features].
        item: int32 [blocks] the element, one of several built alike, that the block belongs to; 0 for none.
    """

    features: Floats
    item: npt.NDArray[np.int32]


def describe(elements: Elements, blocks: Blocks, page: Floats) -> Described:
    """Features of every block; `page` is what `page_features` gives."""
    count = len(blocks.first)
    features, item = np.zeros((count, len(FEATURES)), np.float32), np.zeros(count, np.int32)
    features_into(
        elements, blocks, _N_GROUPS, _N_NEAR, _TAG_GROUP, page, features, item, (TAG["h1"], TAG["p"])
    )
    return Described(features, item)
