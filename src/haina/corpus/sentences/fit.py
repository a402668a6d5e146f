"""Train the sentence model: `python -m haina.corpus.sentences.fit --data ../shared/data`.

Comes in: clean documents (Parquet, column `text`) and the template grammars; `--more FOLDER` adds zh_*.parquet
and en_*.parquet of other kinds of clean text (manuals, for example). Goes out: weights.npz.

1. Features of clean sentences and of generated items; softmax regression over them by stochastic gradient
   descent with AdaGrad steps (Duchi et al. 2011), weights rounded to int8. Clean sentences lose a random share
   of their features, up to nearly all, and short pieces of them count as clean too: so what the model has never
   seen is clean to it.
2. Two models, each without half of the templates and half of the documents, measure documents with items of the
   other half planted in them: so the logistic regression over the context learns how far a margin can be
   trusted on what the first step never saw (stacking, Wolpert 1992).
3. The threshold: the lowest score at which at most `MOST_LOST` of the clean characters of those documents fall.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import random
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
from haina.corpus.sentences.generate import Item, generate
from haina.corpus.sentences.model import CLASSES, CONTEXT, REASONS, WIDTH, SentenceModel
from haina.corpus.sentences.split import split_sentences
from haina.corpus.sentences.units import BITS, LIMIT, MOST_FEATURES, R_OTHER, fold_tables, sentence_features
from haina.corpus.utf8 import pack

MOST_LOST = (
    0.0015  # of the clean characters: well below the 1 % that is allowed, since other domains lose more
)
SOURCES = {"zh": ("zh_wikipedia", "zh_laws", "zh_histories_modern", "zh_tang_poems"), "en": ("en_wikipedia",)}
_LONGEST = 6000  # characters of a document used
_PIECES = 0.3  # of the clean sentences also give a piece


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


def examples(clean: Iterable[str], items: Sequence[Item], hard: Sequence[str]) -> Examples:
    """Clean sentences and lines, items whole and by sentence, and hard clean sentences, which count more."""
    texts: list[str] = []
    classes: list[int] = []
    weights: list[float] = []

    def add(text: str, kind: int, weight: float) -> None:
        texts.append(text)
        classes.append(kind)
        weights.append(weight)

    rng = random.Random(0)
    for text in clean:
        for sentence in sentences_of(text):
            add(sentence, 0, 1.0)
            if rng.random() < _PIECES and len(sentence) > 1:
                low = rng.randrange(len(sentence))
                add(sentence[low : low + rng.randint(1, 24)], 0, 0.5)
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
            0.3 / (1 + 0.5 * epoch), 1e-6, 0.25, seed + epoch,
        )  # fmt: skip
        print(f"  epoch {epoch}: loss {loss:.4f}", flush=True)
    limits = np.maximum(np.quantile(np.abs(table), 0.9998, axis=0), 1e-6)
    packed = np.zeros((1 << BITS, WIDTH), dtype=np.int8)
    packed[:, :CLASSES] = np.clip(np.rint(table / (limits / 127)), -127, 127).astype(np.int8)
    passing = np.zeros(len(CONTEXT) + 1)
    passing[0] = 1.0
    return SentenceModel(packed, limits.astype(np.float64) / 127, biases, passing, 0.5)


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
        long = [index for index, pieces in enumerate(marked) if len(pieces) > 1 and not pieces[0][1]]
        if rng.random() < 0.5 or not long:
            place = len(marked) if rng.random() < 0.15 else rng.randint(0, len(marked))
            marked.insert(place, [(item.text, True)])
        else:
            pieces = marked[rng.choice(long)]
            ended = (
                item.text
                if item.text[-1] in "。！？.!?…"
                else item.text + ("。" if language == "zh" else ".")
            )
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


def planted_rows(
    model: SentenceModel, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Context rows, whether each sentence lies mostly in a planted span, and its bytes."""
    data, offsets = pack(texts)
    bad = np.zeros(len(data) + 1, dtype=np.int64)
    for base, marks in zip(offsets, spans, strict=False):
        for low, high in marks:
            bad[base + low : base + high] = 1
    total = np.concatenate([[0], np.cumsum(bad)])
    found = model.measure(data, offsets)
    starts, ends = found.at[found.starts].astype(np.int64), found.at[found.ends].astype(np.int64)
    share = (total[ends] - total[starts]) / np.maximum(ends - starts, 1)
    return found.context, share > 0.5, ends - starts


