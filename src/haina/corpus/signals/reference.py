"""Every signal in plain Python: slow, and what the kernels have to equal.

Comes in: text and its language. Goes out: the values of `batch.measure`, computed with strings, regular expressions,
`Counter` and sets, without any of the kernels' tables but the folding of characters. Tests and `benchmarks/signals.py`
hold both together.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from haina.corpus.characters import (
    DIGIT,
    HAN,
    HAN_CLASS,
    LATIN,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    classes_of,
    code_points,
)
from haina.corpus.signals.character_model import bits_per_character_plain
from haina.corpus.signals.compress import (
    FIXED_HEADER,
    FIXED_LITERAL,
    LONGEST,
    MATCH,
    OWN_HEADER,
    OWN_LITERAL,
    SHORTEST,
    SLOTS_LOG2,
    WINDOW,
)
from haina.corpus.signals.names import PAGE_SIGNALS, SIGNALS, TERM_SIGNALS, language_group
from haina.corpus.signals.tables import (
    BULLETS,
    CLOSERS,
    GOPHER,
    HARD_ENDS,
    LOREM_IPSUM,
    POLICY_LINES,
    QUOTES,
    SOFT_ENDS,
    STOP_EN,
    STOP_ZH,
    fold_character,
    lexicon,
    variants,
)

_WORD = re.compile(f"[{HAN_CLASS}]|[^\\W_{HAN_CLASS}]+")
_HAN = re.compile(f"[{HAN_CLASS}]")
_URL = re.compile(r"(?<=[A-Za-z])://|(?<![A-Za-z0-9/])[Ww]{3}\.")
_EMAIL = re.compile(r"(?<=[A-Za-z0-9._%+-])@(?=[A-Za-z0-9-]{1,63}\.[A-Za-z])")
_ELLIPSIS = re.compile(r"\.{3,}|…+")
_ELLIPSIS_END = re.compile(r"(\.\.\.|…|。。。)\Z")
_SHORT_LINE = 30
_PROSE_LINE_WORDS = 3


def words_of(text: str) -> list[str]:
    """Han characters one by one, otherwise runs of letters and digits: `用Python写` -> 用, Python, 写."""
    return _WORD.findall(text)


def folded_words(text: str) -> list[str]:
    """`words_of`, in the form in which words are compared."""
    return ["".join(map(fold_character, word)) for word in words_of(text)]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _median(values: Sequence[int]) -> float:
    return float(median(values)) if values else 0.0


def _sentence_words(line: str) -> list[int]:
    """Words in each sentence of a line."""
    kinds = classes_of(code_points(line)).tolist()
    cuts = [0]
    for place, character in enumerate(line):
        following = line[place + 1 : place + 2]
        if character in HARD_ENDS or (
            character in SOFT_ENDS
            and (
                not following
                or following.isspace()
                or following in CLOSERS | HARD_ENDS | SOFT_ENDS
                or kinds[place + 1] == HAN
            )
        ):
            cuts.append(place + 1)
    words = [len(words_of(line[start:end])) for start, end in pairwise([*cuts, len(line)])]
    return [count for count in words if count]


def _terms(words: list[str]) -> list[tuple[int, int]]:
    """(index of the first word, bits of the categories) of each term: the longest at each place, none in another."""
    terms = lexicon().terms
    longest = max(map(len, terms))
    found = []
    place = 0
    while place < len(words):
        for length in range(longest, 0, -1):
            bits = terms.get(tuple(words[place : place + length]), 0)
            if bits:
                found.append((place, bits))
                place += length - 1
                break
        place += 1
    return found


def _repeats(rows: Sequence[object], lengths: Sequence[int]) -> tuple[int, int]:
    """How many rows stood before, and their characters."""
    seen: set[object] = set()
    count = characters = 0
    for row, length in zip(rows, lengths, strict=True):
        if row in seen:
            count += 1
            characters += length
        seen.add(row)
    return count, characters


def _runs(words: list[str], width: int) -> list[tuple[str, ...]]:
    return [tuple(words[place : place + width]) for place in range(len(words) - width + 1)]


def _top(words: list[str], lengths: list[int], width: int) -> tuple[int, int]:
    """(how often the most frequent run occurs, characters in all its occurrences), 0 when none is repeated."""
    runs = _runs(words, width)
    run, count = Counter(runs).most_common(1)[0] if runs else ((), 0)
    if count < 2:
        return 0, 0
    place = runs.index(run)
    return count, count * sum(lengths[place : place + width])


def _duplicate_characters(words: list[str], lengths: list[int], width: int) -> int:
    runs = _runs(words, width)
    seen: set[tuple[str, ...]] = set()
    characters = place = 0
    while place < len(runs):
        if runs[place] in seen:
            characters += sum(lengths[place : place + width])
            place += width
        else:
            seen.add(runs[place])
            place += 1
    return characters


def compressed_bits(data: bytes) -> float:
    """Estimated size after Deflate, in bits; see `compress.py`."""
    slots: dict[int, int] = {}
    literals: Counter[int] = Counter()
    place = matches = 0
    while place + SHORTEST <= len(data):
        word = data[place : place + SHORTEST]
        slot = (int.from_bytes(word, "little") * 2654435761 & 0xFFFFFFFF) >> 32 - SLOTS_LOG2
        other = slots.get(slot, -1)
        slots[slot] = place
        if other >= 0 and place - other <= WINDOW and data[other : other + SHORTEST] == word:
            length = SHORTEST
            while length < min(LONGEST, len(data) - place) and data[other + length] == data[place + length]:
                length += 1
            matches += 1
            place += length
        else:
            literals[data[place]] += 1
            place += 1
    literals.update(data[place:])
    total = literals.total()
    entropy = sum(count * math.log2(total / count) for count in literals.values())
    return min(OWN_HEADER + OWN_LITERAL * entropy, FIXED_HEADER + FIXED_LITERAL * total) + MATCH * matches


def _character_values(text: str) -> dict[str, float]:
    kinds = Counter(classes_of(code_points(text)).tolist())
    visible = len(text) - kinds[SPACE]
    _, traditional, simplified = variants()
    marked = [character for character in text if character in traditional or character in simplified]
    controls = sum(unicodedata.category(character) == "Cc" for character in text)
    upper = sum(
        character.isupper()
        for character, kind in zip(text, classes_of(code_points(text)).tolist(), strict=True)
        if kind == LATIN
    )
    return {
        "bytes": len(text.encode("utf-8")),
        "characters": len(text),
        "han_share": _share(kinds[HAN], visible),
        "latin_share": _share(kinds[LATIN], visible),
        "digit_share": _share(kinds[DIGIT], visible),
        "symbol_share": _share(kinds[SYMBOL], visible),
        "punctuation_share": _share(kinds[PUNCTUATION], visible),
        "full_width_share": _share(len(re.findall("[！-～￠-￦]", text)), visible),
        "uppercase_share": _share(upper, kinds[LATIN]),
        "whitespace_share": _share(kinds[SPACE], len(text)),
        "control_share": _share(controls - sum(map(text.count, "\t\n\r")), len(text)),
        "replacement_share": _share(len(re.findall("[\ufffd\ue000-\uf8ff]", text)), len(text)),
        "traditional_share": _share(sum(character in traditional for character in marked), len(marked)),
        "character_entropy": sum(
            count / len(text) * math.log2(len(text) / count) for count in Counter(text).values()
        ),
        "compression_ratio": _share(8 * len(text.encode("utf-8")), compressed_bits(text.encode("utf-8"))),
        "bits_per_character": bits_per_character_plain(text),
        "curly_braces": text.count("{"),
        "urls": len(_URL.findall(text)),
        "emails": len(_EMAIL.findall(text)),
    }


def _line_values(text: str, terms: list[tuple[int, int]]) -> dict[str, float]:
    policy_words = {place for place, bits in terms if bits >> POLICY_LINES & 1}
    lines: list[str] = []
    paragraphs: list[list[str]] = [[]]
    sentences: list[int] = []
    policy = prose_sentences = prose_characters = 0
    start = 0
    for line in map(str.strip, text.split("\n")):
        if not line:
            paragraphs.append([])
            continue
        lines.append(line)
        paragraphs[-1].append(line)
        inside = _sentence_words(line)
        sentences += inside
        asks = not policy_words.isdisjoint(range(start, start + sum(inside)))
        policy += asks
        closed = line[-1] in QUOTES or _is_terminal(line)
        if closed and not asks and not _ELLIPSIS_END.search(line) and sum(inside) >= _PROSE_LINE_WORDS:
            prose_sentences += len(inside)
            prose_characters += len(line)
        start += sum(inside)
    blocks = [tuple(block) for block in paragraphs if block]
    block_words = [sum(len(words_of(line)) for line in block) for block in blocks]
    characters = sum(map(len, lines))
    line_repeats = _repeats(lines, [len(line) for line in lines])
    block_repeats = _repeats(blocks, [sum(map(len, block)) for block in blocks])

    def lines_that(holds: list[bool]) -> float:
        return _share(sum(holds), len(lines))

    return {
        "sentences": len(sentences),
        "lines": len(lines),
        "paragraphs": len(blocks),
        "mean_line_characters": _share(characters, len(lines)),
        "median_line_characters": _median([len(line) for line in lines]),
        "longest_line_characters": max(map(len, lines), default=0),
        "mean_sentence_words": _share(sum(sentences), len(sentences)),
        "median_sentence_words": _median(sentences),
        "mean_paragraph_words": _share(sum(block_words), len(blocks)),
        "median_paragraph_words": _median(block_words),
        "ellipsis_line_share": lines_that([bool(_ELLIPSIS_END.search(line)) for line in lines]),
        "bullet_line_share": lines_that([line[0] in BULLETS for line in lines]),
        "terminal_line_share": lines_that([_is_terminal(line) for line in lines]),
        "short_line_share": lines_that([len(line) + len(_HAN.findall(line)) < _SHORT_LINE for line in lines]),
        "policy_line_share": _share(policy, len(lines)),
        "duplicate_line_share": _share(line_repeats[0], len(lines)),
        "duplicate_line_character_share": _share(line_repeats[1], characters),
        "duplicate_paragraph_share": _share(block_repeats[0], len(blocks)),
        "duplicate_paragraph_character_share": _share(block_repeats[1], characters),
        "prose_sentences": prose_sentences,
        "prose_character_share": _share(prose_characters, characters),
    }


def _is_terminal(line: str) -> bool:
    """Whether a line ends with a terminal mark, or with quotes and brackets that close after one."""
    rest = line.rstrip("".join(CLOSERS))
    return (rest or line)[-1] in HARD_ENDS | SOFT_ENDS


def _marks(text: str) -> int:
    """Punctuation and symbols that do not stand between two letters or digits."""
    kinds = classes_of(code_points(text)).tolist()
    inside = [kind != HAN and character.isalnum() for character, kind in zip(text, kinds, strict=True)]
    return sum(
        kind in (PUNCTUATION, SYMBOL)
        and not (0 < place < len(text) - 1 and inside[place - 1] and inside[place + 1])
        for place, kind in enumerate(kinds)
    )


def measure_plain(text: str, language: str) -> dict[str, float]:
    """Every signal of one text, those of the page NaN; equals `measure(text, language)`."""
    chinese = language_group(language) == "zh"
    words = folded_words(text)
    lengths = [len(word) for word in words_of(text)]
    flags = lexicon().flags
    terms = _terms(words)
    wanted = STOP_ZH if chinese else STOP_EN
    stops = sum(bool(flags.get(word, 0) & wanted) for word in words)
    pair_count, _ = _top(words, lengths, 2)
    letters = sum(any(map(str.isalpha, word)) or bool(_HAN.match(word)) for word in words_of(text))
    values: dict[str, float] = {
        **_character_values(text),
        **_line_values(text, terms),
        "words": len(words),
        "mean_word_characters": _share(sum(lengths), len(words)),
        "median_word_characters": _median(lengths),
        "longest_word_characters": max(lengths, default=0),
        "newline_word_ratio": _share(text.count("\n"), len(words)),
        "letter_word_share": _share(letters, len(words) + _marks(text)),
        "hash_word_ratio": _share(text.count("#"), len(words)),
        "ellipsis_word_ratio": _share(len(_ELLIPSIS.findall(text)), len(words)),
        "gopher_stop_words": sum(bool(flags.get(word, 0) & GOPHER) for word in set(words)),
        "stop_word_share": _share(stops, len(_HAN.findall(text)) if chinese else len(words)),
        "top_2gram_share": _share(pair_count, len(words) - 1),
        "unique_word_share": _share(len(set(words)), len(words)),
        "lorem_ipsum": sum(bits >> LOREM_IPSUM & 1 for _, bits in terms),
    }
    for width in (2, 3, 4):
        values[f"top_{width}gram_character_share"] = min(
            1.0, _share(_top(words, lengths, width)[1], sum(lengths))
        )
    for width in range(5, 11):
        values[f"duplicate_{width}gram_character_share"] = _share(
            _duplicate_characters(words, lengths, width), sum(lengths)
        )
    for category, name in enumerate(TERM_SIGNALS):
        values[name] = _share(1000 * sum(bits >> category & 1 for _, bits in terms), len(text))
    values |= dict.fromkeys(PAGE_SIGNALS, math.nan)
    return {name: values[name] for name in SIGNALS}
