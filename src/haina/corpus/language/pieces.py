"""A text cut into pieces that are each in one language most likely, and what stands in them, counted.

Comes in: code points. Goes out: where each piece starts, and one row of counts a piece. A piece ends at a line's end,
after a sentence, and where the script changes for long; a name or a command in another script stays in its sentence.
`reference.py` says the same plainly.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.characters import DIGIT, HAN, HANGUL, KANA, LATIN, LETTER, SPACE
from haina.corpus.language.tables import TABLE_SIZE, Tables

# Columns of a row of counts: characters of each kind ...
HANS, HIRAGANA, KATAKANA, HANGULS, LATINS, LETTERS, DIGITS, VISIBLE = range(8)
# ... words in Latin letters, English function words among them, those that only English has, ...
WORDS, ENGLISH, ENGLISH_CORE = range(8, 11)
# ... sums of the tables: traditional minus simplified, its absolute value, only and never Japanese, Cantonese,
# Mandarin.
SCRIPT, SCRIPT_MARKS, JAPANESE, NOT_JAPANESE, CANTONESE, MANDARIN = range(11, 17)
COLUMNS = 17

# A run in another script is a piece of its own from so many letters on, and if it has spaces for so many words: names
# and commands stay with their sentence. Dense scripts need fewer letters and no spaces.
RUN_LATIN = 20
RUN_SPACES = 4
RUN_DENSE = 6
# A name in brackets or a quotation needs more to stand alone.
RUN_QUOTED = 60
DENSE, SPARSE, FOREIGN = 1, 2, 3
# A longer sentence is cut at its next space, so that one line of 10 MB is many pieces.
LONGEST = 400


@nb.njit(cache=True, nogil=True, inline="always")
def kind_of(classes: npt.NDArray[np.uint8], code: int) -> int:
    """Class of a code point; private use and unassigned planes are class OTHER, 9."""
    return int(classes[code]) if code < TABLE_SIZE else 9


@nb.njit(cache=True, nogil=True, inline="always")
def _family(kind: int) -> int:
    if kind in (HAN, KANA, HANGUL):
        return DENSE
    if kind == LATIN:
        return SPARSE
    return FOREIGN if kind == LETTER else 0


@nb.njit(cache=True, nogil=True, inline="always")
def _opens(code: int) -> bool:
    """Opening brackets and quotation marks: ( [ " “ 「 『 《 〈 （."""
    return code in (0x28, 0x5B, 0x22, 0x201C, 0x300C, 0x300E, 0x300A, 0x3008, 0xFF08)


@nb.njit(cache=True, nogil=True)
def cut(  # noqa: PLR0912, PLR0915 - one pass
    codes: npt.NDArray[np.uint32], classes: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]
) -> int:
    """Where pieces start: fills `starts` (int64 [characters + 1]), closed with the length; how many there are."""
    size = len(codes)
    count = 0
    place = 0
    first = 0  # of the piece being read
    family = 0  # of the piece being read
    long = False  # whether that piece is long enough to stand alone
    settled = 0  # up to here a change of script was looked at
    while place < size:
        code = codes[place]
        own = _family(kind_of(classes, code))
        if own and place >= settled and own != family:
            # How long does the run go on?
            letters, spaces, ahead = 0, 0, place
            while ahead < min(size, place + LONGEST) and codes[ahead] != 0x0A:
                other = _family(kind_of(classes, codes[ahead]))
                if other and other != own:
                    break
                letters += other != 0
                spaces += codes[ahead] == 0x20
                ahead += 1
            settled = ahead
            if own == DENSE:
                runs = letters >= RUN_DENSE
            elif place > first and _opens(codes[place - 1]):
                runs = letters >= RUN_QUOTED
            else:
                runs = letters >= RUN_LATIN and spaces >= RUN_SPACES
            if runs and family and (long or family == DENSE):
                starts[count] = first
                count += 1
                first = place
                long = False
            if runs or family == 0:
                family = own
                long = long or runs
        place += 1
        ends = False
        if code == 0x0A or code in (0x3002, 0xFF01, 0xFF1F, 0xFF0E, 0xFF1B):
            ends = True
        elif code in (0x2E, 0x21, 0x3F) and place < size:
            ends = codes[place] in (0x20, 0x0A)
        elif place - first >= LONGEST:
            ends = kind_of(classes, code) == SPACE or place - first >= 2 * LONGEST
        if ends:
            starts[count] = first
            count += 1
            first = place
            family = 0
            long = False
            settled = 0
    if first < size:
        starts[count] = first
        count += 1
    starts[count] = size
    return count


@nb.njit(cache=True, nogil=True)
def _has(values: npt.NDArray[np.int64], key: int) -> bool:
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low < len(values) and values[low] == key


@nb.njit(cache=True, nogil=True)
def count(  # noqa: PLR0912, PLR0915 - one pass
    codes: npt.NDArray[np.uint32], starts: npt.NDArray[np.int64], tables: Tables, rows: npt.NDArray[np.int32]
) -> None:
    """Add up what stands in each piece: `rows` int32 [pieces, COLUMNS], zeros before."""
    for piece in range(len(starts) - 1):
        row = rows[piece]
        end = starts[piece + 1]
        key, letters = 0, 0  # the word being read; more than 12 letters or a foreign one: -1
        previous = 0
        for place in range(starts[piece], end):
            code = int(codes[place])
            kind = kind_of(tables.classes, code)
            if kind == LATIN:
                row[LATINS] += 1
                letters += 1
                lower = code | 0x20
                known = key >= 0 and letters <= 12 and 0x61 <= lower <= 0x7A
                key = key << 5 | (lower - 96) if known else -1
            elif letters:
                row[WORDS] += 1
                if key > 0 and _has(tables.english_words, key):
                    row[ENGLISH] += 1
                    if _has(tables.english_core, key):
                        row[ENGLISH_CORE] += 1
                key, letters = 0, 0
            if kind == HAN:
                row[HANS] += 1
                weight = tables.scripts[code]
                row[SCRIPT] += weight
                row[SCRIPT_MARKS] += abs(weight)
                if tables.japanese[code] > 0:
                    row[JAPANESE] += 1
                elif tables.japanese[code] < 0:
                    row[NOT_JAPANESE] += 1
                if tables.cantonese[code] > 0:
                    row[CANTONESE] += 1
                elif tables.cantonese[code] < 0:
                    row[MANDARIN] += 1
                if (
                    previous
                    and tables.cantonese_starts[previous]
                    and _has(tables.cantonese_words, previous << 21 | code)
                ):
                    row[CANTONESE] += 1
                previous = code
            else:
                previous = 0
            if kind == KANA:
                row[HIRAGANA if code < 0x30A0 else KATAKANA] += 1
            elif kind == HANGUL:
                row[HANGULS] += 1
            elif kind == LETTER:
                row[LETTERS] += 1
            elif kind == DIGIT:
                row[DIGITS] += 1
            if kind != SPACE:
                row[VISIBLE] += 1
        if letters:
            row[WORDS] += 1
            if key > 0 and _has(tables.english_words, key):
                row[ENGLISH] += 1
                if _has(tables.english_core, key):
                    row[ENGLISH_CORE] += 1