def fit_context(
    rows: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_], sizes: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], float]:
    """Logistic regression by Newton's method, and the threshold: float64 [len(CONTEXT) + 1]."""
    design = np.concatenate([rows.astype(np.float64), np.ones((len(rows), 1))], axis=1)
    weights = np.zeros(design.shape[1])
    ridge = np.full(len(weights), 1.0)
    ridge[-1] = 1e-3
    for _ in range(30):
        chances = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (chances - labels) + ridge * weights
        curve = (design * (chances * (1 - chances))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curve, gradient)
        weights -= step
        if np.abs(step).max() < 1e-6:
            break
    scores = 1 / (1 + np.exp(-np.clip(design @ weights, -50, 50)))
    order = np.argsort(-scores)
    clean = np.where(labels, 0, sizes)
    lost = np.cumsum(clean[order]) / max(clean.sum(), 1)
    inside = int(np.searchsorted(lost, MOST_LOST, side="right"))
    return weights, float(scores[order[min(inside, len(order) - 1)]])


def documents(folder: Path, language: str, count: int, seed: int) -> list[str]:
    """Clean documents of a language, drawn evenly from its sources; the first `_LONGEST` characters of each."""
    import pyarrow.parquet as pq

    chosen: list[str] = []
    rng = random.Random(f"{language}-{seed}")
    shares = {
        "zh_wikipedia": 0.55,
        "zh_laws": 0.15,
        "zh_histories_modern": 0.2,
        "zh_tang_poems": 0.1,
        "en_wikipedia": 1,
    }
    for name in SOURCES[language]:
        table = pq.read_table(folder / "text" / f"{name}.parquet", columns=["title", "text"])
        column = table["text"]
        places = rng.sample(range(len(column)), min(len(column), int(count * shares[name])))
        chosen += [column[place].as_py()[:_LONGEST] for place in sorted(places)]
        if name.endswith("wikipedia"):
            # Names by themselves: short lines that are nothing but words unknown to the model.
            names = table["title"].take(rng.sample(range(len(column)), 2 * count)).to_pylist()
            chosen += ["\n".join(names[place : place + 10]) for place in range(0, len(names), 10)]
    rng.shuffle(chosen)
    return chosen


def questions(folder: Path, language: str) -> dict[str, list[str]]:
    """Questions and passages by file: GAOKAO, CMMLU (zh) and MMLU (en) as far as they are prose."""
    found: dict[str, list[str]] = {}
    with zipfile.ZipFile(folder / "benchmarks" / "gaokao_bench.zip") as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json") and ("English" in name) == (language == "en"):
                rows = json.loads(archive.read(name).decode("utf-8"))["example"]
                found[f"gaokao/{Path(name).stem}"] = [row["question"][:_LONGEST] for row in rows]
    archive_name, inner = ("cmmlu", "test/") if language == "zh" else ("mmlu", "data/test/")
    with zipfile.ZipFile(folder / "benchmarks" / f"{archive_name}.zip") as archive:
        for name in sorted(archive.namelist()):
            if name.startswith(inner) and name.endswith(".csv"):
                rows_read = csv.reader(io.StringIO(archive.read(name).decode("utf-8-sig")))
                found[f"{archive_name}/{Path(name).stem}"] = ["\n".join(row[:-1]) for row in rows_read][:100]
    return found


def pages(folder: Path, language: str) -> dict[str, list[str]]:
    """Main text of real pages, marked by hand, by host; pages in another language are left out."""
    import pyarrow.parquet as pq

    found: dict[str, list[str]] = {}
    for kind in ("article", "forum"):
        table = pq.read_table(folder / "web" / f"magic_html_{kind}.parquet", columns=["url", "gold"])
        for url, gold in zip(table["url"].to_pylist(), table["gold"].to_pylist(), strict=True):
            own = identify_language(gold or "").language
            if own == language or own.startswith(f"{language}-"):
                found.setdefault(urlsplit(url or "").netloc, []).append(gold[: 3 * _LONGEST])
    return found


