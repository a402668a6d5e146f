"""The whole path from signatures to verdicts: against plain Python, in any order, with any workers, after any loss."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from haina.corpus.dedup.assign import assign_plain
from haina.corpus.dedup.bands import choose_banding
from haina.corpus.dedup.candidates import distances
from haina.corpus.dedup.clusters import cluster_documents
from haina.corpus.dedup.components import components_plain
from haina.corpus.dedup.layout import ClusterConfig
from haina.corpus.dedup.minhash import EMPTY, signatures_batch, sketch64, truncate8
from haina.corpus.dedup.shingles import shingle_sets
from haina.corpus.dedup.sources import MemoryBlock, MemorySource, Source
from haina.corpus.dedup.verify import estimate_pairs, verify_pairs
from haina.corpus.utf8 import pack
from haina.runtime.executor import LocalExecutor
from haina.runtime.progress import SilentProgress

CONFIG = ClusterConfig(permutations=64, exact=False, partitions=3, recall=0.9, exchange_bytes=1 << 13)
Verdict = tuple[str | None, float | None, str | None, int]


@dataclass(frozen=True)
class Document:
    """A document as clustering sees it."""

    name: str
    signature: tuple[int, ...]
    key: bytes
    priority: int
    shingles: tuple[int, ...] = ()


def source(documents: list[Document], permutations: int = 64) -> MemorySource:
    count = len(documents)
    signatures = np.array([d.signature for d in documents], dtype=np.uint32).reshape(count, permutations)
    sizes = np.array([0 if (d.signature[0] == EMPTY) else 100 for d in documents], dtype=np.int64)
    keys = np.frombuffer(b"".join(d.key for d in documents), dtype=np.uint8).reshape(count, 16)
    priority = np.array([d.priority for d in documents], dtype=np.uint64)
    tie = np.array([int.from_bytes(d.name.encode().ljust(8)[:8], "big") for d in documents], dtype=np.uint64)
    sets = [np.array(d.shingles, dtype=np.uint64) for d in documents]
    return MemorySource(
        MemoryBlock(signatures, sizes, keys, priority, tie),
        pa.array([d.name for d in documents], pa.string()),
        np.concatenate([*sets, np.empty(0, dtype=np.uint64)]),
        np.concatenate([[0], np.cumsum([len(part) for part in sets])]).astype(np.int64),
    )


def corpus(seed: int, count: int = 160) -> list[Document]:
    """Clusters, chains, copies, copies of members, documents without tokens, documents alone."""
    rng = random.Random(seed)

    def fresh() -> tuple[int, ...]:
        return tuple(rng.getrandbits(32) for _ in range(64))

    def edited(of: tuple[int, ...], share: float) -> tuple[int, ...]:
        return tuple(rng.getrandbits(32) if rng.random() < share else value for value in of)

    out: list[Document] = []
    while len(out) < count:
        centre = fresh()
        kind = rng.random()
        members = [centre]
        if kind < 0.4:
            members += [edited(centre, rng.uniform(0.0, 0.35)) for _ in range(rng.randint(1, 5))]
        elif kind < 0.5:
            for _ in range(4):  # a chain
                members.append(edited(members[-1], 0.2))
        for signature in members:
            key = rng.randbytes(16)
            for _ in range(rng.choice([1, 1, 1, 2, 4])):
                out.append(Document(f"d{len(out):05d}", signature, key, rng.randint(0, 5)))
        if rng.random() < 0.2:
            out.append(Document(f"d{len(out):05d}", (int(EMPTY),) * 64, bytes(16), 0))
    rng.shuffle(out)
    return out


def expected(documents: list[Document], config: ClusterConfig) -> dict[str, Verdict]:
    """Verdicts by name, with lists, sets and dictionaries."""
    living = [d for d in documents if d.signature[0] != EMPTY]
    ordered = sorted(living, key=lambda d: (d.priority, d.name))
    best: dict[bytes, Document] = {}
    copies: dict[bytes, int] = {}
    for document in ordered:
        best.setdefault(document.key, document)
        copies[document.key] = copies.get(document.key, 0) + 1
    standing = [d for d in ordered if best[d.key] is d]
    banding = choose_banding(config.threshold, config.recall, config.permutations)
    far, _ = distances(config.threshold)
    sketches = sketch64(np.array([d.signature for d in standing], dtype=np.uint32).reshape(-1, 64)).tolist()
    pairs = []
    for (i, a), (j, b) in combinations(enumerate(standing), 2):
        meets = any(
            a.signature[k * banding.rows : (k + 1) * banding.rows]
            == b.signature[k * banding.rows : (k + 1) * banding.rows]
            for k in range(banding.bands)
        )
        if meets and (sketches[i] ^ sketches[j]).bit_count() <= far:
            pairs.append((i, j))
    if config.exact:
        labels = components_plain(pairs)
        order = sorted(range(len(standing)), key=lambda i: (labels.get(i, i), i))
        place = {old: new for new, old in enumerate(order)}
        sets = [np.array(standing[old].shingles, dtype=np.uint64) for old in order]
        starts = np.concatenate([[0], np.cumsum([len(part) for part in sets])]).astype(np.int64)
        component = np.array([labels.get(old, old) for old in order], dtype=np.int64)
        inside = np.array([(place[i], place[j]) for i, j in pairs], dtype=np.int64).reshape(-1, 2)
        similarity = verify_pairs(np.concatenate(sets), starts, component, inside, config.threshold)
    else:
        cut = truncate8(np.array([d.signature for d in standing], dtype=np.uint32).reshape(-1, 64))
        similarity = estimate_pairs(cut, np.array(pairs, dtype=np.int64).reshape(-1, 2), config.threshold)
    found = assign_plain(list(range(len(standing))), pairs, similarity.tolist())
    cluster: dict[int, int] = {}
    for (kept, _), document in zip(found, standing, strict=True):
        cluster[kept] = cluster.get(kept, 0) + copies[document.key]
    verdict = {d.key: (*found[i], i) for i, d in enumerate(standing)}
    out: dict[str, Verdict] = {d.name: (None, None, None, 1) for d in documents}
    for document in living:
        kept, value, own = verdict[document.key]
        method = "exact" if kept == own else "near"
        out[document.name] = (standing[kept].name, float(np.float32(value)), method, cluster[kept])
        if standing[kept] is document:
            out[document.name] = (None, None, None, cluster[kept])
    return out


def run(
    folder: Path, sources: list[MemorySource], config: ClusterConfig, executor: LocalExecutor | None = None
) -> list[dict[str, Verdict]]:
    """Verdicts by name, of each partition."""
    given: list[Source] = list(sources)
    files = cluster_documents(executor or LocalExecutor(1), folder, given, config)
    out = []
    for path, each in zip(files, sources, strict=True):
        with pa.OSFile(str(path)) as file:
            rows = pa.ipc.open_file(file).read_all().to_pylist()
        out.append(
            {name: tuple(row.values()) for name, row in zip(each.names.to_pylist(), rows, strict=True)}
        )
    return out


def merged(parts: list[dict[str, Verdict]]) -> dict[str, Verdict]:
    return {name: verdict for part in parts for name, verdict in part.items()}


def cut(documents: list[Document], cuts: list[int]) -> list[MemorySource]:
    borders = [0, *cuts, len(documents)]
    return [source(documents[a:b]) for a, b in pairwise(borders)]


@pytest.mark.parametrize("seed", range(4))
def test_verdicts_are_those_of_plain_python(tmp_path: Path, seed: int) -> None:
    documents = corpus(seed)
    found = merged(run(tmp_path, cut(documents, [30, 30, 100]), CONFIG))
    assert found == expected(documents, CONFIG)
    methods = {method for _, _, method, _ in found.values()}
    assert methods == {None, "exact", "near"}


@pytest.mark.parametrize("seed", range(2))
def test_order_and_cuts_of_the_input_do_not_matter(tmp_path: Path, seed: int) -> None:
    documents = corpus(seed, 120)
    first = merged(run(tmp_path / "a", cut(documents, [50]), CONFIG))
    random.Random(seed).shuffle(documents)
    settings = replace(CONFIG, partitions=5, exchange_bytes=1 << 30)
    assert merged(run(tmp_path / "b", cut(documents, [1, 2, 90]), settings)) == first


def test_ten_copies_of_everything_are_ten_times_as_large_clusters(tmp_path: Path) -> None:
    documents = [d for d in corpus(3, 80) if d.signature[0] != EMPTY]
    once = merged(run(tmp_path / "once", [source(documents)], CONFIG))
    many = [
        [replace(d, name=f"{d.name}-{k}", priority=d.priority + 10 * k) for d in documents] for k in range(10)
    ]
    found = merged(run(tmp_path / "many", [source(part) for part in many], CONFIG))
    for document in documents:
        kept, similarity, method, size = once[document.name]
        name = None if kept is None else f"{kept}-0"
        assert found[f"{document.name}-0"] == (name, similarity, method, 10 * size)
        stays, value, how, _ = found[f"{document.name}-7"]
        assert stays == (name or f"{document.name}-0")
        assert (value, how) == ((1.0, "exact") if kept is None else (similarity, method))


def test_wide_numbers_give_the_same_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = corpus(5, 100)
    narrow = run(tmp_path / "narrow", cut(documents, [40]), CONFIG)
    from haina.corpus.dedup import clusters
    from haina.corpus.dedup.layout import Layout

    monkeypatch.setattr(
        clusters, "layout_of", lambda documents, partitions: Layout(documents, partitions, 40)
    )
    assert run(tmp_path / "wide", cut(documents, [40]), CONFIG) == narrow


def test_what_does_not_fit_in_memory_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = corpus(4, 100)
    within = run(tmp_path / "within", cut(documents, [40]), CONFIG)
    from haina.corpus.dedup import verdicts

    monkeypatch.setattr(verdicts, "_IN_MEMORY", 100)
    assert run(tmp_path / "beyond", cut(documents, [40]), CONFIG) == within


def test_documents_without_tokens_stay_apart(tmp_path: Path) -> None:
    empty = [Document(f"e{k}", (int(EMPTY),) * 64, bytes(16), 0) for k in range(30)]
    found = merged(run(tmp_path, [source(empty)], CONFIG))
    assert set(found.values()) == {(None, None, None, 1)}


def test_no_documents_at_all(tmp_path: Path) -> None:
    assert run(tmp_path / "none", [], CONFIG) == []
    assert run(tmp_path / "empty", [source([]), source([])], CONFIG) == [{}, {}]


def test_real_text_in_both_languages(tmp_path: Path) -> None:
    rng = random.Random(1)
    zh = "海纳百川有容乃大壁立千仞无欲则刚春江潮水连海平明月共潮生滟滟随波千万里何处春江无月明"
    en = [
        "the",
        "sea",
        "takes",
        "in",
        "a",
        "hundred",
        "rivers",
        "and",
        "gives",
        "out",
        "one",
        "model",
        "trained",
        "measured",
        "and",
        "served",
        "to",
        "all",
    ]
    texts = []
    for k in range(40):
        chinese = "".join(rng.choices(zh, k=300))
        english = " ".join(rng.choices(en, k=300)) + f" number {k}"
        for text in (chinese, english):
            half = len(text) // 2
            texts += [text, text[:half] + "。" + text[half + 1 :], text[: int(len(text) * 0.9)]]
    texts += [texts[0], texts[3], "", "", "!!", "水", "a"]
    data, offsets = pack(texts)
    made = signatures_batch(data, offsets, 5, 64)
    sets = shingle_sets(data, offsets, 5)
    documents = [
        Document(f"t{k:04d}", tuple(made.values[k].tolist()), bytes(made.keys[k]), 0,
                 tuple(sets.shingles[sets.starts[k] : sets.starts[k + 1]].tolist()))
        for k in range(len(texts))
    ]  # fmt: skip
    config = replace(CONFIG, exact=True, recall=0.99)
    found = merged(run(tmp_path, cut(documents, [100, 170]), config))
    assert found == expected(documents, config)
    removed = [name for name, verdict in found.items() if verdict[0] is not None]
    assert len(removed) >= 0.97 * 160 + 2
    assert all(found[f"t{k:04d}"] == (None, None, None, 1) for k in range(len(texts) - 5, len(texts)))


def test_one_and_two_workers_write_the_same_bytes_and_leave_only_verdicts(tmp_path: Path) -> None:
    sources: list[Source] = list(cut(corpus(6), [40, 90]))
    written = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        with LocalExecutor(workers) as executor:
            files = cluster_documents(executor, folder, sources, CONFIG)
        written.append([path.read_bytes() for path in files])
        assert sorted(path for path in folder.iterdir() if not path.name.startswith(".")) == files
    assert written[0] == written[1]


class Nuisance(SilentProgress):
    """Before a step, removes or cuts one file of those before it; or ends the job there."""

    def __init__(self, folder: Path, step: int, pick: int, end: bool = False) -> None:
        self.folder, self.left, self.pick, self.end = folder, step, pick, end
        self.touched = ""

    @contextmanager
    def task(self, description: str, total: float | None, unit: str, done: float = 0) -> Iterator[Any]:
        self.left -= 1
        if self.left == 0:
            if self.end:
                raise KeyboardInterrupt
            files = sorted(
                p for p in self.folder.iterdir() if not p.name.startswith(".") and p.stat().st_size
            )
            if files:
                path = files[self.pick % len(files)]
                self.touched = path.name
                if self.pick % 2:
                    path.unlink()
                else:
                    path.write_bytes(path.read_bytes()[:-1])
        with super().task(description, total, unit, done) as task:
            yield task


def test_any_file_lost_or_cut_on_the_way_is_made_again(tmp_path: Path) -> None:
    sources: list[Source] = list(cut(corpus(7, 60), [20]))
    whole = [p.read_bytes() for p in cluster_documents(LocalExecutor(1), tmp_path / "whole", sources, CONFIG)]
    touched = set()
    for step in range(3, 21):
        folder = tmp_path / str(step)
        nuisance = Nuisance(folder, step, 7 * step)
        files = cluster_documents(LocalExecutor(1, nuisance), folder, sources, CONFIG)
        assert [path.read_bytes() for path in files] == whole, nuisance.touched
        touched.add(nuisance.touched.rsplit("-", 1)[0])
    assert len(touched) >= 6


class Names(SilentProgress):
    """Keeps the names of steps."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def task(self, description: str, total: float | None, unit: str, done: float = 0) -> Iterator[Any]:
        self.names.append(description)
        with super().task(description, total, unit, done) as task:
            yield task


