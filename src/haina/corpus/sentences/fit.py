"""Train the sentence model: `python -m haina.corpus.sentences.fit --data ../shared/data --more manuals/documents`.

Comes in: clean documents (Parquet, column `text`) and the template grammars. Goes out: weights.npz. `--data` is the
folder of shared data: Wikipedia, laws, histories, poems, the dev and val splits of MMLU (MIT), GAOKAO-Bench
(Apache-2.0), and the main text of real pages and forum threads marked by hand (magic-html, Apache-2.0). `--more` is
what this leaves of Debian's manuals, read as clean text:

    haina sample sample/ --source debian
    haina curate sample/ --out manuals --set edit_sentences=false --set min_quality=0

1. Features of clean sentences and of generated items; softmax regression over them by stochastic gradient
   descent with AdaGrad steps (Duchi et al. 2011), weights rounded to int8. Clean sentences lose a random share
   of their features, up to nearly all, and short pieces of them count as clean too: so what the model has never
   seen is clean to it.
2. Four models, each without a fourth of the templates and of the documents, measure the documents left out with
   items of the templates left out planted in them: so the logistic regression over the context learns how far a
   margin can be trusted on what the first step never saw (stacking, Wolpert 1992).
3. The threshold: the score of the best F1 by sentence on those documents, as long as at most `MEAN_LOST` of the
   clean bytes fall on average over the kinds of text, and `WORST_LOST` of no kind; the pages kept apart count too.

A fifth of the documents, by a hash of their name (`is_kept_apart`), is never taught: benchmarks/sentences.py
measures on those. `--cross` trains on one author's items and reports what it finds of the others'.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import random
import re
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numba as nb
import numpy as np
import numpy.typing as npt
import yaml

from haina.corpus.language import identify_language
from haina.corpus.sentences.generate import AUTHORS, FOLDS, Item, generate
from haina.corpus.sentences.model import CLASSES, CONTEXT, REASONS, WIDTH, SentenceModel
from haina.corpus.sentences.split import split_sentences
from haina.corpus.sentences.units import BITS, LIMIT, MOST_FEATURES, R_OTHER, fold_tables, sentence_features
from haina.corpus.utf8 import pack

MEAN_LOST, WORST_LOST = 0.005, 0.015
# Documents of each kind drawn, as a share of `count`.
SOURCES = {
    "zh": {"zh_wikipedia": 0.55, "zh_laws": 0.12, "zh_histories_modern": 0.18, "zh_tang_poems": 0.1},
    "en": {"en_wikipedia": 0.9},
}
# How much a sentence of a kind counts: real pages are few, and the only ones of people talking.
COUNTS = {"forum": 15.0, "article": 8.0, "exam": 2.0, "manual": 1.5}
# Lines of the hand-marked main text that are furniture all the same, or markup shown as code, which looks like markup
# left over: they are not taught as clean.
_FURNITURE = re.compile(
    r"(advertis|sponsored by|promoted|visit advertiser|continue reading|view (post|gallery|more)|go to page|"
    r"trending|read more|menu|loading|get the app|more videos|sign up|copy link|ad feedback|get the look|"
    r"get help online|got a tip|to learn more, see|want even more|see also|originally posted|credit:|last edited|"
    r"download|more\b|english|you must be|was this worth|your response is private|error 0|fullscreen|compare our|"
    r"while supplies last|shipping charges).{0,60}$"
    r"|.{0,30}\b(ago|ago in|posted .* ago in)$|.{0,40}\|\s*\d+:\d\d [ap]m$|\d{4} at \d+: ?\d\d$|\(?photo by"
    r"|<\s?/?\s?\w.{0,80}$|[\d+.,kK]+$|\d\d:\d\d$|.*(getty images|/getty|sign up here|consumer forum)\W*$"
    r"|[\[【（(]?\s*(责任?编辑?|责编|编辑|广告|关键字|¥|查看 ?\d+|返回|点击进入|图片来源|转载|教程交流|作者：|总监制|"
    r"淘宝|去购买|文丨|总台|本作品采用|《CC).{0,40}$|.*转载必须|（完）$|\W*\[?\s*编辑\s*\]?$",
    re.IGNORECASE,
)
_OFFERS = ("www.speakoutwireless.ca",)  # hosts whose hand-marked text is an advertisement as a whole
_STOPS = "。！？.!?…~”"
_LONGEST = 6000  # characters of a document used
_STEPS = 63  # of a weight to each side of zero: a bit less than int8 keeps weights.npz below 1 MB
_PIECES = 0.3  # of the clean sentences also give a piece


@dataclass(frozen=True)
class Clean:
    """A clean document: its kind (`wikipedia`, `forum`, ...), and the name that says on which side it falls."""

    kind: str
    name: str
    text: str


@dataclass(frozen=True)
class Examples:
    """Features of sentences: int32 [all], int64 [sentences + 1], classes int8, weights float32."""

    features: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int8]
    weights: npt.NDArray[np.float32]


def features_of(texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
    """Buckets of each text, taken as one sentence: int32 arrays."""
    table, role_table = fold_tables()
    buffer, about = np.empty(MOST_FEATURES, dtype=np.int32), np.zeros(2, dtype=np.uint64)
    found = []
    for text in texts:
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        inside = codes < LIMIT
        safe = np.minimum(codes, LIMIT - 1)
        folded = np.where(inside, table[safe], np.uint32(0xFFFD)).astype(np.uint32)
        roles = np.where(inside, role_table[safe], np.uint8(R_OTHER)).astype(np.uint8)
        count = sentence_features(folded, roles, 0, len(codes), buffer, about)
        found.append(buffer[:count].copy())
    return found


def sentences_of(text: str) -> list[str]:
    """The sentences of a text as strings."""
    return [text[sentence.start : sentence.end] for sentence in split_sentences(text)]


def examples(clean: Iterable[Clean], items: Sequence[Item], hard: Sequence[str]) -> Examples:
    """Clean sentences and lines, items whole and by sentence, and hard clean sentences, which count more."""
    texts: list[str] = []
    classes: list[int] = []
    weights: list[float] = []

    def add(text: str, kind: int, weight: float) -> None:
        texts.append(text)
        classes.append(kind)
        weights.append(weight)

    rng = random.Random(0)
    for document in clean:
        counts = COUNTS.get(document.kind, 1.0)
        for sentence in sentences_of(document.text):
            add(sentence, 0, counts)
            if rng.random() < _PIECES and len(sentence) > 1:
                low = rng.randrange(len(sentence))
                add(sentence[low : low + rng.randint(1, 24)], 0, 0.5 * min(counts, 2.0))
    for sentence in hard:
        add(sentence, 0, 60.0)
    for item in items:
        kind = 1 + REASONS.index(item.reason)
        parts = sentences_of(item.text)
        add(item.text, kind, 1.0)
        if len(parts) > 1:
            for part in parts:
                add(part, kind, 0.5)
    found = features_of(texts)
    offsets = np.zeros(len(found) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in found], out=offsets[1:])
    return Examples(
        np.concatenate(found), offsets, np.array(classes, dtype=np.int8), np.array(weights, dtype=np.float32)
    )


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _descend(
    features: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int8],
    sample: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
    table: npt.NDArray[np.float32],
    squares: npt.NDArray[np.float32],
    biases: npt.NDArray[np.float64],
    rate: float,
    shrink: float,
    dropout: float,
    seed: int,
) -> float:
    """One epoch; the mean loss."""
    logits = np.zeros(CLASSES)
    kept = np.empty(MOST_FEATURES, dtype=np.int32)
    loss = 0.0
    np.random.seed(seed)
    for row in order:
        count = 0
        left_out = dropout if classes[row] else np.random.random() * 0.9
        for place in range(offsets[row], offsets[row + 1]):
            if np.random.random() >= left_out:
                kept[count] = features[place]
                count += 1
        root = 1.0 / np.sqrt(max(count, 1))
        logits[:] = biases
        for place in range(count):
            for column in range(CLASSES):
                logits[column] += root * table[kept[place], column]
        logits -= logits.max()
        chances = np.exp(logits)
        chances /= chances.sum()
        loss -= sample[row] * np.log(max(chances[classes[row]], 1e-9))
        for column in range(CLASSES):
            slope = sample[row] * (chances[column] - (1.0 if column == classes[row] else 0.0))
            biases[column] -= 0.001 * slope
            if abs(slope) < 1e-4:
                continue
            for place in range(count):
                bucket = kept[place]
                gradient = slope * root + shrink * table[bucket, column]
                squares[bucket, column] += gradient * gradient
                table[bucket, column] -= rate * gradient / np.sqrt(squares[bucket, column])
    return loss / len(order)


def fit_units(data: Examples, *, epochs: int = 5, seed: int = 0) -> SentenceModel:
    """The first step; its context part passes the margin through."""
    table = np.zeros((1 << BITS, CLASSES), dtype=np.float32)
    squares = np.full((1 << BITS, CLASSES), 0.05, dtype=np.float32)
    biases = np.zeros(CLASSES)
    weights = data.weights.copy()
    bad = data.classes > 0
    # Both sides weigh the same; rare reasons are lifted by the root of their rarity.
    for kind in range(1, CLASSES):
        chosen = data.classes == kind
        if chosen.any():
            weights[chosen] *= np.sqrt(bad.sum() / chosen.sum() / len(REASONS))
    weights[bad] *= 0.5 * weights[~bad].sum() / weights[bad].sum()
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(data.classes))
        loss = _descend(
            data.features, data.offsets, data.classes, weights, order, table, squares, biases,
            0.3 / (1 + 0.5 * epoch), 1e-6, 0.35, seed + epoch,
        )  # fmt: skip
        print(f"  epoch {epoch}: loss {loss:.4f}", flush=True)
    limits = np.maximum(np.quantile(np.abs(table), 0.9998, axis=0), 1e-6)
    packed = np.zeros((1 << BITS, WIDTH), dtype=np.int8)
    packed[:, :CLASSES] = np.clip(np.rint(table / (limits / _STEPS)), -_STEPS, _STEPS).astype(np.int8)
    passing = np.zeros(len(CONTEXT) + 1)
    passing[0] = 1.0
    return SentenceModel(packed, limits.astype(np.float64) / _STEPS, biases, passing, 0.5)


def plant(
    text: str, items: Sequence[Item], rng: random.Random, language: str
) -> tuple[str, list[tuple[int, int]]]:
    """A text with items in it, and where they stand in its UTF-8.

    Half of the items become lines, at the end more often than elsewhere; the others sentences inside a line.
    """
    lines = text.split("\n")
    marked: list[list[tuple[str, bool]]] = []
    for line in lines:
        marked.append([(sentence, False) for sentence in _pieces(line)])
    for item in items:
        long = [
            index
            for index, pieces in enumerate(marked)
            if len(pieces) > 1 and all(piece.rstrip()[-1:] in _STOPS for piece, _ in pieces)
        ]
        if rng.random() < 0.5 or not long:
            place = len(marked) if rng.random() < 0.15 else rng.randint(0, len(marked))
            marked.insert(place, [(item.text, True)])
        else:
            pieces = marked[rng.choice(long)]
            ended = item.text if item.text[-1] in _STOPS else item.text + ("。" if language == "zh" else ".")
            gap = " " if language == "en" else ""
            place = rng.randint(1, len(pieces))
            if place == len(pieces) and gap:
                pieces.insert(place, (gap + ended, True))
            else:
                pieces.insert(place, (ended + gap, True))
    raw, spans = bytearray(), []
    for number, pieces in enumerate(marked):
        if number:
            raw += b"\n"
        for piece, bad in pieces:
            start = len(raw)
            raw += piece.encode()
            if bad:
                spans.append((start, len(raw)))
    return raw.decode(), spans


def _pieces(line: str) -> list[str]:
    """A line cut where its sentences begin, nothing left out."""
    cuts = [sentence.start for sentence in split_sentences(line)]
    cuts = [0, *cuts[1:], len(line)] if cuts else [0, len(line)]
    return [line[low:high] for low, high in itertools.pairwise(cuts)]


@dataclass(frozen=True)
class Rows:
    """Sentences of planted documents: context float32 [n, len(CONTEXT)], whether bad bool [n], bytes int64 [n], and the
    kind of their document, int64 [n]."""

    context: npt.NDArray[np.float32]
    bad: npt.NDArray[np.bool_]
    sizes: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int64]


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows one after the other."""
    return Rows(
        np.concatenate([part.context for part in parts]),
        np.concatenate([part.bad for part in parts]),
        np.concatenate([part.sizes for part in parts]),
        np.concatenate([part.kinds for part in parts]),
    )


