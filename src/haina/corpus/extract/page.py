"""An HTML page in, its main text and what is known of it out.

The way of a page: bytes are decoded, formulas become TeX, one pass makes flat arrays of elements and runs of
text (`scan`), runs become blocks (`blocks`), blocks get features (`features`), boosted trees give each a
probability (`trees`), the set with the greatest expected F1 is kept (`select`) and written as text (`render`).
The weights beside this file were learnt by `fit.py`. Time and memory are linear in the page's size, whatever it
holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from haina.corpus.encoding import decode
from haina.corpus.extract.blocks import Blocks, find_blocks
from haina.corpus.extract.features import FEATURES, Described, describe, page_features
from haina.corpus.extract.metadata import Head, clean_title, iso_date, read_head, unescape, url_date
from haina.corpus.extract.render import render
from haina.corpus.extract.scan import PREFORMATTED, Elements, Runs, scan
from haina.corpus.extract.select import complete, select
from haina.corpus.extract.tags import TAG, rules
from haina.corpus.extract.trees import Trees
from haina.corpus.records import clean_text

# What a page holds beyond this is left out: base64 pictures and scripts, no text.
MAX_HTML_CHARACTERS = 64 << 20
_LIST_LINK_SHARE = 0.6
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*\n")
_OPTIONAL_END = [
    TAG[name] for name in ("p", "li", "dt", "dd", "tr", "td", "th", "tbody", "thead", "tfoot", "option")
]
_POST, _COMMENT = FEATURES.index("near_post"), FEATURES.index("near_comment")
_ADDRESS = FEATURES.index("page_forum_address")
_FAR = 16


@dataclass(frozen=True)
class ExtractedPage:
    """What a page says.

    Attributes:
        text: main text; paragraphs are parted by a blank line; empty when the page says nothing.
        title: of the document without the site's name, empty when it has none.
        url: the address given, else the canonical one that the page names, else empty.
        encoding: Python name of the encoding the bytes were in, `str` for text.
        kind: `article`, `forum` (posts or questions with answers), `list` (mostly links) or `other` (no text).
        date: of publication as the page says, yyyy-mm-dd, or empty.
        language_hint: language that the page declares (BCP 47), or empty.
        link_share: share of the page's visible characters that stand in links, 0 to 1.
        main_share: share of the page's visible characters that were kept, 0 to 1.
    """

    text: str
    title: str
    url: str
    encoding: str
    kind: str = "other"
    date: str = ""
    language_hint: str = ""
    link_share: float = 0.0
    main_share: float = 0.0


@dataclass(frozen=True)
class Weights:
    """What was learnt: trees for blocks, a linear model (weights, then bias) for forums."""

    trees: Trees
    forum: npt.NDArray[np.float32]

    @staticmethod
    def load(path: Path) -> Weights:
        """Read the file that `fit.py` wrote.

        Raises:
            ValueError: it was learnt for other features than this code makes.
        """
        with np.load(path) as file:
            if tuple(str(name) for name in file["features"]) != FEATURES:
                raise ValueError(
                    f"{path} was learnt for other features: run python -m haina.corpus.extract.fit"
                )
            trees = Trees(file["feature"], file["threshold"], file["leaf"], float(file["base"]))
            return Weights(trees, file["forum"])

    def save(self, path: Path) -> None:
        """Write the file that `load` reads."""
        np.savez_compressed(
            path,
            features=np.array(FEATURES),
            feature=self.trees.feature,
            threshold=self.trees.threshold,
            leaf=self.trees.leaf,
            base=self.trees.base,
            forum=self.forum,
        )


@cache
def shipped_weights() -> Weights:
    """The weights beside this file."""
    return Weights.load(Path(__file__).with_name("weights.npz"))


@dataclass(frozen=True)
class Parsed:
    """A page as arrays, before anything is chosen."""

    data: npt.NDArray[np.uint8]
    elements: Elements
    runs: Runs
    blocks: Blocks
    head: Head
    described: Described


def parse(html: str, url: str) -> Parsed:
    """Blocks of a page and their features."""
    try:
        encoded = html.encode("utf-8")
    except UnicodeEncodeError:
        encoded = html.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode("utf-8")
    data = np.frombuffer(encoded, dtype=np.uint8)
    elements, runs, notes = scan(data)
    head = read_head(encoded, notes)
    blocks = find_blocks(data, elements, runs, f"{head.headline} {head.title}", head.description)
    return Parsed(data, elements, runs, blocks, head, describe(elements, blocks, page_features(head, url)))


def choose(parsed: Parsed, probability: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which blocks to keep: bool [blocks]. Marks without letters and the numbers of code lines never are."""
    blocks = parsed.blocks
    numbers = ((blocks.flags & PREFORMATTED) > 0) & (blocks.digits == blocks.characters)
    kept = np.zeros(len(probability), np.bool_)
    usable = np.flatnonzero((blocks.tokens > 0) & ~numbers)
    kept[usable] = select(probability[usable], blocks.tokens[usable])
    return complete(parsed.elements, blocks, probability, kept) & ~numbers


