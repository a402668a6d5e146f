"""Claim: the whole corpus stage over real text - what came in, what went and why, what stays - and how fast, beside
datatrove's published pipeline (FineWeb's filters and MinHash) on the same documents and cores.

Runs `haina curate` on every document of ../shared/data/text with two workers, then both on a sample of it. datatrove's
language filter is left out, because its model has to be downloaded, and so is its extraction, since the sets are text;
haina does language, cuts, private data, 68 signals, quality and duplicates. FineWeb's filters and bounds are used for
English, FineWeb-2's word splitter and bounds (as far as they are published) for Chinese.
Run: python benchmarks/corpus_stage.py [--data ../shared/data] [--sample 1500] [--workers 2] [--no-peer]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

SETS = {
    "zh_wikipedia": "cmn_Hani",
    "en_wikipedia": "en",
    "zh_laws": "cmn_Hani",
    "zh_tang_poems": "cmn_Hani",
    "zh_histories_modern": "cmn_Hani",
}


def texts_of(path: Path) -> Iterator[str]:
    """Texts of a Parquet file."""
    for batch in pq.ParquetFile(path).iter_batches(batch_size=4096, columns=["text"]):
        yield from (text for text in batch.column("text").to_pylist() if text)


def watched(command: list[str]) -> tuple[float, int, str]:
    """Seconds, peak memory of the process tree in bytes, and standard output of a command."""
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as out:
        process = psutil.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            try:
                tree = [process, *process.children(recursive=True)]
                peak = max(peak, sum(part.memory_info().rss for part in tree))
            except psutil.Error:  # one of them ended just now
                pass
            time.sleep(0.2)
        seconds = time.perf_counter() - start
        out.seek(0)
        text = out.read().decode()
    if process.returncode:
        raise SystemExit(f"{command}: exit {process.returncode}")
    return seconds, peak, text


def write_sample(data: Path, folder: Path, count: int, seed: int) -> dict[str, int]:
    """`count` documents of each set as JSON lines; bytes of text by set."""
    folder.mkdir(parents=True)
    sizes = {}
    for name in SETS:
        rng = random.Random(seed)
        texts = list(texts_of(data / f"{name}.parquet"))
        chosen = rng.sample(texts, min(count, len(texts)))
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for number, text in enumerate(chosen):
                file.write(json.dumps({"id": f"{name}{number}", "text": text}, ensure_ascii=False) + "\n")
        sizes[name] = sum(len(text.encode()) for text in chosen)
    return sizes


def curate(inputs: list[Path], out: Path, workers: int) -> None:
    """Run the stage and print its accounts."""
    command = [
        sys.executable, "-m", "haina", "curate", *map(str, inputs), "--out", str(out),
        "--workers", str(workers), "--json",
    ]  # fmt: skip
    seconds, peak, text = watched(command)
    summary = json.loads(text)
    pages, size = summary["pages"], sum(item["bytes"] for item in summary["by_language"].values())
    print(
        f"haina: {pages:,} documents in, {summary['dropped']:,} dropped, {summary['documents']:,} out "
        f"({size / 1e6:.0f} MB); {seconds:.0f} s, {pages / seconds:,.0f} documents/s with {workers} workers, "
        f"peak memory {peak / 2**30:.2f} GiB"
    )
    for item in summary["by_reason"]:
        print(f"    {item['stage']:16} {item['reason']:34} {item['count']:8,}")


def datatrove_job(folder: Path, work: Path, workers: int) -> None:
    """datatrove's filters and its four MinHash steps."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(hash_config=HashConfig(precision=64, hash_fc="sha1"))
    for language in sorted(set(SETS.values())):
        names = [name for name, own in SETS.items() if own == language]
        base = work / language
        if language == "en":
            filters = [
                GopherRepetitionFilter(language=language),
                GopherQualityFilter(language=language),
                C4QualityFilter(filter_no_terminal_punct=False, language=language),
                FineWebQualityFilter(language=language),
            ]
        else:  # FineWeb-2 has no C4 filter, and these bounds for cmn_Hani
            filters = [
                GopherRepetitionFilter(dup_line_frac=0.287, language=language),
                GopherQualityFilter(
                    min_avg_word_length=1, max_avg_word_length=5, min_stop_words=0, language=language
                ),
                FineWebQualityFilter(
                    line_punct_thr=0.106, short_line_thr=999, char_duplicates_ratio=0.1, new_line_ratio=0.3,
                    stop_chars=tuple("。！？…；”’）.!?"), language=language,
                ),
            ]  # fmt: skip
        pipeline = [
            JsonlReader(str(folder), glob_pattern=None, paths_file=_paths_file(base, names)),
            *filters,
            JsonlWriter(str(base / "filtered"), compression=None),
        ]
        filtered, signatures, buckets, remove = (
            str(base / name) for name in ("filtered", "sig", "buckets", "remove")
        )
        kept = JsonlWriter(str(base / "out"), compression=None)
        signed = MinhashDedupSignature(signatures, config=config, language=language)
        steps: list[tuple[list[Any], int]] = [
            (pipeline, len(names)),
            ([JsonlReader(filtered), signed], len(names)),
            ([MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets),
            ([MinhashDedupCluster(buckets, remove, config=config)], 1),
            ([JsonlReader(filtered), MinhashDedupFilter(remove), kept], len(names)),
        ]
        for number, (step, tasks) in enumerate(steps):
            LocalPipelineExecutor(
                pipeline=step,
                tasks=tasks,
                workers=min(workers, tasks),
                logging_dir=str(base / f"log{number}"),
            ).run()


def _paths_file(base: Path, names: list[str]) -> str:
    base.mkdir(parents=True)
    path = base / "paths.txt"
    path.write_text("".join(f"{name}.jsonl\n" for name in names), encoding="utf-8")
    return str(path)


def main() -> None:
    """Both on the sample, haina on everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sample", type=int, default=1500, help="documents of each set that both are given")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--datatrove", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.datatrove:
        datatrove_job(options.datatrove, options.datatrove.parent / "datatrove", options.workers)
        return
    data = options.data / "text"
    if not data.is_dir():
        print(f"{data}: no text here; this benchmark needs the project's data")
        return
    print(f"Python {platform.python_version()}, datatrove {importlib.metadata.version('datatrove')}")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        print("== every document")
        curate([data / f"{name}.parquet" for name in SETS], work / "all", options.workers)
        sizes = write_sample(data, work / "sample", options.sample, 1)
        count = sum(1 for path in (work / "sample").iterdir() for _ in path.open(encoding="utf-8"))
        print(f"== a sample: {count:,} documents, {sum(sizes.values()) / 1e6:.1f} MB")
        curate([work / "sample"], work / "some", options.workers)
        if not options.no_peer:
            command = [
                sys.executable,
                __file__,
                "--datatrove",
                str(work / "sample"),
                "--workers",
                str(options.workers),
            ]
            seconds, peak, _ = watched(command)
            kept = sum(
                1 for path in (work / "datatrove").glob("*/out/*.jsonl") for _ in path.open(encoding="utf-8")
            )
            print(
                f"datatrove: {count:,} in, {kept:,} out; {seconds:.0f} s, {count / seconds:,.0f} documents/s, "
                f"peak memory {peak / 2**30:.2f} GiB"
            )


if __name__ == "__main__":
    main()