def planted_rows(
    model: SentenceModel,
    clean: Sequence[Clean],
    items: Sequence[Item],
    language: str,
    kinds: Sequence[str],
    seed: int,
) -> Rows:
    """Plant 0 to 3 items in each document, and measure its sentences; one that lies mostly in an item is bad."""
    rng = random.Random(seed)
    supply = iter(items)
    texts, spans = [], []
    for document in clean:
        chosen = list(itertools.islice(supply, rng.choice([0, 0, 1, 2, 3])))
        planted, marks = plant(document.text, chosen, rng, language)
        texts.append(planted)
        spans.append(marks)
    data, offsets = pack(texts)
    bad = np.zeros(len(data) + 1, dtype=np.int64)
    for base, marks in zip(offsets, spans, strict=False):
        for low, high in marks:
            bad[base + low : base + high] = 1
    total = np.concatenate([[0], np.cumsum(bad)])
    found = model.measure(data, offsets)
    starts, ends = found.at[found.starts].astype(np.int64), found.at[found.ends].astype(np.int64)
    share = (total[ends] - total[starts]) / np.maximum(ends - starts, 1)
    numbers = np.array([kinds.index(document.kind) for document in clean], dtype=np.int64)
    return Rows(found.context, share > 0.5, ends - starts, np.repeat(numbers, np.diff(found.bounds)))


