"""Claim: repeats are found exactly, in Chinese as in English, at >= 20 MB/s a core for lines and 10 for substrings.

1. Speed: haina repeats, all tasks with reading and writing, on Wikipedia in both languages: MB of text a second of
   CPU time, and the peak memory of a process that does nothing else.
2. Planted repeats: blocks of three sentences, each put into eight documents as a paragraph of its own, four times as
   it is and four times changed in what is no difference (zh: traditional characters and full-width digits; en: upper
   case, other marks). The documents shared no sentence and no 50 tokens before. Recall: copies of
   sentences that are not left whole, the one that stays aside. Lost: tokens of the documents themselves that went.
   Beside it datatrove's sentence deduplication with its settings (spans of three sentences), which also keeps the
   first of each.
3. Exactness: places of repeated windows of 50 tokens against a suffix array (NumPy, prefix doubling: Manber, Myers
   1993) that knows no hashes of windows, and the time of both.

Run: OMP_NUM_THREADS=1 python benchmarks/repeats.py [--data ../shared/data] [--megabytes 12] [--blocks 40]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import multiprocessing
import platform
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.dedup.shingles import tokenize_batch, tokens_of
from haina.corpus.repeats.config import LEVELS, Level, RepeatsConfig
from haina.corpus.repeats.find import find_repeats
from haina.corpus.repeats.rows import read_note
from haina.corpus.repeats.run import run_repeats
from haina.corpus.repeats.units import units
from haina.corpus.utf8 import pack
from haina.runtime.executor import LocalExecutor
from haina.runtime.measure import Measurement

FILES = {"zh": "zh_wikipedia", "en": "en_wikipedia"}
WIDTH = 50
COPIES = 8
LEAST = 60  # tokens of a block: a window and some
Documents = list[tuple[str, str]]


def documents_of(path: Path, megabytes: float, skip: int = 0) -> Documents:
    """Documents of a file from row `skip` on, until there are so many megabytes of text."""
    found: Documents = []
    held = row = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=["text"]):
        for text in batch.column("text").to_pylist():
            row += 1
            if row > skip and len(text) > 100:
                found.append((f"{path.stem}-{row}", text))
                held += len(text.encode())
                if held > megabytes * 1e6:
                    return found
    return found


def write(path: Path, documents: Documents) -> Path:
    """A Parquet file."""
    names, texts = zip(*documents, strict=True)
    pq.write_table(pa.table({"id": pa.array(names), "text": pa.array(texts)}), path, row_group_size=2000)
    return path


# --------------------------------------------------------------------------- speed


def _measure(item: tuple[Path, Level]) -> tuple[float, float, float]:
    """(MB, CPU seconds, peak MB) of a whole search in this process, kernels compiled before."""
    path, level = item
    config = RepeatsConfig(level=level)
    with tempfile.TemporaryDirectory() as name, LocalExecutor() as executor:
        folder = Path(name)
        small = write(folder / "small.parquet", [("a", "一二三四五" * 20), ("b", "一二三四五" * 20)])
        find_repeats(executor, folder / "warm", [small], config, folder / "warm-out")
        with Measurement() as measured:
            start = time.process_time()
            found = find_repeats(executor, folder / "work", [path], config, folder / "out")
            seconds = time.process_time() - start
        size = sum(read_note(part)["bytes"] for part in found.repeats)
    return size / 1e6, seconds, measured.peak_memory_bytes / 1e6


def speed(data: Path, megabytes: float) -> None:
    """Print the first table."""
    print("| level | zh MB/s | zh peak MB | en MB/s | en peak MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        paths = {
            language: write(
                Path(name) / f"{language}.parquet", documents_of(data / f"{file}.parquet", megabytes)
            )
            for language, file in FILES.items()
        }
        for level in LEVELS:
            cells = []
            for language in FILES:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    size, seconds, peak = pool.map(_measure, [(paths[language], level)])[0]
                cells += [f"{size / seconds:.1f}", f"{peak:.0f}"]
            print(f"| {level} | {' | '.join(cells)} |", flush=True)


# --------------------------------------------------------------------------- planted repeats


def key(text: str) -> bytes:
    """What two texts share that differ in script, width, case and marks only."""
    return tokenize_batch(*pack([text])).hashes.tobytes()


def sentences_of(text: str) -> list[str]:
    """Sentences of a text."""
    raw = text.encode()
    return [raw[start:end].decode() for start, end in units(text, "sentence")]


def changed(text: str, language: str) -> str:
    """The text in another script, width and case, with other marks."""
    if language == "zh":
        from opencc import OpenCC

        wide = {code: code + 0xFEE0 for code in range(ord("0"), ord("9") + 1)}
        return str(OpenCC("s2t").convert(text)).translate(wide)
    return text.upper().replace(",", ";").replace('"', "'")


def without_repeats(documents: Documents, folder: Path) -> Documents:
    """The documents that share no sentence of 10 tokens and no window with another."""
    path = write(folder / "all.parquet", documents)
    bad: set[str] = set()
    with LocalExecutor() as executor:
        for level in ("sentence", "substring"):
            config = RepeatsConfig(level=level, min_documents=1, min_tokens=WIDTH)
            found = find_repeats(executor, folder / f"w{level}", [path], config, folder / f"o{level}")
            for part in found.repeats:
                rows = pq.read_table(part, columns=["id", "tokens"]).to_pylist()
                bad |= {row["id"] for row in rows if row["tokens"] >= 10}
    return [(name, text) for name, text in documents if name not in bad]


def plant(
    documents: Documents, others: Documents, language: str, blocks: int, seed: int
) -> tuple[Documents, list[Any]]:
    """The documents with blocks in them; of each block its sentences' keys and its copies (document, kind)."""
    choose = random.Random(seed)
    texts = dict(documents)
    least = 20 if language == "zh" else 12  # more than the tokens from which a sentence goes
    taken = []
    for _, text in others:
        own = [part for part in sentences_of(text) if len(key(part)) >= 8 * least and "\n" not in part]
        if len(taken) < blocks and len(b"".join(map(key, own[:3]))) >= 8 * LEAST:
            taken.append(own[:3])
    planted = []
    for own in taken:
        names = choose.sample([name for name, _ in documents], COPIES)
        joined = ("" if language == "zh" else " ").join(own)
        places = []
        for number, name in enumerate(names):
            kind = "exact" if number < COPIES // 2 else "changed"
            block = joined if kind == "exact" else changed(joined, language)
            lines = texts[name].split("\n")
            lines.insert(choose.randrange(len(lines) + 1), f"\n{block}\n")
            texts[name] = "\n".join(lines)
            places.append((name, kind))
        planted.append(([key(part) for part in own], places))
    return list(texts.items()), planted


