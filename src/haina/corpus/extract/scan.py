"""HTML as flat arrays: one linear pass over the bytes.

Comes in: markup as UTF-8. Goes out: elements (tag, parent, keyword groups, flags) and the runs of text between
tags, each with the kind of border before it. The pass follows the tokenizer of the HTML Living Standard
(13.2.5) and the part of its tree construction that text depends on (13.2.6): void elements, raw text, end tags
that may be left out, misnested and stray end tags. No tree of objects is built: asking one from Python costs
more than parsing. Time and memory are linear in the input whatever it holds; nesting beyond `MAX_DEPTH` is
flattened, as browsers do.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.extract.tags import (
    AFFIX,
    ATTRIBUTE,
    CLOSES_P,
    FNV_PRIME,
    FNV_START,
    INLINE,
    RAW,
    SCOPE,
    SKIP,
    TAG,
    TRANSPARENT,
    VOID,
    Vocabulary,
    look_up,
    rules,
    vocabulary,
)  # fmt: skip

MAX_DEPTH = 400
MAX_ELEMENTS = 1 << 20
# How far up an end tag looks for its start: bounds the work of a million stray end tags.
_MAX_SEARCH = MAX_DEPTH

# Flags of an element, inherited by what it holds: inside a link, left out, hidden by attribute, by style or by ARIA,
# preformatted.
IN_LINK, SKIPPED, HIDDEN, UNDISPLAYED, ARIA_HIDDEN, PREFORMATTED = (1 << i for i in range(6))
OWN_HIDDEN = 1 << 6
PHRASING = 1 << 7
# Border before a run of text: none, line break, empty line, block.
NO_BORDER, BREAK, EMPTY_LINE, BLOCK = range(4)

_A, _P, _LI, _UL, _OL, _MENU = TAG["a"], TAG["p"], TAG["li"], TAG["ul"], TAG["ol"], TAG["menu"]
_DT, _DD, _DL, _TR, _TD, _TH, _TABLE = (TAG[n] for n in ("dt", "dd", "dl", "tr", "td", "th", "table"))
_TBODY, _TFOOT, _BR, _PRE, _OPTION, _IMG = (TAG[n] for n in ("tbody", "tfoot", "br", "pre", "option", "img"))
_H1, _H6, _META, _HTML = TAG["h1"], TAG["h6"], TAG["meta"], TAG["html"]
_CLASS, _ID, _HIDDEN, _STYLE, _HREF = (ATTRIBUTE[n] for n in ("class", "id", "hidden", "style", "href"))
_ROLE, _ITEMTYPE, _ITEMPROP, _ARIA = (ATTRIBUTE[n] for n in ("role", "itemtype", "itemprop", "aria-hidden"))
_ALT, _ALTTEXT, _TYPE, _SRC = (ATTRIBUTE[n] for n in ("alt", "alttext", "type", "src"))
_MATH, _SCRIPT = TAG["math"], TAG["script"]
_GROUPS = (1 << 40) - 1
_FORMULA_WORDS = 1 << list(rules()["class_words"]).index("formula")
MAX_FORMULA = 4000
_MATH_TEX, _MATH_NAME, _ANNOTATION_NAME = (
    np.frombuffer(text, np.uint8) for text in (b"math/tex", b"math", b"annotation")
)
_DISPLAY_STYLE, _TEXT_STYLE = (
    np.frombuffer(text, np.uint8) for text in (b"{\\displaystyle", b"{\\textstyle")
)

Bytes = npt.NDArray[np.uint8]
# Tags that say something of the page, int64 [tags, 4]: number, first byte of the name, one past the tag, one past the
# raw text inside.
Notes = npt.NDArray[np.int64]
MAX_NOTES = 4096


class Elements(NamedTuple):
    """Elements in document order; the first is the document itself.

    Attributes:
        tag: int16 [elements] number in `NAMED`.
        parent: int32 [elements], -1 for the first.
        depth: int16 [elements].
        words: int64 [elements] keyword groups of class, id, role, itemprop and itemtype.
        signature: uint64 [elements] hash of the tag and of its class without digits.
        flags: uint8 [elements].
        images: int32 [elements] images directly inside.
    """

    tag: npt.NDArray[np.int16]
    parent: npt.NDArray[np.int32]
    depth: npt.NDArray[np.int16]
    words: npt.NDArray[np.int64]
    signature: npt.NDArray[np.uint64]
    flags: npt.NDArray[np.uint8]
    images: npt.NDArray[np.int32]


class Runs(NamedTuple):
    """Runs of text in document order, empty and skipped ones left out.

    Attributes:
        start, end: int64 [runs] byte span.
        parent: int32 [runs] the element that holds it.
        border: uint8 [runs] what stands before it, `NO_BORDER` to `BLOCK`.
        spaced: bool [runs] white space alone stood before it.
        formula: bool [runs] it is TeX: an annotation or alternative text of MathML, a MathJax script, a
            picture's `alt`.
    """

    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    parent: npt.NDArray[np.int32]
    border: npt.NDArray[np.uint8]
    spaced: npt.NDArray[np.bool_]
    formula: npt.NDArray[np.bool_]


@nb.njit(cache=True, nogil=True, inline="always")
def _is_space(byte: int) -> bool:
    return byte == 32 or (9 <= byte <= 13)


@nb.njit(cache=True, nogil=True, inline="always")
def _lower(byte: int) -> int:
    return byte + 32 if 65 <= byte <= 90 else byte


@nb.njit(cache=True, nogil=True)
def words_mask(  # noqa: PLR0912 - one pass over the value
    data: Bytes, start: int, end: int, keys: npt.NDArray[np.uint64], values: npt.NDArray[np.int64]
) -> int:
    """Keyword groups of the words in one attribute value: bit mask.

    Words are runs of ASCII letters, parted at a lower-case letter before an upper-case one.
    """
    mask = 0
    place = start
    while place < end:
        byte = data[place]
        if not (65 <= byte <= 90 or 97 <= byte <= 122):
            place += 1
            continue
        first = place
        place += 1
        while place < end:
            byte = data[place]
            if 65 <= byte <= 90:
                if 97 <= data[place - 1] <= 122:
                    break
            elif not 97 <= byte <= 122:
                break
            place += 1
        length = place - first
        if length > 32:
            continue
        key = FNV_START
        for i in range(first, place):
            key = (key ^ np.uint64(_lower(data[i]))) * FNV_PRIME
            if i - first >= 3 and i + 1 < place:
                found = look_up(keys, values, key)
                if found & AFFIX:
                    mask |= found
        mask |= look_up(keys, values, key)
        for skipped in range(1, length - 3):
            key = FNV_START
            for i in range(first + skipped, place):
                key = (key ^ np.uint64(_lower(data[i]))) * FNV_PRIME
            found = look_up(keys, values, key)
            if found & AFFIX:
                mask |= found
    return mask & _GROUPS


@nb.njit(cache=True, nogil=True)
def _style_hides(data: Bytes, start: int, end: int) -> bool:
    """Whether a style attribute says display:none or visibility:hidden."""
    key = FNV_START
    for i in range(start, end):
        byte = _lower(data[i])
        if byte == 59:
            key = FNV_START
        elif not _is_space(byte):
            key = (key ^ np.uint64(byte)) * FNV_PRIME
            if key in (_NONE, _INVISIBLE):
                return True
    return False


def _fnv(text: bytes) -> np.uint64:
    from haina.corpus.extract.tags import hash_word

    return np.uint64(hash_word(text))


_NONE, _INVISIBLE = _fnv(b"display:none"), _fnv(b"visibility:hidden")


@nb.njit(cache=True, nogil=True)
def _raw_end(data: Bytes, place: int, name: int, name_end: int) -> int:
    """Where the end tag of a raw text element begins, the end of the data when it has none."""
    size, length = len(data), name_end - name
    while place < size:
        if data[place] == 60 and place + 1 + length < size and data[place + 1] == 47:
            same = True
            for i in range(length):
                if _lower(data[place + 2 + i]) != _lower(data[name + i]):
                    same = False
                    break
            if same:
                after = data[place + 2 + length] if place + 2 + length < size else 62
                if after in (62, 47) or _is_space(after):
                    return place
        place += 1
    return size


@nb.njit(cache=True, nogil=True)
def _begins(data: Bytes, place: int, text: Bytes) -> bool:
    """Whether `text`, lower-case, stands at a place."""
    if place + len(text) > len(data):
        return False
    same = True
    for i in range(len(text)):
        same &= _lower(data[place + i]) == text[i]
    return same


@nb.njit(cache=True, nogil=True)
def _same(data: Bytes, first: int, first_end: int, second: int, second_end: int) -> bool:
    same = first_end - first == second_end - second
    if same:
        for i in range(first_end - first):
            same &= data[first + i] == data[second + i]
    return same


@nb.njit(cache=True, nogil=True)
def _annotation(data: Bytes, place: int) -> tuple[int, int]:
    """Span of the TeX annotation of the MathML whose start tag ends at `place`; empty when it has none.

    The search ends at the next `<math` or `</math`, so that all searches together read the page once.
    """
    size = len(data)
    while place < size:
        if data[place] != 60:
            place += 1
            continue
        if _begins(data, place + 1, _MATH_NAME) or (
            place + 1 < size and data[place + 1] == 47 and _begins(data, place + 2, _MATH_NAME)
        ):
            break
        if _begins(data, place + 1, _ANNOTATION_NAME):
            tex = False
            while place < size and data[place] != 62:
                if (
                    data[place] | 32 == 116
                    and place + 2 < size
                    and data[place + 1] | 32 == 101
                    and (
                        data[place + 2] | 32 == 120
                        and data[place + 3 if place + 3 < size else place] | 32 != 116
                    )
                ):
                    tex = True
                place += 1
            place += 1
            first = place
            while place < size and data[place] != 60:
                place += 1
            if tex:
                return first, place
            continue
        place += 1
    return 0, 0


@nb.njit(cache=True, nogil=True)
def _bare_formula(data: Bytes, first: int, end: int) -> tuple[int, int]:
    """A formula's span without `{\\displaystyle ...}` around it."""
    for style in (_DISPLAY_STYLE, _TEXT_STYLE):
        if _begins(data, first, style) and data[end - 1] == 125:
            return min(first + len(style), end - 1), end - 1
    return first, end


