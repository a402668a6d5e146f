"""Claim: near-duplicates are found alike in Chinese and English (recall and precision >= 0.98 at Jaccard >= 0.7, both
within 0.01 of each other), every pair of law versions above 0.8 is found and none below 0.6 merged, and distinct
documents of a template are kept (>= 99 %) while their copies are found (>= 97 %).

Plants variants of real documents - edits of 0.2 to 5 % of the tokens (replaced, inserted, deleted), cut ends, wrapped
in another site's text, other script, width, case and punctuation - and runs `haina dedup` on the shuffled table as a
user would. The exact Jaccard similarity of 5-token shingles, computed here with Python sets, is the truth. Peers on the
same table: datatrove's MinHash pipeline with its published settings, and the settings (shingles, bands, rows) of NeMo
Curator, Data-Juicer, text-dedup and Daft, replayed with a plain MinHash, since their packages need a GPU, a cluster or
another Python.
Run: python benchmarks/near_duplicates.py [--data ../shared/data] [--originals 400] [--seed 1] [--no-peers]
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SETS = {
    "zh": ("zh_wikipedia", "zh_laws", "zh_histories_modern", "zh_tang_poems"),
    "en": ("en_wikipedia",),
}
EDITS = (0.002, 0.005, 0.01, 0.02, 0.05)
WRAPPERS = {
    "zh": (
        "首页 新闻 财经 体育 娱乐 登录 注册 您当前的位置：首页 > 正文 字号：大 中 小",
        "版权所有，未经许可不得转载。联系我们 网站地图 友情链接 手机版 返回顶部",
    ),
    "en": (
        "Home News Business Sports Log in Register You are here: Home > Article Font size: A A A",
        "All rights reserved. Do not copy without permission. Contact us Site map Links Mobile Back to top",
    ),
}
HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U000323af]")
PIECE = re.compile(r"[\u3400-\u9fff\U00020000-\U000323af]|[^\W_\u3400-\u9fff\U00020000-\U000323af]+|.", re.S)
MIN_TOKENS = 40

Row = dict[str, Any]


def folder() -> Callable[[str], str]:
    """Key form of a text: NFKD, lower case, simplified."""
    from opencc import OpenCC

    simplify = OpenCC("t2s")
    table: dict[str, str] = {}

    def fold(text: str) -> str:
        plain = unicodedata.normalize("NFKD", text).lower()
        for character in set(plain) - table.keys():
            table[character] = simplify.convert(character) if HAN.match(character) else character
        return "".join(table[character] for character in plain)

    return fold


def tokens(text: str, fold: Callable[[str], str]) -> list[str]:
    """Han characters and words, with their combining marks, of the key form."""
    found: list[str] = []
    word = ""
    for character in fold(text):
        kind = unicodedata.category(character)[0]
        if HAN.match(character):
            found += [word, character]
            word = ""
        elif kind in "LN" or (kind == "M" and word):
            word += character
        elif unicodedata.category(character) != "Cf":
            found.append(word)
            word = ""
    return [token for token in [*found, word] if token]


def shingles(text: str, fold: Callable[[str], str], width: int = 5) -> frozenset[int]:
    """The set of hashed shingles of a text."""
    found = tokens(text, fold)
    runs = (found[start : start + width] for start in range(max(1, len(found) - width + 1))) if found else ()
    return frozenset(hash_of("\0".join(run)) for run in runs)


def hash_of(text: str) -> int:
    """A 64-bit hash that does not change between runs."""
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


def jaccard(left: frozenset[int], right: frozenset[int]) -> float:
    """Shared over all."""
    return len(left & right) / max(1, len(left | right))


def reservoir(path: Path, count: int, rng: random.Random) -> list[str]:
    """`count` texts of a Parquet file, each as likely as any other, with enough tokens to be a document."""
    taken: list[str] = []
    seen = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=2048, columns=["text"]):
        for text in batch.column("text").to_pylist():
            if not text or len(PIECE.findall(text[:2000])) < MIN_TOKENS:
                continue
            seen += 1
            if len(taken) < count:
                taken.append(text[:20_000])
            elif (place := rng.randrange(seen)) < count:
                taken[place] = text[:20_000]
    return taken


def edited(text: str, share: float, vocabulary: list[str], rng: random.Random) -> str:
    """Each token is replaced, deleted or doubled by a new one with probability `share`."""
    out = []
    for piece in PIECE.findall(text):
        if piece[0].isalnum() and rng.random() < share:
            kind = rng.randrange(3)
            if kind == 0:
                out.append(rng.choice(vocabulary))
            elif kind == 1:
                out += [piece, "" if HAN.match(piece) else " ", rng.choice(vocabulary)]
        else:
            out.append(piece)
    return "".join(out)


def variants(text: str, lang: str, vocabulary: list[str], rng: random.Random) -> Iterator[tuple[str, str]]:
    """(kind, text) of every planted variant."""
    from opencc import OpenCC

    for share in EDITS:
        yield f"edits {share:.1%}", edited(text, share, vocabulary, rng)
    cut = rng.uniform(0.75, 0.95)
    yield "cut", text[: int(len(text) * cut)]
    head, foot = WRAPPERS[lang]
    yield "wrapped", f"{head}\n\n{text}\n\n{foot}"
    if lang == "zh":
        yield "script", OpenCC(rng.choice(["s2t", "t2s"])).convert(text)
    else:
        yield "script", text.swapcase()
    wide = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
    yield "width", text.translate(wide)
    yield "punctuation", re.sub(r"[，。、；：,.;:]", lambda match: rng.choice([" ", "·", match[0] * 2]), text)


def planted(data: Path, lang: str, originals: int, rng: random.Random) -> list[Row]:
    """Rows with id, text, the original's number and the kind of variant; every second original has one variant,
    the others all."""
    each = -(-originals // len(SETS[lang]))
    texts = [text for name in SETS[lang] for text in reservoir(data / "text" / f"{name}.parquet", each, rng)]
    pieces = [piece for text in texts for piece in PIECE.findall(text[:2000]) if piece[0].isalnum()]
    rows: list[Row] = []
    for number, text in enumerate(texts):
        found = [("original", text), *variants(text, lang, pieces, rng)]
        kept = found if number % 2 else [found[0], rng.choice(found[1:])]
        rows += [{"family": number, "kind": kind, "text": body} for kind, body in kept]
    rng.shuffle(rows)
    return [{"id": f"{lang}{number:06d}", **row} for number, row in enumerate(rows)]


def dedup(rows: list[Row], work: Path, threshold: float) -> dict[str, tuple[str, float]]:
    """id -> (representative, similarity), from `haina dedup` on these rows."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    table = pa.table({name: [row[name] for row in rows] for name in ("id", "text")})
    pq.write_table(table, work / "in.parquet", row_group_size=1000)
    command = [
        sys.executable, "-m", "haina", "dedup", str(work / "in.parquet"), "--out", str(work / "out"),
        "--threshold", str(threshold), "--json",
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    print(f"  haina dedup: {len(rows):,} documents in {time.perf_counter() - start:.1f} s", flush=True)
    found = pq.read_table(work / "out" / "clusters.parquet").to_pylist()
    clusters = {row["id"]: (row["id"], 1.0) for row in rows}
    clusters.update({row["id"]: (row["representative"], row["similarity"]) for row in found})
    return clusters


def pair_figures(
    rows: list[Row], sets: dict[str, frozenset[int]], same: Callable[[str, str], bool], threshold: float
) -> tuple[float, float, dict[str, list[int]]]:
    """(recall over pairs of a family at or above the threshold, the same over original-variant pairs, by kind)."""
    families: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        families[row["family"]].append(row)
    every, direct, by_kind = [0, 0], [0, 0], defaultdict(lambda: [0, 0])
    for members in families.values():
        for left, right in itertools.combinations(members, 2):
            if jaccard(sets[left["id"]], sets[right["id"]]) < threshold:
                continue
            found = same(left["id"], right["id"])
            every[0] += found
            every[1] += 1
            kinds = {left["kind"], right["kind"]}
            if "original" in kinds:
                direct[0] += found
                direct[1] += 1
                kind = next(iter(kinds - {"original"}), "original")
                by_kind[kind][0] += found
                by_kind[kind][1] += 1
    return every[0] / max(1, every[1]), direct[0] / max(1, direct[1]), dict(by_kind)


def part_planted(data: Path, originals: int, rng: random.Random, work: Path, peers: bool) -> None:
    """Planted variants, both languages, ours and peers."""
    print("\n== planted variants, threshold 0.7")
    fold = folder()
    for lang in SETS:
        rows = planted(data, lang, originals, rng)
        sets = {row["id"]: shingles(row["text"], fold) for row in rows}
        clusters = dedup(rows, work, 0.7)
        family = {row["id"]: row["family"] for row in rows}

        def same(left: str, right: str, clusters: dict[str, tuple[str, float]] = clusters) -> bool:
            return clusters[left][0] == clusters[right][0]

        every, direct, kinds = pair_figures(rows, sets, same, 0.7)
        removed = [(own, rep, value) for own, (rep, value) in clusters.items() if own != rep]
        exact = [jaccard(sets[own], sets[rep]) for own, rep, _ in removed]
        right = sum(value >= 0.7 for value in exact)
        apart = sum(family[own] != family[rep] for own, rep, _ in removed)
        error = max((abs(e - value) for e, (_, _, value) in zip(exact, removed, strict=True)), default=0.0)
        print(
            f"  {lang}: {len(rows)} documents, {len(set(family.values()))} originals; recall of original-variant pairs "
            f"{direct:.4f}, of all pairs {every:.4f}; precision {right / max(1, len(removed)):.4f} of {len(removed)} "
            f"removals ({apart} from another original); largest error of a similarity {error:.1e}"
        )
        print("     by kind: " + ", ".join(f"{kind} {a}/{b}" for kind, (a, b) in sorted(kinds.items())))
        if peers:
            for name, find in PEERS.items():
                merged = find(rows, lang, fold, work)
                every, direct, _ = pair_figures(rows, sets, lambda a, b, m=merged: m[a] == m[b], 0.7)
                groups: dict[Any, list[str]] = defaultdict(list)
                for own, group in merged.items():
                    groups[group].append(own)
                pairs = [
                    pair
                    for group in groups.values()
                    for pair in itertools.combinations(sorted(group)[:200], 2)
                ]
                good = sum(family[a] == family[b] for a, b in pairs)
                print(
                    f"  {lang} {name}: recall {direct:.4f} (all pairs {every:.4f}), pairs of one original "
                    f"{good / max(1, len(pairs)):.4f}"
                )


def part_laws(data: Path, work: Path) -> None:
    """Versions of laws."""
    print("\n== law versions, threshold 0.8")
    fold = folder()
    table = pq.read_table(data / "text" / "zh_laws.parquet")
    texts = table.column("text").to_pylist()
    rows = [{"id": f"law{number:05d}", "text": text} for number, text in enumerate(texts)]
    sets = {row["id"]: shingles(row["text"], fold) for row in rows}
    where: dict[int, list[str]] = defaultdict(list)
    for own, members in sets.items():
        for item in members:
            where[item].append(own)
    shared: dict[tuple[str, str], int] = defaultdict(int)
    for owners in where.values():
        if 1 < len(owners) <= 60:
            for pair in itertools.combinations(owners, 2):
                shared[pair] += 1
    alike = {
        pair: jaccard(sets[pair[0]], sets[pair[1]])
        for pair, count in shared.items()
        if count >= 0.3 * min(len(sets[pair[0]]), len(sets[pair[1]]))
    }
    wanted = [pair for pair, value in alike.items() if value > 0.8]
    clusters = dedup(rows, work, 0.8)
    found = [pair for pair in wanted if clusters[pair[0]][0] == clusters[pair[1]][0]]
    groups: dict[str, list[str]] = defaultdict(list)
    for own, (rep, _) in clusters.items():
        groups[rep].append(own)
    merged = [pair for group in groups.values() for pair in itertools.combinations(group, 2)]
    lowest = min((jaccard(sets[a], sets[b]) for a, b in merged), default=1.0)
    print(
        f"  {len(rows)} documents; {len(found)} of {len(wanted)} pairs above 0.8 found; lowest similarity of a merged "
        f"pair {lowest:.3f}; {sum(jaccard(sets[a], sets[b]) < 0.6 for a, b in merged)} merged below 0.6"
    )
    for a, b in sorted(set(wanted) - set(found))[:5]:
        print(f"     missed: {a} {b} {alike[a, b]:.3f}")


def fillings(lang: str, kind: str, count: int, vocabulary: list[str], rng: random.Random) -> list[str]:
    """Distinct documents of one template."""
    glue = "" if lang == "zh" else " "

    def words(number: int) -> str:
        return glue.join(rng.choice(vocabulary) for _ in range(number))

    if kind == "chain":
        # Each document keeps a window of the one before: neighbours are alike below the threshold, ends not at all.
        stream = [rng.choice(vocabulary) for _ in range(60 * count + 300)]
        return [glue.join(stream[60 * n : 60 * n + 300]) for n in range(count)]
    fields, width, share = {
        "catalogue": (8, 2, 40), "form": (5, 4, 60), "notice": (3, 8, 100), "listing": (12, 0, 40)
    }[kind]  # fmt: skip
    template = [words(share) for _ in range(fields + 1)]
    out = []
    for number in range(count):
        body = [template[0]]
        for part in template[1:]:
            body += [words(width) if kind != "listing" else f"{words(2)} {number * 7919 % 99991}", part]
        out.append(glue.join(body) if lang == "zh" else " ".join(body))
    return out


def part_templates(data: Path, rng: random.Random, work: Path) -> None:
    """Distinct documents of templates, and edited copies of some."""
    print("\n== templated documents, threshold 0.7")
    fold = folder()
    for lang in SETS:
        name = SETS[lang][0]
        texts = reservoir(data / "text" / f"{name}.parquet", 500, rng)
        pieces = [piece for text in texts for piece in PIECE.findall(text[:2000]) if piece[0].isalnum()]
        for kind in ("catalogue", "form", "notice", "listing", "chain"):
            rows: list[Row] = []
            for number, text in enumerate(fillings(lang, kind, 1500, pieces, rng)):
                rows.append({"family": number, "kind": "original", "text": text})
                if number % 3 == 0:
                    share = rng.choice([0.002, 0.005, 0.01, 0.02])
                    rows.append({"family": number, "kind": "copy", "text": edited(text, share, pieces, rng)})
            rng.shuffle(rows)
            rows = [{"id": f"{lang}{n:06d}", **row} for n, row in enumerate(rows)]
            sets = {row["id"]: shingles(row["text"], fold) for row in rows}
            by_number = sorted(
                (row for row in rows if row["kind"] == "original"), key=lambda row: row["family"]
            )
            originals = [row["id"] for row in by_number]
            between = [jaccard(sets[a], sets[b]) for a, b in itertools.pairwise(originals)]
            clusters = dedup(rows, work, 0.7)
            families = {row["family"] for row in rows}
            left = {row["family"] for row in rows if clusters[row["id"]][0] == row["id"]}
            _, direct, _ = pair_figures(rows, sets, lambda a, b, c=clusters: c[a][0] == c[b][0], 0.7)
            print(
                f"  {lang} {kind}: {len(families)} distinct, similar by {np.median(between):.2f} (median); "
                f"kept {len(left) / len(families):.4f}; copies found {direct:.4f}"
            )


def minhash_groups(sets: dict[str, Iterable[str]], bands: int, rows: int) -> dict[str, Any]:
    """Connected components of plain MinHash LSH; documents without shingles stand alone."""
    rng = np.random.default_rng(1)
    a = rng.integers(1, 2**63, bands * rows, dtype=np.uint64) | np.uint64(1)
    b = rng.integers(0, 2**63, bands * rows, dtype=np.uint64)
    parent = {own: own for own in sets}

    def root(own: str) -> str:
        while parent[own] != own:
            parent[own] = parent[parent[own]]
            own = parent[own]
        return own

    first: dict[tuple[int, bytes], str] = {}
    for own, members in sets.items():
        hashes = np.array([hash_of(item) for item in set(members)], dtype=np.uint64)
        if not len(hashes):
            continue
        values = np.full(bands * rows, np.iinfo(np.uint64).max, dtype=np.uint64)
        for start in range(0, len(hashes), 512):
            part = hashes[start : start + 512, None] * a + b
            values = np.minimum(values, (part ^ (part >> np.uint64(31))).min(axis=0))
        for band in range(bands):
            key = (band, values[band * rows : (band + 1) * rows].tobytes())
            other = first.setdefault(key, own)
            parent[root(own)] = root(other)
    return {own: root(own) for own in sets}


def replayed(shingle: Callable[[str], Iterable[str]], bands: int, rows: int) -> Callable[..., dict[str, Any]]:
    """A peer's setting: its shingles and its bands."""

    def find(rows_: list[Row], lang: str, fold: Any, work: Path) -> dict[str, Any]:
        return minhash_groups({row["id"]: shingle(row["text"]) for row in rows_}, bands, rows)

    return find


def runs(items: list[str], width: int) -> set[str]:
    """n-grams joined by spaces."""
    return {" ".join(items[start : start + width]) for start in range(max(1, len(items) - width + 1))}


def datatrove(rows: list[Row], lang: str, fold: Any, work: Path) -> dict[str, Any]:
    """datatrove's four steps with its default settings; a removed document stands with its cluster."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.utils.hashing import HashConfig

    base = work / "datatrove"
    shutil.rmtree(base, ignore_errors=True)
    (base / "in").mkdir(parents=True)
    with (base / "in" / "in.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({"id": row["id"], "text": row["text"]}, ensure_ascii=False) + "\n")
    config = MinhashConfig(hash_config=HashConfig(precision=64, hash_fc="sha1"))
    language = {"zh": "cmn_Hani", "en": "en"}[lang]
    steps = [
        (
            [
                JsonlReader(str(base / "in")),
                MinhashDedupSignature(str(base / "sig"), config=config, language=language),
            ],
            1,
        ),
        ([MinhashDedupBuckets(str(base / "sig"), str(base / "buckets"), config=config)], config.num_buckets),
        (
            [
                MinhashDedupCluster(
                    str(base / "buckets"), str(base / "remove"), config=config, save_cluster_id=True
                )
            ],
            1,
        ),
    ]
    for number, (pipeline, tasks) in enumerate(steps):
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=1, logging_dir=str(base / f"log{number}")
        ).run()
    groups: dict[str, Any] = {row["id"]: row["id"] for row in rows}
    import struct

    for path in sorted((base / "remove").glob("*.clusters")):
        data = path.read_bytes()
        for number, group in struct.iter_unpack("<II", data):
            groups[rows[number]["id"]] = f"cluster {group}"
    return groups


PEERS: dict[str, Callable[..., dict[str, Any]]] = {
    "datatrove 14x8 (run)": datatrove,
    "NeMo Curator, 24 characters, 20x13 (replayed)": replayed(
        lambda text: {text[i : i + 24] for i in range(max(1, len(text) - 23))}, 20, 13
    ),
    "Data-Juicer, split at spaces, 5-grams, 25x10 (replayed)": replayed(
        lambda text: runs(text.split(" "), 5), 25, 10
    ),
    "text-dedup, split at \\W, 5-grams, 25x10 (replayed)": replayed(
        lambda text: runs([item for item in re.split(r"\W+", text) if item], 5), 25, 10
    ),
    "Daft, split at spaces, 5-grams, 8x8 (replayed)": replayed(lambda text: runs(text.split(" "), 5), 8, 8),
}


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--originals", type=int, default=400, help="originals a language")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    if not (options.data / "text").is_dir():
        print(f"{options.data}: no text here; this benchmark needs the project's data")
        return
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as work:
        part_planted(options.data, options.originals, rng, Path(work), not options.no_peers)
        part_laws(options.data, Path(work))
        part_templates(options.data, rng, Path(work))


if __name__ == "__main__":
    main()
