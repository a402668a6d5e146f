"""The tokenizer stage: documents in, a tokenizer folder and what it does to each language out.

Three passes over the documents: choose which to learn from and which to hold out, learn, measure on those held out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from haina.runtime.files import write_json
from haina.runtime.stage import StageContext, StageResult
from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer.choice import (
    SIMPLIFIED,
    TRADITIONAL,
    Choice,
    Document,
    choose,
    group_name,
    is_traditional,
    read_documents,
    simplified,
)
from haina.tokenizer.config import TokenizerConfig
from haina.tokenizer.folder import write_folder
from haina.tokenizer.measure import compression, is_fragment, piece_bytes, readable
from haina.tokenizer.train import train_grouped

MEASURED_BYTES = 4 * 1024 * 1024  # per language: rates settle to three digits long before this
EXAMPLES_PER_LANGUAGE = 2
EXAMPLE_CHARACTERS = 80
LONGEST_PIECES = 12
CONVERTED_AT_ONCE = 256


def inputs_of(context: StageContext) -> list[Path]:
    """The documents: of the corpus stage, or the files that the user named."""
    # In a run the sources are pages, which the corpus stage has read.
    if "corpus" in context.inputs or not context.sources:
        return [context.input("corpus")]
    return [Path(source) for source in context.sources]


class _Learning:
    """(group, text) of the documents learnt from, and counts of them by language.

    Traditional text that also counts as simplified follows in a group of its own.
    """

    def __init__(self, inputs: Sequence[Path], choice: Choice) -> None:
        self.inputs, self.choice = inputs, choice
        self.converts = any(name.endswith(SIMPLIFIED) for name in choice.weights)
        self.learnt: dict[str, dict[str, float]] = {}

    def __iter__(self) -> Iterator[tuple[str, str]]:
        weights = self.choice.weights
        waiting: list[tuple[str, Document]] = []
        for document in read_documents(self.inputs):
            if not self.choice.is_learnt_from(document):
                continue
            source = self.choice.source_of(document)
            is_other_script = self.converts and document.group == "zh" and is_traditional(document.text)
            name = group_name(document.group, source, TRADITIONAL if is_other_script else "")
            if weights.get(name, 0.0) > 0:
                self._count(document.lang, document.text, weights[name])
                yield name, document.text
            name = group_name(document.group, source, SIMPLIFIED)
            if is_other_script and weights.get(name, 0.0) > 0:
                waiting.append((name, document))
                if len(waiting) == CONVERTED_AT_ONCE:
                    yield from self._converted(waiting)
                    waiting = []
        yield from self._converted(waiting)

    def _converted(self, waiting: list[tuple[str, Document]]) -> Iterator[tuple[str, str]]:
        texts = simplified([document.text for _, document in waiting])
        for (name, document), text in zip(waiting, texts, strict=True):
            self._count(f"{document.lang}, converted to simplified", text, self.choice.weights[name])
            yield name, text

    def _count(self, lang: str, text: str, weight: float) -> None:
        counts = self.learnt.setdefault(lang, {"documents": 0, "bytes": 0, "bytes_as_counted": 0})
        size = len(text.encode("utf-8"))
        counts["documents"] += 1
        counts["bytes"] += size
        counts["bytes_as_counted"] += size * weight


def _measured(inputs: Sequence[Path], choice: Choice) -> dict[str, tuple[list[str], bool]]:
    """For each language, texts to measure on, and whether they were held out.

    A language of which nothing is held out is measured on what was learnt from.
    """
    held: dict[str, list[str]] = {}
    seen: dict[str, list[str]] = {}
    sizes: dict[tuple[str, bool], int] = {}
    for document in read_documents(inputs):
        is_held = choice.is_held_out(document)
        key = (document.lang, is_held)
        if sizes.get(key, 0) < MEASURED_BYTES:
            (held if is_held else seen).setdefault(document.lang, []).append(document.text)
            sizes[key] = sizes.get(key, 0) + len(document.text.encode("utf-8"))
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
    """The longest pieces that hold Han characters (`zh`), that are one word (`en`) and several (`superwords`)."""
    specials = set(tokenizer.backend.get_added_tokens_decoder())
    pieces = [
        piece_bytes(piece).decode("utf-8")
        for piece, token_id in tokenizer.backend.get_vocab(with_added_tokens=True).items()
        if token_id not in specials and not is_fragment(piece)
    ]
    han = [piece for piece in pieces if any("\u4e00" <= character <= "\u9fff" for character in piece)]
    latin = [piece for piece in pieces if piece.strip().isascii() and piece.strip().isalpha()]
    several = [piece for piece in pieces if " " in piece.strip()]
    return {
        name: sorted(found, key=lambda piece: (-len(piece), piece))[:LONGEST_PIECES]
        for name, found in (("zh", han), ("en", latin), ("superwords", several))
    }


def run(config: TokenizerConfig, context: StageContext) -> StageResult:
    """Learn a tokenizer from `corpus`, or where there is none from `context.sources`, and write the `tokenizer` output.

    Raises:
        HainaError: no documents, or too little text for `config.vocab_size`.
    """
    inputs = inputs_of(context)
    out = context.out("tokenizer")
    choice = choose(inputs, config)
    if choice.bad:
        count = sum(choice.bad.values())
        context.reporter.say(f"  {count:,} rows are no documents, the first {choice.first_bad}")
    learning = _Learning(inputs, choice)
    backend = train_grouped(learning, choice.weights, config, context.reporter)
    write_folder(out, backend)
    tokenizer = TokenizerFile(out)

    measured: dict[str, dict[str, Any]] = {}
    examples: list[dict[str, Any]] = []
    for lang, (sample, held_out) in _measured(inputs, choice).items():
        measured[lang] = {**compression(tokenizer, sample), "held_out": held_out}
        examples += _examples(tokenizer, lang, sample)
    write_json(
        out / "summary.json",
        {
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
            "trained_on": {
                lang: {**counts, "bytes_as_counted": round(counts["bytes_as_counted"])}
                for lang, counts in sorted(learning.learnt.items())
            },
            "rejected": dict(sorted(choice.bad.items())),
            "compression": measured,
            "byte_tokens_share": {lang: rates["byte_tokens_share"] for lang, rates in measured.items()},
            "examples": examples,
            "longest_pieces": _longest_pieces(tokenizer),
        },
    )
    return StageResult(
        records_in=choice.documents,
        records_out=choice.documents,
        records_dropped=0,
        unit="documents",
        metrics={
            "vocab_size": tokenizer.vocab_size,
            **{f"bytes_per_token.{lang}": rates["bytes_per_token"] for lang, rates in measured.items()},
        },
    )
