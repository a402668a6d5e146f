"""The tokenizer stage: curated documents in, a tokenizer folder and what it does to each language out.

Three passes over the corpus: find the clusters to hold out and the documents to learn from, learn, measure on
the documents held out. Two numbers a document are kept in memory, never the corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from haina.runtime.documents import document_parts, language_group, read_batches
from haina.runtime.errors import HainaError
from haina.runtime.files import write_json, write_text
from haina.runtime.held_out import held_out_clusters
from haina.runtime.stage import StageContext, StageResult
from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer.config import TokenizerConfig
from haina.tokenizer.measure import compression, is_fragment, piece_bytes, readable
from haina.tokenizer.train import BOS, EOS, PAD, TURN_END, TURN_START, train_tokenizer

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
MEASURED_BYTES = 4 * 1024 * 1024  # per language: rates settle to three digits long before this
EXAMPLES_PER_LANGUAGE = 2
EXAMPLE_CHARACTERS = 80
LONGEST_PIECES = 12

TOKENIZER_CONFIG: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": BOS,
    "eos_token": EOS,
    "pad_token": PAD,
    "additional_special_tokens": [TURN_START, TURN_END],
    "clean_up_tokenization_spaces": False,
    # transformers then reads a special token typed in a text as text, the way `TokenizerFile` does.
    "split_special_tokens": True,
}


def _order(document_id: str) -> int:
    """A fixed 64-bit number for a document; documents with the smallest are learnt from."""
    return int.from_bytes(
        hashlib.blake2b(document_id.encode(), digest_size=8, person=b"haina.sample").digest(), "big"
    )


@dataclass
class Plan:
    """Which documents are learnt from.

    Attributes:
        held_out: clusters left out.
        limits: for each language group, the largest `_order` learnt from.
        repeats: for each language group, how often each document counts.
        documents: rows in the corpus.
    """

    held_out: frozenset[str]
    limits: dict[str, int] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    documents: int = 0


def make_plan(parts: list[Path], config: TokenizerConfig) -> Plan:
    """Choose documents by a hash of their id, up to `sample_bytes` a group; level the groups by repeats."""

    def clusters() -> Iterator[tuple[str, str]]:
        for batch in read_batches(parts, ["cluster_id", "lang"]):
            yield from zip(batch["cluster_id"].to_pylist(), batch["lang"].to_pylist(), strict=True)

    plan = Plan(held_out_clusters(clusters(), config.held_out_fraction))
    orders: dict[str, list[int]] = {}
    sizes: dict[str, list[int]] = {}
    for document_id, lang, cluster_id, text in _rows(parts):
        plan.documents += 1
        if cluster_id not in plan.held_out:
            orders.setdefault(language_group(lang), []).append(_order(document_id))
            sizes.setdefault(language_group(lang), []).append(len(text.encode("utf-8")))
    taken: dict[str, int] = {}
    for group in sorted(orders):
        keys, lengths = np.array(orders[group], np.uint64), np.array(sizes[group], np.int64)
        ranked = np.argsort(keys, kind="stable")
        total = np.cumsum(lengths[ranked])
        count = max(1, int(np.searchsorted(total, config.sample_bytes, side="right")))
        plan.limits[group] = int(keys[ranked[count - 1]])
        taken[group] = int(total[count - 1])
    for group, size in taken.items():
        plan.repeats[group] = min(config.max_repeats, max(1, round(max(taken.values()) / max(size, 1))))
    return plan


def _rows(parts: list[Path]) -> Iterator[tuple[str, str, str, str]]:
    for batch in read_batches(parts, ["id", "lang", "cluster_id", "text"]):
        columns = [batch[name].to_pylist() for name in ("id", "lang", "cluster_id", "text")]
        yield from zip(*columns, strict=True)


def _learnt_from(parts: list[Path], plan: Plan) -> Iterator[tuple[str, str]]:
    """(language, text) of the documents chosen, each once."""
    for document_id, lang, cluster_id, text in _rows(parts):
        limit = plan.limits.get(language_group(lang))
        if limit is not None and cluster_id not in plan.held_out and _order(document_id) <= limit:
            yield lang, text


def _measured(parts: list[Path], plan: Plan) -> dict[str, tuple[list[str], bool]]:
    """For each language, texts to measure on, and whether they were held out.

    A language of which nothing is held out is measured on what was learnt from.
    """
    held: dict[str, list[str]] = {}
    seen: dict[str, list[str]] = {}
    sizes: dict[tuple[str, bool], int] = {}
    for _, lang, cluster_id, text in _rows(parts):
        is_held = cluster_id in plan.held_out
        key = (lang, is_held)
        if sizes.get(key, 0) < MEASURED_BYTES:
            (held if is_held else seen).setdefault(lang, []).append(text)
            sizes[key] = sizes.get(key, 0) + len(text.encode("utf-8"))
    return {lang: (held[lang], True) if lang in held else (seen[lang], False) for lang in sorted(held | seen)}


def _examples(tokenizer: TokenizerFile, lang: str, texts: list[str]) -> list[dict[str, Any]]:
    found = []
    for text in texts:
        line = next(
            (line.strip() for line in text.splitlines() if len(line.strip()) >= EXAMPLE_CHARACTERS // 2), ""
        )
        if line:
            line = line[:EXAMPLE_CHARACTERS]
            pieces = [
                readable(piece) for piece in tokenizer.backend.encode(line, add_special_tokens=False).tokens
            ]
            found.append({"lang": lang, "text": line, "pieces": pieces})
        if len(found) == EXAMPLES_PER_LANGUAGE:
            break
    return found


def _longest_pieces(tokenizer: TokenizerFile) -> dict[str, list[str]]:
    """The longest pieces that hold Han characters (`zh`) and that are ASCII letters (`en`), longest first."""
    specials = set(tokenizer.backend.get_added_tokens_decoder())
    pieces = [
        piece_bytes(piece).decode("utf-8")
        for piece, token_id in tokenizer.backend.get_vocab(with_added_tokens=True).items()
        if token_id not in specials and not is_fragment(piece)
    ]
    han = [piece for piece in pieces if any("\u4e00" <= character <= "\u9fff" for character in piece)]
    latin = [piece for piece in pieces if piece.strip().isascii() and piece.strip().isalpha()]
    return {
        name: sorted(found, key=lambda piece: (-len(piece), piece))[:LONGEST_PIECES]
        for name, found in (("zh", han), ("en", latin))
    }


def run(config: TokenizerConfig, context: StageContext) -> StageResult:
    """Learn a tokenizer from `corpus` and write the `tokenizer` output.

    Raises:
        HainaError: no documents, or too little text for `config.vocab_size`.
    """
    parts = document_parts(context.input("corpus"))
    out = context.out("tokenizer")
    plan = make_plan(parts, config)
    if not plan.limits:
        raise HainaError(
            "tokenizer: no documents to learn from", "the corpus stage kept none; see its dropped table"
        )
    trained_on: dict[str, dict[str, int]] = {}

    def texts() -> Iterator[str]:
        with context.reporter.task("reading text for the tokenizer", None, "documents") as task:
            for lang, text in _learnt_from(parts, plan):
                counts = trained_on.setdefault(lang, {"documents": 0, "bytes": 0, "repeats": 0})
                counts["documents"] += 1
                counts["bytes"] += len(text.encode("utf-8"))
                counts["repeats"] = plan.repeats[language_group(lang)]
                for _ in range(plan.repeats[language_group(lang)]):
                    yield text
                task.advance()
        context.reporter.say(f"  learning {config.vocab_size:,} pieces")

    backend = train_tokenizer(texts(), config)
    write_text(out / "tokenizer.json", backend.to_str(pretty=True) + "\n")
    write_json(out / "tokenizer_config.json", TOKENIZER_CONFIG)
    write_text(out / "chat_template.jinja", CHAT_TEMPLATE.read_text(encoding="utf-8"))
    tokenizer = TokenizerFile(out)

    measured: dict[str, dict[str, Any]] = {}
    examples: list[dict[str, Any]] = []
    for lang, (sample, held_out) in _measured(parts, plan).items():
        measured[lang] = {**compression(tokenizer, sample), "held_out": held_out}
        examples += _examples(tokenizer, lang, sample)
    write_json(
        out / "summary.json",
        {
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
            "trained_on": dict(sorted(trained_on.items())),
            "compression": measured,
            "byte_tokens_share": {lang: rates["byte_tokens_share"] for lang, rates in measured.items()},
            "examples": examples,
            "longest_pieces": _longest_pieces(tokenizer),
        },
    )
    return StageResult(
        records_in=plan.documents,
        records_out=plan.documents,
        records_dropped=0,
        unit="documents",
        metrics={
            "vocab_size": tokenizer.vocab_size,
            **{f"bytes_per_token.{lang}": rates["bytes_per_token"] for lang, rates in measured.items()},
        },
    )