def judged(
    before: Documents, after: dict[str, str], planted: Sequence[Any]
) -> tuple[dict[str, float], float]:
    """Recall by sentence of exact and of changed copies, and own tokens lost per million.

    Args:
        before: the documents before anything was planted.
        after: what a tool left of those with blocks in them.
        planted: of each block the keys of its sentences, and (document, exact or changed) of each copy.
    """
    left = {name: key(text) for name, text in after.items()}
    missed, possible = Counter[str](), Counter[str]()
    for keys, places in planted:
        for own in keys:
            still = [kind for name, kind in places if own in left.get(name, b"")]
            possible.update(kind for _, kind in places)
            possible[still[0] if still else "exact"] -= 1  # one may stay
            missed.update(still[1:])
    lost = total = 0
    for name, text in before:
        own = Counter(tokens_of(text).tolist())
        lost += (own - Counter(tokens_of(after.get(name, "")).tolist())).total()
        total += own.total()
    return {kind: 1 - missed[kind] / possible[kind] for kind in ("exact", "changed")}, 1e6 * lost / total


def ours(documents: Documents, level: Level, folder: Path) -> tuple[dict[str, str], float]:
    """Texts after removal, and CPU seconds."""
    path = write(folder / "in.parquet", documents)
    start = time.process_time()
    with LocalExecutor() as executor:
        run_repeats(executor, [path], RepeatsConfig(level=level), folder / level, removal=True)
    seconds = time.process_time() - start
    found = [pq.read_table(part) for part in (folder / level / "documents").glob("part-*")]
    return {row["id"]: row["text"] for table in found for row in table.to_pylist()}, seconds


