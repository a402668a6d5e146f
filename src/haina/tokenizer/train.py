"""Learns a byte-level BPE vocabulary from texts.

In: texts by group, and how often each group counts. Out: a `tokenizers.Tokenizer` that gives back every string exactly.

1. Characters that are frequent enough get a piece each, made of their UTF-8 bytes: first the bytes that characters
   begin with, then the characters, so that no piece ever holds a part of one character and something else.
2. Neighbouring pieces of a word are merged, the most frequent pair first (Sennrich et al. 2016, arXiv:1508.07909),
   until the words' part of the vocabulary is full.
3. The rest is filled with merges over the spaces between words (superwords: Liu et al. 2025, arXiv:2503.13423).

What may stand in one piece is decided by the kinds of neighbouring characters alone (`joins.yaml`), so text is cut in
the same places whether a program cuts it beforehand or not; docs/decisions/0020-tokenizer.md has what was tried.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from haina.runtime.bpe.rules import PATTERN
from haina.runtime.byte_pieces import byte_characters
from haina.runtime.errors import HainaError
from haina.runtime.progress import Reporter, SilentProgress
from haina.runtime.tokenizer_file import check_characters
from haina.tokenizer.config import TokenizerConfig
from haina.tokenizer.merge_kernel import compact, fingerprint, learn, moved_borders
from haina.tokenizer.special_tokens import BOS, special_tokens
from haina.tokenizer.symbols import Symbols, prepare

UNIT = 16  # what a text counts that counts once: weights are whole multiples of a sixteenth
WITHIN_WORDS, ACROSS_WORDS = 0, 1  # distances of joins.yaml
POLL_SECONDS = 0.2


def untrained_tokenizer(model: models.Model) -> Tokenizer:
    """Everything but the vocabulary: no normalisation, the pre-tokens, bytes back to text."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Learn `config.vocab_size` pieces from texts that all count once; see `train_grouped`."""
    return train_grouped((("", text) for text in texts), {"": 1.0}, config)


def _checked(texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for group, text in texts:
        check_characters(text)
        if text:
            yield group, text


def train_grouped(
    texts: Iterable[tuple[str, str]],
    weights: Mapping[str, float],
    config: TokenizerConfig,
    reporter: Reporter | None = None,
) -> Tokenizer:
    """Learn `config.vocab_size` pieces.

    The result depends on the multiset of the texts of each group only, not on their order, on threads or on the hash
    seed: of pairs that are equally frequent the one with the smaller ids is merged first.

    Args:
        texts: (group, text).
        weights: how often the texts of each group count, rounded to sixteenths.

    Raises:
        HainaError: no text, text that is not valid Unicode, or too little text for the vocabulary.
        KeyboardInterrupt: Ctrl-C.
    """
    counted = {name: round(UNIT * weight) for name, weight in weights.items()}
    specials = special_tokens(config.reserved_tokens)
    room = config.vocab_size - len(specials) - 256
    if room < 1:
        raise HainaError(
            f"tokenizer.vocab_size: {config.vocab_size} ids, the special tokens and bytes alone are "
            f"{len(specials) + 256}",
            "raise tokenizer.vocab_size or lower tokenizer.reserved_tokens",
        )
    prepared = prepare(_checked(texts), counted, config.character_coverage, room // 2)
    if not prepared.merges and not (prepared.symbols >= 0).any():
        raise HainaError(
            "tokenizer: no text to learn from", "the corpus stage kept no documents; see its dropped table"
        )
    room -= len(prepared.merges)
    merges = _learnt(
        prepared, room, config, [token.encode() for token in specials], reporter or SilentProgress()
    )
    if len(merges) < room:
        reached = config.vocab_size - room + len(merges)
        raise HainaError(
            f"tokenizer.vocab_size: the text gives {reached} pieces, {config.vocab_size} were asked for",
            f"lower tokenizer.vocab_size to {reached} or less, or bring more text",
        )
    return _assembled(specials, prepared, merges)


def _learnt(
    prepared: Symbols, room: int, config: TokenizerConfig, barred: list[bytes], reporter: Reporter
) -> list[tuple[int, int]]:
    """Pairs of ids; bytes are 0 to 255, then come `prepared.merges`, then these."""
    known = len(prepared.spellings)
    sizes = np.zeros(known + room, np.int32)
    sizes[:known] = [len(data) for data in prepared.spellings]
    prints = np.zeros(known + room, np.uint64)
    prints[:known] = [fingerprint(data) for data in prepared.spellings]
    symbols, gaps, borders = prepared.symbols, prepared.gaps, prepared.borders
    merges: list[tuple[int, int]] = []
    lowest = config.min_frequency * UNIT
    # Pairs far below the last one merged only take memory. Where the guess was too high the rest is counted again.
    floor = max(lowest, UNIT * len(symbols) // (config.vocab_size * 50))
    stages = [
        (WITHIN_WORDS, round(room * (1.0 - config.superword_share))),
        (ACROSS_WORDS, room),
    ]
    if config.superword_share == 0.0:
        stages = stages[:1]
    with reporter.task("learning pieces", room, "pieces") as task:
        for widest, until in stages:
            at = floor
            while len(merges) < until:
                spans = np.ones(len(symbols), np.uint8)
                control = np.zeros(2, np.int64)
                found = _in_thread(
                    control,
                    task,
                    symbols, spans, gaps, widest, borders, prepared.weights, sizes, prints,
                    known + len(merges), until - len(merges), config.max_token_bytes, at, config.max_per_passage,
                    np.array([fingerprint(data) for data in barred], np.uint64),
                    control,
                )  # fmt: skip
                merges += [(int(left), int(right)) for left, right in found]
                borders = moved_borders(spans, borders)
                kept = compact(symbols, spans, gaps)
                symbols, gaps = symbols[:kept], gaps[:kept]
                if at == lowest:
                    break
                at = max(lowest, at // 4)
    return merges


def _in_thread(control: Any, task: Any, *arguments: Any) -> Any:
    """The pairs of `learn`, run beside this thread, which shows how far it is and hears Ctrl-C."""
    result: list[Any] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(learn(*arguments)[0])
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="merges", daemon=True)
    thread.start()
    shown = 0
    try:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            done = int(control[0])
            task.advance(done - shown)
            shown = done
    except KeyboardInterrupt:
        control[1] = 1
        thread.join()
        raise
    if failure:
        raise failure[0]
    task.advance(len(result[0]) - shown)
    return result[0]


def _assembled(specials: tuple[str, ...], prepared: Symbols, merges: list[tuple[int, int]]) -> Tokenizer:
    spellings = list(prepared.spellings)
    for left, right in merges:
        spellings.append(spellings[left] + spellings[right])
    letters = list(byte_characters())
    pieces = ["".join([letters[byte] for byte in data]) for data in spellings]
    vocabulary = {name: number for number, name in enumerate([*specials, *pieces])}
    pairs = [(pieces[left], pieces[right]) for left, right in [*prepared.merges, *merges]]
    tokenizer = untrained_tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B:1", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer
