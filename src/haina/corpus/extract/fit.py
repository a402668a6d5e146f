"""How the weights beside this file were learnt.

Comes in: pages with their main text by hand (`web/magic_html_*.parquet` of the project's data folder) and,
where given, a folder of manuals whose main element is known. Goes out: `weights.npz`, and on the way the token
F1 on pages of sites that were held out.

    python -m haina.corpus.extract.fit --data ../shared/data [--manuals DIR] [--out weights.npz]

A block's target is the share of its tokens that an alignment pairs with the gold text (weak supervision: nobody
marked blocks). Each page weighs the same; within it a block weighs by its tokens, dampened. DIR holds Debian
packages unpacked (`dpkg-deb -x`): libreoffice-help-*, debian-handbook, linux-doc-6.1.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from haina.corpus.encoding import decode
from haina.corpus.extract.align import aligned
from haina.corpus.extract.boost import fit_trees
from haina.corpus.extract.page import Parsed, Weights, choose, forum_features, parse, text_of
from haina.corpus.extract.synthesize import make_pages
from haina.corpus.extract.tokens import token_f1, tokens
from haina.corpus.extract.trees import Trees

# Weight of a block within its page: tokens to this power.
_DAMPING = 0.75
_TREES = {"trees": 160, "depth": 4, "rate": 0.06, "ridge": 3.0, "least": 1.0, "columns": 0.4, "share": 0.5}
_FOLDS = 6
# What a page of a kind weighs beside a real one with gold text by hand.
_KIND_WEIGHT = {"manual": 0.25, "made": 0.25}
_MADE = 240
# Main element of each manual: where its pages lie, how many to take, selector, what of it is none.
_MANUALS = (
    ("libreoffice/help/en-US", 25, "#DisplayArea", ".howtogetheader, .relatedtopics, #DonationFrame"),
    ("libreoffice/help/zh-CN", 25, "#DisplayArea", ".howtogetheader, .relatedtopics, #DonationFrame"),
    ("libreoffice/help/zh-TW", 10, "#DisplayArea", ".howtogetheader, .relatedtopics, #DonationFrame"),
    ("debian-handbook/html/en-US", 12, "body", ".docnav, #title, .toc"),
    ("debian-handbook/html/zh-CN", 16, "body", ".docnav, #title, .toc"),
    ("linux-doc-6.1/html", 24, "div[role=main], div.body", ".headerlink, .toctree-wrapper"),
)


@dataclass(frozen=True)
class Example:
    """A page to learn from: `kind` is `article`, `forum` or `manual`; `target` float32 [blocks]."""

    parsed: Parsed
    gold: str
    kind: str
    site: str
    target: npt.NDArray[np.float32]


def _site(url: str) -> str:
    parts = urlsplit(url).netloc.split(".")
    return ".".join(parts[-3 if len(parts) > 2 and len(parts[-2]) <= 3 else -2 :])


def example(html: str, gold: str, url: str, kind: str) -> Example:
    """A page with the share of each block's tokens that stand in its gold text."""
    parsed = parse(html, url)
    count = len(parsed.blocks.first)
    texts = []
    for block in range(count):
        only = np.zeros(count, np.bool_)
        only[block] = True
        texts.append(tokens(text_of(parsed, only)))
    hits = aligned([token for text in texts for token in text], tokens(gold))
    ends = np.cumsum([0, *map(len, texts)])
    target = np.array(
        [hits[a:b].mean() if b > a else 0.0 for a, b in itertools.pairwise(ends)], dtype=np.float32
    )
    return Example(parsed, gold, kind, _site(url), target)


def pages(data: Path) -> list[Example]:
    """The pages with gold text."""
    import pyarrow.parquet as pq

    return [
        example(decode(row["html"], None).text, row["gold"], row["url"], kind)
        for kind in ("article", "forum")
        for row in pq.read_table(data / "web" / f"magic_html_{kind}.parquet").to_pylist()
    ]


