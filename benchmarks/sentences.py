"""Claim: planted boilerplate, advertisements and spam go with F1 >= 0.95, at <= 1 % of the clean characters lost.

1. Splitting: sentence ends in benchmarks/data/sentences_{zh,en}.txt (gold, by hand): precision, recall and F1 of
   the inner boundaries, beside pysbd and NLTK's Punkt (trained here on the clean documents).
2. Editing: items of benchmarks/data/planted_{zh,en}.txt (kind, tab, item) go into clean documents of the data
   folder, as lines and as sentences inside paragraphs. Printed by language and kind: items removed (at least 70 % of
   their bytes), precision, recall and F1 by item and by character, clean characters lost there and in documents with
   nothing planted, and by kind in articles, forum threads, exams and (`--more`) manuals. The model has seen none of
   these documents: fit.py leaves out a fifth by a hash of their names. Baseline: the line rules of datatrove's C4
   filter (drop lines without terminal punctuation, of fewer than three words, with `javascript` or policy phrases),
   its document rules off; they see lines only and know no Chinese marks.
3. Speed: MB/s on one core over the planted documents, ours and the baseline interleaved.

Run: python benchmarks/sentences.py [--data ../shared/data] [--documents 1500] [--items DIR] [--rounds 5]
Another folder given to --items holds planted_zh.txt, planted_en.txt and, if it likes, sentences_*.txt of the same form.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import platform
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from haina.corpus.sentences import edit_documents, split_sentences
from haina.corpus.sentences.fit import clean_documents, is_kept_apart

SOURCES = {
    "zh": ("zh_wikipedia", "zh_laws", "zh_histories_modern", "zh_tang_poems"),
    "en": ("en_wikipedia",),
}
LONGEST = 8000  # characters of a document used
SHORTEST = 200
REMOVED = 0.7  # of an item's bytes: it counts as found
Items = list[tuple[str, str]]


def lines_of(path: Path) -> list[str]:
    """Lines that are neither empty nor comments."""
    return [
        line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]


# --------------------------------------------------------------------------- splitting


def boundaries(found: Sequence[str], text: str) -> set[int]:
    """Where sentences after the first begin, blanks skipped, from the sentences in order."""
    starts, place = set(), 0
    for sentence in found:
        at = text.find(sentence.strip(), place)
        if at < 0:
            continue
        starts.add(at)
        place = at + len(sentence.strip())
    return starts - {0}


def splitters(language: str, texts: Sequence[str]) -> dict[str, Callable[[str], list[str]]]:
    """By name: text to sentences."""
    found: dict[str, Callable[[str], list[str]]] = {
        "haina": lambda text: [text[s.start : s.end] for s in split_sentences(text)]
    }
    try:
        import pysbd

        segmenter = pysbd.Segmenter(language=language, clean=False)
        found["pysbd"] = segmenter.segment
    except ImportError:
        print("  pysbd: not installed, left out (pip install pysbd)")
    try:
        from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTrainer

        trainer = PunktTrainer()
        trainer.train("\n".join(texts[:300]), finalize=True)
        found["punkt"] = PunktSentenceTokenizer(trainer.get_params()).tokenize
    except ImportError:
        print("  nltk: not installed, left out (pip install nltk)")
    return found


def compare_splitters(folder: Path, language: str, texts: Sequence[str]) -> None:
    """Print precision, recall, F1 of inner boundaries, and speed on documents."""
    gold = [line.split("‖") for line in lines_of(folder / f"sentences_{language}.txt")]
    sample = texts[:60]
    size = sum(len(text.encode()) for text in sample) / 1e6
    for name, split in splitters(language, texts).items():
        right = wrong = missed = 0
        for parts in gold:
            text = "".join(parts)
            expected = boundaries(parts, text)
            got = boundaries(split(text), text)
            right, wrong, missed = (
                right + len(expected & got),
                wrong + len(got - expected),
                missed + len(expected - got),
            )
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            for text in sample:
                split(text)
            seconds.append(time.perf_counter() - start)
        precision, recall = right / max(right + wrong, 1), right / max(right + missed, 1)
        print(
            f"  {language} {name:6s} precision {precision:.3f} recall {recall:.3f} "
            f"F1 {2 * precision * recall / max(precision + recall, 1e-9):.3f} "
            f"({sum(map(len, gold))} sentences), {size / statistics.median(seconds):.2f} MB/s"
        )


# --------------------------------------------------------------------------- planting


def pieces(line: str) -> list[str]:
    """A line cut where its sentences begin, nothing left out."""
    cuts = [sentence.start for sentence in split_sentences(line)]
    cuts = [0, *cuts[1:], len(line)] if cuts else [0, len(line)]
    return [line[low:high] for low, high in itertools.pairwise(cuts)]


def plant(
    text: str, items: Items, rng: random.Random, language: str
) -> tuple[str, list[tuple[int, int, str]], list[str]]:
    """The text with items in it; spans of its UTF-8 with their kind, and `line` or `sentence` for each."""
    marked: list[list[tuple[str, str, str]]] = [
        [(piece, "", "") for piece in pieces(line)] for line in text.split("\n")
    ]
    for kind, item in items:
        paragraphs = [row for row in marked if len(row) > 1]
        if rng.random() < 0.5 or not paragraphs:
            marked.insert(rng.randint(0, len(marked)), [(item, kind, "line")])
            continue
        row = rng.choice(paragraphs)
        sentence = item if item[-1] in "。！？.!?…~" else item + ("。" if language == "zh" else ".")
        place = rng.randint(1, len(row))
        gap = " " if language == "en" else ""
        row.insert(place, ((gap + sentence) if place == len(row) else (sentence + gap), kind, "sentence"))
    raw, spans, forms = bytearray(), [], []
    for number, row in enumerate(marked):
        raw += b"\n" if number else b""
        for piece, kind, form in row:
            start = len(raw)
            raw += piece.encode()
            if kind:
                spans.append((start, len(raw), kind))
                forms.append(form)
    return raw.decode(), spans, forms


# --------------------------------------------------------------------------- editing

Removals = list[tuple[int, int]]


def ours(texts: Sequence[str], language: str) -> list[Removals]:
    """Byte spans that haina takes out."""
    return [
        [(edit.byte_start, edit.byte_end) for edit in edited.edits]
        for edited in edit_documents(texts, [language] * len(texts))
    ]


def c4(texts: Sequence[str]) -> list[Removals]:
    """Byte spans of the lines that datatrove's C4 filter leaves out."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter

    rules = C4QualityFilter(
        remove_citations=False,
        filter_lorem_ipsum=False,
        filter_curly_bracket=False,
        min_num_sentences=-1,
    )
    results = []
    for number, text in enumerate(texts):
        document = Document(text=text, id=str(number))
        rules.filter(document)
        kept = Counter(document.text.split("\n"))
        removals, place = [], 0
        for line in text.split("\n"):
            size = len(line.encode())
            if line.strip() and kept[line.strip()] == 0:
                removals.append((place, place + size))
            elif line.strip():
                kept[line.strip()] -= 1
            place += size + 1
        results.append(removals)
    return results