def test_a_job_that_ended_anywhere_goes_on_without_repeating_what_is_done(tmp_path: Path) -> None:
    sources: list[Source] = list(cut(corpus(8, 60), [20]))
    every = Names()
    files = cluster_documents(LocalExecutor(1, every), tmp_path / "whole", sources, CONFIG)
    whole = [path.read_bytes() for path in files]
    for step in range(2, len(every.names) + 1, 3):
        folder = tmp_path / str(step)
        with pytest.raises(KeyboardInterrupt):
            cluster_documents(LocalExecutor(1, Nuisance(folder, step, 0, end=True)), folder, sources, CONFIG)
        rest = Names()
        files = cluster_documents(LocalExecutor(1, rest), folder, sources, CONFIG)
        assert [path.read_bytes() for path in files] == whole
        assert rest.names == every.names[step - 1 :]


def test_verdicts_that_are_there_cost_nothing(tmp_path: Path) -> None:
    sources: list[Source] = list(cut(corpus(9, 40), []))
    cluster_documents(LocalExecutor(1), tmp_path, sources, CONFIG)
    nuisance = Nuisance(tmp_path, 1, 0, end=True)
    cluster_documents(LocalExecutor(1, nuisance), tmp_path, sources, CONFIG)
    assert nuisance.left == 1
