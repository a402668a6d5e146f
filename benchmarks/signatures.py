"""Claim: MinHash signatures straight from text at 100 MB/s and more on one core in Chinese and English, 80 times as
fast as datatrove's signature stage and 5 times as fast as rensa with the shingles it needs, Chinese at 0.7 of English.

All are timed on the same documents of ../shared/data in interleaved rounds, single-threaded, in process CPU time;
medians with their range, in MB of UTF-8 text per second. Slower programs get the first documents of a set only.
Shingles are runs of five words, in Chinese of five characters. Ours folds full-width forms, composition, case and
script variants, and gives the exact key as well; datatrove (its stage as it is: 112 hashes, spaCy's or jieba's words)
lowers case and takes out punctuation; for rensa and datasketch (128 hashes) the shortest Python does that lowers case
and cuts words or characters. rensa's three are its own bulk calls: R (RMinHash), C (CMinHash) and Rho (one permutation
with densification).
Run: python benchmarks/signatures.py [--data ../shared/data] [--megabytes 10] [--rounds 5]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")

import pyarrow.parquet as pq

from haina.corpus.dedup.minhash import signatures_batch
from haina.corpus.dedup.shingles import shingle_sets, tokenize_batch
from haina.corpus.utf8 import pack
from haina.runtime.kernel_cache import use_kernel_cache

WIDTH, PERMUTATIONS = 5, 128
# Name, language, files, bytes of a document from and below.
SETS = (
    ("zh", "zh", ("zh_wikipedia", "zh_laws"), 500, 10_000),
    ("en", "en", ("en_wikipedia",), 500, 10_000),
    ("zh long", "zh", ("zh_laws", "zh_histories_modern"), 30_000, 10**9),
    ("en long", "en", ("en_wikipedia",), 15_000, 10**9),
)
# Share of a set that each program gets.
SHARES = {"datatrove": 0.01, "datasketch": 0.01, "rensa R": 0.1, "rensa C": 0.1, "rensa Rho": 0.1}
PEER_LANGUAGE = {"zh": "cmn_Hani", "en": "eng"}
WORD = re.compile(r"\w+")
NOT_WORD = re.compile(r"\W+")


def texts_of(data: Path, names: tuple[str, ...], low: int, high: int, size: int) -> list[str]:
    """About `size` bytes of documents of `low` to `high` bytes, drawn at random from all files together."""
    texts = []
    for name in names:
        column = pq.read_table(data / "text" / f"{name}.parquet", columns=["text"]).column("text")
        texts += [text for text in column.to_pylist() if text and low <= len(text.encode()) < high]
    random.Random(0).shuffle(texts)
    total = 0
    for count, text in enumerate(texts, 1):
        total += len(text.encode())
        if total >= size:
            return texts[:count]
    return texts


def shingles_en(text: str) -> list[str]:
    """Runs of five words, for programs that take strings."""
    words = WORD.findall(text.lower())
    return [" ".join(words[start : start + WIDTH]) for start in range(max(1, len(words) - WIDTH + 1))]


def shingles_zh(text: str) -> list[str]:
    """Runs of five characters, likewise."""
    joined = NOT_WORD.sub("", text.lower())
    return [joined[start : start + WIDTH] for start in range(max(1, len(joined) - WIDTH + 1))]


def programs(language: str) -> dict[str, Callable[[list[str]], object]]:
    """What is timed: each takes texts and makes all their signatures."""
    import xxhash
    from datasketch import MinHash
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from rensa import CMinHash, RMinHash

    shingles = shingles_zh if language == "zh" else shingles_en
    folder = tempfile.mkdtemp(prefix="signatures-")
    stage = MinhashDedupSignature(folder, language=PEER_LANGUAGE[language])
    # Its hash hands over a str, which xxhash takes no more since version 4.
    stage._hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())

    def datatrove(texts: list[str]) -> object:
        return stage.run((Document(text=text, id="0") for text in texts), rank=0)

    def datasketch(texts: list[str]) -> object:
        return MinHash.bulk(
            ([shingle.encode() for shingle in shingles(text)] for text in texts), num_perm=PERMUTATIONS
        )

    return {
        "haina": lambda texts: signatures_batch(*pack(texts), WIDTH, PERMUTATIONS),
        "datatrove": datatrove,
        "datasketch": datasketch,
        "rensa R": lambda texts: RMinHash.digest_matrix_from_token_sets(
            map(shingles, texts), PERMUTATIONS, 42
        ),
        "rensa C": lambda texts: CMinHash.digests_from_token_sets(map(shingles, texts), PERMUTATIONS, 42),
        "rensa Rho": lambda texts: RMinHash.digest_matrix_from_token_sets_rho(
            map(shingles, texts), PERMUTATIONS, 42
        ),
    }


def seconds_of(run: Callable[[], object]) -> float:
    """Process CPU time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def rates(runs: dict[str, tuple[float, Callable[[], object]]], rounds: int) -> dict[str, list[float]]:
    """MB/s of (megabytes, run) in each of the interleaved rounds, after one that is not counted."""
    for _, run in runs.values():
        run()
    out: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (megabytes, run) in runs.items():
            out[name].append(megabytes / seconds_of(run))
    return out