@nb.njit(cache=True, nogil=True)
def scan_into(  # noqa: PLR0912, PLR0915 - one pass over the bytes is the point of it
    data: Bytes,
    tag_keys: npt.NDArray[np.uint64],
    tag_values: npt.NDArray[np.int64],
    attribute_keys: npt.NDArray[np.uint64],
    attribute_values: npt.NDArray[np.int64],
    class_keys: npt.NDArray[np.uint64],
    class_values: npt.NDArray[np.int64],
    formula_words: int,
    elements: Elements,
    runs: Runs,
    notes: Notes,
) -> tuple[int, int, int]:
    """Fill `elements`, `runs` and `notes`; how many there are of each."""
    size = len(data)
    room = len(elements.tag)
    stack = np.zeros(MAX_DEPTH + 2, dtype=np.int32)
    stack_tag = np.zeros(MAX_DEPTH + 2, dtype=np.int64)
    stack_name = np.zeros(MAX_DEPTH + 2, dtype=np.uint64)
    top, beyond = 0, 0
    elements.tag[0] = 0
    elements.parent[0] = -1
    elements.depth[0] = 0
    elements.words[0] = 0
    elements.signature[0] = 0
    elements.flags[0] = 0
    elements.images[0] = 0
    count, written, noted = 1, 0, 0
    border, spaced = BLOCK, False
    last_tex = last_tex_end = 0
    place = 0
    while place < size:
        if (
            data[place] != 60
            or place + 1 >= size
            or not (
                data[place + 1] == 33
                or data[place + 1] == 47
                or data[place + 1] == 63
                or 65 <= data[place + 1] <= 90
                or 97 <= data[place + 1] <= 122
            )
        ):
            first = place
            place += 1
            while place < size and data[place] != 60:
                place += 1
            blank = True
            for i in range(first, place):
                if not _is_space(data[i]):
                    blank = False
                    break
            current = stack[top]
            flags = elements.flags[current]
            if flags & SKIPPED:
                continue
            if blank and not flags & PREFORMATTED:
                spaced = True
                continue
            if written >= len(runs.start):
                break
            runs.start[written] = first
            runs.end[written] = place
            runs.parent[written] = current
            runs.border[written] = border
            runs.spaced[written] = spaced
            runs.formula[written] = False
            written += 1
            border, spaced = NO_BORDER, False
            continue
        second = data[place + 1]
        if second == 33:
            if place + 3 < size and data[place + 2] == 45 and data[place + 3] == 45:
                place += 4
                if place < size and data[place] == 62:
                    place += 1
                    continue
                if place + 1 < size and data[place] == 45 and data[place + 1] == 62:
                    place += 2
                    continue
                while place < size:
                    if (
                        data[place] == 45
                        and place + 2 < size
                        and data[place + 1] == 45
                        and (
                            data[place + 2] == 62
                            or (data[place + 2] == 33 and place + 3 < size and data[place + 3] == 62)
                        )
                    ):
                        place += 3 if data[place + 2] == 62 else 4
                        break
                    place += 1
                continue
            while place < size and data[place] != 62:
                place += 1
            place += 1
            continue
        closing = second == 47
        name = place + 2 if closing else place + 1
        if second == 63 or (
            closing and not (name < size and (65 <= data[name] <= 90 or 97 <= data[name] <= 122))
        ):
            while place < size and data[place] != 62:
                place += 1
            place += 1
            continue
        place = name
        key = FNV_START
        while place < size:
            byte = data[place]
            if byte in (62, 47) or _is_space(byte):
                break
            key = (key ^ np.uint64(_lower(byte))) * FNV_PRIME
            place += 1
        name_end = place
        value = look_up(tag_keys, tag_values, key)
        tag, properties = value & 255, value >> 8
        words = 0
        class_hash = np.uint64(0)
        own = 0
        href = self_closed = False
        tex, tex_end, is_tex = 0, 0, False
        while place < size and data[place] != 62:
            byte = data[place]
            if _is_space(byte) or byte == 47:
                self_closed = byte == 47
                place += 1
                continue
            self_closed = False
            attribute_key = FNV_START
            begin = place
            while place < size:
                byte = data[place]
                if byte in (62, 47) or _is_space(byte) or (byte == 61 and place > begin):
                    break
                attribute_key = (attribute_key ^ np.uint64(_lower(byte))) * FNV_PRIME
                place += 1
            while place < size and _is_space(data[place]):
                place += 1
            from_, to = place, place
            if place < size and data[place] == 61:
                place += 1
                while place < size and _is_space(data[place]):
                    place += 1
                if place < size and (data[place] == 34 or data[place] == 39):
                    quote = data[place]
                    place += 1
                    from_ = place
                    while place < size and data[place] != quote:
                        place += 1
                    to = place
                    place += 1
                else:
                    from_ = place
                    while place < size and data[place] != 62 and not _is_space(data[place]):
                        place += 1
                    to = place
            if closing:
                continue
            attribute = look_up(attribute_keys, attribute_values, attribute_key)
            if attribute == 0:
                continue
            if attribute in (_CLASS, _ID, _ROLE, _ITEMPROP, _ITEMTYPE):
                if to - from_ <= 512:
                    words |= words_mask(data, from_, to, class_keys, class_values)
                if attribute == _CLASS:
                    class_hash = FNV_START
                    for i in range(from_, to):
                        if not 48 <= data[i] <= 57:
                            class_hash = (class_hash ^ np.uint64(data[i])) * FNV_PRIME
            elif attribute == _HIDDEN:
                own |= OWN_HIDDEN
            elif attribute == _STYLE:
                if _style_hides(data, from_, to):
                    own |= UNDISPLAYED
            elif attribute == _ARIA:
                if to - from_ == 4:
                    own |= ARIA_HIDDEN
            elif attribute == _HREF:
                href = True
            elif attribute == _ALT and tag == _IMG:
                tex, tex_end = from_, to
                for i in range(from_, to):
                    if data[i] == 92:
                        is_tex = True
            elif attribute == _ALTTEXT and tag == _MATH:
                tex, tex_end, is_tex = from_, to, True
            elif attribute == _TYPE and tag == _SCRIPT:
                is_tex = to - from_ >= 8 and _begins(data, from_, _MATH_TEX)
            elif attribute == _SRC and tag == _IMG:
                for i in range(from_, to - 5):
                    if data[i] == 63 and data[i + 1] == 116 and data[i + 2] == 101 and data[i + 3] == 120:
                        is_tex = True
        if place >= size:
            break
        place += 1
        if not closing and _META <= tag <= _HTML and noted < len(notes):
            notes[noted, 0] = tag
            notes[noted, 1] = name
            notes[noted, 2] = notes[noted, 3] = place
            noted += 1
        if properties & TRANSPARENT:
            border = BLOCK
            continue
        if closing:
            if not properties & INLINE:
                border = BLOCK
            if properties & VOID:
                if tag == _BR:
                    border = max(border, BREAK)
                continue
            if beyond > 0:
                beyond -= 1
                continue
            level = top
            lowest = max(0, top - _MAX_SEARCH)
            found = False
            while level > lowest:
                if stack_name[level] == key or (
                    _H1 <= tag <= _H6
                    and _H1 <= stack_tag[level] & 255 <= _H6  # any heading's end tag will do
                ):
                    found = True
                    break
                held = stack_tag[level] >> 8
                if properties & INLINE and not held & INLINE:
                    break
                if held & SCOPE and not properties & SCOPE and not (tag == _TR or _TBODY <= tag <= _TFOOT):
                    break
                level -= 1
            if found:
                top = level - 1
            continue
        if not properties & INLINE or tag == _BR:
            if tag == _BR:
                border = max(border, EMPTY_LINE if border == BREAK else BREAK)
            elif tag != _IMG:
                border = BLOCK
        if tag == _IMG:
            elements.images[stack[top]] += 1
            is_tex = (is_tex or words & formula_words != 0) and not own & ARIA_HIDDEN
        elif tag == _MATH and tex_end == tex:
            tex, tex_end = _annotation(data, place)
            is_tex = tex_end > tex
        elif tag == _SCRIPT and is_tex:
            tex, tex_end = place, _raw_end(data, place, name, name_end)
        if (
            is_tex
            and 0 < tex_end - tex <= MAX_FORMULA
            and written < len(runs.start)
            and (not elements.flags[stack[top]] & SKIPPED)
        ):
            tex, tex_end = _bare_formula(data, tex, tex_end)
            if tex_end > tex and not _same(data, last_tex, last_tex_end, tex, tex_end):
                runs.start[written] = tex
                runs.end[written] = tex_end
                runs.parent[written] = stack[top]
                runs.border[written] = border
                runs.spaced[written] = spaced
                runs.formula[written] = True
                written += 1
                border, spaced = NO_BORDER, False
                last_tex, last_tex_end = tex, tex_end
            if tag == _MATH:
                own |= SKIPPED
        if properties & VOID:
            continue
        # End tags that authors may leave out (13.1.2.4).
        if properties & CLOSES_P or tag in (_LI, _DT, _DD):
            level = top
            while level > 0 and (stack_tag[level] >> 8) & INLINE and stack_tag[level] & 255 != _P:
                level -= 1
            if level > 0 and stack_tag[level] & 255 == _P:
                top = level - 1
        if tag in (_LI, _DT, _DD, _TR, _TD, _TH) or (
            _TBODY <= tag <= _TFOOT or tag in (_OPTION, _A) or _H1 <= tag <= _H6
        ):
            level = top
            lowest = max(0, top - 24)
            cut = -1
            while level > lowest:
                held = stack_tag[level] & 255
                if tag == _A:
                    if held == _A:
                        cut = level
                        break
                    if not (stack_tag[level] >> 8) & INLINE:
                        break
                elif tag == _LI:
                    if held == _LI:
                        cut = level
                        break
                    if held in (_UL, _OL, _MENU) or stack_tag[level] >> 8 & SCOPE:
                        break
                elif tag in (_DT, _DD):
                    if held in (_DT, _DD):
                        cut = level
                        break
                    if held == _DL or (stack_tag[level] >> 8) & SCOPE:
                        break
                elif tag == _OPTION:
                    if held == _OPTION:
                        cut = level
                    break
                elif _H1 <= tag <= _H6:
                    if _H1 <= held <= _H6:
                        cut = level
                    break
                elif held == _TABLE:
                    break
                elif tag in (_TD, _TH):
                    if held in (_TD, _TH):
                        cut = level
                    if held == _TR or cut > 0:
                        break
                elif tag == _TR:
                    if held == _TR:
                        cut = level
                    if _TBODY <= held <= _TFOOT:
                        break
                elif _TBODY <= held <= _TFOOT:
                    cut = level
                level -= 1
            if cut > 0:
                top = cut - 1
        if count >= room:
            break
        parent = stack[top]
        inherited = elements.flags[parent] & (
            IN_LINK | SKIPPED | HIDDEN | UNDISPLAYED | ARIA_HIDDEN | PREFORMATTED
        )
        flags = inherited | own
        if properties & SKIP or (properties & INLINE and own & ARIA_HIDDEN):
            flags |= SKIPPED
        if tag == _A and href:
            flags |= IN_LINK
        if tag == _PRE:
            flags |= PREFORMATTED
        if properties & INLINE:
            flags |= PHRASING
        elements.tag[count] = tag
        elements.parent[count] = parent
        elements.depth[count] = elements.depth[parent] + 1
        elements.words[count] = words
        elements.signature[count] = (class_hash ^ key) * FNV_PRIME
        elements.flags[count] = flags
        elements.images[count] = 0
        count += 1
        if properties & RAW:
            place = _raw_end(data, place, name, name_end)
            if noted > 0 and notes[noted - 1, 1] == name:
                notes[noted - 1, 3] = place
            while place < size and data[place] != 62:
                place += 1
            place += 1
            continue
        if self_closed and flags & SKIPPED:
            continue
        if top >= MAX_DEPTH:
            beyond += 1
            continue
        top += 1
        stack[top] = count - 1
        stack_tag[top] = tag | properties << 8
        stack_name[top] = key
    return count, written, noted


