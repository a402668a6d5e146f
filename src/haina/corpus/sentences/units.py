"""A sentence as numbers: what the sentence model reads.

Comes in: code points, and where sentences begin and end. Goes out: for each sentence the buckets of its
features. A unit is a Han character, a word, a mark, or what stands for a whole class: an address, a mail
address, a telephone number, a made-up name, a number of so many digits. Features are one, two and three units
in a row, stems of long words, letters beyond ASCII, and the sentence's shape. Characters are folded first
(NFKC, lower case, traditional to simplified), and marks wedged into a word to hide it (加❤微) are left out and
noted. Features are hashed into buckets (Weinberger et al. 2009). The kernel stands beside `plain_features`,
which says the same with strings.
"""

from __future__ import annotations

import itertools
import unicodedata
from functools import cache

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.characters import DIGIT, HAN, HANGUL, KANA, LATIN, LETTER, OTHER, SPACE, class_table

BITS = 18
LIMIT = 0x32400
MOST_UNITS = 192  # of a sentence; what is longer has shown what it is
MOST_FEATURES = 6 * MOST_UNITS + 16
R_OTHER, R_SPACE, R_HAN, R_LETTER, R_DIGIT, R_MARK, R_UPPER = range(7)
# Units that stand for a class lie above all code points; words are hashed above them.
_CONTROL, _BLANK, _MAIL, _ADDRESS, _PHONE, _NAME_SHORT, _NAME, _NUMBER = (
    0x110000 + index for index in range(8)
)
_BEGIN, _END = 0x110100, 0x110101
_SHAPE, _STEM, _LETTER_BEYOND = 0x110200, 0x110300, 0x110400
_WORD = 1 << 32
_JOINERS = tuple(ord(mark) for mark in ".-_@/:&=?%#+~")
_WEDGES = tuple(ord(mark) for mark in ".*_❤♥★☆➕+^丶~|/\\♡♦●→")
_PHONE_DIGITS, _YEAR_DIGITS = 7, 4
_STEM_LETTERS, _LONG_WORD = 5, 7


@cache
def _simplified() -> dict[int, str]:
    """Code points that OpenCC changes on the way from traditional to simplified, one character each."""
    from opencc import OpenCC

    codes = [*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000)]
    folded = OpenCC("t2s").convert("\n".join(map(chr, codes))).split("\n")
    return {code: target for code, target in zip(codes, folded, strict=True) if target != chr(code)}


@cache
def fold_tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """The folded form of each code point, uint32 [0x32400], and its role, uint8 [0x32400]."""
    folded = np.arange(LIMIT, dtype=np.uint32)
    for code in range(0x10000):
        if not 0xD800 <= code < 0xE000:
            form = unicodedata.normalize("NFKC", chr(code)).lower().translate(_simplified())
            if len(form) == 1 and ord(form) < LIMIT:
                folded[code] = ord(form)
    classes = class_table()
    roles = np.full(LIMIT, R_MARK, dtype=np.uint8)
    roles[classes == OTHER] = R_OTHER
    roles[classes == SPACE] = R_SPACE
    roles[(classes == HAN) | (classes == KANA)] = R_HAN
    roles[(classes == LATIN) | (classes == LETTER) | (classes == HANGUL)] = R_LETTER
    roles[classes == DIGIT] = R_DIGIT
    for code in np.flatnonzero(roles == R_LETTER).tolist():
        if chr(code).isupper():
            roles[code] = R_UPPER
    roles[[0xFE0E, 0xFE0F, 0x200B, 0x200C, 0x200D, 0xFEFF]] = R_OTHER
    roles[0xFFFD] = R_MARK
    return folded, roles


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _mix(value: np.uint64) -> np.uint64:
    """SplitMix64's finaliser (Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _bucket(first: np.uint64, second: np.uint64, third: np.uint64) -> np.int32:
    return np.int32(_mix(_mix(_mix(first) ^ second) ^ third) & np.uint64((1 << BITS) - 1))


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _is_word(role: int) -> bool:
    return role in (R_LETTER, R_DIGIT, R_UPPER)


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _is_letter(role: int) -> bool:
    return role in (R_LETTER, R_UPPER)


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _token(  # noqa: PLR0912
    folded: npt.NDArray[np.uint32], roles: npt.NDArray[np.uint8], low: int, high: int
) -> tuple[int, int]:
    """End of the token that begins at `low`, and the unit that stands for it, 0 when its parts are read."""
    place = low
    letters, digits, at, dots, dashes, slashes, tail, lead = 0, 0, 0, 0, 0, 0, -1, 0
    while place < high:
        if roles[place] == R_DIGIT:
            digits += 1
            if letters == 0 and dashes == 0:
                lead += 1
            if tail >= 0 and slashes == 0:
                tail = -1
        elif _is_letter(roles[place]):
            letters += 1
            if tail >= 0 and slashes == 0:
                tail += 1
        elif (
            folded[place] in _JOINERS
            and place + 1 < high
            and (_is_word(roles[place + 1]) or folded[place + 1] == 0x2F)
        ):
            if folded[place] == 0x40:
                at += 1
            elif folded[place] == 0x2E:
                dots += 1
                if slashes == 0:
                    tail = 0
            elif folded[place] == 0x2D:
                dashes += 1
            elif folded[place] == 0x2F:
                slashes += 1
        else:
            break
        place += 1
    if at and letters:
        return place, _MAIL
    if letters and dots and 2 <= tail <= 6 and letters + digits > tail:
        return place, _ADDRESS
    if letters and slashes >= 2 and dots:
        return place, _ADDRESS
    if letters and digits and not dots and not slashes and letters + digits >= 5:
        return place, _NAME if letters + digits >= 8 else _NAME_SHORT
    if not letters and dashes and digits >= _PHONE_DIGITS and not (lead == _YEAR_DIGITS and digits <= 8):
        return place, _PHONE
    return place, 0


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def sentence_features(  # noqa: PLR0912, PLR0915
    folded: npt.NDArray[np.uint32],
    roles: npt.NDArray[np.uint8],
    low: int,
    high: int,
    features: npt.NDArray[np.int32],
    about: npt.NDArray[np.uint64],
) -> int:
    """Buckets of the features of code points `low` to `high`, written to `features`; how many.

    `about` (uint64 [2]) gets a hash of the units, equal for equal sentences, and the number of units.
    """
    count = 0
    units = 0
    before, last = np.uint64(0), np.uint64(_BEGIN)
    whole = np.uint64(_BEGIN)
    wedges, upper, letters = 0, 0, 0
    zero = np.uint64(0)
    place = low
    token_end, previous_mark, after_han = low, 0, False
    while place < high and units < MOST_UNITS:
        role = roles[place]
        unit = zero
        begin = place
        if role in (R_SPACE, R_OTHER):
            blank = False
            while place < high and (roles[place] == R_SPACE or roles[place] == R_OTHER):
                blank = blank or roles[place] == R_SPACE
                place += 1
            previous_mark = 0
            if not blank:
                unit = np.uint64(_CONTROL)
            elif after_han and place < high:
                unit = np.uint64(_BLANK)
            else:
                continue
        elif role == R_HAN:
            unit = np.uint64(folded[place])
            place += 1
        elif role == R_MARK or (role != R_DIGIT and not _is_letter(role)):
            mark = folded[place]
            if (
                mark in _WEDGES
                and place > low
                and place + 1 < high
                and (roles[place - 1] == R_HAN or roles[place + 1] == R_HAN or mark > 0x7F)
                and (roles[place - 1] == R_HAN or _is_letter(roles[place - 1]))
                and (roles[place + 1] == R_HAN or _is_letter(roles[place + 1]))
            ):
                wedges += 1
                place += 1
                continue
            place += 1
            if np.int64(mark) == previous_mark:
                continue
            unit = np.uint64(mark)
        else:
            if place >= token_end:
                token_end, stands = _token(folded, roles, place, high)
                unit = np.uint64(stands)
            if unit != zero:
                place = token_end
            elif role == R_DIGIT:
                while place < high and roles[place] == R_DIGIT:
                    place += 1
                unit = np.uint64(_NUMBER + min(place - begin, 12))
            else:
                word, stem = np.uint64(0), np.uint64(0)
                while place < high and _is_letter(roles[place]):
                    letters += 1
                    if roles[place] == R_UPPER:
                        upper += 1
                    word = _mix(word ^ np.uint64(folded[place]))
                    if place - begin == _STEM_LETTERS - 1:
                        stem = word
                    if folded[place] > 0x7F and count < MOST_FEATURES - 8 - 4 * (MOST_UNITS - units):
                        features[count] = _bucket(np.uint64(_LETTER_BEYOND), np.uint64(folded[place]), zero)
                        count += 1
                    place += 1
                unit = np.uint64(_WORD) + (word >> np.uint64(32))
                if place - begin >= _LONG_WORD:
                    features[count] = _bucket(np.uint64(_STEM), stem, zero)
                    count += 1
        previous_mark = int(unit) if role == R_MARK else 0
        features[count] = _bucket(unit, zero, zero)
        features[count + 1] = _bucket(last, unit, zero)
        count += 2
        if units:
            features[count] = _bucket(before, last, unit)
            count += 1
        whole = _mix(whole ^ unit)
        if np.uint64(_MAIL) <= unit < np.uint64(_BEGIN):
            # Equal sentences have equal numbers and addresses, not just some.
            for inner in range(begin, place):
                whole = _mix(whole ^ np.uint64(folded[inner]))
        after_han = role == R_HAN
        before, last = last, unit
        units += 1
    features[count] = _bucket(last, np.uint64(_END), zero)
    features[count + 1] = _bucket(before, last, np.uint64(_END))
    size = 0
    while (1 << size) <= units:
        size += 1
    features[count + 2] = _bucket(np.uint64(_SHAPE), np.uint64(size), zero)
    count += 3
    if wedges:
        features[count] = _bucket(np.uint64(_SHAPE), np.uint64(100), zero)
        count += 1
    if letters > 3 and 10 * upper >= 7 * letters:
        features[count] = _bucket(np.uint64(_SHAPE), np.uint64(101), zero)
        count += 1
    about[0] = whole
    about[1] = np.uint64(units)
    return count


# --------------------------------------------------------------------------- plain reference

_MASK = (1 << 64) - 1


def _plain_mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _plain_bucket(*units: int) -> int:
    state = 0
    for unit in (*units, 0, 0)[:3]:
        state = _plain_mix(state ^ unit)
    return state & ((1 << BITS) - 1)


def _plain_role(character: str) -> int:
    return int(fold_tables()[1][ord(character)]) if ord(character) < LIMIT else R_OTHER


def _plain_folded(character: str) -> int:
    return int(fold_tables()[0][ord(character)]) if ord(character) < LIMIT else 0xFFFD


def _plain_token(text: str, low: int) -> tuple[int, int]:
    roles = [_plain_role(character) for character in text[low:]] + [R_SPACE]
    shape = [chr(_plain_folded(character)) for character in text[low:]] + [" "]
    size = 0
    kinds = ""  # of each character: a letter, 0 digit, or the mark itself
    while size < len(text) - low:
        role = roles[size]
        if role == R_DIGIT:
            kinds += "0"
        elif role in (R_LETTER, R_UPPER):
            kinds += "a"
        elif ord(shape[size]) in _JOINERS and (
            roles[size + 1] in (R_LETTER, R_UPPER, R_DIGIT) or shape[size + 1] == "/"
        ):
            kinds += shape[size]
        else:
            break
        size += 1
    letters, digits = kinds.count("a"), kinds.count("0")
    _, dot, rest = kinds.partition("/")[0].rpartition(".")
    tail = rest.replace("a", "") if dot else "0"
    ending = 0 if "0" in tail or not dot else rest.count("a")
    unit = 0
    if "@" in kinds and letters:
        unit = _MAIL
    elif (letters and dot and 2 <= ending <= 6 and letters + digits > ending) or (
        letters and kinds.count("/") >= 2 and "." in kinds
    ):
        unit = _ADDRESS
    elif letters and digits and "." not in kinds and "/" not in kinds and letters + digits >= 5:
        unit = _NAME if letters + digits >= 8 else _NAME_SHORT
    elif not letters and "-" in kinds and digits >= _PHONE_DIGITS:
        lead = kinds.partition("-")[0].count("0")
        unit = 0 if lead == _YEAR_DIGITS and digits <= 8 else _PHONE
    return low + size, unit


def plain_features(text: str) -> tuple[list[int], int]:  # noqa: PLR0912, PLR0915
    """Buckets of the features of one sentence, in any order, and how many units it has."""
    units: list[int] = []
    extra: list[int] = []
    wedges = upper = letters = 0
    place = token_end = 0
    previous_mark, after_han = -1, False
    wordy = (R_HAN, R_LETTER, R_UPPER)
    while place < len(text) and len(units) < MOST_UNITS:
        role, start = _plain_role(text[place]), place
        mark = _plain_folded(text[place])
        if role in (R_SPACE, R_OTHER):
            while place < len(text) and _plain_role(text[place]) in (R_SPACE, R_OTHER):
                place += 1
            previous_mark = -1
            if all(_plain_role(character) == R_OTHER for character in text[start:place]):
                units.append(_CONTROL)
            elif after_han and place < len(text):
                units.append(_BLANK)
            else:
                continue
            after_han = False
            continue
        if role == R_MARK:
            place += 1
            sides = [_plain_role(text[side]) for side in (start - 1, start + 1) if 0 <= side < len(text)]
            if (
                mark in _WEDGES
                and len(sides) == 2
                and all(side in wordy for side in sides)
                and (R_HAN in sides or mark > 0x7F)
            ):
                wedges += 1
                continue
            if mark == previous_mark:
                continue
            units.append(mark)
            previous_mark, after_han = mark, False
            continue
        previous_mark = -1
        if role == R_HAN:
            place += 1
            units.append(mark)
            after_han = True
            continue
        unit = 0
        if place >= token_end:
            token_end, unit = _plain_token(text, place)
        if unit:
            place = token_end
        elif role == R_DIGIT:
            while place < len(text) and _plain_role(text[place]) == R_DIGIT:
                place += 1
            unit = _NUMBER + min(place - start, 12)
        else:
            word = stem = 0
            while place < len(text) and _plain_role(text[place]) in (R_LETTER, R_UPPER):
                letters += 1
                upper += _plain_role(text[place]) == R_UPPER
                code = _plain_folded(text[place])
                word = _plain_mix(word ^ code)
                stem = word if place - start == _STEM_LETTERS - 1 else stem
                if code > 0x7F and _room(units, extra):
                    extra.append(_plain_bucket(_LETTER_BEYOND, code))
                place += 1
            unit = _WORD + (word >> 32)
            if place - start >= _LONG_WORD:
                extra.append(_plain_bucket(_STEM, stem))
        units.append(unit)
        after_han = False
    found = extra + [_plain_bucket(unit) for unit in units]
    padded = [_BEGIN, *units, _END]
    found += [_plain_bucket(*pair) for pair in itertools.pairwise(padded)]
    found += [_plain_bucket(*three) for three in zip(padded, padded[1:], padded[2:], strict=False)]
    if not units:
        found.append(_plain_bucket(0, _BEGIN, _END))
    found.append(_plain_bucket(_SHAPE, len(units).bit_length()))
    if wedges:
        found.append(_plain_bucket(_SHAPE, 100))
    if letters > 3 and 10 * upper >= 7 * letters:
        found.append(_plain_bucket(_SHAPE, 101))
    return found, len(units)


def _room(units: list[int], extra: list[int]) -> bool:
    """Whether another letter beyond ASCII still has room behind what the units need."""
    written = len(extra) + 2 * len(units) + max(0, len(units) - 1)
    return written < MOST_FEATURES - 8 - 4 * (MOST_UNITS - len(units))