def is_held_out(name: str) -> bool:
    """Whether a file or host is kept from training: a third of them, by name."""
    return zlib.crc32(name.encode()) % 3 == 0


def other_kinds(folder: Path, more: Path | None, language: str, *, held_out: bool) -> dict[str, list[str]]:
    """Clean texts of other kinds by file or host: those trained on, or those never seen."""
    found = {**questions(folder, language), **pages(folder, language)}
    chosen = {name: texts for name, texts in found.items() if is_held_out(name) == held_out}
    if more is not None and not held_out:
        import pyarrow.parquet as pq

        for path in sorted(more.glob(f"{language}_*.parquet")):
            texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
            chosen[path.stem] = [text[:_LONGEST] for text in texts[:400]]
    return chosen


def hard_sentences(language: str) -> list[str]:
    """The hand-written clean sentences."""
    data = yaml.safe_load(Path(__file__).with_name("clean.yaml").read_text(encoding="utf-8"))
    return list(data[language].splitlines())


def train(folder: Path, more: Path | None = None, *, count: int = 8000, seed: int = 0) -> SentenceModel:
    """Both steps on both languages."""
    halves = []
    clean: dict[str, list[str]] = {}
    for language in ("zh", "en"):
        clean[language] = documents(folder, language, count, seed)
        kinds = other_kinds(folder, more, language, held_out=False)
        clean[language] += [text for texts in kinds.values() for text in texts]
        random.Random(seed).shuffle(clean[language])
    rng = random.Random(seed)
    hard = [sentence for language in clean for sentence in hard_sentences(language)]
    for part in (0, 1):
        items = [item for language in clean for item in generate(language, 20000, seed + part, half=part)]
        texts = [text for language in clean for text in clean[language][part::2]]
        print(f"half {part}: {len(items)} items, {len(texts)} documents")
        halves.append(fit_units(examples(texts, items, hard[part::2]), epochs=4, seed=seed))
    all_rows, all_labels, all_sizes = [], [], []
    for part in (0, 1):
        for language in clean:
            supply = iter(generate(language, 12000, seed + 7 + part, half=1 - part))
            texts, spans = [], []
            for text in clean[language][1 - part :: 2][:4000]:
                chosen = list(itertools.islice(supply, rng.choice([0, 0, 1, 2, 3])))
                planted, marks = plant(text, chosen, rng, language)
                texts.append(planted)
                spans.append(marks)
            rows, labels, sizes = planted_rows(halves[part], texts, spans)
            all_rows.append(rows)
            all_labels.append(labels)
            all_sizes.append(sizes)
    rows, labels, sizes = np.concatenate(all_rows), np.concatenate(all_labels), np.concatenate(all_sizes)
    context, threshold = fit_context(rows, labels, sizes)
    scores = 1 / (1 + np.exp(-(rows @ context[:-1] + context[-1])))
    found = scores >= threshold
    print(
        f"templates never seen: recall {labels[found].sum() / labels.sum():.3f}, precision "
        f"{labels[found].sum() / max(found.sum(), 1):.3f} by sentence; clean bytes lost "
        f"{sizes[found & ~labels].sum() / sizes[~labels].sum():.4f}; threshold {threshold:.3f}"
    )
    print(
        {name: round(float(value), 2) for name, value in zip((*CONTEXT, "intercept"), context, strict=True)}
    )
    items = [item for language in clean for item in generate(language, 40000, seed + 100)]
    texts = [text for language in clean for text in clean[language]]
    print(f"all: {len(items)} items, {len(texts)} documents")
    final = fit_units(examples(texts, items, hard), seed=seed)
    return SentenceModel(final.weights, final.scales, final.biases, context, threshold)


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--more", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("weights.npz"))
    parser.add_argument("--count", type=int, default=8000)
    arguments = parser.parse_args()
    model = train(arguments.data, arguments.more, count=arguments.count)
    model.save(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
