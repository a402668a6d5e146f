"""Claim: planted evaluation items are found with recall >= 0.95 and precision >= 0.90, at >= 30 MB/s on one core.

Items of C-Eval, CMMLU, MMLU, AGIEval and GAOKAO-Bench are planted into encyclopaedia articles in many forms:
other script, width, punctuation, order and letters of options, running text, without options, broken lines,
small edits. Clean documents are articles, laws, histories, poems, web pages and manuals (`--manuals`, HTML or
text below a folder). Hard negatives are items of splits that are not in the index, quotations out of questions,
passages alone, and sentences that questions were made from. Thresholds were chosen on half of the files and the
kinds marked `tuned`; `--half held-out` (the default) takes the other half of the files. Background counts come
from every fifth article, planting and clean ones from the others. Peers: any 13-gram (words by spaces, as in
GPT-3 and lm-evaluation-harness; and with a Han character as a word), datatrove's NGramsDecontFilter (12-grams)
on part of the documents.

Run: python benchmarks/decontamination.py [--data ../shared/data] [--manuals DIR] [--plants 25] [--half
held-out|tuned]
"""

# ruff: noqa: E501 - tables of changes read better in wide lines

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from html import unescape
from itertools import chain
from pathlib import Path

import pyarrow.parquet as pq
import xxhash
from opencc import OpenCC

from haina.corpus.decontaminate import (
    Index,
    Item,
    build_index,
    find_contamination,
    load_index,
    read_benchmarks,
    save_index,
)
from haina.corpus.dedup.shingles import tokens_of

NAMES = ("ceval", "cmmlu", "mmlu", "agieval", "gaokao_bench")
HAN = re.compile("[\u4e00-\u9fff]")
LETTERS = "ABCDEFGH"
WIDE = {code: code + 0xFEE0 for code in (*range(0x30, 0x3A), *range(0x41, 0x5B), *range(0x61, 0x7B))}
PUNCTUATION = str.maketrans(
    {"，": ",", "。": ".", "？": "?", "：": ":", "；": ";", "（": "(", "）": ")", "、": " "}
)
EN_PUNCTUATION = str.maketrans({",": " -", ".": "", "?": " ?", '"': "'", ";": ",", ":": " -"})
traditional = OpenCC("s2t").convert
Random = random.Random
Change = Callable[[str, list[str], Random], str]


def is_chinese(text: str) -> bool:
    """Whether a good part of a text is Han characters."""
    return len(HAN.findall(text)) > 0.15 * len(text) + 1


def lay_out(question: str, options: Sequence[str], style: str = "list", label: str = "A. ") -> str:
    """Question and options as a list, in a line, or in running text."""
    labels = [
        label.replace("A", LETTERS[place % 8])
        .replace("a", LETTERS[place % 8].lower())
        .replace("1", str(place + 1))
        for place in range(len(options))
    ]
    parts = [one + option for one, option in zip(labels, options, strict=True)]
    return (
        "\n".join([question, *parts])
        if style == "list"
        else " ".join([question, *(part + ";" * (style == "run") for part in parts)])
    )


def edited(text: str, random: Random, rate: float) -> str:
    """Some tokens replaced, left out or added."""
    chinese = is_chinese(text)
    extra = (
        list("的了是在有和人这中大为上个国我以要他时来")
        if chinese
        else ["the", "a", "of", "some", "many", "this", "that", "it", "very", "also"]
    )
    out: list[str] = []
    for token in text if chinese else text.split(" "):
        if (chinese and not HAN.match(token)) or random.random() >= rate:
            out.append(token)
            continue
        kind = random.random()
        out += [random.choice(extra)] if kind < 0.4 else [] if kind < 0.7 else [token, random.choice(extra)]
    return ("" if chinese else " ").join(out)


def shuffled(options: Sequence[str], random: Random) -> list[str]:
    """The options in another order."""
    return random.sample(list(options), len(options))


def broken(text: str) -> str:
    """The text over many lines."""
    if is_chinese(text):
        return re.sub("(.{9,14})", r"\1\n", text)
    words = text.split(" ")
    return "\n".join(" ".join(words[place : place + 5]) for place in range(0, len(words), 5))


def in_script(text: str) -> str:
    """Traditional characters, or capitals."""
    return traditional(text) if is_chinese(text) else text.upper()


