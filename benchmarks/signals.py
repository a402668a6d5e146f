"""Claim: all signals of a 3-4 KB document in one pass, at 5,000 documents a second and more on one core, 50 times as
fast as datatrove's four filters (GopherQuality, GopherRepetition, C4Quality, FineWebQuality), in Chinese and English;
the pass equals its plain reference, and its presets decide as datatrove does.

Runs both on the same documents of ../shared/data in alternation, single-threaded, and prints medians with their range
and the ratio; then counts documents on which the kernels and `reference.py` differ, in a value or in a decision of any
preset; then compares decisions with datatrove's, document by document; then compression ratios with zlib's.
datatrove needs spaCy and jieba for its words. Differences in decisions come from words: spaCy parts `it's` and `e.g.`
in its own way, and C4's filter counts sentences with another splitter than ours.
Run: python benchmarks/signals.py [--data ../shared/data] [--documents 400] [--rounds 5] [--check 4000] [--agree 1000]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import logging
import math
import os
import platform
import random
import statistics
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import pyarrow.parquet as pq

from haina.corpus.signals import (
    COUNT_SIGNALS,
    SIGNALS,
    first_broken,
    load_preset,
    measure_batch,
    preset_names,
)
from haina.corpus.signals.names import PAGE_SIGNALS
from haina.corpus.signals.reference import measure_plain

LENGTHS = (3000, 4000)
LONGEST_CHECKED = 20_000
SETS = {"en": ("en_wikipedia",), "zh": ("zh_wikipedia", "zh_laws", "zh_histories_modern")}
POEMS = "zh_tang_poems"
# datatrove cuts Chinese into words (with jieba) under this code; under `zh` it takes clauses for words.
PEER_LANGUAGE = {"en": "en", "zh": "cmn_Hani"}


def texts_of(path: Path) -> Iterator[str]:
    """Texts of a Parquet file."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=2048, columns=["text"]):
            yield from (text for text in batch.column("text").to_pylist() if text)


def sample(
    data: Path, names: tuple[str, ...], count: int, wanted: Callable[[str], bool], seed: int
) -> list[str]:
    """`count` texts that `wanted` takes, spread over the files by reservoir sampling."""
    rng = random.Random(seed)
    taken: list[str] = []
    seen = 0
    for name in names:
        for text in texts_of(data / "text" / f"{name}.parquet"):
            if wanted(text):
                seen += 1
                if len(taken) < count:
                    taken.append(text)
                elif (place := rng.randrange(seen)) < count:
                    taken[place] = text
    return taken