def judge(
    name: str, texts: Sequence[str], spans: Sequence[list[tuple[int, int, str]]], forms: Sequence[list[str]],
    removals: Sequence[Removals],
) -> None:  # fmt: skip
    """Print what was found and lost."""
    by_kind: Counter[tuple[str, bool]] = Counter()
    by_form: Counter[tuple[str, bool]] = Counter()
    false_spans = planted = taken = clean_lost = clean = 0
    for text, marks, shapes, gone in zip(texts, spans, forms, removals, strict=True):
        raw = text.encode()
        bad, out = bytearray(len(raw)), bytearray(len(raw))
        for low, high, _ in marks:
            bad[low:high] = b"\1" * (high - low)
        for low, high in gone:
            out[low:high] = b"\1" * (high - low)
            inside = sum(bad[low:high])
            false_spans += 2 * inside < high - low and bool(raw[low:high].strip())
        for (low, high, kind), shape in zip(marks, shapes, strict=True):
            found = sum(out[low:high]) >= REMOVED * (high - low)
            by_kind[kind, found] += 1
            by_form[shape, found] += 1
        # Characters: bytes that begin one, blanks left out.
        for byte, is_bad, is_out in zip(raw, bad, out, strict=True):
            if byte & 0xC0 == 0x80 or byte <= 0x20:
                continue
            planted += is_bad
            taken += is_bad and is_out
            clean += not is_bad
            clean_lost += (not is_bad) and is_out
    found_items = sum(count for (_, found), count in by_kind.items() if found)
    total = sum(by_kind.values())
    if not total:
        print(f"  {name}: nothing planted: clean characters lost {100 * clean_lost / max(clean, 1):.3f} %")
        return

    def line(kind: str, right: int, wrong: int, all_: int) -> str:
        precision, recall = right / max(right + wrong, 1), right / max(all_, 1)
        both = 2 * precision * recall / max(precision + recall, 1e-9)
        return f"by {kind}: precision {precision:.3f} recall {recall:.3f} F1 {both:.3f}"

    print(
        f"  {name}: {line('item', found_items, false_spans, total)}; {line('character', taken, clean_lost, planted)}"
    )
    print(
        f"    clean characters lost {100 * clean_lost / max(clean, 1):.3f} % ({clean} clean, {planted} planted)"
    )
    for label, counts in (("as", by_form), ("kind", by_kind)):
        names = sorted({key for key, _ in counts})
        shares = (
            f"{key} {counts[key, True] / (counts[key, True] + counts[key, False]):.2f}" for key in names
        )
        print(f"    recall {label}: {', '.join(shares)}")