def fit_context(rows: Rows, weights_of_rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Logistic regression by Newton's method: float64 [len(CONTEXT) + 1]."""
    design = np.concatenate([rows.context.astype(np.float64), np.ones((len(rows.context), 1))], axis=1)
    weights = np.zeros(design.shape[1])
    ridge = np.full(len(weights), 1.0)
    ridge[-1] = 1e-3
    for _ in range(30):
        chances = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (weights_of_rows * (chances - rows.bad)) + ridge * weights
        curve = (design * (weights_of_rows * chances * (1 - chances))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curve, gradient)
        weights -= step
        if np.abs(step).max() < 1e-6:
            break
    return weights


def choose_threshold(scores: npt.NDArray[np.float64], rows: Rows, kinds: Sequence[str]) -> float:
    """The score of the best F1 by sentence within the losses allowed; prints what each kind loses there."""
    order = np.argsort(-scores)
    right = np.cumsum(rows.bad[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + rows.bad.sum())
    clean = np.where(rows.bad, 0, rows.sizes)
    lost = np.stack(
        [
            np.cumsum(np.where(rows.kinds[order] == kind, clean[order], 0))
            / max(clean[rows.kinds == kind].sum(), 1)
            for kind in range(len(kinds))
        ]
    )
    allowed = (lost.mean(axis=0) <= MEAN_LOST) & (lost.max(axis=0) <= WORST_LOST)
    place = int(np.argmax(np.where(allowed, f1, 0)))
    print(
        f"templates never seen, by sentence: recall {right[place] / rows.bad.sum():.3f}, "
        f"precision {right[place] / (place + 1):.3f}, F1 {f1[place]:.3f} (best at any loss {f1.max():.3f}); "
        f"threshold {scores[order[place]]:.3f}; lost: "
        + ", ".join(f"{kind} {100 * share:.2f} %" for kind, share in zip(kinds, lost[:, place], strict=True))
    )
    return float(scores[order[place]])


def is_kept_apart(name: str) -> bool:
    """Whether a document is kept for benchmarks: a fifth of them, by a hash of its id, file or host."""
    return zlib.crc32(name.encode()) % 5 == 0


def _fold(name: str) -> int:
    return zlib.crc32(name.encode()) // 5 % FOLDS


def documents(folder: Path, language: str, count: int, seed: int) -> list[Clean]:
    """Clean documents of a language, drawn from its sources; the first `_LONGEST` characters of each."""
    import pyarrow.parquet as pq

    chosen: list[Clean] = []
    rng = random.Random(f"{language}-{seed}")
    for source, share in SOURCES[language].items():
        table = pq.read_table(folder / "text" / f"{source}.parquet", columns=["id", "title", "text"])
        names = table["id"].to_pylist()
        free = [place for place, name in enumerate(names) if not is_kept_apart(str(name))]
        places = rng.sample(free, min(len(free), int(count * share)))
        kind = source.removeprefix(f"{language}_")
        for place in sorted(places):
            chosen.append(Clean(kind, str(names[place]), table["text"][place].as_py()[:_LONGEST]))
        if source.endswith("wikipedia"):
            # Names by themselves: short lines that are nothing but words unknown to the model.
            titles = table["title"].take(rng.sample(free, min(len(free), 2 * count))).to_pylist()
            chosen += [
                Clean(kind, f"titles-{place}", "\n".join(titles[place : place + 10]))
                for place in range(0, len(titles), 10)
            ]
    return chosen


def questions(folder: Path, language: str) -> list[Clean]:
    """Questions and passages as far as they are prose: GAOKAO-Bench, and for English MMLU's dev and val splits."""
    found: list[Clean] = []
    with zipfile.ZipFile(folder / "benchmarks" / "gaokao_bench.zip") as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json") and ("English" in name) == (language == "en"):
                rows = json.loads(archive.read(name).decode("utf-8"))["example"]
                found += [Clean("exam", Path(name).stem, row["question"][:_LONGEST]) for row in rows]
    if language == "en":
        with zipfile.ZipFile(folder / "benchmarks" / "mmlu.zip") as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".csv") and {"dev", "val"} & set(Path(name).parts):
                    read = csv.reader(io.StringIO(archive.read(name).decode("utf-8-sig")))
                    found += [Clean("exam", Path(name).stem, "\n".join(row[:-1])) for row in read]
    return found


def pages(folder: Path, language: str) -> list[Clean]:
    """Main text of real pages, marked by hand, without lines that are furniture all the same."""
    import pyarrow.parquet as pq

    found: list[Clean] = []
    for kind in ("article", "forum"):
        table = pq.read_table(folder / "web" / f"magic_html_{kind}.parquet", columns=["url", "gold"])
        for url, gold in zip(table["url"].to_pylist(), table["gold"].to_pylist(), strict=True):
            own = identify_language(gold or "").language
            host = urlsplit(url or "").netloc
            if (own == language or own.startswith(f"{language}-")) and host not in _OFFERS:
                lines = [line for line in gold.split("\n") if not _FURNITURE.match(line.strip())]
                found.append(Clean(kind, host, "\n".join(lines)[: 4 * _LONGEST]))
    return found


def manuals(folder: Path, language: str, count: int, seed: int) -> list[Clean]:
    """Documents that `haina curate` left in a folder."""
    import pyarrow.parquet as pq

    found: list[Clean] = []
    for path in sorted(folder.rglob("*.parquet")):
        table = pq.read_table(path, columns=["id", "lang", "text"])
        for name, own, text in zip(
            *(table[column].to_pylist() for column in ("id", "lang", "text")), strict=True
        ):
            if own == language or own.startswith(f"{language}-"):
                found.append(Clean("manual", str(name), text[:_LONGEST]))
    random.Random(seed).shuffle(found)
    return found[:count]


def clean_documents(
    folder: Path, more: Path | None, language: str, count: int, *, seed: int = 0, kept_apart: bool = False
) -> list[Clean]:
    """Clean documents of all kinds to learn from, or, `kept_apart`, the real pages and exams to measure on."""
    found = [*questions(folder, language), *pages(folder, language)]
    if more is not None:
        found += manuals(more, language, count // 6, seed)
    chosen = [document for document in found if is_kept_apart(document.name) == kept_apart]
    if not kept_apart:
        chosen += documents(folder, language, count, seed)
    random.Random(seed).shuffle(chosen)
    return chosen


def hard_sentences(language: str) -> list[str]:
    """The hand-written clean sentences."""
    data = yaml.safe_load(Path(__file__).with_name("clean.yaml").read_text(encoding="utf-8"))
    return list(data[language].splitlines())


def train(
    folder: Path,
    more: Path | None = None,
    *,
    count: int = 5500,
    seed: int = 0,
    authors: tuple[str, ...] = AUTHORS,
) -> SentenceModel:
    """Both steps on both languages."""
    clean = {language: clean_documents(folder, more, language, count, seed=seed) for language in ("zh", "en")}
    kinds = sorted({document.kind for texts in clean.values() for document in texts})
    hard = {language: hard_sentences(language) for language in clean}
    both = [sentence for sentences in hard.values() for sentence in sentences]
    found = []
    for fold in range(FOLDS):
        items = [
            item
            for language in clean
            for item in generate(language, 5 * count, seed + fold, fold=fold, authors=authors)
        ]
        texts = [document for own in clean.values() for document in own if _fold(document.name) != fold]
        print(f"fold {fold}: {len(items)} items, {len(texts)} documents", flush=True)
        kept = [sentence for number, sentence in enumerate(both) if number % FOLDS != fold]
        model = fit_units(examples(texts, items, kept), epochs=4, seed=seed)
        for language, own in clean.items():
            others = [document for document in own if _fold(document.name) == fold]
            planted = list(
                generate(language, 3 * len(others), seed + 7, fold=fold, held_out=True, authors=authors)
            )
            found.append(planted_rows(model, others, planted, language, kinds, seed + fold))
    rows = joined(found)
    counts = np.array([COUNTS.get(kind, 1.0) for kind in kinds])[rows.kinds]
    context = fit_context(rows, np.where(rows.bad, 1.0, counts))
    print(
        {name: round(float(value), 2) for name, value in zip((*CONTEXT, "intercept"), context, strict=True)}
    )
    items = [
        item for language in clean for item in generate(language, 6 * count, seed + 100, authors=authors)
    ]
    texts = [document for own in clean.values() for document in own]
    print(f"all: {len(items)} items, {len(texts)} documents", flush=True)
    final = fit_units(examples(texts, items, both), seed=seed)
    # Real pages are few: the threshold also sees those kept apart, measured by the model that has not.
    for language in clean:
        apart = clean_documents(folder, more, language, count, seed=seed, kept_apart=True)
        rows = joined([rows, planted_rows(final, apart, [], language, kinds, seed)])
    scores = 1 / (1 + np.exp(-(rows.context @ context[:-1] + context[-1])))
    threshold = choose_threshold(scores, rows, kinds)
    return SentenceModel(final.weights, final.scales, final.biases, context, threshold)


def cross(folder: Path, more: Path | None, count: int) -> None:
    """Print what a model that learnt from some authors takes out of the items of the others, one item a text."""
    from haina.corpus.sentences.edit import edit_documents

    for authors, others in (
        (("phrases", "pages"), "quality"),
        (("quality",), "phrases"),
        (("quality",), "pages"),
    ):
        model = train(folder, more, count=count, authors=authors)
        for language in ("zh", "en"):
            clean = clean_documents(folder, more, language, count, seed=1)[:600]
            items = list(generate(language, len(clean), 5, authors=(others,)))
            rng = random.Random(1)
            texts, marks = [], []
            for document, item in zip(clean, items, strict=True):
                text, spans = plant(document.text, [item], rng, language)
                texts.append(text)
                marks.append(spans[0])
            gone = 0
            for (low, high), edited in zip(marks, edit_documents(texts, model=model), strict=True):
                inside = sum(
                    max(0, min(high, edit.byte_end) - max(low, edit.byte_start)) for edit in edited.edits
                )
                gone += inside >= 0.7 * (high - low)
            print(
                f"learnt from {', '.join(authors)}: {language} items of {others}: recall {gone / len(items):.3f}"
            )


def main() -> None:
    """Train and write, or compare authors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--more", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("weights.npz"))
    parser.add_argument("--count", type=int, default=5500)
    parser.add_argument("--cross", action="store_true", help="report recall across authors; write nothing")
    arguments = parser.parse_args()
    if arguments.cross:
        cross(arguments.data, arguments.more, arguments.count)
        return
    model = train(arguments.data, arguments.more, count=arguments.count)
    model.save(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
