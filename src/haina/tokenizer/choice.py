"""Which documents a vocabulary is learnt from, how often each counts, and on which it is measured.

In: Parquet, JSON lines or text files, whose documents may name their language, source and near-duplicate cluster. Out:
texts by group. Three numbers a document are kept in memory, never its text.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.runtime.held_out import split_position
from haina.runtime.languages import languages
from haina.runtime.text_files import input_files, plan_blocks, read_block
from haina.tokenizer.config import TokenizerConfig

BLOCK_BYTES = 16 << 20
# A text is traditional when converting it changes at least this share of its characters. Simplified text changes in
# one of 500, traditional in one of four or five.
TRADITIONAL_CHANGES = 0.05
PROBE = 400  # characters that tell
# Ends of the names of groups: traditional texts, and the same converted.
TRADITIONAL, SIMPLIFIED = "traditional", "simplified"


@dataclass(frozen=True)
class Document:
    """A document as it is read.

    Attributes:
        lang, group: as its files say, and the language that it counts for: `zh`, `en`, or its own.
        source: where it is from; `weights` may name it or the folder that begins it.
        order: a fixed 64-bit number; documents with the smallest are learnt from.
        position: of its cluster, in [0, 1); the smallest are held out.
    """

    lang: str
    group: str
    source: str
    order: int
    position: float
    text: str


@dataclass
class Choice:
    """Who is learnt from.

    Attributes:
        held_out: positions below are held out; so is the smallest of each language.
        smallest: that position, by language.
        limits: for each language, the largest `order` learnt from.
        named: sources that `TokenizerConfig.weights` names.
        weights: how often each group of texts counts; a group is a language, with a named source, with a script.
        documents: in the files. bad: rows that are no documents, by reason.
    """

    held_out: float
    smallest: dict[str, float] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    documents: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    first_bad: str = ""

    def is_held_out(self, document: Document) -> bool:
        """Whether it is measured on and not learnt from."""
        return document.position < self.held_out or document.position == self.smallest.get(document.group)

    def source_of(self, document: Document) -> str:
        """The named source that it is from, or nothing."""
        source = document.source
        return next((name for name in self.named if source == name or source.startswith(f"{name}/")), "")

    def is_learnt_from(self, document: Document) -> bool:
        limit = self.limits.get(document.group)
        return limit is not None and document.order <= limit and not self.is_held_out(document)


def order_of(document_id: str) -> int:
    """See `Document.order`."""
    return int.from_bytes(
        hashlib.blake2b(document_id.encode(), digest_size=8, person=b"haina.sample").digest(), "big"
    )


def read_documents(inputs: Sequence[Path], choice: Choice | None = None) -> Iterator[Document]:
    """The documents of the files, in order; what is no document is counted in `choice`."""

    def bad(reason: str, where: str) -> None:
        if choice is not None:
            choice.bad[reason.partition(":")[0]] += 1
            choice.first_bad = choice.first_bad or f"{where}: {reason}"

    for block in plan_blocks(input_files(inputs), BLOCK_BYTES):
        for batch in read_block(block, ["lang", "source", "cluster_id"], bad):
            lang, group = languages(batch["lang"], batch["text"])
            clusters = pc.coalesce(batch["cluster_id"], batch["id"])
            columns: list[Any] = [
                column.to_pylist()
                for column in (batch["id"], lang, group, batch["source"], clusters, batch["text"])
            ]
            for document_id, own, of_group, source, cluster, text in zip(*columns, strict=True):
                yield Document(
                    own, of_group, source or "", order_of(document_id), split_position(cluster), text
                )


@lru_cache(maxsize=1)
def _converter() -> Any:
    import opencc

    return opencc.OpenCC("t2s")


def simplified(texts: Sequence[str]) -> list[str]:
    """Texts with traditional characters converted (OpenCC's t2s)."""
    # A separator that OpenCC leaves alone; one call for all is many times faster.
    border = "\x00\x01\x00"
    converted: list[str] = _converter().convert(border.join(texts)).split(border)
    if len(converted) != len(texts):  # a text holds the separator
        converted = [_converter().convert(text) for text in texts]
    return converted if texts else []


def is_traditional(text: str) -> bool:
    """Whether Chinese text is written in traditional characters, by its beginning."""
    probe = text[:PROBE]
    changes = sum(one != other for one, other in zip(probe, _converter().convert(probe), strict=False))
    return changes >= TRADITIONAL_CHANGES * max(1, len(probe))


@dataclass
class _Survey:
    """What one language holds."""

    orders: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    traditional: list[bool] = field(default_factory=list)


def choose(inputs: Sequence[Path], config: TokenizerConfig) -> Choice:
    """Survey the documents and choose.

    Raises:
        HainaError: a file is damaged, there are no documents, or `weights` names what no document is.
    """
    choice = Choice(config.held_out_fraction, named=tuple(sorted(config.weights, reverse=True)))
    several: dict[str, set[float]] = {}
    found: dict[str, _Survey] = {}
    names: dict[str, int] = {}
    for document in read_documents(inputs, choice):
        choice.documents += 1
        group = document.group
        known = several.setdefault(group, set())
        if len(known) < 2:
            known.add(document.position)
        choice.smallest[group] = min(document.position, choice.smallest.get(group, 1.0))
        survey = found.setdefault(group, _Survey())
        if document.position < config.held_out_fraction:
            continue
        survey.orders.append(document.order)
        survey.sizes.append(len(document.text.encode("utf-8")))
        survey.sources.append(names.setdefault(choice.source_of(document), len(names)))
        survey.traditional.append(
            group == "zh" and config.traditional_share < 1.0 and is_traditional(document.text)
        )
    if not choice.documents:
        raise HainaError("tokenizer: no documents to learn from", choice.first_bad or "bring text")
    choice.smallest = {group: place for group, place in choice.smallest.items() if len(several[group]) > 1}
    unknown = sorted(set(config.weights) - set(found) - set(names))
    if unknown:
        raise HainaError(
            f"tokenizer.weights: no document has the language or source {unknown[0]!r}",
            f"the languages are {', '.join(sorted(found))}",
        )
    sizes = {
        group: _taken(group, survey, list(names), config, choice) for group, survey in sorted(found.items())
    }
    _weigh({group: by for group, by in sizes.items() if by}, config, choice)
    if not choice.limits:
        raise HainaError(
            "tokenizer: no documents to learn from", "all are held out or empty, or have weight 0"
        )
    return choice


def _taken(
    group: str, survey: _Survey, names: list[str], config: TokenizerConfig, choice: Choice
) -> dict[str, int]:
    """Set the limit of a language; bytes learnt from by group of texts, converted ones once."""
    keys: NDArray[np.uint64] = np.array(survey.orders, np.uint64)
    lengths = np.array(survey.sizes, np.int64)
    ranked = np.argsort(keys, kind="stable")
    total = np.cumsum(lengths[ranked])
    if not len(total) or not total[-1]:
        return {}
    count = max(1, int(np.searchsorted(total, config.sample_bytes, side="right")))
    choice.limits[group] = int(keys[ranked[count - 1]])
    by: Counter[str] = Counter()
    for number in ranked[:count].tolist():
        source = names[survey.sources[number]]
        scripts = (TRADITIONAL, SIMPLIFIED) if survey.traditional[number] else ("",)
        for script in scripts:
            by[group_name(group, source, script)] += survey.sizes[number]
    return dict(by)


def group_name(group: str, source: str, script: str = "") -> str:
    """Name of a group of texts."""
    return "/".join(part for part in (group, source, script) if part)


def _weigh(sizes: Mapping[str, Mapping[str, int]], config: TokenizerConfig, choice: Choice) -> None:
    """Set the weights: the user's, then the level of the scripts, then of the languages."""
    totals = {}
    for group, by in sizes.items():
        counted = {"": 0.0, TRADITIONAL: 0.0, SIMPLIFIED: 0.0}
        for name, size in by.items():
            source, script = _parts(name, group)
            choice.weights[name] = config.weights.get(group, 1.0) * config.weights.get(source, 1.0)
            counted[script] += choice.weights[name] * size
        factors = script_factors(counted[""], counted[TRADITIONAL], config.traditional_share)
        for name in by:
            choice.weights[name] *= factors.get(_parts(name, group)[1], 1.0)
        totals[group] = sum(choice.weights[name] * size for name, size in by.items())
    level = {"zh": config.chinese_share, "en": 1.0 - config.chinese_share}
    short = {group: level[group] / totals[group] for group in level if totals.get(group)}
    if len(short) == 2:
        for group, need in short.items():
            factor = min(config.max_repeats, need / min(short.values()))
            for name in sizes[group]:
                choice.weights[name] *= factor
    if not any(choice.weights.values()):
        choice.limits.clear()


def _parts(name: str, group: str) -> tuple[str, str]:
    """Source and script of a group of texts."""
    rest = name.removeprefix(group).strip("/")
    script = next((end for end in (TRADITIONAL, SIMPLIFIED) if rest.endswith(end)), "")
    return rest.removesuffix(script).strip("/"), script


def script_factors(other: float, traditional: float, share: float) -> dict[str, float]:
    """How often traditional text counts, as it is and converted, so that it is no more than `share` of all as it is.

    Converted text comes to it, at most once; what that does not do is done by counting the original less.

    Args:
        other, traditional: bytes of the text of a language.
    """
    if traditional <= share * (other + traditional):
        return {TRADITIONAL: 1.0, SIMPLIFIED: 0.0}
    if share <= 0.0:
        return {TRADITIONAL: 0.0, SIMPLIFIED: 1.0}
    converted = min(1.0, (traditional / share - other - traditional) / traditional)
    original = min(1.0, share * (other + converted * traditional) / ((1.0 - share) * traditional))
    return {TRADITIONAL: original, SIMPLIFIED: converted}