TUNED: dict[str, Change] = {
    "verbatim": lambda q, o, r: lay_out(q, o),
    "script": lambda q, o, r: lay_out(in_script(q), [in_script(one) for one in o]),
    "width": lambda q, o, r: lay_out(q, o).translate(WIDE),
    "punctuation": lambda q, o, r: lay_out(q, o, "line").translate(
        PUNCTUATION if is_chinese(q) else EN_PUNCTUATION
    ),
    "shuffled": lambda q, o, r: lay_out(q, shuffled(o, r)),
    "relabelled": lambda q, o, r: lay_out(q, shuffled(o, r), "list", "1. "),
    "running": lambda q, o, r: lay_out(q, o, "run", "(A) "),
    "no options": lambda q, o, r: q,
    "lines": lambda q, o, r: lay_out(broken(q), o),
    "edits 6%": lambda q, o, r: lay_out(edited(q, r, 0.06), o),
    "edits 5%, no options": lambda q, o, r: edited(q, r, 0.05),
}
NEW: dict[str, Change] = {
    "combined": lambda q, o, r: lay_out(in_script(q), [in_script(one) for one in shuffled(o, r)], "run", "a) ").translate(WIDE),
    "spaced": lambda q, o, r: re.sub("([\u4e00-\u9fff])", r"\1 ", lay_out("**" + q.replace(" ", "  ") + "**", o, "list", "- ")),
    "answer after": lambda q, o, r: "1、" + lay_out(q, o, "line") + ("\n答案：" if is_chinese(q) else "\nAnswer: ") + r.choice("ABCD"),
    "edits 8%": lambda q, o, r: lay_out(edited(q, r, 0.08), [edited(one, r, 0.05) for one in o], "list", "(A) "),
    "blank, no options": lambda q, o, r: q.rstrip("。.") + ("（    ）" if is_chinese(q) else " ____"),
    "option missing": lambda q, o, r: lay_out(q, shuffled(o, r)[:-1], "line"),
    "one option": lambda q, o, r: lay_out(q, o[:1], "line"),
}  # fmt: skip


def half_of(name: str) -> int:
    """0 for files that thresholds were chosen on, 1 for the others."""
    return zlib.crc32(name.encode()) & 1


def texts_of(path: Path, limit: int, random: Random, column: str = "text") -> list[str]:
    """Some texts of a Parquet file, none of those that the background was counted on."""
    column_values = pq.read_table(path, columns=[column]).column(column).to_pylist()
    texts = [text for row, text in enumerate(column_values) if row % 5 and text]
    random.shuffle(texts)
    return texts[:limit]


def manuals(folder: Path | None) -> list[str]:
    """Text of the HTML and text files below a folder."""
    if folder is None:
        return []
    pages = sorted(path for path in folder.rglob("*") if path.suffix in {".html", ".txt"} and path.is_file())
    texts = [
        re.sub(
            r"<[^>]+>", " ", re.sub(r"(?s)<(script|style).*?</\1>", " ", path.read_text("utf-8", "replace"))
        )
        for path in pages
    ]
    return [unescape(text) for text in texts if len(text) > 200]


class Hosts:
    """Articles that items are planted into."""

    def __init__(self, data: Path, random: Random) -> None:
        self.random = random
        self.texts = {
            language: [
                text
                for text in texts_of(data / f"text/{language}_wikipedia.parquet", 20000, random)
                if 300 < len(text.encode()) < 4000
            ]
            for language in ("zh", "en")
        }

    def plant(self, body: str) -> str:
        """An article with `body` as a paragraph in its middle."""
        host = self.random.choice(self.texts["zh" if is_chinese(body) else "en"])
        cut = host.find("\n", len(host) // 2)
        cut = len(host) // 2 if cut < 0 else cut
        return f"{host[:cut]}\n{body}\n{host[cut:]}"


def question_of(item: Item) -> str:
    """What is planted: passage and question."""
    return f"{item.passage}\n{item.question}" if item.passage else item.question


def hard_negatives(items: Sequence[Item], hosts: Hosts, count: int) -> dict[str, list[str]]:
    """Documents that hold what questions quote or were made from, without the question."""
    quotes, passages, statements = [], [], []
    for item in items:
        quotes += re.findall(r"[“\"「]([^”\"」]{16,200})[”\"」]", item.question)[:1]
        if len(item.passage) > 100:
            passages.append(item.passage)
        blank = re.search(r"_{2,}", item.question)
        # A sentence that asks stays a question whatever stands in its blank.
        if (
            blank
            and item.options
            and not re.search("下列|以下|哪|什么|的是|的有|多少|几|何|谁|求|计算|设|已知", item.question)
        ):
            answer = hosts.random.choice(item.options)
            statements.append(
                item.question[: blank.start()] + answer + item.question[blank.end() :].rstrip("。") + "。"
            )
    out = {}
    for name, bodies in (
        ("quotation alone", quotes),
        ("passage alone", passages),
        ("statement with an answer", statements),
    ):
        hosts.random.shuffle(bodies)
        out[name] = [hosts.plant(body) for body in bodies[:count]]
    return out


class Grams:
    """A rule of the kind that GPT-3 used: a document that shares any run of `size` words with an item."""

    def __init__(self, items: Sequence[Item], size: int, words: Callable[[str], list[str]]) -> None:
        self.size, self.words = size, words
        self.grams: set[int] = set()
        for item in items:
            for text in (question_of(item), *item.options):
                self.grams.update(self.hashes(text))

    def hashes(self, text: str) -> list[int]:
        """Hash of every run."""
        words = self.words(text)
        return [hash(tuple(words[place : place + self.size])) for place in range(len(words) - self.size + 1)]

    def __call__(self, text: str) -> bool:
        """Whether the text is contaminated."""
        return not self.grams.isdisjoint(self.hashes(text))


def by_spaces(text: str) -> list[str]:
    """Lower-case words without punctuation, as lm-evaluation-harness's janitor and GPT-3 make them."""
    return re.sub(r"[^\w\s]", "", text.lower()).split()


def datatrove_rule(items: Sequence[Item]) -> Callable[[str], bool]:
    """datatrove's filter with its 12-grams of questions and options, English or Chinese words."""
    from datatrove.data import Document
    from datatrove.pipeline.decont.n_grams import NGramsDecontFilter
    from datatrove.utils.text import ngrams, simplify_text
    from datatrove.utils.typeshelper import Languages

    filters = {}
    for chinese, language in ((True, Languages.mandarin_chinese), (False, Languages.english)):
        # Its indexer needs lighteval's task list at the end; the hashes are made here as it makes them.
        one = NGramsDecontFilter(tempfile.gettempdir(), language=language)
        one._index_hashes = {}
        # Newer versions of xxhash take bytes only.
        one.hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())
        for item in items:
            if is_chinese(item.question) == chinese:
                text = simplify_text(f"{question_of(item)} {' '.join(item.options)}", one.config.norm_config)
                for gram in ngrams(one.tokenizer.word_tokenize(text), one.config.n_grams):
                    one._index_hashes[one.hash_func(" ".join(gram))] = "task"
        filters[chinese] = one
    return lambda text: filters[is_chinese(text)].filter(Document(text=text, id="")) is not True


def flagged(texts: Sequence[str], index: Index) -> list[set[int]]:
    """Items found in each text."""
    found = find_contamination(texts, index)
    out: list[set[int]] = [set() for _ in texts]
    for text, item in zip(found.texts.tolist(), found.items.tolist(), strict=True):
        out[text].add(item)
    return out


def size_class(item: Item) -> str:
    """Length of a question in tokens."""
    tokens = len(tokens_of(item.question))
    return "< 8 tokens" if tokens < 8 else "8-15" if tokens < 16 else "16-39" if tokens < 40 else ">= 40"


def row(*cells: object) -> None:
    """One line of a Markdown table."""
    print("| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")