def forum_features(parsed: Parsed, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """What tells a forum from an article: float32 [8], the last is 1."""
    features, blocks = parsed.described.features, parsed.blocks
    if not len(features):
        return np.zeros(8, np.float32)
    weight = blocks.tokens * kept
    total = max(float(weight.sum()), 1.0)
    items = len(np.unique(parsed.described.item[kept & (parsed.described.item > 0) & (blocks.tokens >= 8)]))
    return np.array(
        [
            *features[0, _ADDRESS : _ADDRESS + 3],
            float(weight[features[:, _POST] < _FAR].sum()) / total,
            float(weight[features[:, _COMMENT] < _FAR].sum()) / total,
            np.log1p(items),
            np.log1p(total) / 10,
            1.0,
        ],
        np.float32,
    )


def text_of(parsed: Parsed, kept: npt.NDArray[np.bool_]) -> str:
    """The kept blocks as text."""
    text = render(parsed.data, parsed.elements, parsed.runs, parsed.blocks, kept).decode("utf-8")
    text = clean_text(unescape(text))
    if "\n\n\n" in text or "\n " in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip("\n")


def _visible_date(parsed: Parsed, kept: npt.NDArray[np.bool_]) -> str:
    """A date in the short blocks around the beginning of the main text."""
    blocks = parsed.blocks
    first = int(np.argmax(kept & (blocks.tokens >= 20)))
    near = np.zeros(len(kept), np.bool_)
    near[max(0, first - 12) : first + 3] = True
    near &= (blocks.digits >= 4) & (blocks.tokens <= 40)
    return iso_date(text_of(parsed, near)) if near.any() else ""


def nesting_depth(html: str) -> int:
    """How deep elements nest whose end tags may not be left out, up to `MAX_DEPTH` and one."""
    elements, _, _ = scan(np.frombuffer(html.encode("utf-8", "replace"), dtype=np.uint8))
    nests = ~np.isin(elements.tag, _OPTIONAL_END)
    nests[0] = False
    depth = np.zeros(len(nests), np.int32)
    for e in range(1, len(depth)):
        depth[e] = depth[elements.parent[e]] + nests[e]
    return int(depth.max())


def extract_page(html: bytes | str, url: str | None = None, charset: str | None = None) -> ExtractedPage:
    """Main text of an HTML page, its title, address, date and kind.

    Args:
        html: the page, raw or decoded.
        url: where it came from.
        charset: label from the HTTP header.

    Raises:
        UndecodableError: the bytes are in no known encoding.
    """
    if isinstance(html, bytes):
        decoded = decode(html, charset)
        html, encoding = decoded.text, decoded.encoding
    else:
        encoding = "str"
    parsed = parse(html[:MAX_HTML_CHARACTERS], url or "")
    head, blocks = parsed.head, parsed.blocks
    weights = shipped_weights()
    kept = choose(parsed, weights.trees.predict(parsed.described.features))
    text = text_of(parsed, kept)
    if len(text) <= rules()["redirect_characters"] and text.startswith(tuple(rules()["redirects"])):
        text = ""
    visible = max(float(blocks.characters.sum()), 1.0)
    link_share = float(blocks.linked_characters.sum()) / visible
    kind = "other"
    if text:
        forum = float(forum_features(parsed, kept) @ weights.forum) > 0
        kept_links = float(blocks.linked_characters[kept].sum()) / max(
            float(blocks.characters[kept].sum()), 1.0
        )
        kind = "list" if kept_links > _LIST_LINK_SHARE else "forum" if forum else "article"
    address = url or head.url
    heading = kept & (parsed.elements.tag[blocks.element] == TAG["h1"])
    title = (
        clean_title(head.title, [head.headline])
        or head.headline
        or text_of(parsed, heading).partition("\n")[0]
    )
    return ExtractedPage(
        text=text,
        title=clean_text(" ".join(title.split())),
        url=clean_text(address),
        encoding=encoding,
        kind=kind,
        date=head.date or url_date(address) or (_visible_date(parsed, kept) if text else ""),
        language_hint=head.language,
        link_share=link_share,
        main_share=float(blocks.characters[kept].sum()) / visible if text else 0.0,
    )
