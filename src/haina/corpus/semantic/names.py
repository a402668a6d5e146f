"""What the clusters hold, for reading: sizes, terms and examples of each topic and cluster.

Comes in: the parts and their cluster tables. Goes out: the content of `topics.json`. Terms are counted in a bounded
sample of each cluster's documents, duplicates left out; examples are the documents nearest to the centroid.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq

from haina.corpus.semantic.tables import APART, heading, id_hash, read_rows
from haina.corpus.semantic.terms import LANGUAGES, best_terms, terms_of
from haina.runtime.files import read_json

EXAMPLES = 3
_TERMS = 6
_CLUSTER_SAMPLE = 60
_CLUSTER_SAMPLE_LEAST = 8
_ALL_SAMPLES = 30_000
# A language is shown when this share of a cluster's documents is in it.
_LANGUAGE_SHARE = 0.1


@dataclass(frozen=True)
class Sizes:
    """Attributes:
    topic_of: int64 [clusters]. documents, duplicates: int64 [clusters].
    apart: documents that stand apart.
    """

    topic_of: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    duplicates: npt.NDArray[np.int64]
    apart: int


def count_sizes(tables: Sequence[Path], starts: npt.NDArray[np.int64]) -> Sizes:
    """Documents and duplicates of each cluster; `starts` [topics + 1] is where each topic's clusters begin."""
    clusters = int(starts[-1])
    documents = np.zeros(clusters, dtype=np.int64)
    duplicates = np.zeros(clusters, dtype=np.int64)
    apart = 0
    for path in tables:
        table = pq.read_table(path, columns=["cluster", "duplicate_of"])
        cluster = table.column("cluster").to_numpy()
        living = cluster != APART
        removed = pc.is_valid(table.column("duplicate_of")).to_numpy()
        documents += np.bincount(cluster[living], minlength=clusters)
        duplicates += np.bincount(cluster[living & removed], minlength=clusters)
        apart += int((~living).sum())
    return Sizes(np.repeat(np.arange(len(starts) - 1), np.diff(starts)), documents, duplicates, apart)


@dataclass(frozen=True)
class Counting:
    """A part, its cluster table, and a NumPy file of how many documents of each cluster stay."""

    part: Path
    table: Path
    kept: Path


def count_terms(item: Counting, output: Path) -> None:
    """Task: documents that hold each term, by cluster, in a part's share of the samples; and the best examples."""
    kept = np.load(item.kept)
    wanted = np.clip(_ALL_SAMPLES // max(len(kept), 1), _CLUSTER_SAMPLE_LEAST, _CLUSTER_SAMPLE)
    share = wanted / np.maximum(kept, 1)
    table = pq.read_table(item.table)
    cluster = table.column("cluster").to_numpy()
    distance = table.column("distance").to_numpy()
    stays = (cluster != APART) & pc.is_null(table.column("duplicate_of")).to_numpy()
    examples: dict[int, list[tuple[float, str, str]]] = {}
    documents: Counter[tuple[int, str]] = Counter()
    counts: Counter[tuple[int, str, str]] = Counter()
    first = 0
    for rows in read_rows(item.part):
        texts, of = [], []
        for row, (name, text, title) in enumerate(zip(rows["id"], rows["text"], rows["title"], strict=True)):
            at = first + row
            if not stays[at]:
                continue
            number = int(cluster[at])
            best = examples.setdefault(number, [])
            if len(best) < EXAMPLES or float(distance[at]) <= best[-1][0]:
                best.append((float(distance[at]), name, heading(title, text)))
                best.sort()
                del best[EXAMPLES:]
            if id_hash(name) < share[number] * 2.0**64:
                texts.append(text)
                of.append(number)
        for number, (language, terms) in zip(of, terms_of(texts), strict=True):
            documents[number, language] += 1
            counts.update((number, language, term) for term in terms)
        first += len(rows["id"])
    found = {
        "documents": [[*key, count] for key, count in sorted(documents.items())],
        "counts": [[*key, count] for key, count in sorted(counts.items())],
        "examples": [[number, *example] for number, best in sorted(examples.items()) for example in best],
    }
    output.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


class _Counts:
    """Documents and term counts by class (topic, or cluster) and language."""

    def __init__(self) -> None:
        self.documents: Counter[tuple[int, str]] = Counter()
        self.terms: dict[tuple[int, str], Counter[str]] = {}

    def add(self, of: int, language: str, term: str, count: int) -> None:
        self.terms.setdefault((of, language), Counter())[term] += count

    def of(self, number: int, every: int, within: _Counts) -> dict[str, list[str]]:
        """The terms of a class against class `every` of `within`, which holds it, by language."""
        total = sum(self.documents[number, language] for language in LANGUAGES)
        out: dict[str, list[str]] = {}
        for language in LANGUAGES:
            documents = self.documents[number, language]
            if documents and documents >= _LANGUAGE_SHARE * total:
                out[language] = best_terms(
                    self.terms.get((number, language), {}),
                    documents,
                    within.terms.get((every, language), {}),
                    within.documents[every, language],
                    _TERMS,
                )
        return out


def describe(sizes: Sizes, counted: Sequence[Path]) -> list[dict[str, Any]]:
    """Topics with their clusters, by number: size, duplicates, terms by language, examples."""
    by_cluster, by_topic, by_all = _Counts(), _Counts(), _Counts()
    examples: dict[int, list[tuple[float, str, str]]] = {}
    topic_of = sizes.topic_of.tolist()
    for path in counted:
        found = read_json(path)
        for number, language, count in found["documents"]:
            for into, of in ((by_cluster, number), (by_topic, topic_of[number]), (by_all, 0)):
                into.documents[of, language] += count
        for number, language, term, count in found["counts"]:
            for into, of in ((by_cluster, number), (by_topic, topic_of[number]), (by_all, 0)):
                into.add(of, language, term, count)
        for number, distance, name, title in found["examples"]:
            examples.setdefault(number, []).append((distance, name, title))
    nearest = {number: sorted(best)[:EXAMPLES] for number, best in examples.items()}
    topics: list[dict[str, Any]] = []
    for topic in range(int(sizes.topic_of.max(initial=-1)) + 1):
        mine = np.flatnonzero(sizes.topic_of == topic).tolist()
        alone = len(mine) == 1
        clusters = [
            {
                "cluster": number,
                "size": int(sizes.documents[number]),
                "duplicates": int(sizes.duplicates[number]),
                "terms": by_topic.of(topic, 0, by_all) if alone else by_cluster.of(number, topic, by_topic),
                "examples": [{"id": name, "title": title} for _, name, title in nearest.get(number, [])],
            }
            for number in mine
        ]
        largest = sorted(mine, key=lambda number: -int(sizes.documents[number]))
        found_examples = [nearest[number][0] for number in largest if number in nearest][:EXAMPLES]
        topics.append(
            {
                "topic": topic,
                "size": int(sizes.documents[mine].sum()),
                "duplicates": int(sizes.duplicates[mine].sum()),
                "terms": by_topic.of(topic, 0, by_all),
                "examples": [{"id": name, "title": title} for _, name, title in found_examples],
                "clusters": clusters,
            }
        )
    return topics


def name_of(terms: dict[str, list[str]], most: int = 4) -> str:
    """One line for a table: the first Chinese and the first English terms."""
    return " / ".join(
        "、".join(words[:most]) if language == "zh" else ", ".join(words[:most])
        for language, words in terms.items()
        if words
    )