def accuracy(arguments: argparse.Namespace, items: Sequence[Item], index: Index, random: Random) -> None:
    """Recall by benchmark, kind and length; documents flagged that should not be; the peers on the same."""
    data, hosts = arguments.data, Hosts(arguments.data, random)
    half = 0 if arguments.half == "tuned" else 1
    of: dict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        if half_of(item.file) == half and "few_shot" not in item.file:
            of[item.file.split(".")[0]].append(number)
    plants: list[tuple[str, str, int]] = []
    texts: list[str] = []
    for name, numbers in of.items():
        for kind, change in {**TUNED, **NEW}.items():
            for number in random.sample(numbers, min(arguments.plants, len(numbers))):
                item = items[number]
                if not item.options and "option" in kind:
                    continue
                texts.append(hosts.plant(change(question_of(item), list(item.options), random)))
                plants.append((name, kind, number))
    found = flagged(texts, index)
    key = {number: tuple(tokens_of(items[number].question).tolist()) for number in range(len(items))}
    right = [
        number in got or any(key[other] == key[number] for other in got)
        for (_, _, number), got in zip(plants, found, strict=True)
    ]
    print(
        f"\n{len(texts)} planted documents, {arguments.half} files; recall: the planted item itself is named\n"
    )
    row("of", "name", "planted", "recall")
    row("---", "---", "---:", "---:")
    groups: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for (name, kind, number), hit in zip(plants, right, strict=True):
        groups["all", ""].append(hit)
        groups["benchmark", name].append(hit)
        groups["change", f"{kind}{'' if kind in TUNED else ' (new)'}"].append(hit)
        groups["length", size_class(items[number])].append(hit)
        groups["language", "zh" if is_chinese(question_of(items[number])) else "en"].append(hit)
    for (of_what, name), hits in groups.items():
        row(of_what, name, len(hits), sum(hits) / len(hits))

    clean = {
        name: texts_of(data / f"text/{name}.parquet", count, random)
        for name, count in (
            ("zh_wikipedia", 20000),
            ("en_wikipedia", 8000),
            ("zh_laws", 1500),
            ("zh_tang_poems", 8000),
            ("zh_histories_modern", 500),
        )
    }
    clean["web pages"] = [
        text
        for kind in ("article", "forum")
        for text in pq.read_table(data / f"web/magic_html_{kind}.parquet").column("gold").to_pylist()
        if text
    ]
    clean["manuals"] = manuals(arguments.manuals)[:4000]
    unused = [items[number] for number in chain.from_iterable(of.values())]
    clean |= hard_negatives(unused, hosts, 400)
    other_split(arguments, items, hosts, random)
    print("\nclean documents and hard negatives\n")
    row("documents", "number", "flagged", "share")
    row("---", "---:", "---:", "---:")
    wrong = total = 0
    for name, documents in clean.items():
        matches = flagged(documents, index)
        count = sum(map(bool, matches))
        for got in [got for got in matches if got][: 12 * arguments.errors]:
            print(f"  {name}: {items[min(got)].question[-120:]!r} {items[min(got)].options}")
        wrong, total = wrong + count, total + len(documents)
        row(name, len(documents), count, count / max(1, len(documents)))
    hits = sum(map(bool, found))
    print(
        f"\nprecision over {len(texts)} planted and {total} other documents: {hits / (hits + wrong):.3f} ({hits} right, {wrong} wrong)"
    )
    peers(items, texts, clean, index, random)


def show(
    plants: Sequence[tuple[str, str, int]],
    texts: Sequence[str],
    right: Sequence[bool],
    items: Sequence[Item],
    random: Random,
) -> None:
    """Some of the planted items that were not found."""
    missed = [number for number, hit in enumerate(right) if not hit]
    for number in random.sample(missed, min(len(missed), 40)):
        name, kind, item = plants[number]
        print(f"{name} {kind}: {items[item].question[-150:]!r} {items[item].options}")


