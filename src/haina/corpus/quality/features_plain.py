"""The features of haina.corpus.quality.features in plain Python: what the kernel computes, said once more.

Comes in: a text. Goes out: the same buckets in the same order, the same pairs, the same numbers. Slow; for tests and
for reading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from haina.corpus.characters import DIGIT, HAN, HANGUL, KANA, LATIN, LETTER, OTHER, PUNCTUATION, SPACE, SYMBOL
from haina.corpus.quality import features as kernel
from haina.corpus.records import clean_text

_MASK = (1 << 64) - 1
_NEWLINE, _SPACE = 0x0A, 0x20


def _bucket(value: int, bits: int) -> int:
    return (((value ^ (value >> 29)) * kernel.K2) & _MASK) >> (64 - bits)


def _join(left: int, right: int, tag: int) -> int:
    return ((left * kernel.K1) & _MASK) ^ ((right * kernel.K3 + tag) & _MASK)


@dataclass
class _Reader:
    """A text as units, with what the kernel counts along the way."""

    bits: int
    ids: list[int] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    coarse: list[int] = field(default_factory=list)
    joined: list[int] = field(default_factory=list)
    sentence: int = 0
    sentences: list[int] = field(default_factory=list)
    line: int = 0
    lines: list[bool] = field(default_factory=list)
    ended: bool = False
    seen: tuple[dict[int, tuple[int, int]], ...] = field(default_factory=lambda: ({}, {}, {}))
    repeated: list[int] = field(default_factory=lambda: [0, 0, 0])

    def unit(self, unit: int, coarse: int) -> None:
        """One more unit and the n-grams that end in it; before the text stands a line end."""
        bits = self.bits
        before = [_NEWLINE, _NEWLINE, *self.coarse]
        last = self.units[-1] if self.units else _NEWLINE
        pair = _join(last, unit, kernel.TAG_PAIR)
        triple = _join(_join(before[-2], before[-1], kernel.TAG_TRIPLE), coarse, kernel.TAG_TRIPLE)
        self.ids += [_bucket(unit, bits), _bucket(pair, bits), _bucket(triple, bits)]
        if coarse != unit or before[-1] != last:
            self.ids.append(_bucket(_join(before[-1], coarse, kernel.TAG_CLASS), bits))
        back = kernel.CONTROL_DISTANCE
        position = len(self.units)
        if position >= back:
            self.pairs.append(
                (_bucket(pair, bits), _bucket(_join(self.units[-back], unit, kernel.TAG_PAIR), bits))
            )
            left = _join(before[-back - 1], before[-back], kernel.TAG_TRIPLE)
            self.pairs.append((_bucket(triple, bits), _bucket(_join(left, coarse, kernel.TAG_TRIPLE), bits)))
        self.units.append(unit)
        self.coarse.append(coarse)
        runs: list[int | None] = [unit, None, None]
        self.joined.append(pair)
        joined = self.joined
        if position >= 2:
            runs[1] = _join(joined[-2], pair, kernel.TAG_TRIPLE)
        if position >= 5:
            runs[2] = _join(_join(joined[-5], joined[-3], kernel.TAG_TRIPLE), pair, kernel.TAG_TRIPLE)
        for index, run in enumerate(runs):
            if run is None:
                continue
            slot = ((run * kernel.K2) & _MASK) >> (64 - kernel.SEEN_BITS)
            found = self.seen[index].get(slot)
            near = kernel.NEAR if index == 0 else math.inf
            if found and found[0] == run and position - found[1] <= near:
                self.repeated[index] += 1
            self.seen[index][slot] = (run, position)
        self.sentence += 1
        self.line += 1

    def word(self, letters: list[int]) -> None:
        """A word: its letters in threes and fours, then its unit."""
        padded = [1, 1, 1]
        unit = kernel.K3
        for index, code in enumerate(letters):
            three = (padded[-2] << 21) | padded[-1]
            if index > 0:
                self.ids.append(_bucket(_join(three, code, kernel.TAG_LETTERS3), self.bits))
            if index > 1:
                four = ((padded[-3] << 42) & _MASK) | three
                self.ids.append(_bucket(_join(four, code, kernel.TAG_LETTERS4), self.bits))
            padded.append(code)
            unit = ((unit ^ code) * kernel.K1) & _MASK
            unit ^= unit >> 32
        three = (padded[-2] << 21) | padded[-1]
        four = ((padded[-3] << 42) & _MASK) | three
        self.ids.append(_bucket(_join(three, 2, kernel.TAG_LETTERS3), self.bits))
        self.ids.append(_bucket(_join(four, 2, kernel.TAG_LETTERS4), self.bits))
        long = len(letters) > kernel.SHORT_WORD
        self.unit(unit, _join(padded[-2], padded[-1], kernel.TAG_CLASS) if long else unit)

    def end_sentence(self) -> None:
        if self.sentence > 0:
            self.sentences.append(self.sentence)
            self.sentence = 0

    def end_line(self) -> None:
        if self.line > 0:
            self.lines.append(self.ended)
            self.line = 0


def features_plain(  # noqa: PLR0915 - one loop, as the kernel
    text: str, bits: int
) -> tuple[list[int], list[tuple[int, int]], list[float]]:
    """`extract_features`, a character at a time."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = clean_text(text)
    table, roles = kernel.fold_table(), kernel.role_table()
    reader = _Reader(bits)
    kinds: list[int] = []
    upper = emphasis = marks = ends = han_spaces = words = 0
    letters: list[int] = []
    pending = after_han = False

    def close_word() -> None:
        nonlocal words
        if letters:
            words += 1
            reader.word(letters)
            letters.clear()

    for character in text:
        raw = ord(character)
        entry = int(table[raw]) if raw < len(table) else raw | (OTHER << 24)
        code, kind = entry & 0xFFFFFF, entry >> 24
        if kind in (LATIN, DIGIT, LETTER):
            kinds.append(kind)
            upper += kind == LATIN and raw != code and raw < 0x5B
            letters.append(code)
            reader.ended = pending = after_han = False
            continue
        close_word()
        if kind == SPACE:
            if code == _NEWLINE:
                if (reader.units[-1] if reader.units else _NEWLINE) != _NEWLINE:
                    reader.unit(code, code)
                    reader.line -= 1
                    reader.sentence -= 1
                reader.end_sentence()
                reader.end_line()
                after_han = False
            else:
                pending = after_han
            continue
        kinds.append(kind)
        role = int(roles[code]) if code < len(roles) else 0
        if kind in (HAN, KANA, HANGUL):
            if pending:
                han_spaces += 1
                reader.unit(_SPACE, _SPACE)
            after_han = True
            reader.ended = False
        else:
            after_han = False
            emphasis += bool(role & kernel.IS_EMPHASIS)
            marks += bool(role & kernel.IS_MARK)
            if not role & kernel.IS_CLOSING and code not in (0x22, 0x27):
                reader.ended = bool(role & kernel.IS_END)
        pending = False
        reader.unit(code, code)
        if role & kernel.IS_END:
            ends += 1
            reader.end_sentence()
    close_word()
    reader.end_sentence()
    reader.end_line()

    units, visible = len(reader.units), max(1, len(kinds))
    some = max(1, units)
    han = sum(kind in (HAN, KANA, HANGUL) for kind in kinds)
    latin = kinds.count(LATIN)
    all_letters = max(1, han + latin + kinds.count(LETTER))
    sentence_count, line_count = max(1, len(reader.sentences)), max(1, len(reader.lines))
    mean = some / sentence_count
    variance = max(0.0, sum(size * size for size in reader.sentences) / sentence_count - mean * mean)
    dense = [
        kinds.count(PUNCTUATION) / visible,
        kinds.count(DIGIT) / visible,
        kinds.count(SYMBOL) / visible,
        sum(kind not in (LATIN, DIGIT, LETTER, HAN, KANA, HANGUL, PUNCTUATION, SYMBOL) for kind in kinds)
        / visible,
        latin / all_letters,
        upper / max(1, latin),
        han_spaces / max(1, han),
        emphasis / some,
        marks / some,
        math.log(1 + units / (1 + ends)),
        math.sqrt(variance) / mean,
        math.log(1 + units / line_count),
        sum(reader.lines) / line_count,
        reader.repeated[1] / some,
        reader.repeated[2] / some,
        reader.repeated[0] / some,
        (latin + 1) / (words + 1),
    ]
    return reader.ids, reader.pairs, dense
