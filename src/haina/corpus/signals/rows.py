"""One row of signals a document: the driver of the kernels.

Comes in: documents as packed UTF-8, and which form of the signals each gets. Goes out: float64 [documents, signals] in
the order of `names.SIGNALS`. Everything that a document is taken apart into lives in scratch arrays that are made
once a batch; nothing in here touches a Python object.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.signals.character_model import STEP, CharacterModel
from haina.corpus.signals.compress import SLOTS_LOG2, estimated_bits, parse
from haina.corpus.signals.grams import (
    DUPLICATE_WIDTHS,
    TOP_WIDTHS,
    GramScratch,
    count_terms,
    count_words,
    repeated_rows,
    repeated_runs,
)
from haina.corpus.signals.names import SIGNALS
from haina.corpus.signals.scan import (
    DISTINCT,
    ELLIPSES,
    EMAILS,
    ENDS_IN_ELLIPSIS,
    HAN_CHARACTERS,
    HAS_POLICY,
    IS_CLOSED,
    IS_SHORT,
    IS_TERMINAL,
    LETTER_WORDS,
    LINES,
    MARKS,
    MODELLED,
    NEWLINES,
    PARAGRAPHS,
    SENTENCES,
    STARTS_WITH_BULLET,
    URLS,
    WORDS,
    Scratch,
    scan,
)
from haina.corpus.signals.tables import (
    CONTROL,
    FULL_WIDTH,
    IS_DIGIT,
    IS_HAN,
    IS_LATIN,
    IS_PUNCTUATION,
    IS_SPACE,
    IS_SYMBOL,
    LAST,
    LOREM_IPSUM,
    REPLACEMENT,
    SIMPLIFIED,
    TRADITIONAL,
    UPPER,
    LexiconArrays,
)
from haina.corpus.utf8 import decode_into

# `columns.bytes` is the column of `bytes`. An argument of the kernel rather than a global, so that compiled code kept
# from another table of signals is never used.
Columns: Any = namedtuple("Columns", SIGNALS)  # type: ignore[misc]
COLUMNS: Any = Columns(*range(len(SIGNALS)))
_BINS = 512
_PROSE_LINE_WORDS = 3


@nb.njit(cache=True, nogil=True)
def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


@nb.njit(cache=True, nogil=True)
def _median(values: npt.NDArray[np.int32], count: int, bins: npt.NDArray[np.int32]) -> float:
    """Median of `values[:count]`, the mean of the two middle ones when count is even; 0 of nothing."""
    if count == 0:
        return 0.0
    bins[:] = 0
    for place in range(count):
        bins[min(values[place], _BINS - 1)] += 1
    lower, upper = (count - 1) // 2, count // 2
    low, passed = 0, bins[0]
    while passed <= lower:
        low += 1
        passed += bins[low]
    high = low
    while passed <= upper:
        high += 1
        passed += bins[high]
    if high < _BINS - 1:
        return (low + high) / 2
    ordered = np.sort(values[:count])
    return (np.int64(ordered[lower]) + np.int64(ordered[upper])) / 2


@nb.njit(cache=True, nogil=True)
def _character_signals(  # noqa: PLR0912, PLR0915 - a list of classes
    row: npt.NDArray[np.float64], column: Any, table: npt.NDArray[np.uint64], scratch: Scratch, count: int
) -> None:
    """Signals that depend only on how often each code point occurs; empties `scratch.counts`."""
    counts, present = scratch.counts, scratch.present
    row[column.curly_braces] = counts[0x7B]
    row[column.hash_word_ratio] = _share(counts[0x23], scratch.tally[WORDS])
    han = latin = digits = symbols = punctuation = space = upper = 0
    full_width = control = replacement = traditional = simplified = 0
    logs = 0.0
    for place in range(scratch.tally[DISTINCT]):
        code = present[place]
        times = counts[code]
        counts[code] = 0
        flags = np.int64(table[min(code, LAST)] & np.uint64(0xFFFFFFFF))
        if times > 1:
            logs += times * math.log2(times)
        if flags & IS_HAN:
            han += times
            if flags & TRADITIONAL:
                traditional += times
            elif flags & SIMPLIFIED:
                simplified += times
        elif flags & IS_LATIN:
            latin += times
            if flags & UPPER:
                upper += times
        elif flags & IS_PUNCTUATION:
            punctuation += times
        elif flags & IS_DIGIT:
            digits += times
        elif flags & IS_SPACE:
            space += times
        elif flags & IS_SYMBOL:
            symbols += times
        if flags & FULL_WIDTH:
            full_width += times
        if flags & (CONTROL | REPLACEMENT):
            if flags & CONTROL:
                control += times
            else:
                replacement += times
    scratch.tally[HAN_CHARACTERS] = han
    visible = count - space
    row[column.characters] = count
    row[column.han_share] = _share(han, visible)
    row[column.latin_share] = _share(latin, visible)
    row[column.digit_share] = _share(digits, visible)
    row[column.symbol_share] = _share(symbols, visible)
    row[column.punctuation_share] = _share(punctuation, visible)
    row[column.full_width_share] = _share(full_width, visible)
    row[column.uppercase_share] = _share(upper, latin)
    row[column.whitespace_share] = _share(space, count)
    row[column.control_share] = _share(control, count)
    row[column.replacement_share] = _share(replacement, count)
    row[column.traditional_share] = _share(traditional, traditional + simplified)
    row[column.character_entropy] = max(0.0, math.log2(count) - logs / count) if count else 0.0


@nb.njit(cache=True, nogil=True)
def _line_signals(
    row: npt.NDArray[np.float64],
    column: Any,
    scratch: Scratch,
    grams: GramScratch,
    bins: npt.NDArray[np.int32],
) -> None:
    """Signals of lines, paragraphs and sentences."""
    tally, lengths = scratch.tally, scratch.line_length
    lines, paragraphs, sentences, words = tally[LINES], tally[PARAGRAPHS], tally[SENTENCES], tally[WORDS]
    all_flags, line_words, line_sentences = scratch.line_flags, scratch.line_words, scratch.line_sentences
    ellipsis = bullet = terminal = short = policy = 0
    longest = characters = prose_sentences = prose_characters = np.int64(0)
    for line in range(lines):
        flags = all_flags[line]
        length = np.int64(lengths[line])
        characters += length
        longest = max(longest, length)
        ellipsis += flags & ENDS_IN_ELLIPSIS != 0
        bullet += flags & STARTS_WITH_BULLET != 0
        terminal += flags & IS_TERMINAL != 0
        short += flags & IS_SHORT != 0
        policy += flags & HAS_POLICY != 0
        if (
            flags & (IS_CLOSED | ENDS_IN_ELLIPSIS | HAS_POLICY) == IS_CLOSED
            and line_words[line] >= _PROSE_LINE_WORDS
        ):
            prose_sentences += line_sentences[line]
            prose_characters += length
    row[column.sentences] = sentences
    row[column.lines] = lines
    row[column.paragraphs] = paragraphs
    row[column.mean_line_characters] = _share(characters, lines)
    row[column.median_line_characters] = _median(lengths, lines, bins)
    row[column.longest_line_characters] = longest
    row[column.mean_sentence_words] = _share(words, sentences)
    row[column.median_sentence_words] = _median(scratch.sentence_words, sentences, bins)
    row[column.mean_paragraph_words] = _share(words, paragraphs)
    row[column.median_paragraph_words] = _median(scratch.paragraph_words, paragraphs, bins)
    row[column.ellipsis_line_share] = _share(ellipsis, lines)
    row[column.bullet_line_share] = _share(bullet, lines)
    row[column.terminal_line_share] = _share(terminal, lines)
    row[column.short_line_share] = _share(short, lines)
    row[column.policy_line_share] = _share(policy, lines)
    repeated, repeated_characters = repeated_rows(grams, scratch.line_hash, lengths, lines)
    row[column.duplicate_line_share] = _share(repeated, lines)
    row[column.duplicate_line_character_share] = _share(repeated_characters, characters)
    repeated, repeated_characters = repeated_rows(
        grams, scratch.paragraph_hash, scratch.paragraph_length, paragraphs
    )
    row[column.duplicate_paragraph_share] = _share(repeated, paragraphs)
    row[column.duplicate_paragraph_character_share] = _share(repeated_characters, characters)
    row[column.newline_word_ratio] = _share(tally[NEWLINES], words)
    row[column.prose_sentences] = prose_sentences
    row[column.prose_character_share] = _share(prose_characters, characters)


@nb.njit(cache=True, nogil=True)
def _word_signals(
    row: npt.NDArray[np.float64],
    column: Any,
    scratch: Scratch,
    grams: GramScratch,
    bins: npt.NDArray[np.int32],
    runs: npt.NDArray[np.int64],
    different: int,
) -> None:
    """Signals of words and of the runs that `repeated_runs` measured."""
    tally, lengths = scratch.tally, scratch.word_length
    words = tally[WORDS]
    longest = characters = np.int64(0)
    for word in range(words):
        characters += lengths[word]
        longest = max(longest, np.int64(lengths[word]))
    row[column.words] = words
    row[column.mean_word_characters] = _share(characters, words)
    row[column.median_word_characters] = _median(lengths, words, bins)
    row[column.longest_word_characters] = longest
    row[column.letter_word_share] = _share(tally[LETTER_WORDS], words + tally[MARKS])
    row[column.ellipsis_word_ratio] = _share(tally[ELLIPSES], words)
    row[column.unique_word_share] = _share(different, words)
    row[column.top_2gram_share] = _share(runs[0], words - 1)
    # Runs that overlap themselves (哈哈哈哈) would count a character more than once.
    for place in range(len(TOP_WIDTHS)):
        row[column.top_2gram_character_share + place] = min(1.0, _share(runs[1 + place], characters))
    for place in range(len(DUPLICATE_WIDTHS)):
        row[column.duplicate_5gram_character_share + place] = _share(
            runs[1 + len(TOP_WIDTHS) + place], characters
        )
    row[column.urls] = tally[URLS]
    row[column.emails] = tally[EMAILS]


@nb.njit(cache=True, nogil=True)
def measure_rows(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    chinese: npt.NDArray[np.bool_],
    column: Any,
    table: npt.NDArray[np.uint64],
    model: CharacterModel,
    lexicon: LexiconArrays,
    scratch: Scratch,
    grams: GramScratch,
    out: npt.NDArray[np.float64],
) -> None:
    """Fill `out` (float64 [documents, signals]) but for the page's signals.

    Args:
        data, offsets: packed UTF-8, uint8 [bytes] and int64 [documents + 1].
        chinese: which documents get the Chinese form: bool [documents].
        column: `COLUMNS`.
        table, model, lexicon: what characters and words are looked up in.
        scratch, grams: room for the longest document.
    """
    bins = np.empty(_BINS, dtype=np.int32)
    runs = np.empty(1 + len(TOP_WIDTHS) + len(DUPLICATE_WIDTHS), dtype=np.int64)
    slots = np.empty(1 << SLOTS_LOG2, dtype=np.int32)
    literals = np.empty(256, dtype=np.int64)
    for document in range(len(chinese)):
        raw = data[offsets[document] : offsets[document + 1]]
        row = out[document]
        count = decode_into(raw, scratch.codes, scratch.starts)
        steps = scan(table, model, scratch, count)
        tally = scratch.tally
        words = tally[WORDS]
        _character_signals(row, column, table, scratch, count)
        different, stops, gopher = count_words(
            grams, scratch.word_hash, words, lexicon.hashes, lexicon.numbers, lexicon.flags, chinese[document]
        )
        count_terms(
            grams,
            words,
            lexicon.roots,
            lexicon.edges,
            lexicon.targets,
            lexicon.ends,
            scratch.word_line,
            scratch.line_flags,
        )
        for category in range(LOREM_IPSUM - 1):
            row[column.ad_terms + category] = _share(1000.0 * grams.terms[category], count)
        row[column.lorem_ipsum] = grams.terms[LOREM_IPSUM]
        repeated_runs(grams, scratch.word_length, words, runs)
        _word_signals(row, column, scratch, grams, bins, runs, different)
        _line_signals(row, column, scratch, grams, bins)
        row[column.stop_word_share] = _share(stops, tally[HAN_CHARACTERS] if chinese[document] else words)
        row[column.gopher_stop_words] = gopher
        row[column.bits_per_character] = _share(steps * STEP, tally[MODELLED])
        matches = parse(raw, slots, literals)
        row[column.bytes] = len(raw)
        row[column.compression_ratio] = _share(8.0 * len(raw), estimated_bits(literals, matches))
