"""What a corpus costs: documents, core-hours, storage and what moves between tasks, step by step.

Comes in: tokens wanted, what a source yields, rates of one core and of the disk. Goes out: a row a step, and which step
and which resource bounds the whole. Everything grows linearly, which the benchmarks of clustering support up to 100
million documents; it is a plan for budgets, good to a factor of about two.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from haina.corpus.config import CorpusConfig
from haina.corpus.dedup.bands import RECORD_BYTES, choose_banding
from haina.corpus.plan.rates import Rates
from haina.corpus.plan.sources import Yield

# zstd on text, columns of measures included, as the corpus stage writes it.
PARQUET_RATIO = 0.45
MEASURE_BYTES = 350
# Rank, key and verdict records that each document sends, and its identifiers.
FACT_BYTES = 120
# A shingle set is 8 bytes for each token of some 3 bytes of text.
SET_BYTES_PER_TEXT_BYTE = 2.0


@dataclass(frozen=True)
class Step:
    """One step of the corpus stage.

    Attributes:
        name: of the step.
        records: pages or documents that it takes.
        core_hours: on cores like the one that was measured.
        moved_bytes: written by tasks for other tasks, and read by them again.
        stored_bytes: what stands on disk when it ends, its inputs apart.
        cpu_hours, disk_hours: wall time with all cores, and with all disks.
    """

    name: str
    records: float
    core_hours: float
    moved_bytes: float
    stored_bytes: float
    cpu_hours: float
    disk_hours: float

    @property
    def hours(self) -> float:
        """Wall time: whichever takes longer."""
        return max(self.cpu_hours, self.disk_hours)

    @property
    def bound(self) -> str:
        """What it waits for."""
        return "processors" if self.cpu_hours >= self.disk_hours else "disks"


@dataclass(frozen=True)
class Plan:
    """The whole.

    Attributes:
        tokens, documents: what comes out. pages: what has to be read.
        raw_bytes: of the pages as stored. text_bytes: of the documents.
        steps: in order. peak_bytes: on disk at most, raw pages apart.
    """

    tokens: float
    documents: float
    pages: float
    raw_bytes: float
    text_bytes: float
    steps: tuple[Step, ...]
    peak_bytes: float

    @property
    def hours(self) -> float:
        """Wall time."""
        return sum(step.hours for step in self.steps)

    @property
    def core_hours(self) -> float:
        """Of all steps."""
        return sum(step.core_hours for step in self.steps)

    @property
    def slowest(self) -> Step:
        """The step that bounds."""
        return max(self.steps, key=lambda step: step.hours)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        steps = [{**asdict(step), "hours": step.hours, "bound": step.bound} for step in self.steps]
        return {
            **asdict(self), "steps": steps, "hours": self.hours, "core_hours": self.core_hours,
            "bounded_by": {"step": self.slowest.name, "resource": self.slowest.bound},
        }  # fmt: skip


def predict(
    tokens: float,
    bytes_per_token: float,
    found: Yield,
    rates: Rates,
    cores: int,
    disks: float,
    config: CorpusConfig,
) -> Plan:
    """The plan for `tokens` tokens.

    Args:
        tokens: of the finished corpus. bytes_per_token: UTF-8 bytes of text in a token.
        found: what the source yields. rates: of one core, and of one disk.
        cores: that work. disks: how many times the measured disk all machines have together.
        config: of the corpus stage; bands follow from its thresholds.
    """
    text = tokens * bytes_per_token
    documents = text / found.text_bytes_per_page
    pages = documents / found.share_kept
    in_languages = pages * found.share_in_languages
    living = in_languages * found.share_after_filters
    living_text = living * found.text_bytes_per_page
    scratch = living_text * PARQUET_RATIO + living * MEASURE_BYTES + (in_languages - living) * MEASURE_BYTES
    prints = living * (4 * config.permutations + FACT_BYTES)
    duplicates = living - documents

    def step(name: str, records: float, seconds: float, moved: float, stored: float, read: float) -> Step:
        disk = (2 * moved + stored + read) / (rates.disk_bytes_per_s * disks)
        return Step(name, records, seconds / 3600, moved, stored, seconds / cores / 3600, disk / 3600)

    def bands(threshold: float) -> int:
        return choose_banding(threshold, config.duplicate_recall, config.permutations).bands

    near = living * (bands(config.near_duplicate_similarity) * RECORD_BYTES + FACT_BYTES)
    # Each duplicate is compared with what stays for it: two sets move, at most.
    compared = 2 * duplicates * found.text_bytes_per_page
    loose = documents * (bands(config.split_similarity) * RECORD_BYTES + FACT_BYTES)
    extraction = pages * found.html_bytes_per_page * rates.html_s_per_byte
    measuring = in_languages * found.text_bytes_per_page * rates.text_s_per_byte
    raw = pages * found.compressed_bytes_per_page
    output = text * PARQUET_RATIO + (pages - living) * 100 + documents * MEASURE_BYTES
    steps = (
        step("read, extract, measure, score", pages, extraction + measuring, 0.0, scratch, raw),
        step("fingerprints", living, living_text * rates.signature_s_per_byte, 0.0, prints, scratch),
        step(
            "near-duplicates", living,
            living * rates.cluster_s_per_document + compared * rates.sets_s_per_byte,
            near + compared * SET_BYTES_PER_TEXT_BYTE, living * 40, prints,
        ),
        step(
            "clusters for the split", documents, documents * rates.cluster_s_per_document, loose, documents * 40,
            prints,
        ),
        step("write documents", documents, living_text * rates.write_s_per_byte, 0.0, output, scratch),
    )  # fmt: skip
    peak = scratch + prints + max(near + compared * SET_BYTES_PER_TEXT_BYTE, loose, output)
    return Plan(tokens, documents, pages, raw, text, steps, peak)