def filters(language: str) -> dict[str, list[Any]]:
    """datatrove's filters with their own defaults, by the preset that restates them."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    return {
        "gopher": [GopherQualityFilter(language=language), GopherRepetitionFilter(language=language)],
        "c4": [C4QualityFilter(language=language)],
        "fineweb": [FineWebQualityFilter(language=language)],
    }


def verdict(members: list[Any], text: str) -> str:
    """The reason for which one of the filters drops a text, empty when all keep it."""
    from datatrove.data import Document

    for member in members:
        found = member.filter(Document(text=text, id="0"))
        if found is not True:
            return str(found[1])
    return ""


def speed(texts: list[str], language: str, rounds: int) -> None:
    """Time both on `texts`, in alternation."""
    groups = filters(PEER_LANGUAGE[language])
    members = [member for group in groups.values() for member in group]
    peer_texts = texts[: max(20, len(texts) // 10)]
    # Tokenisers and kernels are loaded by then.
    measure_batch(texts[:2], [language] * 2)
    for member in members:
        verdict([member], texts[0])
    ours, theirs = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        measure_batch(texts, [language] * len(texts))
        ours.append(len(texts) / (time.perf_counter() - start))
        start = time.perf_counter()
        for text in peer_texts:
            for member in members:
                verdict([member], text)
        theirs.append(len(peer_texts) / (time.perf_counter() - start))
    size = statistics.mean(len(text.encode()) for text in texts)
    for name, rates in (("haina", ours), ("datatrove", theirs)):
        print(
            f"{language} {name:10} median {statistics.median(rates):8,.0f} documents/s, "
            f"{min(rates):,.0f} to {max(rates):,.0f}, {rounds} rounds"
        )
    print(
        f"{language} ratio {statistics.median(ours) / statistics.median(theirs):.0f}, "
        f"{len(texts)} documents of {size:,.0f} bytes, {len(SIGNALS)} signals "
        f"(datatrove: the first {len(peer_texts)} of them)"
    )


def noise(count: int, seed: int) -> list[str]:
    """Random Unicode with many line ends, marks and repeats."""
    rng = random.Random(seed)
    marks = "。.!?… \n\n\tabAB12１的電电〇{}#@:/w.-•“”\"'）)\x0b\u3000\ufffd\ue000😀①½ﬁカ한́"
    out = []
    for _ in range(count):
        text = "".join(
            rng.choice(marks)
            if rng.random() < 0.6
            else chr(
                rng.choice(
                    (rng.randrange(0x300), rng.randrange(0x2000, 0xD800), rng.randrange(0xE000, 0x110000))
                )
            )
            for _ in range(rng.choice((3, 20, 100, 400)))
        )
        out.append(text * rng.choice((1, 1, 3)))
    return out


def differs(name: str, ours: float, plain: float) -> bool:
    """Whether two values of a signal are not the same: exactly for counts, 1e-9 relative for the others."""
    if math.isnan(ours) and math.isnan(plain):
        return False
    return (
        ours != plain if name in COUNT_SIGNALS else not math.isclose(ours, plain, rel_tol=1e-9, abs_tol=1e-12)
    )


def equality(texts: list[str], language: str, label: str) -> None:
    """Count the texts on which kernels and reference differ."""
    columns = measure_batch(texts, [language] * len(texts))
    group = "zh" if language == "zh" else "en"
    presets = {name: load_preset(name)[group] for name in preset_names()}
    values_differ = decisions_differ = 0
    signals: Counter[str] = Counter()
    for row, text in enumerate(texts):
        ours = {name: column[row].item() for name, column in columns.items()}
        plain = measure_plain(text, language)
        wrong = [
            name for name in SIGNALS if name not in PAGE_SIGNALS and differs(name, ours[name], plain[name])
        ]
        signals.update(wrong)
        values_differ += bool(wrong)
        decisions_differ += any(
            (first_broken(ours, bounds) or ("",))[0] != (first_broken(plain, bounds) or ("",))[0]
            for bounds in presets.values()
        )
    print(
        f"{label:28} {len(texts):6,} documents, {values_differ} differ in a value {dict(signals) or ''}, "
        f"{decisions_differ} in a decision; equal on {1 - values_differ / len(texts):.4%}"
    )


def agreement(texts: list[str]) -> None:
    """Compare decisions on English with datatrove's, and say what the differences are."""
    columns = measure_batch(texts, ["en"] * len(texts))
    for name, members in filters(PEER_LANGUAGE["en"]).items():
        bounds = load_preset(name)["en"]
        both: Counter[tuple[bool, bool]] = Counter()
        reasons: Counter[str] = Counter()
        for row, text in enumerate(texts):
            theirs = verdict(members, text)
            broken = first_broken({key: column[row].item() for key, column in columns.items()}, bounds)
            both[broken is not None, theirs != ""] += 1
            if (broken is not None) != (theirs != ""):
                reasons[f"only we: {broken[0]}" if broken else f"only they: {theirs}"] += 1
        same = both[True, True] + both[False, False]
        print(
            f"en {name:8} same decision on {same / len(texts):.2%} of {len(texts):,}; "
            f"dropped by both {both[True, True]}, by us {both[True, False]}, by datatrove {both[False, True]}"
        )
        for reason, times in reasons.most_common(6):
            print(f"   {times:5} {reason}")


def compression(texts: list[str], label: str) -> None:
    """How far `compression_ratio` is from zlib's."""
    ratios = measure_batch(texts, [label] * len(texts))["compression_ratio"]
    errors = [
        abs(ratio * len(zlib.compress(text.encode(), 1)) / len(text.encode()) - 1)
        for text, ratio in zip(texts, ratios.tolist(), strict=True)
    ]
    start = time.perf_counter()
    for text in texts:
        zlib.compress(text.encode(), 1)
    microseconds = (time.perf_counter() - start) / len(texts) * 1e6
    print(
        f"{label} compression_ratio: {statistics.mean(errors):.1%} from zlib level 1 on average, "
        f"{sorted(errors)[int(0.99 * len(errors))]:.1%} at the 99th percentile (zlib alone: {microseconds:.0f} us)"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--documents", type=int, default=400, help="documents timed, a language")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--check", type=int, default=4000, help="documents compared with the reference, in all"
    )
    parser.add_argument("--agree", type=int, default=1000, help="English documents compared with datatrove")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.data / "text").is_dir():
        print(
            f"{options.data}/text: not there; name the folder of the real data with --data", file=sys.stderr
        )
        raise SystemExit(2)
    for package in ("datatrove", "spacy"):
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed: pip install datatrove spacy jieba", file=sys.stderr)
            raise SystemExit(2)
    logging.disable(logging.WARNING)

    def of_length(text: str) -> bool:
        return LENGTHS[0] <= len(text.encode()) <= LENGTHS[1]

    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("datatrove", "numba", "numpy")
    )
    print(f"Python {platform.python_version()}, {versions}, {platform.machine()}, one thread")
    timed = {
        language: sample(options.data, names, options.documents, of_length, options.seed)
        for language, names in SETS.items()
    }
    for language, texts in timed.items():
        speed(texts, language, options.rounds)

    each = max(1, options.check // 5)
    for language, names in (*((group, (name,)) for group in SETS for name in SETS[group]), ("zh", (POEMS,))):
        texts = sample(options.data, names, each, lambda text: len(text) <= LONGEST_CHECKED, options.seed + 1)
        equality(texts, language, names[0])
    for language in SETS:
        equality(noise(each, options.seed + 2), language, f"random Unicode as {language}")

    agreement(
        sample(
            options.data, SETS["en"], options.agree, lambda text: len(text) <= LONGEST_CHECKED, options.seed
        )
    )
    for language, texts in timed.items():
        compression(texts, language)


if __name__ == "__main__":
    main()
