"""How fast this machine does each step of the corpus stage: one core, a few seconds a step.

Comes in: nothing; the pages are made up, Chinese and English in equal parts, because rates depend on lengths and on the
script, not on what is said. Goes out: CPU seconds per byte, page or document, medians of several runs, and the rate of
the disk.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.blocks import whole_file
from haina.corpus.config import CorpusConfig
from haina.corpus.curate import open_page
from haina.corpus.dedup.clusters import cluster_documents
from haina.corpus.dedup.fingerprint import Part, fingerprint_parts
from haina.corpus.dedup.layout import ClusterConfig
from haina.corpus.dedup.minhash import signatures_batch
from haina.corpus.dedup.shingles import shingle_sets
from haina.corpus.records import Page
from haina.corpus.refine import alive, refine
from haina.corpus.sources import Source
from haina.corpus.utf8 import pack
from haina.runtime.errors import HainaError
from haina.runtime.executor import LocalExecutor
from haina.runtime.files import read_json
from haina.runtime.progress import Reporter, SilentProgress

RUNS = 5
_PAGES = 96
_CLUSTERED = 20_000
_HAN = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说"
_ENGLISH = "the of and to in is that for it as was with be by on not he but at are this have from or had an they which"


@dataclass(frozen=True)
class Rates:
    """Costs on one core.

    Attributes:
        html_s_per_byte: reading, extraction: CPU seconds a byte of HTML.
        text_s_per_byte: language, cuts, signals, quality: CPU seconds a byte of text.
        signature_s_per_byte: fingerprints.
        sets_s_per_byte: shingle sets, for what is compared exactly.
        cluster_s_per_document: ranking, buckets, components, verdicts.
        write_s_per_byte: Parquet with zstd, of text.
        disk_bytes_per_s: written and flushed.
    """

    html_s_per_byte: float
    text_s_per_byte: float
    signature_s_per_byte: float
    sets_s_per_byte: float
    cluster_s_per_document: float
    write_s_per_byte: float
    disk_bytes_per_s: float


def made_up_texts(count: int, size: int, seed: int) -> list[str]:
    """`count` texts of about `size` bytes of UTF-8, every second one Chinese, with a Zipf-like use of words."""
    rng = random.Random(seed)
    texts = []
    for index in range(count):
        units = _HAN if index % 2 else _ENGLISH.split()
        weights = [1 / (rank + 1) for rank in range(len(units))]
        length = size // 3 if index % 2 else size // 5
        words = rng.choices(units, weights, k=length)
        lines = []
        while words:
            cut = rng.randint(10, 40)
            lines.append(
                "".join(words[:cut]) + "。" if index % 2 else " ".join(words[:cut]).capitalize() + "."
            )
            del words[:cut]
        texts.append("\n".join(lines))
    return texts


def _page(text: str, size: int) -> bytes:
    body = "".join(f"<p>{line}</p>" for line in text.split("\n"))
    item = '<li class="menu-item"><a href="/a/b/c.html" title="x">Home 首页</a></li><script>var a={"b":1};</script>'
    fill = item * max(1, (size - len(body.encode())) // (2 * len(item.encode())))
    inside = f"<ul>{fill}</ul><article>{body}</article><ul>{fill}</ul>"
    return f"<html><head><title>t</title></head><body>{inside}</body></html>".encode()


def _median(run: Callable[[], object], amount: float) -> float:
    """CPU seconds a unit: the median of some runs, after one that compiles."""
    run()
    seconds = []
    for _ in range(RUNS):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds) / amount


def measure_rates(html_bytes: float, text_bytes: float, reporter: Reporter | None = None) -> Rates:
    """Rates for pages of these sizes; about a minute, most of it compiling when kernels are not compiled yet.

    Args:
        html_bytes: markup of a page; pages without are measured as text.
        text_bytes: text of a page.
        reporter: progress.
    """
    reporter = reporter or SilentProgress()
    config = CorpusConfig()
    texts = made_up_texts(_PAGES, int(text_bytes), 1)
    source = Source("plan", "plan", "html", 0)
    as_text = [Page(str(index), text, False) for index, text in enumerate(texts)]

    def refined(pages: list[Page]) -> Callable[[], object]:
        def run() -> object:
            rows = [open_page(page, source, config) for page in pages]
            refine(rows, config)
            return alive(rows)

        return run

    size = sum(len(text.encode()) for text in texts)
    with reporter.task("measuring this machine", 6, "steps") as task:
        text_rate = _median(refined(as_text), size)
        task.advance()
        html_rate = 0.0
        if html_bytes:
            raw = [_page(text, int(html_bytes)) for text in texts]
            pages = [Page(str(index), data, True) for index, data in enumerate(raw)]
            whole = _median(refined(pages), 1.0)
            html_rate = max(0.0, whole - text_rate * size) / sum(map(len, raw))
        task.advance()
        data, offsets = pack(texts)
        signature_rate = _median(
            lambda: signatures_batch(data, offsets, config.shingle_tokens, config.permutations), size
        )
        sets_rate = _median(lambda: shingle_sets(data, offsets, config.shingle_tokens), size)
        task.advance()
        with tempfile.TemporaryDirectory(prefix="haina-plan-") as folder:
            cluster_rate = _cluster_rate(Path(folder), config)
            task.advance()
            table = pa.table({"text": texts})
            target = Path(folder) / "write.parquet"
            write_rate = _median(lambda: pq.write_table(table, target, compression="zstd"), size)
            task.advance()
            disk = _disk_rate(Path(folder) / "disk")
            task.advance()
    return Rates(html_rate, text_rate, signature_rate, sets_rate, cluster_rate, write_rate, disk)


def _cluster_rate(folder: Path, config: CorpusConfig) -> float:
    """CPU seconds a document of clustering, over short documents of which some are alike."""
    rng = random.Random(2)
    texts = made_up_texts(_CLUSTERED, 200, 3)
    for index in range(0, _CLUSTERED, 3):
        texts[index] = texts[rng.randrange(_CLUSTERED)]
    table = pa.table({"id": [str(index) for index in range(_CLUSTERED)], "text": texts})
    path = folder / "documents.parquet"
    pq.write_table(table, path)
    settings = ClusterConfig(threshold=config.near_duplicate_similarity, partitions=1)
    seconds = []
    for run in range(2):  # the first compiles
        executor = LocalExecutor(1)
        sources = fingerprint_parts(
            executor, folder / f"prints-{run}", [Part(whole_file(0, path, 0))], [_CLUSTERED],
            config.shingle_tokens, config.permutations,
        )  # fmt: skip
        start = time.process_time()
        cluster_documents(executor, folder / f"clusters-{run}", sources, settings)
        seconds.append(time.process_time() - start)
    return seconds[-1] / _CLUSTERED


def _disk_rate(path: Path) -> float:
    """Bytes a second of writing and flushing 256 MiB."""
    block = np.random.default_rng(0).bytes(16 << 20)
    start = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(16):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return (256 << 20) / max(time.perf_counter() - start, 1e-6)


def read_rates(path: Path) -> Rates:
    """Rates that `haina plan corpus --json` printed.

    Raises:
        HainaError: the file holds none.
    """
    found = read_json(path)
    try:
        rates = Rates(**{name: float(value) for name, value in found.get("rates", found).items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise HainaError(
            f"{path}: no rates ({error})", "give what `haina plan corpus --json` printed"
        ) from error
    if not all(0 <= value < math.inf for value in asdict(rates).values()) or rates.disk_bytes_per_s <= 0:
        raise HainaError(f"{path}: rates have to be positive", "give what `haina plan corpus --json` printed")
    return rates