def megabytes_of(texts: list[str]) -> float:
    """UTF-8 size."""
    return sum(len(text.encode()) for text in texts) / 1e6


def compare(name: str, language: str, texts: list[str], rounds: int) -> float:
    """One row a program; the rate of ours."""
    runs: dict[str, tuple[float, Callable[[], object]]] = {}
    for program, call in programs(language).items():
        part = texts[: max(8, int(len(texts) * SHARES.get(program, 1.0)))]
        runs[program] = (megabytes_of(part), lambda call=call, part=part: call(part))
    measured = rates(runs, rounds)
    ours = statistics.median(measured["haina"])
    for program, values in measured.items():
        median = statistics.median(values)
        print(
            f"| {name} | {program} | {median:,.2f} | {min(values):,.2f} to {max(values):,.2f} | {ours / median:,.1f} |"
        )
    return ours


def parts(name: str, texts: list[str], rounds: int) -> None:
    """What the passes cost by themselves, without packing Python strings into a buffer."""
    data, offsets = pack(texts)
    megabytes = len(data) / 1e6
    tokens = len(tokenize_batch(data, offsets).hashes)
    measured = rates(
        {
            "tokens": (megabytes, lambda: tokenize_batch(data, offsets)),
            "signatures": (megabytes, lambda: signatures_batch(data, offsets, WIDTH, PERMUTATIONS)),
            "sets": (megabytes, lambda: shingle_sets(data, offsets, WIDTH)),
        },
        rounds,
    )
    for kind, values in measured.items():
        median = statistics.median(values)
        print(
            f"| {name} | {kind} | {median:,.0f} | {min(values):,.0f} to {max(values):,.0f} "
            f"| {megabytes / median / tokens * 1e9:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--megabytes", type=float, default=10.0, help="of each set")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    use_kernel_cache()
    versions = ", ".join(
        f"{peer} {importlib.metadata.version(peer)}"
        for peer in ("datatrove", "rensa", "datasketch", "numba", "numpy")
    )
    print(
        f"Python {platform.python_version()}, {versions}, one core, {options.rounds} rounds, process CPU time\n"
    )
    sets = [
        (name, language, texts_of(options.data, files, low, high, int(options.megabytes * 1e6)))
        for name, language, files, low, high in SETS
    ]
    for name, _, texts in sets:
        size = megabytes_of(texts)
        print(f"{name}: {len(texts):,} documents, {size:.1f} MB, mean {size / len(texts) * 1e3:.1f} kB")
    print("\n| documents | program | MB/s | range | haina is faster by |\n|---|---|---:|---|---:|")
    ours = {name: compare(name, language, texts, options.rounds) for name, language, texts in sets}
    print(f"\nzh / en {ours['zh'] / ours['en']:.2f}, long {ours['zh long'] / ours['en long']:.2f}")
    print("\n| documents | pass | MB/s | range | ns a token |\n|---|---|---:|---|---:|")
    for name, _, texts in sets:
        parts(name, texts, options.rounds)


if __name__ == "__main__":
    main()