def scan(data: Bytes) -> tuple[Elements, Runs, Notes]:
    """Elements, runs of text and notes of an HTML page: `data` uint8 [bytes], valid UTF-8."""
    known: Vocabulary = vocabulary()
    opened = int(np.count_nonzero(data == 60))
    room = min(opened + 2, MAX_ELEMENTS)
    # A picture of a formula is a run, and so is the text behind it.
    room_of_runs = min(2 * opened + 2, MAX_ELEMENTS)
    elements = Elements(
        np.empty(room, np.int16),
        np.empty(room, np.int32),
        np.empty(room, np.int16),
        np.empty(room, np.int64),
        np.empty(room, np.uint64),
        np.empty(room, np.uint8),
        np.empty(room, np.int32),
    )
    runs = Runs(
        np.empty(room_of_runs, np.int64),
        np.empty(room_of_runs, np.int64),
        np.empty(room_of_runs, np.int32),
        np.empty(room_of_runs, np.uint8),
        np.empty(room_of_runs, np.bool_),
        np.empty(room_of_runs, np.bool_),
    )
    notes = np.empty((min(room, MAX_NOTES), 4), np.int64)
    count, written, noted = scan_into(data, *known[:6], _FORMULA_WORDS, elements, runs, notes)
    return (
        Elements._make(array[:count] for array in elements),
        Runs._make(array[:written] for array in runs),
        notes[:noted],
    )
