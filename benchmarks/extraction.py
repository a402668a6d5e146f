"""Claim: main text of web pages at token F1 >= 0.88 (articles) and >= 0.80 (forums), Chinese no worse than English, at
>= 6 times trafilatura's speed, one core.

Token F1: a Han or kana character is one token, elsewhere a run of letters or digits, lower-cased; F1 of the two
multisets of a page, mean over pages. Data: `web/magic_html_{article,forum}.parquet` (columns url, html, gold),
real pages with main text by hand. The shipped weights were learnt from these very pages, so the figure that
counts is `held out`: the same model learnt anew, every page scored by weights that saw no page of its site.
Peers run on the same pages in turn with us, page by page; speed is pages per CPU second. `trafilatura` is run
with its option sets; `--files` reads other Parquet files of the same form, for which no held-out run is needed.

Run: python benchmarks/extraction.py [--data ../shared/data] [--files F.parquet ...] [--limit N] [--no-held-out]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq

from haina.corpus.encoding import UndecodableError, decode
from haina.corpus.extract import extract_page
from haina.corpus.extract.fit import language_group
from haina.corpus.extract.tokens import token_f1

Extractor = Callable[[bytes, str], str]


def peers() -> dict[str, Extractor]:
    """What we are held against, where it is installed."""
    found: dict[str, Extractor] = {}
    if find_spec("trafilatura"):
        try:
            from trafilatura import extract
        except ImportError as error:
            print(f"trafilatura cannot be imported ({error}): pip install lxml_html_clean", file=sys.stderr)
        else:
            found["trafilatura"] = lambda html, url: extract(html, url=url) or ""
            found["trafilatura recall"] = lambda html, url: extract(html, url=url, favor_recall=True) or ""
            found["trafilatura precision"] = lambda html, url: (
                extract(html, url=url, favor_precision=True) or ""
            )
            found["trafilatura fast"] = lambda html, url: extract(html, url=url, fast=True) or ""
            found["trafilatura no comments"] = lambda html, url: (
                extract(html, url=url, include_comments=False) or ""
            )
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    def resiliparse(html: bytes, url: str) -> str:
        return extract_plain_text(HTMLTree.parse(decode(html, None).text), main_content=True, alt_texts=False)

    return {**found, "resiliparse main_content": resiliparse}


def held_out(data: Path) -> None:
    """Learn anew and score every page by weights that saw no page of its site."""
    from haina.corpus.extract.fit import held_out as run
    from haina.corpus.extract.fit import made, pages

    examples = pages(data) + made(data, 240)
    for seed in range(3):
        scores, accuracy = run(examples, seed)
        for kind in ("article", "forum"):
            parts = {name: of for name, of in scores.items() if name.startswith(kind)}
            every = [score for of in parts.values() for score in of]
            detail = ", ".join(
                f"{name.removeprefix(kind + ' ')} {statistics.mean(of):.4f}" for name, of in parts.items()
            )
            print(
                f"held out by site, folds {seed}: {kind} {statistics.mean(every):.4f} ({detail}); "
                f"kind right {accuracy:.3f}"
            )


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--files", type=Path, nargs="*", help="Parquet files with html, gold, url")
    parser.add_argument("--limit", type=int, default=0, help="pages a file")
    parser.add_argument("--no-held-out", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    files = arguments.files or [
        arguments.data / "web" / f"magic_html_{kind}.parquet" for kind in ("article", "forum")
    ]
    if missing := [str(path) for path in files if not path.exists()]:
        print(f"not there: {', '.join(missing)}; give the data folder with --data", file=sys.stderr)
        return 2
    extractors: dict[str, Extractor] = {"haina": lambda html, url: extract_page(html, url or None).text}
    if not arguments.no_peers:
        extractors |= peers()
    names = ("haina", "trafilatura", "resiliparse", "lxml", "numba")
    print("versions:", ", ".join(f"{name} {version(name)}" for name in names if find_spec(name)))
    extract_page(b"<p>compile</p>")
    seconds: dict[str, list[float]] = {name: [] for name in extractors}
    for path in files:
        rows = pq.read_table(path, columns=["html", "gold", "url"]).to_pylist()[: arguments.limit or None]
        scores: dict[str, dict[str, list[float]]] = {name: {} for name in extractors}
        for row in rows:
            html = row["html"] if isinstance(row["html"], bytes) else row["html"].encode("utf-8", "replace")
            for name, extractor in extractors.items():
                start = time.process_time()
                try:
                    text = extractor(html, row["url"] or "")
                except (UndecodableError, ValueError):
                    text = ""
                seconds[name].append(time.process_time() - start)
                score = token_f1(text, row["gold"])
                scores[name].setdefault("all", []).append(score)
                scores[name].setdefault(language_group(row["gold"]), []).append(score)
        print(f"\n{path.name}, {len(rows)} pages: mean token F1 a page")
        for name, parts in scores.items():
            shown = "  ".join(
                f"{part} {statistics.mean(of):.4f} (n={len(of)})" for part, of in sorted(parts.items())
            )
            note = "  [learnt from these pages]" if name == "haina" and not arguments.files else ""
            print(f"  {name:26s} {shown}{note}")
    print("\nspeed, CPU seconds of one core, decoding and all")
    ours = sum(seconds["haina"])
    for name, spent in seconds.items():
        quarter = statistics.quantiles(spent, n=4) if len(spent) > 1 else spent * 3
        print(
            f"  {name:26s} {len(spent) / sum(spent):7.1f} pages/s   median {1e3 * quarter[1]:.2f} ms a page, "
            f"quartiles {1e3 * quarter[0]:.2f} to {1e3 * quarter[2]:.2f}   "
            f"haina is {sum(spent) / ours:.2f} times as fast"
        )
    if not arguments.no_held_out and not arguments.files:
        print()
        held_out(arguments.data)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
