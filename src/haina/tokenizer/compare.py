"""Vocabularies side by side on the same texts.

In: samples of text files and opened vocabularies. Out: `Comparison`, one `Counts` for each vocabulary, file and
language, and all of it as a plain dictionary for JSON. All vocabularies take turns on every batch of texts, so that a
busy machine slows all of them alike.

Compress rate, after the tables of Baichuan-7B and Baichuan 2: tokens per character of a text that is nine parts Chinese
and one part English by bytes. Neither table says what was counted; docs/guide/compare.md shows how this was found.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.runtime.progress import Reporter
from haina.tokenizer.measure import Counts, Meter, batches
from haina.tokenizer.samples import LONGEST_BYTES, Sample
from haina.tokenizer.scripts import CLASSES, classes_of_pieces
from haina.tokenizer.vocabularies import Vocabulary

ENGLISH_SHARE = 0.1  # of the bytes of the compress rate's text
ALL = "all"
LIBRARIES = ("tokenizers", "sentencepiece", "tiktoken")
Key = tuple[str, str]  # file, language


def compress_rate(chinese: Counts, english: Counts) -> float | None:
    """Tokens per character of Chinese and English nine to one by bytes; None when one is missing."""
    if not chinese.bytes or not english.bytes:
        return None
    parts = ((1 - ENGLISH_SHARE, chinese), (ENGLISH_SHARE, english))
    tokens = sum(share * counts.tokens / counts.bytes for share, counts in parts)
    characters = sum(share * counts.characters / counts.bytes for share, counts in parts)
    return round(tokens / characters, 4)


@dataclass
class Measured:
    """What one vocabulary did.

    Attributes:
        counts: for each file and language.
        used: how often each id was used, for each file: int64 [ids].
    """

    vocabulary: Vocabulary
    counts: dict[Key, Counts] = field(default_factory=dict)
    used: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def total(self, file: str = ALL, language: str = ALL) -> Counts:
        """Counts of a file and a language together, or of all."""
        return sum(
            (
                counts
                for (of_file, of_language), counts in self.counts.items()
                if file in (ALL, of_file) and language in (ALL, of_language)
            ),
            Counts(),
        )

    def by_script(self) -> list[dict[str, Any]]:
        """For each class of pieces: how many there are, how many the texts used, and their share of all tokens."""
        classes = classes_of_pieces(self.vocabulary.pieces, self.vocabulary.kinds)
        used = sum(self.used.values(), np.zeros(self.vocabulary.size, np.int64))
        tokens = int(used.sum())
        rows = []
        for number, name in enumerate(CLASSES):
            members = classes == number
            if members.any():
                share = float(used[members].sum()) / tokens if tokens else 0.0
                rows.append(
                    {
                        "script": name,
                        "pieces": int(np.count_nonzero(members)),
                        "used": int(np.count_nonzero(used[members])),
                        "token_share": round(share, 4),
                    }
                )
        return rows


@dataclass
class Comparison:
    """Samples and what each vocabulary did on them."""

    samples: list[Sample]
    measured: list[Measured]

    def languages(self) -> list[str]:
        """Languages of the texts, sorted."""
        return sorted({language for sample in self.samples for language, _ in sample.documents})

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON; `texts`, `vocabularies`, `results` and `conditions`."""
        return {
            "texts": [_text(sample) for sample in self.samples],
            "vocabularies": [_vocabulary(measured) for measured in self.measured],
            "results": self.results(),
            "conditions": _conditions(),
        }

    def results(self) -> list[dict[str, Any]]:
        """One row for each vocabulary, file and language; `all` stands for the sum."""
        rows = []
        for file in [*(sample.name for sample in self.samples), ALL]:
            for language in [*self.languages(), ALL]:
                for measured in self.measured:
                    counts = measured.total(file, language)
                    if counts.documents:
                        names = {"text": file, "language": language, "vocabulary": measured.vocabulary.name}
                        rows.append({**names, **counts.rates()})
        return rows


def _text(sample: Sample) -> dict[str, Any]:
    return {
        "name": sample.name,
        "file": str(sample.path),
        "documents": sample.read,
        "bytes": sample.read_bytes,
        "measured_documents": len(sample.documents),
        "measured_bytes": sample.bytes,
        "shortened_documents": sample.shortened,
        "bad_rows": dict(sorted(sample.bad.items())),
    }


def _vocabulary(measured: Measured) -> dict[str, Any]:
    vocabulary = measured.vocabulary
    used = sum(measured.used.values(), np.zeros(vocabulary.size, np.int64))
    return {
        "name": vocabulary.name,
        "file": str(vocabulary.path),
        "kind": vocabulary.kind,
        "size": vocabulary.size,
        "used": int(np.count_nonzero(used)),
        "compress_rate": compress_rate(measured.total(language="zh"), measured.total(language="en")),
        "by_script": measured.by_script(),
    }


def _conditions() -> dict[str, Any]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "speed": "MB of UTF-8 text per second of processor time, one thread, texts given one after another",
        "compress_rate": f"tokens per character, {ENGLISH_SHARE:.0%} of the bytes English, the rest Chinese",
        "longest_document_bytes": LONGEST_BYTES,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "versions": versions,
    }


def compare(samples: Sequence[Sample], vocabularies: Sequence[Vocabulary], reporter: Reporter) -> Comparison:
    """Measure every vocabulary on every sample.

    Raises:
        HainaError: no vocabulary.
    """
    if not vocabularies:
        raise HainaError("compare: no vocabulary", "name at least one with --with FILE")
    measured = [Measured(vocabulary) for vocabulary in vocabularies]
    meters = [Meter(vocabulary) for vocabulary in vocabularies]
    total = sum(sample.bytes for sample in samples)
    warm = False
    with reporter.task("measure", total, "bytes") as task:
        for sample in samples:
            for language, texts in sample.by_language().items():
                for batch in batches(texts):
                    if not warm:  # what libraries make on first use is no part of their speed
                        for vocabulary in vocabularies:
                            vocabulary.encode(batch)
                        warm = True
                    for meter, result in zip(meters, measured, strict=True):
                        counts, used = meter.count(batch)
                        key = (sample.name, language)
                        result.counts[key] = result.counts.get(key, Counts()) + counts
                        result.used[sample.name] = result.used.get(sample.name, 0) + used
                    task.advance(sum(len(text.encode("utf-8")) for text in batch))
    return Comparison(list(samples), measured)
