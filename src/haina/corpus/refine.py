"""From extracted text to a measured document: language, cuts, private data, signals, quality.

Comes in: rows of pages with their text, some hundreds at once, since the kernels work on many texts. Goes out: the same
rows, each either with its measures or with the stage, reason and evidence of its end. Signals and quality describe
the text as it is written, after the cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

from haina.corpus.config import CorpusConfig
from haina.corpus.documents import PREVIEW_CHARACTERS, SIGNAL_PREFIX
from haina.corpus.edits import Edit, apply, through
from haina.corpus.records import clean_text
from haina.corpus.signals.names import SIGNALS

Row = dict[str, Any]
# Keys of a row that are no columns.
MARKUP = "markup"
MEASURED_AS = "measured_as"


def end(row: Row, stage: str, reason: str, evidence: str) -> None:
    """Mark a page as dropped; its text, if any, stays for a preview."""
    row |= {
        "stage": stage,
        "reason": reason,
        "evidence": clean_text(evidence)[:500],
        "preview": (row.get("text") or "")[:PREVIEW_CHARACTERS],
    }


def alive(rows: Sequence[Row]) -> list[Row]:
    """The rows that have not ended."""
    return [row for row in rows if row.get("stage") is None]


def _identify(rows: Sequence[Row], config: CorpusConfig) -> None:
    from haina.corpus.language import identify_batch

    for row, found in zip(rows, identify_batch([row["text"] for row in rows]), strict=True):
        row["lang"], row["lang_confidence"] = found.language, found.confidence
        # Signals and bounds have a Chinese and an English form; a text in both is measured as Chinese.
        row[MEASURED_AS] = "zh-Hans" if "zh" in found.detail or "yue" in found.detail else found.language
        spoken = found.detail.split("+") if found.language == "mixed" else []
        if not {found.language, *spoken} <= set(config.languages):
            detail = f"{found.language} {found.detail}".strip()
            end(row, "language", "other-language", f"{detail} {found.confidence:.3f}")
        elif found.confidence < config.min_language_confidence:
            end(row, "language", "uncertain-language", f"{found.language} {found.confidence:.3f}")


def _cut(rows: Sequence[Row], config: CorpusConfig) -> None:
    """Take bad sentences out and put placeholders for private data; the edits go into the rows."""
    cuts = _sentence_edits(rows) if config.edit_sentences else [(row["text"], []) for row in rows]
    found = _private_edits([text for text, _ in cuts]) if config.replace_private else [[] for _ in rows]
    for row, (text, edits), private in zip(rows, cuts, found, strict=True):
        row["text"] = apply(text, private)
        row["edits"] = through(edits, private)
        if not row["text"].strip():
            end(row, "edit", "nothing-left", f"{len(row['edits'])} cuts took everything")


def _sentence_edits(rows: Sequence[Row]) -> list[tuple[str, list[Edit]]]:
    """(text without bad sentences, what was taken out) of each row."""
    from haina.corpus.sentences import edit_documents

    edited = edit_documents([row["text"] for row in rows], [row[MEASURED_AS] for row in rows])
    found = []
    for row, item in zip(rows, edited, strict=True):
        raw = row["text"].encode("utf-8") if item.edits else b""
        edits = [
            Edit(
                cut.byte_start,
                cut.byte_end,
                cut.unit,
                cut.reason,
                cut.score,
                raw[cut.byte_start : cut.byte_end].decode("utf-8"),
            )
            for cut in item.edits
        ]
        found.append((item.text, edits))
    return found


def _private_edits(texts: Sequence[str]) -> list[list[Edit]]:
    """Placeholders for the private data of each text; the values themselves are kept nowhere."""
    from haina.corpus.privacy import KINDS, find_private_packed
    from haina.corpus.utf8 import pack

    edits: list[list[Edit]] = [[] for _ in texts]
    spans = find_private_packed(*pack(texts))
    for document, first, last, kind in zip(*(column.tolist() for column in spans), strict=True):
        name = KINDS[kind]
        edits[document].append(Edit(first, last, "span", name, 1.0, "", f"<{name.upper()}>"))
    return edits


def _measure(rows: Sequence[Row], config: CorpusConfig) -> None:
    from haina.corpus.signals import first_broken, measure_batch

    texts, languages = [row["text"] for row in rows], [row[MEASURED_AS] for row in rows]
    columns = measure_batch(texts, languages, [row[MARKUP] for row in rows])
    bounds = {language: config.bounds(language) for language in sorted(set(languages))}
    for index, row in enumerate(rows):
        values = {name: columns[name][index].item() for name in SIGNALS}
        # What is not known of a text without markup is null in the table, not NaN.
        row |= {SIGNAL_PREFIX + name: None if isnan(value) else value for name, value in values.items()}
        broken = first_broken(values, bounds[row[MEASURED_AS]])
        if broken is not None:
            end(row, "signals", *broken)


def _score(rows: Sequence[Row], config: CorpusConfig) -> None:
    from haina.corpus.quality import Scorer

    scores = Scorer.default().score([row["text"] for row in rows], [row[MEASURED_AS] for row in rows])
    for row, score in zip(rows, scores.tolist(), strict=True):
        row["score.quality"] = score
        if row.get("stage") is None and score < config.min_quality:
            end(row, "quality", "low-quality", f"{score:.3f} < {config.min_quality:g}")


def refine(rows: Sequence[Row], config: CorpusConfig) -> None:
    """Finish the living rows in place.

    Args:
        rows: pages; a living one has `text` and, under `MARKUP`, what extraction knows of its markup.
        config: languages, bounds, and what is cut.
    """
    if found := alive(rows):
        _identify(found, config)
    if found := alive(found):
        _cut(found, config)
    if found := alive(found):
        _measure(found, config)
        _score(found, config)