def documents(folder: Path, language: str, count: int, seed: int) -> list[str]:
    """Clean documents that the model was not trained on, evenly from the sources of a language."""
    rng = random.Random(seed)
    chosen = []
    for name in SOURCES[language]:
        table = pq.read_table(folder / "text" / f"{name}.parquet", columns=["id", "text"])
        column = table["text"]
        apart = [place for place, key in enumerate(table["id"].to_pylist()) if is_kept_apart(str(key))]
        each = count // len(SOURCES[language])
        for place in rng.sample(apart, len(apart)):
            text = column[place].as_py()
            if len(text) >= (SHORTEST if "poems" not in name else 40):
                chosen.append(text[:LONGEST])
                each -= 1
            if not each:
                break
    rng.shuffle(chosen)
    return chosen


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--items", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--more", type=Path, help="documents of `haina curate`: Debian's manuals, see fit.py")
    parser.add_argument("--documents", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=20261124)
    arguments = parser.parse_args()
    if not (arguments.data / "text").is_dir():
        print(f"{arguments.data}: no folder `text` with clean documents; give --data", file=sys.stderr)
        return 2
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("datatrove", "nltk", "pysbd", "numba", "numpy")
        if any(item.metadata["Name"] == name for item in importlib.metadata.distributions())
    ]
    print(f"Python {platform.python_version()}, {', '.join(versions)}, one core")
    for language in ("zh", "en"):
        texts = documents(arguments.data, language, arguments.documents, arguments.seed)
        print(f"{language}: {len(texts)} documents, {sum(len(text.encode()) for text in texts) / 1e6:.1f} MB")
        gold = (
            arguments.items
            if (arguments.items / f"sentences_{language}.txt").is_file()
            else Path(__file__).parent / "data"
        )
        compare_splitters(gold, language, texts)
        items: Items = []
        for row in lines_of(arguments.items / f"planted_{language}.txt"):
            kind, _, item = row.partition("\t")
            items.append((kind, item))
        rng = random.Random(arguments.seed)
        planted, spans, forms = [], [], []
        for text in texts:
            one, marks, shapes = plant(text, rng.sample(items, rng.randint(1, 4)), rng, language)
            planted.append(one)
            spans.append(marks)
            forms.append(shapes)
        judge("haina", planted, spans, forms, ours(planted, language))
        judge("haina", texts, [[]] * len(texts), [[]] * len(texts), ours(texts, language))
        kinds: dict[str, list[str]] = {}
        for document in clean_documents(arguments.data, arguments.more, language, 6000, kept_apart=True):
            kinds.setdefault(document.kind, []).append(document.text)
        for kind, own in sorted(kinds.items()):
            judge(
                f"haina, {len(own)} of kind {kind}",
                own,
                [[]] * len(own),
                [[]] * len(own),
                ours(own, language),
            )
        judge("datatrove C4", planted, spans, forms, c4(planted))
        size = sum(len(text.encode()) for text in planted) / 1e6
        times: dict[str, list[float]] = {"haina": [], "datatrove C4": []}
        for _ in range(arguments.rounds):
            for name, took in times.items():
                start = time.perf_counter()
                if name == "haina":
                    ours(planted, language)
                else:
                    c4(planted)
                took.append(size / (time.perf_counter() - start))
        medians = {name: statistics.median(values) for name, values in times.items()}
        for name, values in times.items():
            print(
                f"  {name}: {medians[name]:.1f} MB/s ({min(values):.1f} to {max(values):.1f}, {len(values)} rounds)"
            )
        print(f"  ratio {medians['haina'] / medians['datatrove C4']:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