def other_split(arguments: argparse.Namespace, items: Sequence[Item], hosts: Hosts, random: Random) -> None:
    """Items of test splits planted, against an index of the dev and validation splits alone."""
    inside = [item for item in items if re.search(r"/(dev|val)/", item.file)]
    known = {tuple(tokens_of(item.question).tolist()) for item in inside}
    outside = [
        item
        for item in items
        if "/test/" in item.file and tuple(tokens_of(item.question).tolist()) not in known
    ]
    texts = [hosts.plant(lay_out(item.question, item.options)) for item in random.sample(outside, 3000)]
    index = build_index(inside)
    found = find_contamination(texts, index)
    count = len(set(found.texts.tolist()))
    print(
        f"\nitems of other splits: {count} of {len(texts)} flagged ({count / len(texts):.4f}); examples, which may be the same question in other words:"
    )
    for place in range(0, len(found.texts), max(1, len(found.texts) // 4)):
        text = texts[found.texts[place]].encode()[found.starts[place] : found.ends[place]].decode()
        print(
            f"  document {' '.join(text.split())[:90]!r}  item {inside[found.items[place]].question[:70]!r}"
        )


def peers(
    items: Sequence[Item], texts: list[str], clean: dict[str, list[str]], index: Index, random: Random
) -> None:
    """Ours and the rules of others on the same documents: recall counts a planted document that is flagged at all."""
    few_planted = random.sample(texts, min(len(texts), 900))
    few_clean = [
        text for documents in clean.values() for text in random.sample(documents, min(len(documents), 150))
    ]
    rules: dict[str, Callable[[str], bool]] = {
        "13-gram, words by spaces": Grams(items, 13, by_spaces),
        "13-gram, Han character a word": Grams(items, 13, lambda text: tokens_of(text).tolist()),
    }
    try:
        rules["datatrove NGramsDecontFilter, 12-gram"] = datatrove_rule(items)
    except (ImportError, OSError, AttributeError) as error:
        print(f"\ndatatrove could not be run ({error})")
    print(f"\n{len(few_planted)} planted and {len(few_clean)} other documents, of each kind at most 150\n")
    row("rule", "recall", "precision", "MB/s (CPU)")
    row("---", "---:", "---:", "---:")
    size = sum(len(text.encode()) for text in (*few_planted, *few_clean)) / 1e6
    start = time.process_time()
    ours = [bool(got) for got in flagged(few_planted + few_clean, index)]
    report("haina", ours, len(few_planted), size / (time.process_time() - start))
    for name, rule in rules.items():
        start = time.process_time()
        got = [rule(text) for text in few_planted + few_clean]
        report(name, got, len(few_planted), size / (time.process_time() - start))


def report(name: str, got: Sequence[bool], planted: int, rate: float) -> None:
    """A rule's line of the table."""
    hits, wrong = sum(got[:planted]), sum(got[planted:])
    row(name, hits / planted, hits / max(1, hits + wrong), f"{rate:.1f}")


def speed(arguments: argparse.Namespace, index: Index, random: Random) -> None:
    """MB/s of CPU time over clean text, best of three rounds that alternate."""
    print("\n")
    row("text", "MB", "MB/s (CPU)", "MB/s (wall)")
    row("---", "---:", "---:", "---:")
    samples = {}
    for name in ("zh_wikipedia", "en_wikipedia", "zh_histories_modern", "zh_tang_poems", "zh_laws"):
        size, samples[name] = 0, []
        for text in texts_of(arguments.data / f"text/{name}.parquet", 10**6, random):
            samples[name].append(text)
            size += len(text.encode())
            if size > arguments.megabytes * 1e6:
                break
    rates: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(3):
        for name, texts in samples.items():
            size = sum(len(text.encode()) for text in texts) / 1e6
            wall, cpu = time.perf_counter(), time.process_time()
            find_contamination(texts, index)
            rates[name].append((size / (time.process_time() - cpu), size / (time.perf_counter() - wall)))
    for name, texts in samples.items():
        row(
            name,
            f"{sum(len(text.encode()) for text in texts) / 1e6:.1f}",
            *(f"{max(values):.1f}" for values in zip(*rates[name], strict=True)),
        )


def main() -> None:
    """Plant, search, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1] / "../shared/data")
    parser.add_argument("--manuals", type=Path, help="folder of HTML or text files")
    parser.add_argument("--plants", type=int, default=25, help="items of each benchmark and kind of change")
    parser.add_argument(
        "--half", choices=("tuned", "held-out"), default="held-out", help="of the evaluation files"
    )
    parser.add_argument("--megabytes", type=float, default=8, help="text of each file for the speed")
    parser.add_argument(
        "--errors", action="store_true", help="show items that were missed and documents wrongly flagged"
    )
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if not (arguments.data / "benchmarks").is_dir():
        print(f"{arguments.data}/benchmarks: not there; see ../shared/data/README.md", file=sys.stderr)
        raise SystemExit(2)
    random = Random(arguments.seed)
    items = read_benchmarks([arguments.data / f"benchmarks/{name}.zip" for name in NAMES]).items
    build_index(items[:50])  # compiles
    start = time.process_time()
    index = build_index(items)
    seconds = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.index"
        save_index(index, path)
        print(
            f"{len(items)} items, index built in {seconds:.1f} s of CPU, {path.stat().st_size / 1e6:.0f} MB, {len(index.too_short)} too short"
        )
        index = load_index(path)
        find_contamination(["warm up " * 99], index)
        speed(arguments, index, random)
        accuracy(arguments, items, index, random)


if __name__ == "__main__":
    main()