def manuals(folder: Path) -> list[Example]:
    """Pages of manuals, their main element as gold text; a fixed choice, evenly over the names."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    found = []
    for place, count, main, skip in _MANUALS:
        files = sorted(path for path in folder.rglob("*.html") if f"/{place}/" in path.as_posix())
        for path in files[:: max(1, len(files) // count)][:count]:
            html = decode(path.read_bytes(), None).text
            tree = HTMLTree.parse(html)
            element = tree.body.query_selector(main) if tree.body else None
            if element is None:
                continue
            gold = extract_plain_text(
                element.html,
                main_content=False,
                alt_texts=False,
                links=False,
                skip_elements=[*skip.split(", "), "[hidden]"],
            )
            if len(tokens(gold)) >= 40:
                found.append(example(html, gold, f"https://{place.partition('/')[0]}.manual/", "manual"))
    return found


def made(data: Path, count: int) -> list[Example]:
    """Made-up pages around sentences of encyclopaedia articles, Chinese and English in turn."""
    import pyarrow.parquet as pq

    long = []
    for language in ("zh", "en"):
        file = pq.ParquetFile(data / "text" / f"{language}_wikipedia.parquet")
        texts = file.read_row_group(0, columns=["text"])["text"].to_pylist()
        long.append([(text, language == "zh") for text in texts if len(text) > 1500][: count // 2 + 1])
    mixed = [pair for pairs in zip(*long, strict=False) for pair in pairs]
    return [
        example(html, gold, f"https://made.{number}/", "made")
        for number, (html, gold, _) in enumerate(make_pages(mixed, count))
    ]


def _rows(examples: list[Example]) -> tuple[npt.NDArray[np.float32], ...]:
    weights = []
    for one in examples:
        weight = np.maximum(one.parsed.blocks.tokens, 0) ** _DAMPING
        weights.append(weight / max(weight.sum(), 1) * _KIND_WEIGHT.get(one.kind, 1.0))
    weight = np.concatenate(weights)
    return (
        np.concatenate([one.parsed.described.features for one in examples]),
        np.concatenate([one.target for one in examples]),
        weight * len(weight) / weight.sum(),
    )


def _forest(examples: list[Example], seed: int) -> Trees:
    rows, targets, weights = _rows(examples)
    page = np.repeat(np.arange(len(examples)), [len(one.target) for one in examples])
    return fit_trees(rows, targets, weights, page, seed=seed, **_TREES)  # type: ignore[arg-type]


def fit_blocks(examples: list[Example], seed: int = 0) -> Trees:
    """Trees for blocks: half their say from the pages by hand alone, half from all pages."""
    by_hand = _forest([one for one in examples if one.kind in ("article", "forum")], seed)
    everything = _forest(examples, seed + 1)
    return Trees(
        np.concatenate([by_hand.feature, everything.feature]),
        np.concatenate([by_hand.threshold, everything.threshold]),
        (np.concatenate([by_hand.leaf, everything.leaf]) / 2).astype(np.float32),
        (by_hand.base + everything.base) / 2,
    )


def fit_forum(features: npt.NDArray[np.float32], forum: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Logistic regression with a ridge, by Newton's method: float32 [features]."""
    weights = np.zeros(features.shape[1])
    ridge = np.eye(features.shape[1]) * 1.0
    for _ in range(50):
        probability = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (probability - forum) + ridge @ weights
        hessian = (features * (probability * (1 - probability))[:, None]).T @ features + ridge
        weights -= np.linalg.solve(hessian, gradient)
    return weights.astype(np.float32)


def language_group(text: str) -> str:
    """`zh`, `en` or `other`: a fifth of the characters Han; ASCII letters with common English words."""
    if sum("\u4e00" <= letter <= "\u9fff" for letter in text) > 0.2 * len(text):
        return "zh"
    letters = [letter for letter in text if letter.isalpha()]
    words = text.lower().split()
    common = sum(
        word in {"the", "and", "of", "to", "a", "in", "is", "it", "for", "i", "you"} for word in words
    )
    plain = sum(letter.isascii() for letter in letters) >= 0.97 * len(letters)
    return "en" if plain and common >= 0.08 * len(words) else "other"


def held_out(examples: list[Example], seed: int) -> tuple[dict[str, list[float]], float]:
    """Token F1 of every page by trees that saw no page of its site, by kind and language; accuracy of the kind."""
    sites = sorted({one.site for one in examples})
    order = np.random.default_rng(seed).permutation(len(sites))
    fold_of = {site: int(place) % _FOLDS for site, place in zip(sites, order, strict=True)}
    scores: dict[str, list[float]] = {}
    right: list[bool] = []
    for fold in range(_FOLDS):
        seen = [one for one in examples if fold_of[one.site] != fold or one.kind == "made"]
        trees = fit_blocks(seen, seed)
        labelled = [one for one in seen if one.kind in ("article", "forum")]
        forum = fit_forum(
            np.stack([forum_features(one.parsed, one.target > 0.5) for one in labelled]),
            np.array([one.kind == "forum" for one in labelled]),
        )
        for one in examples:
            if fold_of[one.site] != fold or one.kind == "made":
                continue
            kept = choose(one.parsed, trees.predict(one.parsed.described.features))
            name = f"{one.kind} {language_group(one.gold)}"
            scores.setdefault(name, []).append(token_f1(text_of(one.parsed, kept), one.gold))
            if one.kind != "manual":
                right.append((float(forum_features(one.parsed, kept) @ forum) > 0) == (one.kind == "forum"))
    return scores, float(np.mean(right))


def main() -> int:
    """Learn, report what held-out pages score, write the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--manuals", type=Path, help="folder of unpacked Debian packages")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("weights.npz"))
    parser.add_argument("--repeats", type=int, default=2, help="cross-validations, each with other folds")
    arguments = parser.parse_args()
    if not (arguments.data / "web").is_dir():
        print(f"{arguments.data}/web is not there: give the data folder with --data", file=sys.stderr)
        return 2
    examples = pages(arguments.data) + (manuals(arguments.manuals) if arguments.manuals else [])
    examples += made(arguments.data, _MADE)
    for seed in range(arguments.repeats):
        scores, accuracy = held_out(examples, seed)
        for kind in ("article", "forum", "manual"):
            both = [score for name, of in scores.items() if name.startswith(kind) for score in of]
            if both:
                print(f"held out, folds {seed}: {kind} {np.mean(both):.4f} (n={len(both)})")
        for name, of in sorted(scores.items()):
            print(f"    {name}: {np.mean(of):.4f} (n={len(of)})")
        print(f"    kind right: {accuracy:.3f}", flush=True)
    labelled = [one for one in examples if one.kind in ("article", "forum")]
    forum = fit_forum(
        np.stack([forum_features(one.parsed, one.target > 0.5) for one in labelled]),
        np.array([one.kind == "forum" for one in labelled]),
    )
    Weights(fit_blocks(examples), forum).save(arguments.out)
    print(f"{len(examples)} pages -> {arguments.out}, {arguments.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
