"""Learns a byte-level BPE vocabulary from texts.

In: texts by group, and how often each group counts. Out: a `tokenizers.Tokenizer` that gives back every string exactly.

1. Characters that are frequent enough get a piece each, made of their UTF-8 bytes: first the bytes that characters
   begin with, then the characters, so that no piece ever holds a part of one character and something else. Those that
   turn out to be rarer than the last pair merged give their place back.
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
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from haina.runtime.bpe.rules import PATTERN
from haina.runtime.byte_pieces import byte_characters
from haina.runtime.errors import HainaError
from haina.runtime.progress import Reporter, SilentProgress, Task
from haina.runtime.tokenizer_file import check_characters
from haina.tokenizer.config import TokenizerConfig
from haina.tokenizer.merge_kernel import HOLE, compact, fingerprint, learn, moved_borders
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
    barred = [token.encode() for token in specials]
    keep, merges = _learnt(prepared, room, config, barred, reporter or SilentProgress())
    reached = len(specials) + int(np.count_nonzero(keep)) + len(merges)
    if reached < config.vocab_size:
        raise HainaError(
            f"tokenizer.vocab_size: the text gives {reached} pieces, {config.vocab_size} were asked for",
            f"lower tokenizer.vocab_size to {reached} or less, or bring more text",
        )
    return _assembled(specials, prepared, keep, merges)


class _Learner:
    """Merges over the symbols of a text; ids are 0 to 255 for bytes, then `prepared.merges`, then the merges learnt."""

    def __init__(self, prepared: Symbols, most: int, config: TokenizerConfig, barred: list[bytes]) -> None:
        self.prepared, self.config = prepared, config
        self.symbols, self.gaps, self.borders = prepared.symbols, prepared.gaps, prepared.borders
        self.known = len(prepared.spellings)
        self.sizes = np.zeros(self.known + most, np.int32)
        self.sizes[: self.known] = [len(data) for data in prepared.spellings]
        self.prints = np.zeros(self.known + most, np.uint64)
        self.prints[: self.known] = [fingerprint(data) for data in prepared.spellings]
        self.barred = np.array([fingerprint(data) for data in barred], np.uint64)
        self.merges: list[tuple[int, int]] = []
        self.last_count = 0

    def learn(self, widest: int, until: int, task: Task) -> None:
        """Merge until there are `until` merges, or no pair counts enough."""
        lowest = self.config.min_frequency * UNIT
        # Pairs far below the last one merged only take memory. Where the guess was too high the rest is counted again.
        floor = max(lowest, UNIT * len(self.symbols) // (self.config.vocab_size * 50))
        while len(self.merges) < until:
            spans = np.ones(len(self.symbols), np.uint8)
            control = np.zeros(2, np.int64)
            pairs, counts = _in_thread(
                control,
                task,
                self.symbols, spans, self.gaps, widest, self.borders, self.prepared.weights, self.sizes, self.prints,
                self.known + len(self.merges), until - len(self.merges), self.config.max_token_bytes, floor,
                self.config.max_per_passage, self.barred, control,
            )  # fmt: skip
            self.merges += [(int(left), int(right)) for left, right in pairs]
            self.last_count = int(counts[-1]) if len(counts) else self.last_count
            self.borders = moved_borders(spans, self.borders)
            kept = compact(self.symbols, spans, self.gaps)
            self.symbols, self.gaps = self.symbols[:kept], self.gaps[:kept]
            if floor == lowest:
                break
            floor = max(lowest, floor // 4)

    def forget(self, keep: NDArray[np.bool_]) -> None:
        """Let no further merge touch the base symbols that are not kept."""
        gone = np.zeros(self.known + len(self.merges) + 1, np.bool_)  # the last place answers for holes
        gone[: self.known] = ~keep
        self.symbols[gone[self.symbols]] = HOLE


def _learnt(
    prepared: Symbols, room: int, config: TokenizerConfig, barred: list[bytes], reporter: Reporter
) -> tuple[NDArray[np.bool_], list[tuple[int, int]]]:
    """Which base symbols get a piece, and pairs of ids: as many as fit into `room` with those pieces."""
    learner = _Learner(prepared, room, config, barred)
    share = 1.0 - config.superword_share
    keep = np.ones(len(prepared.spellings), np.bool_)
    within = round((room - len(prepared.merges)) * share)
    with reporter.task("learning pieces", room - len(prepared.merges), "pieces") as task:
        learner.learn(WITHIN_WORDS, within, task)
        if len(learner.merges) == within:
            # A character that is rarer than the last pair does not earn its place, and is in no pair yet.
            keep = prepared.frequent(learner.last_count)
            learner.forget(keep)
        room -= int(np.count_nonzero(keep)) - 256
        learner.learn(WITHIN_WORDS, round(room * share), task)
        if config.superword_share > 0.0:
            learner.learn(ACROSS_WORDS, room, task)
    return keep, learner.merges


def _in_thread(control: Any, task: Any, *arguments: Any) -> Any:
    """What `learn` gives, run beside this thread, which shows how far it is and hears Ctrl-C."""
    result: list[Any] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(learn(*arguments))
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
    task.advance(len(result[0][0]) - shown)
    return result[0]


def _assembled(
    specials: tuple[str, ...], prepared: Symbols, keep: NDArray[np.bool_], merges: list[tuple[int, int]]
) -> Tokenizer:
    spellings = list(prepared.spellings)
    for left, right in merges:
        spellings.append(spellings[left] + spellings[right])
    letters = list(byte_characters())
    pieces = ["".join([letters[byte] for byte in data]) for data in spellings]
    kept = [*keep.tolist(), *([True] * len(merges))]
    names = [*specials, *(piece for piece, stays in zip(pieces, kept, strict=True) if stays)]
    vocabulary = {name: number for number, name in enumerate(names)}
    pairs = [
        (pieces[left], pieces[right])
        for (left, right), stays in zip([*prepared.merges, *merges], kept[256:], strict=True)
        if stays
    ]
    tokenizer = untrained_tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B:1", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer
