"""How much of an item stands in a range of a document.

Comes in: the tokens of the range and a group of the index. Goes out: features: shares of question, options and
passage that are covered, the bits those are worth, and token spans. The question is the best stretch of a
length near its own; options are looked for beside it, in any order, each in tokens of its own; the passage
anywhere in the range. `reference.py` says the same in plain Python.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.decontaminate.grams import Int64, UInt8, UInt32
from haina.corpus.decontaminate.index import Arrays
from haina.corpus.decontaminate.runs import RUN_UNITS, Floats, best_stretch, find_matches

SLACK = 16
OPTION_FOUND = 0.6
# Share of a question from which its options are looked for beside it and not wherever they are.
QUESTION_FOUND = 0.3
# Tokens at the end of a question that may have been changed.
TAIL_TOKENS = 3

# Shares are of weight, `_bits` of evidence; `question_plain` and `ask` (the last sentence) are shares of tokens.
# joined: the text on both sides of a blank stands together. tail: token after the end of the question, of which
# `tail_rest` tokens are missing. statement: an option follows there. option_own: tokens of the range over those of the
# found options. low to high: the whole match; question_low to question_high: the question.
FEATURES = (
    "question", "question_plain", "question_bits", "question_weight", "question_tokens",
    "ask", "frame", "joined", "tail", "tail_rest", "statement",
    "options", "options_found", "option_share", "option_bits", "option_weight", "option_tokens",
    "option_own", "passage", "passage_bits", "question_low", "question_high", "low", "high",
)  # fmt: skip
(
    QUESTION, QUESTION_PLAIN, QUESTION_BITS, QUESTION_WEIGHT, QUESTION_TOKENS,
    ASK, FRAME, JOINED, TAIL, TAIL_REST, STATEMENT,
    OPTIONS, OPTIONS_FOUND, OPTION_SHARE, OPTION_BITS, OPTION_WEIGHT, OPTION_TOKENS,
    OPTION_OWN, PASSAGE, PASSAGE_BITS, QUESTION_LOW, QUESTION_HIGH, LOW, HIGH,
) = range(len(FEATURES))  # fmt: skip

Features = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Whole(NamedTuple):
    """Question, options and passage of a group one after the other.

    Attributes:
        starts: of question, options, passage, and the end: int64 [options + 3].
        tokens: uint32. units: uint8. weights, bits: float32. frames: words of the last sentence that ask: bool.
        ask, blank: as in `Arrays`.
    """

    starts: Int64
    tokens: UInt32
    units: UInt8
    weights: Floats
    bits: Floats
    frames: Bools
    ask: int
    blank: int


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def gather(group: int, arrays: Arrays) -> Whole:
    """The parts of a group."""
    first, last = arrays.option_starts[group], arrays.option_starts[group + 1]
    numbers = np.empty(last - first + 2, dtype=np.int64)
    numbers[0], numbers[-1] = arrays.questions[group], arrays.passages[group]
    numbers[1:-1] = arrays.options[first:last]
    starts = np.zeros(len(numbers) + 1, dtype=np.int64)
    for index in range(len(numbers)):
        size = arrays.starts[numbers[index] + 1] - arrays.starts[numbers[index]] if numbers[index] >= 0 else 0
        starts[index + 1] = starts[index] + size
    tokens = np.empty(starts[-1], dtype=np.uint32)
    units = np.empty(starts[-1], dtype=np.uint8)
    weights = np.empty(starts[-1], dtype=np.float32)
    bits = np.empty(starts[-1], dtype=np.float32)
    frames = np.zeros(starts[-1], dtype=np.bool_)
    for index in range(len(numbers)):
        if numbers[index] >= 0:
            low, high = arrays.starts[numbers[index]], arrays.starts[numbers[index] + 1]
            tokens[starts[index] : starts[index + 1]] = arrays.tokens[low:high]
            units[starts[index] : starts[index + 1]] = arrays.units[low:high]
            weights[starts[index] : starts[index + 1]] = arrays.weights[low:high]
            bits[starts[index] : starts[index + 1]] = arrays.bits[low:high]
            if index == 0:
                frames[arrays.asks[group] : starts[1]] = arrays.frames[low + arrays.asks[group] : high]
    return Whole(starts, tokens, units, weights, bits, frames, arrays.asks[group], arrays.blanks[group])


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _question(whole: Whole, matches: Int64, covered: Bools, out: Features) -> None:
    size = whole.starts[1]
    rest, most = TAIL_TOKENS, np.int64(0)
    first, last = best_stretch(matches, 0, size, size * 3 // 2 + SLACK, whole.weights)
    for match in range(first, last):
        at, where, end = matches[0, match], matches[1, match], matches[1, match] + matches[2, match]
        if where >= size:
            continue
        covered[where:end] = True
        if out[QUESTION_LOW] < 0:
            out[QUESTION_LOW] = at
        out[QUESTION_HIGH] = max(out[QUESTION_HIGH], at + matches[2, match])
        if where < whole.blank < end:
            out[JOINED] = 1
        if size - end <= rest:
            # Of several places with the same end: the one that most of the question runs up to.
            near = matches[:2, first:last]
            line = np.sum((near[0] - near[1] == at - where) & (near[1] < size))
            if size - end < rest or line > most:
                rest, most = size - end, line
                out[TAIL] = at + matches[2, match]
    out[TAIL_REST] = rest
    share = asking = asked = 0.0
    for index in range(size):
        out[QUESTION_WEIGHT] += whole.weights[index]
        asking += whole.frames[index]
        if covered[index]:
            share += whole.weights[index]
            out[QUESTION_PLAIN] += 1 / size
            out[QUESTION_BITS] += whole.bits[index]
            out[ASK] += (index >= whole.ask) / (size - whole.ask)
            asked += whole.frames[index]
    out[QUESTION] = share / out[QUESTION_WEIGHT]
    if asking:
        out[FRAME] = asked / asking


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _near(matches: Int64, low: float, high: float) -> Int64:
    """The matches inside a range."""
    first, last = 0, matches.shape[1]
    while first < last and matches[0, first] < low:
        first += 1
    while last > first and matches[0, last - 1] + matches[2, last - 1] > high:
        last -= 1
    return matches[:, first:last]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _run_units(whole: Whole, matches: Int64) -> Int64:
    """Units of each match: fewer than those of a run for options that are shorter."""
    out = np.zeros(matches.shape[1], dtype=np.int64)
    for match in range(matches.shape[1]):
        for index in range(matches[1, match], matches[1, match] + matches[2, match]):
            out[match] += whole.units[index]
    return out


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _options(whole: Whole, matches: Int64, covered: Bools, out: Features) -> tuple[int, int]:
    """Features of the options; first and last token + 1 of those found, -1 without any."""
    count = len(whole.starts) - 3
    begin, end = whole.starts[1], whole.starts[count + 1]
    reach = (end - begin) * 3 // 2 + SLACK + 4 * count
    if out[QUESTION] >= QUESTION_FOUND:
        matches = _near(matches, out[QUESTION_LOW] - reach, out[QUESTION_HIGH] + reach)
        # A number or a word in the question is no option.
        inside = (matches[0] >= out[QUESTION_LOW]) & (matches[0] + matches[2] <= out[QUESTION_HIGH])
        matches = matches[:, ~(inside & (_run_units(whole, matches) < RUN_UNITS))]
    first, last = best_stretch(matches, begin, end, reach, whole.weights)
    for match in range(first, last):
        where = matches[1, match]
        if begin <= where < end:
            covered[where : where + matches[2, match]] = True
    share = kept = 0.0
    for option in range(1, count + 1):
        total = got = gain = tokens = 0.0
        for index in range(whole.starts[option], whole.starts[option + 1]):
            total += whole.weights[index]
            if covered[index]:
                got += whole.weights[index]
                gain += whole.bits[index]
                tokens += 1
        out[OPTION_WEIGHT] += total
        if got >= OPTION_FOUND * total:
            out[OPTIONS_FOUND] += 1
            out[OPTION_BITS] += gain
            share += got
            kept += tokens
        else:
            covered[whole.starts[option] : whole.starts[option + 1]] = False
    out[OPTION_SHARE] = share / out[OPTION_WEIGHT]
    # Tokens of the range, each once: options that share words are not found by finding the words once.
    low = high = np.int64(-1)
    own = 0.0
    for match in range(first, last):
        at, where = matches[0, match], matches[1, match]
        if begin <= where < end and covered[where]:
            low = at if low < 0 else low
            own += max(0, at + matches[2, match] - max(high, at))
            high = max(high, at + matches[2, match])
    out[OPTION_OWN] = min(1.0, own / kept) if kept else 0.0
    return int(low), int(high)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _statement(whole: Whole, tokens: UInt32, tail: int, high: int) -> bool:
    """`... is` + one of the options: the sentence that the question was made from."""
    for option in range(1, len(whole.starts) - 2):
        fits = True
        for index in range(min(2, whole.starts[option + 1] - whole.starts[option])):
            if tail + index >= high or tokens[tail + index] != whole.tokens[whole.starts[option] + index]:
                fits = False
        if fits:
            return True
    return False


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _passage(whole: Whole, matches: Int64, covered: Bools, out: Features) -> None:
    begin = whole.starts[-2]
    for match in range(matches.shape[1]):
        where = matches[1, match]
        if where >= begin:
            covered[where : where + matches[2, match]] = True
    total = share = 0.0
    for index in range(begin, whole.starts[-1]):
        total += whole.weights[index]
        if covered[index]:
            share += whole.weights[index]
            out[PASSAGE_BITS] += whole.bits[index]
    out[PASSAGE] = share / total


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def score_group(tokens: UInt32, units: UInt8, low: int, high: int, group: int, arrays: Arrays) -> Features:
    """Features of a group in tokens low to high of a batch: float64 [FEATURES]."""
    out = np.zeros(len(FEATURES))
    out[QUESTION_LOW] = out[QUESTION_HIGH] = out[LOW] = out[HIGH] = out[TAIL] = out[FRAME] = -1
    whole = gather(group, arrays)
    out[OPTIONS] = len(whole.starts) - 3
    out[QUESTION_TOKENS] = whole.starts[1]
    out[OPTION_TOKENS] = whole.starts[-2] - whole.starts[1]
    out[JOINED] = whole.blank < 0
    matches = find_matches(tokens, units, low, high, whole.tokens, whole.units, whole.starts)
    covered = np.zeros(len(whole.tokens), dtype=np.bool_)
    if out[QUESTION_TOKENS]:
        _question(whole, matches, covered, out)
    out[LOW], out[HIGH] = out[QUESTION_LOW], out[QUESTION_HIGH]
    if out[OPTION_TOKENS]:
        option_low, option_high = _options(whole, matches, covered, out)
        if out[TAIL] >= 0 and out[TAIL_REST] == 0 and out[OPTIONS_FOUND] <= 1:
            out[STATEMENT] = _statement(whole, tokens, np.int64(out[TAIL]), high)
        if option_low >= 0:
            beside = out[QUESTION] >= QUESTION_FOUND
            out[LOW] = min(out[LOW], option_low) if beside else option_low
            out[HIGH] = max(out[HIGH], option_high) if beside else option_high
    if whole.starts[-1] > whole.starts[-2]:
        _passage(whole, matches, covered, out)
    return out


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def score_candidates(
    tokens: UInt32, units: UInt8, groups: Int64, lows: Int64, highs: Int64, arrays: Arrays
) -> Features:
    """Features of each candidate: float64 [candidates, FEATURES]."""
    out = np.empty((len(groups), len(FEATURES)))
    for row in range(len(groups)):
        out[row] = score_group(tokens, units, lows[row], highs[row], groups[row], arrays)
    return out
