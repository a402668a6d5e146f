"""The table of signals: every name, whether it is a count, and its meaning in one line.

Comes in: nothing. Goes out: `SIGNALS`, in the order in which columns are written and bounds are tried. Nothing
heavy is imported here, so configuration and command line may read it.

Terms used in the meanings. A *word* is a Han character, or a run of other letters and digits (`用Python3写` has
three); words are compared after folding case, width and traditional characters. A *line* ends with `\\n`, its white
space at both ends is cut and empty ones do not count. A *paragraph* is what empty lines part. A *sentence* ends
with 。！？… wherever they stand, with `.!?` before white space, and at the end of a line; it holds a word. *Visible*
characters are those that are not white space. Shares are 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["zh", "en"]


@dataclass(frozen=True)
class Signal:
    """One measurement.

    Attributes:
        name: as it stands in presets, and after `signal.` as a column.
        meaning: one line.
        integer: a count, written as int64; the others are float64.
    """

    name: str
    meaning: str
    integer: bool = False


def _ngram(width: int) -> str:
    return f"characters in runs of {width} words that stood before, of those in words (Gopher)"


_TABLE = (
    Signal("bytes", "length of the text in UTF-8", integer=True),
    Signal("characters", "length of the text in code points", integer=True),
    Signal("words", "Han characters, and runs of other letters and digits", integer=True),
    Signal("sentences", "sentences", integer=True),
    Signal("lines", "lines that are not empty", integer=True),
    Signal("paragraphs", "blocks of lines parted by empty lines", integer=True),
    Signal("mean_line_characters", "characters in a line, on average"),
    Signal("median_line_characters", "characters in the middle line by length"),
    Signal("longest_line_characters", "characters in the longest line", integer=True),
    Signal("mean_word_characters", "characters in a word, on average"),
    Signal("median_word_characters", "characters in the middle word by length"),
    Signal("longest_word_characters", "characters in the longest word", integer=True),
    Signal("mean_sentence_words", "words in a sentence, on average"),
    Signal("median_sentence_words", "words in the middle sentence by length"),
    Signal("mean_paragraph_words", "words in a paragraph, on average"),
    Signal("median_paragraph_words", "words in the middle paragraph by length"),
    Signal("han_share", "Han characters, of visible characters"),
    Signal("latin_share", "Latin letters, full-width ones too, of visible characters"),
    Signal("digit_share", "digits, full-width ones too, of visible characters"),
    Signal("symbol_share", "Unicode category S, of visible characters"),
    Signal("punctuation_share", "Unicode category P, of visible characters"),
    Signal("full_width_share", "full-width forms (U+FF01-FF5E, U+FFE0-FFE6), of visible characters"),
    Signal("uppercase_share", "upper-case letters, of Latin letters"),
    Signal("whitespace_share", "white space, of all characters"),
    Signal("control_share", "control characters other than tab and line ends, of all characters"),
    Signal("replacement_share", "U+FFFD and private use (U+E000-F8FF), of all characters"),
    Signal("traditional_share", "traditional forms, of characters whose simplified form differs"),
    Signal("ellipsis_line_share", "lines ending in `...`, `…` or `。。。` (Gopher)"),
    Signal("bullet_line_share", "lines starting with a bullet or a hyphen (Gopher)"),
    Signal(
        "terminal_line_share", "lines ending in .!?。！？… and closing quotes or brackets after it (FineWeb)"
    ),
    Signal("short_line_share", "lines shorter than 30, a Han character counting two (FineWeb)"),
    Signal("policy_line_share", "lines that ask for JavaScript, or speak of cookies or policies (C4)"),
    Signal("duplicate_line_share", "lines that stood before, of all lines (Gopher)"),
    Signal("duplicate_line_character_share", "characters of lines that stood before, of those in lines"),
    Signal("duplicate_paragraph_share", "paragraphs that stood before, of all paragraphs (Gopher)"),
    Signal(
        "duplicate_paragraph_character_share", "characters of paragraphs that stood before, of those in lines"
    ),
    Signal("newline_word_ratio", "line ends a word (FineWeb)"),
    Signal(
        "prose_sentences",
        "sentences in prose lines: closed by a terminal mark or a quote, not by an ellipsis, three words or more, "
        "no policy wording (C4)",
        integer=True,
    ),
    Signal("prose_character_share", "characters in prose lines, of those in lines"),
    Signal("curly_braces", "`{` (C4)", integer=True),
    Signal("lorem_ipsum", "`lorem ipsum` (C4)", integer=True),
    Signal(
        "letter_word_share", "words with a letter, of words and the marks that stand outside words (Gopher)"
    ),
    Signal("hash_word_ratio", "`#` a word (Gopher)"),
    Signal("ellipsis_word_ratio", "runs of three dots or more and runs of `…`, a word (Gopher)"),
    Signal(
        "gopher_stop_words",
        "how many of eight function words occur: the be to of and that have with; 的 了 是 在 不 有 和 一",
        integer=True,
    ),
    Signal("stop_word_share", "zh: function characters of Han characters; en: function words of words"),
    Signal("top_2gram_share", "the most frequent pair of words, of all pairs; 0 if none is repeated"),
    Signal("top_2gram_character_share", "characters in the most frequent pair, of those in words (Gopher)"),
    Signal("top_3gram_character_share", "characters in the most frequent run of 3 words (Gopher)"),
    Signal("top_4gram_character_share", "characters in the most frequent run of 4 words (Gopher)"),
    *(Signal(f"duplicate_{width}gram_character_share", _ngram(width)) for width in range(5, 11)),
    Signal("unique_word_share", "different words, of all words"),
    Signal("character_entropy", "Shannon entropy of the characters, in bits"),
    Signal("compression_ratio", "bytes over bytes after LZ77, estimated as for zlib; high means repetitive"),
    Signal("bits_per_character", "log2 of the perplexity of a character under the shipped trigram model"),
    Signal("urls", "addresses: `://` after a letter, and `www.` elsewhere", integer=True),
    Signal("emails", "e-mail addresses", integer=True),
    Signal("ad_terms", "terms of advertising, in 1000 characters"),
    Signal("adult_terms", "terms of pornography, in 1000 characters"),
    Signal("gambling_terms", "terms of gambling, in 1000 characters"),
    Signal("seo_terms", "terms of search-engine spam, in 1000 characters"),
    Signal("link_share", "of the page: visible characters inside links; NaN when unknown"),
    Signal("main_share", "of the page: visible characters that extraction kept; NaN when unknown"),
)

SIGNALS: dict[str, Signal] = {signal.name: signal for signal in _TABLE}
SIGNAL_NAMES: tuple[str, ...] = tuple(SIGNALS)
COUNT_SIGNALS: frozenset[str] = frozenset(signal.name for signal in _TABLE if signal.integer)
# Known only from the page that the text was extracted from.
PAGE_SIGNALS: tuple[str, ...] = ("link_share", "main_share")
TERM_SIGNALS: tuple[str, ...] = ("ad_terms", "adult_terms", "gambling_terms", "seo_terms")


def language_group(language: str) -> Group:
    """The form in which signals and presets apply to a language code: Chinese for zh-* and yue, else English."""
    return "zh" if language.startswith(("zh", "yue")) else "en"