def datatrove(documents: Documents, language: str, folder: Path) -> tuple[dict[str, str], float]:
    """The same through datatrove's three steps, with its settings."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup.sentence_dedup import (
        SentDedupConfig,
        SentenceDedupFilter,
        SentenceDedupSignature,
        SentenceFindDedups,
    )
    from datatrove.utils.hashing import HashConfig

    def stream() -> Iterator[Document]:
        for name, text in documents:
            yield Document(text=text, id=name)

    # Its default hash fails with xxhash 4 (it hands over strings); SHA-1 is its other choice.
    config = SentDedupConfig(hash_config=HashConfig(hash_fc="sha1"))
    name = {"zh": "cmn_Hani", "en": "eng_Latn"}[language]
    start = time.process_time()
    SentenceDedupSignature(str(folder / "s"), config=config, language=name).run(stream())
    SentenceFindDedups(str(folder / "s"), str(folder / "d"), config=config).run()
    filtering = SentenceDedupFilter(str(folder / "d"), config=config, language=name)
    after = {found.id: found.text for found in filtering.run(stream())}
    return after, time.process_time() - start


def planted_repeats(data: Path, megabytes: float, blocks: int) -> None:
    """Print the second table."""
    print(
        "| tool | language | exact copies | changed copies | own tokens lost per million | MB/s |\n"
        "|---|---|---|---|---|---|"
    )
    for language, file in FILES.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path = data / f"{file}.parquet"
            clean = without_repeats(documents_of(path, megabytes), folder)
            documents, planted = plant(clean, documents_of(path, 2, 40_000), language, blocks, 7)
            size = sum(len(text.encode()) for _, text in documents) / 1e6
            for level in LEVELS:
                after, seconds = ours(documents, level, folder)
                recall, false = judged(clean, after, planted)
                print(
                    f"| haina {level} | {language} | {recall['exact']:.3f} | {recall['changed']:.3f} | {false:.0f} "
                    f"| {size / seconds:.1f} |",
                    flush=True,
                )
            try:
                after, seconds = datatrove(documents, language, folder)
            except Exception as error:  # a missing tokenizer, above all: say so and go on
                print(
                    f"| datatrove sentences | {language} | not run: {type(error).__name__}: {str(error)[:80]} | | | |"
                )
                continue
            recall, false = judged(clean, after, planted)
            print(
                f"| datatrove sentences | {language} | {recall['exact']:.3f} | {recall['changed']:.3f} | {false:.0f} "
                f"| {size / seconds:.2f} |",
                flush=True,
            )


# --------------------------------------------------------------------------- exactness


def suffix_windows(tokens: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    """Places of windows of `width` tokens that stand more than once: ranks of ever longer prefixes of all suffixes."""
    rank = np.unique(tokens, return_inverse=True)[1].astype(np.int64)
    length = 1
    while length < width:
        step = length if 2 * length <= width else width - length
        count = len(rank) - step
        rank = np.unique(rank[:count] * (int(rank.max()) + 1) + rank[step:], return_inverse=True)[1]
        length += step
    return np.flatnonzero(np.bincount(rank)[rank] > 1)


def exactness(data: Path, megabytes: float) -> None:
    """Print the third table."""
    print(
        "| language | tokens | repeated places | missed | invented | suffix array s | haina s |\n"
        "|---|---|---|---|---|---|---|"
    )
    for language, file in FILES.items():
        documents = documents_of(data / f"{file}.parquet", megabytes)
        # The last tenth again, so that there is something to find; one document, so that places are places.
        text = "\n".join(own for _, own in [*documents, *documents[-len(documents) // 10 :]])
        tokens = tokenize_batch(*pack([text]))
        start = time.process_time()
        expected = suffix_windows(tokens.hashes, WIDTH)
        theirs = time.process_time() - start
        with tempfile.TemporaryDirectory() as name, LocalExecutor() as executor:
            folder = Path(name)
            path = write(folder / "in.parquet", [("one", text)])
            start = time.process_time()
            found = find_repeats(
                executor, folder / "w", [path], RepeatsConfig(level="substring"), folder / "o"
            )
            seconds = time.process_time() - start
            table = pq.read_table(found.repeats[0])
        first = np.searchsorted(tokens.starts, table.column("start").to_numpy())
        windows = table.column("tokens").to_numpy() - WIDTH + 1
        places = np.concatenate([np.arange(at, at + count) for at, count in zip(first, windows, strict=True)])
        missed, invented = len(np.setdiff1d(expected, places)), len(np.setdiff1d(places, expected))
        print(
            f"| {language} | {len(tokens.hashes):,} | {len(expected):,} | {missed} | {invented} | {theirs:.2f} "
            f"| {seconds:.2f} |",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--megabytes", type=float, default=12)
    parser.add_argument("--blocks", type=int, default=40)
    options = parser.parse_args()
    data = options.data / "text"
    try:
        peer = importlib.metadata.version("datatrove")
    except importlib.metadata.PackageNotFoundError:
        peer = "not installed"
    print(
        f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, datatrove {peer}; "
        "MB/s and s are of CPU time\n"
    )
    speed(data, options.megabytes)
    print()
    planted_repeats(data, options.megabytes / 4, options.blocks)
    print()
    exactness(data, options.megabytes / 12)


if __name__ == "__main__":
    main()
