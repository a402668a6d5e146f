"""Bad text made from good: one function for each way in which a page can be bad.

Comes in: a good text, a random generator, and a pool of other texts of the same language. Goes out: a bad text about as
long as the good one and about the same things, so that only what is bad about it can be learnt. Every corruption
belongs to a head of the model: `order` (right words, no sentence), `noise` (damaged characters, loops), `spam`
(advertising), `page` (navigation, boilerplate, stubs). Nothing here depends on anything but its arguments.
"""

from __future__ import annotations

import random
import re
import string
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from haina.corpus.characters import HAN_CLASS
from haina.corpus.quality.grammar import expand, grammars

_SENTENCE = {
    "zh": re.compile(r"[^。！？；…\n]*(?:[。！？；…]+[”’」』）]*|\n+|$)"),
    "en": re.compile(r"[^.!?\n]*(?:[.!?]+[\"”’)]*(?=\s|$)\s*|[.!?]|\n+|$)"),
}
_CLAUSE = {
    "zh": re.compile(r"[^，。！？；：、\n]*(?:[，。！？；：、\n]|$)"),
    "en": re.compile(r"[^,.!?;:\n]*(?:[,.!?;:\n]\s*|$)"),
}
_HAN_RUN = re.compile(f"[{HAN_CLASS}]+")
_FUNCTION_HAN = "的了在是和与有也就都而及着过把被对从向将以为于之其这那不"
_FUNCTION_EN = [
    *(
        "the",
        "a",
        "an",
        "of",
        "to",
        "in",
        "on",
        "at",
        "for",
        "with",
        "by",
        "from",
        "and",
        "or",
        "but",
        "is",
        "are",
    ),
    *("was", "were", "be", "been", "has", "have", "had", "that", "which", "who", "this", "it", "as"),
]
_ALIKE = (
    "己已巳",
    "未末本",
    "日曰目自",
    "人入八",
    "土士上",
    "千干于",
    "大太犬天夫",
    "田由甲申",
    "王玉主",
    "白百",
    "刀力",
    "贝见",
    "风凤",
    "鸟乌",
    "治冶",
    "侯候",
    "戊戌戍",
    "晴睛",
    "拔拨",
    "折拆",
    "清情请",
    "广厂",
    "兔免",
    "住往佳",
    "今令",
    "问间闻",
    "木术",
    "毛手",
    "牛午",
    "北比此",
    "了子孑",
    "兵乒乓",
    "师帅",
    "析折",
    "历厉",
    "孩该核",
    "已己",
    "粟栗",
    "崇祟",
    "卖买",
    "体休",
    "处外",
    "特持待",
    "时吋对",
    "地他她",
    "的旳",
    "是昰",
    "在左右",
    "不木",
    "为力",
    "有冇",
    "中巾",
    "国囯困",
    "会合",
    "可司",
    "生主",
    "法去",
    "年午",
)
_ALIKE_EN = (
    ("rn", "m"),
    ("m", "rn"),
    ("l", "1"),
    ("i", "l"),
    ("o", "0"),
    ("e", "c"),
    ("h", "b"),
    ("cl", "d"),
    ("d", "cl"),
    ("s", "5"),
    ("t", "f"),
    ("u", "v"),
    ("n", "u"),
    ("w", "vv"),
    ("a", "o"),
    ("g", "9"),
    ("I", "|"),
    ("B", "8"),
    ("y", "v"),
    ("c", "("),
    ("f", "t"),
)
_JUNK = (
    "锟斤拷",
    "烫烫烫",
    "屯屯屯",
    "\ufffd",
    "\ufffd\ufffd",
    "?",
    "??",
    "□",
    "â€™",
    "Ã©",
    "Â",
    "ï»¿",
    "&nbsp;",
    "&amp;",
    "&#39;",
    "%20",
    "\\u4e00",
    "\\n",
    "<br/>",
    "</div>",
    "{{{",
    "null",
    "undefined",
    "NaN",
)


@dataclass(frozen=True)
class Pool:
    """Other texts of the same language, for what mixes several.

    Attributes:
        texts: good texts; never empty.
        language: `zh` or `en`.
    """

    texts: Sequence[str]
    language: str


Corruption = Callable[[str, random.Random, Pool], str]


def sentences(text: str, language: str) -> list[str]:
    """Pieces of a text that end in a sentence mark or a line end; joined they are the text."""
    return [piece for piece in _SENTENCE[language].findall(text) if piece]


def words(text: str, language: str, rng: random.Random) -> list[str]:
    """Words of an English text; of a Chinese one, pieces of one to four characters cut at random."""
    if language == "en":
        return text.split()
    pieces: list[str] = []
    for run in re.findall(f"[{HAN_CLASS}]+|[^{HAN_CLASS}\\s]+|\\n", text):
        if not _HAN_RUN.fullmatch(run):
            pieces.append(run)
            continue
        place = 0
        while place < len(run):
            size = rng.choice((1, 1, 2, 2, 2, 3, 4))
            pieces.append(run[place : place + size])
            place += size
    return pieces


def glue(language: str) -> str:
    """What stands between words."""
    return "" if language == "zh" else " "


def _lines(text: str, change: Callable[[str], str]) -> str:
    return "\n".join(change(line) if line.strip() else line for line in text.split("\n"))


def _local_shuffle(items: list[str], rng: random.Random) -> list[str]:
    """Shuffled within a window: everywhere, or only among near neighbours."""
    reach = rng.choice((2.5, 4.0, 8.0, 1e9))
    return [
        item for _, item in sorted((index + rng.random() * reach, item) for index, item in enumerate(items))
    ]


def shuffled_characters(text: str, rng: random.Random, pool: Pool) -> str:
    """Characters of each line in another order; in English the letters within words."""
    if pool.language == "zh":
        keep_end = rng.random() < 0.5

        def change(line: str) -> str:
            body, end = (line[:-1], line[-1:]) if keep_end else (line, "")
            return "".join(_local_shuffle(list(body), rng)) + end

        return _lines(text, change)

    def scramble(match: re.Match[str]) -> str:
        letters = list(match.group())
        rng.shuffle(letters)
        return "".join(letters)

    return re.sub(r"[A-Za-z]{3,}", scramble, text)


def shuffled_words(text: str, rng: random.Random, pool: Pool) -> str:
    """Words of each line, or of the whole text, in another order; punctuation stays in its place or goes along."""
    joint = glue(pool.language)
    if rng.random() < 0.3:
        pieces = words(text, pool.language, rng)
        rng.shuffle(pieces)
        return joint.join(pieces)
    if rng.random() < 0.5:
        return _lines(text, lambda line: joint.join(_local_shuffle(words(line, pool.language, rng), rng)))
    # Punctuation stays where it is: words are dealt anew into the gaps.
    pattern = r"[\w'’-]+" if pool.language == "en" else f"[{HAN_CLASS}]{{1,{rng.choice((1, 2, 2, 3))}}}"
    found = re.findall(pattern, text)
    dealt = iter(_local_shuffle(found, rng))
    return re.sub(pattern, lambda _: next(dealt), text)


def shuffled_clauses(text: str, rng: random.Random, pool: Pool) -> str:
    """Clauses, cut at every comma, in another order."""
    pieces = [piece for piece in _CLAUSE[pool.language].findall(text) if piece]
    rng.shuffle(pieces)
    return "".join(pieces)


def shuffled_sentences(text: str, rng: random.Random, pool: Pool) -> str:
    """Sentences in another order."""
    pieces = sentences(text, pool.language)
    rng.shuffle(pieces)
    return "".join(pieces)


def babble(text: str, rng: random.Random, pool: Pool) -> str:
    """A Markov chain of first or second order over this text and one other."""
    order = rng.choice((1, 1, 2))
    by_letter = pool.language == "zh" or rng.random() < 0.3
    if by_letter and pool.language == "en":
        order += 1
    source = text + "\n" + rng.choice(pool.texts)
    units = list(source) if by_letter else source.split(" ")
    follow: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for index in range(len(units) - order):
        follow[tuple(units[index : index + order])].append(units[index + order])
    starts = list(follow)
    if not starts:
        return text[::-1]
    state = rng.choice(starts)
    out = list(state)
    size = len(list(text) if by_letter else text.split(" "))
    while len(out) < size:
        choices = follow.get(state)
        if not choices:
            state = rng.choice(starts)
            out.extend(state)
            continue
        out.append(rng.choice(choices))
        state = (*state[1:], out[-1])
    return ("" if by_letter else " ").join(out)


def salad(text: str, rng: random.Random, pool: Pool) -> str:
    """Words drawn from many texts, with or without punctuation between."""
    joint = glue(pool.language)
    stock: list[str] = []
    for _ in range(4):
        stock.extend(words(rng.choice(pool.texts), pool.language, rng)[:400])
    stock.extend(words(text, pool.language, rng))
    marks = ("，", "。", "、") if pool.language == "zh" else (",", ".", ",")
    rate = rng.choice((0.0, 0.08, 0.15))
    out: list[str] = []
    length = 0
    while length < len(text):
        word = rng.choice(stock).strip()
        if rng.random() < rate:
            word += rng.choice(marks)
        out.append(word)
        length += len(word) + len(joint)
    return joint.join(out)


def spliced(text: str, rng: random.Random, pool: Pool) -> str:
    """Pieces of a few words from several texts, joined in mid-sentence."""
    joint = glue(pool.language)
    sources = [words(rng.choice(pool.texts), pool.language, rng) for _ in range(5)]
    sources.append(words(text, pool.language, rng))
    sources = [source for source in sources if source]
    out: list[str] = []
    length = 0
    while length < len(text) and sources:
        source = rng.choice(sources)
        place = rng.randrange(len(source))
        piece = source[place : place + rng.randint(2, 6)]
        out.extend(piece)
        length += sum(len(word) + len(joint) for word in piece)
    return joint.join(out)


def translationese(text: str, rng: random.Random, pool: Pool) -> str:
    """As a bad machine translates: function words dropped, doubled or wrong, neighbours swapped."""
    rate = rng.uniform(0.15, 0.5)
    if pool.language == "zh":
        out: list[str] = []
        for piece in words(text, "zh", rng):
            if piece in _FUNCTION_HAN and rng.random() < rate:
                if rng.random() < 0.5:
                    out.append(rng.choice(_FUNCTION_HAN))
                continue
            if out and rng.random() < rate and _HAN_RUN.fullmatch(piece) and _HAN_RUN.fullmatch(out[-1]):
                out.insert(len(out) - 1, piece)
            else:
                out.append(piece)
            if rng.random() < rate / 2:
                out.append(rng.choice(_FUNCTION_HAN))
        return "".join(out)

    def change(line: str) -> str:
        result: list[str] = []
        for word in line.split():
            if word.lower() in _FUNCTION_EN and rng.random() < 2 * rate:
                if rng.random() < 0.4:
                    result.append(rng.choice(_FUNCTION_EN))
                continue
            bare = re.sub(r"(?:ing|ed|es|s|ly)(?=\W*$)", "", word) if rng.random() < rate / 2 else word
            if result and rng.random() < rate:
                result.insert(len(result) - 1, bare)
            else:
                result.append(bare)
            if rng.random() < rate / 4:
                result.append(rng.choice(_FUNCTION_EN))
        return " ".join(result)

    return _lines(text, change)


@cache
def _alike() -> dict[str, str]:
    table: dict[str, str] = {}
    for group in _ALIKE:
        for character in group:
            table[character] = table.get(character, "") + group.replace(character, "")
    return table


def scanned(text: str, rng: random.Random, pool: Pool) -> str:
    """As a bad scan reads: look-alikes, lost and added characters, broken spaces and lines."""
    rate = rng.choice((0.06, 0.1, 0.2, 0.35))
    out: list[str] = []
    for character in text:
        if rng.random() >= rate:
            out.append(character)
            continue
        action = rng.random()
        if action < 0.55:
            if character in _alike():
                out.append(rng.choice(_alike()[character]))
            elif _HAN_RUN.fullmatch(character):
                near = chr(ord(character) + rng.choice((-3, -2, -1, 1, 2, 3, 17, -17)))
                out.append(near if _HAN_RUN.fullmatch(near) else character)
            else:
                options = [new for old, new in _ALIKE_EN if old == character]
                out.append(rng.choice(options) if options else rng.choice(string.ascii_letters + ".,'|;"))
        elif action < 0.7:
            pass
        elif action < 0.85:
            out.append(character + " ")
        elif action < 0.95:
            out.append(character + rng.choice("·.,'`~^|-_;:!"))
        else:
            out.append(character + "\n")
    return "".join(out)


def mistyped(text: str, rng: random.Random, pool: Pool) -> str:
    """Many typing errors: neighbours swapped, characters doubled, lost, or hit beside."""
    rate = rng.choice((0.08, 0.15, 0.25))
    out = list(text)
    common = rng.choice(pool.texts) or text
    for index in range(len(out) - 1):
        if out[index].isspace() or rng.random() >= rate:
            continue
        action = rng.random()
        if action < 0.4:
            out[index], out[index + 1] = out[index + 1], out[index]
        elif action < 0.55:
            out[index] *= 2
        elif action < 0.75:
            out[index] = ""
        else:
            out[index] = rng.choice(common)
    return "".join(out)


def mojibake(text: str, rng: random.Random, pool: Pool) -> str:
    """Decoded with the wrong character set, whole or in pieces."""
    ways: list[Callable[[str], str]] = [
        lambda piece: piece.encode("utf-8").decode("gb18030", "replace"),
        lambda piece: piece.encode("utf-8").decode("cp1252", "replace"),
        lambda piece: piece.encode("utf-8").decode("latin-1"),
        lambda piece: piece.encode("gb18030").decode("latin-1"),
        lambda piece: piece.encode("gb18030", "replace").decode("utf-8", "replace"),
        lambda piece: piece.encode("gb18030", "replace").decode("big5", "replace"),
        lambda piece: piece.encode("utf-8").decode("shift_jis", "replace"),
        lambda piece: re.sub(r"[^\x00-\x7f]", "?", piece),
        lambda piece: rng.choice(_JUNK[:3]) * max(1, len(piece) // 3),
    ]
    if pool.language == "en":
        # English letters survive most mistakes; these break them.
        ways = [
            lambda piece: piece.encode("utf-16-le").decode("utf-16-be", "replace"),
            lambda piece: piece.encode("utf-16-le").decode("latin-1").replace("\0", "\ufffd"),
            lambda piece: re.sub(r"[aeiou ]", lambda _: rng.choice(_JUNK), piece),
            lambda piece: re.sub(r"[ .,'-]", lambda _: rng.choice(_JUNK[8:14]), piece),
            lambda piece: piece.encode("cp037", "replace").decode("latin-1"),
            lambda piece: " ".join(f"&#{ord(character)};" for character in piece),
            lambda piece: "".join(
                f"={byte:02X}" if rng.random() < 0.5 else chr(byte)
                for byte in piece.encode("ascii", "replace")
            ),
        ]
    way = rng.choice(ways)
    share = rng.choice((1.0, 0.6, 0.3, 0.3))
    changed = [way(piece) if rng.random() < share else piece for piece in sentences(text, pool.language)]
    return "".join(changed) if changed != sentences(text, pool.language) else way(text)


def random_characters(text: str, rng: random.Random, pool: Pool) -> str:
    """Keys hit at random, hexadecimal, base64, random Han characters, in whole or between good sentences."""
    kind = rng.randrange(5)

    def run(size: int) -> str:
        if kind == 0:
            return "".join(rng.choice(string.ascii_lowercase + "     ") for _ in range(size))
        if kind == 1:
            return "".join(rng.choice("0123456789abcdef") for _ in range(size))
        if kind == 2:
            return "".join(rng.choice(string.ascii_letters + string.digits + "+/") for _ in range(size))
        if kind == 3 and pool.language == "zh":
            return "".join(chr(rng.randrange(0x4E00, 0x9FA0)) for _ in range(size))
        return "".join(rng.choice(string.printable[:94] + " ") for _ in range(size))

    share = rng.choice((1.0, 0.5))
    return "".join(
        run(len(piece)) + "\n" if rng.random() < share else piece for piece in sentences(text, pool.language)
    )


def junk(text: str, rng: random.Random, pool: Pool) -> str:
    """Left-over markup and replacement characters strewn in."""
    rate = rng.choice((0.05, 0.12, 0.25))
    return "".join(character + rng.choice(_JUNK) if rng.random() < rate else character for character in text)


def repeated(text: str, rng: random.Random, pool: Pool) -> str:
    """A loop: one phrase, one line, or every word again and again."""
    kind = rng.randrange(4)
    joint = glue(pool.language)
    if kind == 0:
        return "".join(character * rng.randint(1, 3) for character in text)[: len(text)]
    if kind == 1:
        out: list[str] = []
        for word in words(text, pool.language, rng):
            out.extend([word] * rng.choice((1, 2, 2, 3)))
        return joint.join(out)[: len(text)]
    pieces = sentences(text, pool.language)
    if kind == 2:
        few = [rng.choice(pieces) for _ in range(rng.randint(1, 2))]
        return "".join(rng.choice(few) for _ in range(max(3, len(text) // max(1, len(few[0])))))[
            : max(len(text), 60)
        ]
    found = words(text, pool.language, rng)
    start = rng.randrange(max(1, len(found) - 3))
    phrase = joint.join(found[start : start + rng.randint(1, 5)])
    return joint.join([phrase] * max(4, len(text) // (len(phrase) + 1)))[: max(len(text), 40)]


def unpunctuated(text: str, rng: random.Random, pool: Pool) -> str:
    """Neither punctuation nor lines; in English the spaces go too."""
    if pool.language == "zh":
        return re.sub(f"[^{HAN_CLASS}0-9A-Za-z]", "", text)
    return (
        re.sub(r"[^0-9A-Za-z]", "", text)
        if rng.random() < 0.5
        else re.sub(r"(?<=\w) (?=\w)", lambda _: rng.choice(("", "", " ")), text)
    )


def _title(text: str, rng: random.Random, language: str) -> str:
    """A few words out of a text, as a headline; without the braces that mark slots."""
    text = text.replace("{", "").replace("}", "")
    line = rng.choice([piece for piece in sentences(text, language) if piece.strip()] or [text]).strip()
    if language == "zh":
        pieces = [piece for piece in re.split(r"[，。！？；：、\n]", line) if piece]
        return (rng.choice(pieces) if pieces else line)[: rng.randint(4, 22)]
    found = line.split()
    start = rng.randrange(max(1, len(found) - 3))
    chosen = [word.strip('.,;:!?()"') for word in found[start : start + rng.randint(2, 8)]]
    return " ".join(word.capitalize() if rng.random() < 0.6 else word for word in chosen)


def _keyword(text: str, rng: random.Random, language: str) -> str:
    """One term out of a text."""
    if language == "zh":
        runs = [run for run in _HAN_RUN.findall(text) if len(run) > 1]
        run = rng.choice(runs) if runs else "信息"
        size = rng.randint(2, 4)
        start = rng.randrange(max(1, len(run) - size + 1))
        return run[start : start + size]
    found = re.findall(r"[A-Za-z]{5,}", text)
    return " ".join(rng.choice(found).lower() for _ in range(rng.randint(1, 2))) if found else "information"


def _slots(text: str, kind: str, rng: random.Random, pool: Pool) -> dict[str, object]:
    grammar = grammars()[kind][pool.language]
    slots: dict[str, object] = dict(grammar["slots"])
    # A page is about a few terms, said again and again.
    terms = [_keyword(text, rng, pool.language) for _ in range(rng.randint(1, 3))]
    slots["keyword"] = terms
    slots["title"] = lambda generator: _title(
        text if generator.random() < 0.6 else generator.choice(pool.texts), generator, pool.language
    )
    if kind == "page":
        slots["menu"] = grammar["menu"]
    return slots


def spam_lines(text: str, rng: random.Random, pool: Pool) -> Callable[[], str]:
    """A source of lines of one or two spam topics."""
    grammar = grammars()["spam"][pool.language]
    topics = [
        grammar["topics"][name] for name in rng.sample(sorted(grammar["topics"]), rng.choice((1, 1, 2, 4)))
    ]
    slots = _slots(text, "spam", rng, pool)
    narrow = rng.random() < 0.6
    products = {
        id(topic): rng.sample(topic["products"], 2) if narrow else topic["products"] for topic in topics
    }

    def line() -> str:
        topic = rng.choice(topics)
        template = rng.choice(topic["lines"] if rng.random() < 0.6 else grammar["pitches"])
        return expand(template, rng, pool.language, {**slots, "product": products[id(topic)]})

    return line


def _ended(line: str, rng: random.Random, language: str) -> str:
    """A line with an end mark, as running text has it."""
    if line[-1:] in "。！？!?.":
        return line
    return line + (
        rng.choice(("。", "。", "！", "！！")) if language == "zh" else rng.choice((".", ".", "!", "!!!"))
    )


def spam_planted(text: str, rng: random.Random, pool: Pool) -> str:
    """Spam sentences in place of, or between, the sentences of a good text."""
    line = spam_lines(text, rng, pool)
    share = rng.choice((0.25, 0.4, 0.6, 0.8))
    insert = rng.random() < 0.5
    out: list[str] = []
    planted = 0
    pieces = sentences(text, pool.language)
    for index, piece in enumerate(pieces):
        due = rng.random() < share or (index == len(pieces) - 1 and not planted)
        if due:
            planted += 1
            out.append(
                _ended(line(), rng, pool.language) + ("\n" if piece.endswith("\n") else glue(pool.language))
            )
        if not due or insert:
            out.append(piece)
    return "".join(out)


def advert(text: str, rng: random.Random, pool: Pool) -> str:
    """A page of nothing but spam, as lines or as running text."""
    line = spam_lines(text, rng, pool)
    running = rng.random() < 0.5
    out: list[str] = []
    length = 0
    while length < len(text):
        item = line()
        if running:
            item = _ended(item, rng, pool.language)
        out.append(item)
        length += len(item)
    return (glue(pool.language) if running else "\n").join(out)


def stuffed(text: str, rng: random.Random, pool: Pool) -> str:
    """Keywords in a row, or a keyword put in everywhere."""
    grammar = grammars()["spam"][pool.language]
    topic = grammar["topics"][rng.choice(sorted(grammar["topics"]))]
    terms = [_keyword(text, rng, pool.language) for _ in range(rng.randint(2, 6))]
    terms += rng.sample(topic["products"], min(len(topic["products"]), rng.randint(1, 6)))
    if rng.random() < 0.35:
        term = rng.choice(terms)
        joint = glue(pool.language)
        out: list[str] = []
        for word in words(text, pool.language, rng):
            out.append(word)
            if rng.random() < 0.15:
                out.append(term)
        return joint.join(out)
    separator = rng.choice(
        (" ", ", ", "、", "_", " | ", ",", "，", "/", "-", "\n")
        if pool.language == "zh"
        else (" ", ", ", " | ", ", ", " - ", "\n")
    )
    heads = grammar["slots"]["best"] + grammar["slots"]["city"]
    out = []
    length = 0
    while length < len(text):
        term = rng.choice(terms)
        action = rng.random()
        if action < 0.3:
            term = f"{rng.choice(heads)}{glue(pool.language)}{term}"
        elif action < 0.4:
            term = f"{term}{glue(pool.language)}{rng.choice(terms)}"
        out.append(term)
        length += len(term) + len(separator)
    return separator.join(out)


def navigation(text: str, rng: random.Random, pool: Pool) -> str:
    """Menus, footers, notices and forms, as a page without its text gives."""
    grammar = grammars()["page"][pool.language]
    slots = _slots(text, "page", rng, pool)
    out: list[str] = []
    length = 0
    while length < len(text):
        kind = rng.choice(
            ("menu", "menu", "menu", "list", "footer", "notice", "notice", "form", "forum", "entry")
        )
        if kind == "list":
            mark = rng.choice(("", "", "• ", "- ", "· ", "* "))
            titles = [_title(text, rng, pool.language) for _ in range(rng.randint(2, 8))]
            titles += rng.sample(grammar["menu"], rng.randint(0, 6))
            item = "\n".join(mark + title for title in titles)
        elif kind == "menu":
            separator = rng.choice((" ", " ", "\n", "\n", " | ", " > ", "  ", "｜", "·"))
            item = separator.join(rng.choice(grammar["menu"]) for _ in range(rng.randint(3, 16)))
        else:
            item = expand(rng.choice(grammar[kind]), rng, pool.language, slots)
        out.append(item)
        length += len(item)
    return "\n".join(out)


def link_list(text: str, rng: random.Random, pool: Pool) -> str:
    """Headlines one below the other, with dates and counts."""
    grammar = grammars()["page"][pool.language]
    slots = _slots(text, "page", rng, pool)
    templates = rng.sample(grammar["entry"], rng.randint(1, 3))
    bare = rng.random() < 0.4
    out: list[str] = []
    length = 0
    while length < len(text):
        item = expand("{title}" if bare else rng.choice(templates), rng, pool.language, slots)
        out.append(item)
        length += len(item) + 1
    return "\n".join(out)


def template_page(text: str, rng: random.Random, pool: Pool) -> str:
    """Lines that a machine fills in from a table."""
    grammar = grammars()["page"][pool.language]
    slots = _slots(text, "page", rng, pool)
    template = rng.choice(grammar["template"])
    out: list[str] = []
    length = 0
    while length < len(text):
        item = expand(template, rng, pool.language, slots)
        out.append(item)
        length += len(item)
    return rng.choice(("\n", " ", "\n")).join(out)


def discussion(text: str, rng: random.Random, pool: Pool) -> str:
    """The furniture of a forum or comment page, with a few words between."""
    grammar = grammars()["page"][pool.language]
    slots = _slots(text, "page", rng, pool)
    out: list[str] = []
    length = 0
    while length < len(text):
        item = expand(rng.choice(grammar["forum"]), rng, pool.language, slots)
        if rng.random() < 0.2:
            item += "\n" + _title(text, rng, pool.language)
        out.append(item)
        length += len(item)
    return "\n".join(out)


def failure(text: str, rng: random.Random, pool: Pool) -> str:
    """Error pages, logins, empty results."""
    grammar = grammars()["page"][pool.language]
    slots = _slots(text, "page", rng, pool)
    kinds = [rng.choice(("error", "error", "form", "notice", "footer")) for _ in range(rng.randint(1, 6))]
    return "\n".join(
        expand(rng.choice(grammar[kind]), rng, pool.language, slots) for kind in ["error", *kinds]
    )


def stub(text: str, rng: random.Random, pool: Pool) -> str:
    """A page with a title and no content, with or without furniture."""
    grammar = grammars()["page"][pool.language]
    slots = _slots(text, "page", rng, pool)
    out = expand(rng.choice(grammar["stub"]), rng, pool.language, slots)
    while rng.random() < 0.5:
        out += "\n" + expand(
            rng.choice(grammar[rng.choice(("notice", "footer", "form"))]), rng, pool.language, slots
        )
    return out


def teasers(text: str, rng: random.Random, pool: Pool) -> str:
    """Sentences cut short one below the other, as an index page shows them."""
    marks = (
        ("...", "…", "……", "...[详细]", "... 阅读全文", "[...]")
        if pool.language == "zh"
        else ("...", "…", " [...]", "... Read more", "… Continue reading", "... more »")
    )
    mark = rng.choice(marks)
    size = rng.randint(15, 60) if pool.language == "zh" else rng.randint(40, 160)
    out: list[str] = []
    length = 0
    while length < len(text):
        source = text if rng.random() < 0.5 else rng.choice(pool.texts)
        start = rng.randrange(max(1, len(source) - size))
        piece = source[start : start + size].replace("\n", " ").strip() + mark
        out.append(piece)
        length += len(piece)
    return "\n".join(out)


def boilerplate_planted(text: str, rng: random.Random, pool: Pool) -> str:
    """A good text lost among menus and notices."""
    kept = sentences(text, pool.language)
    share = rng.choice((0.2, 0.35, 0.5))
    kept = kept[: max(1, int(len(kept) * share))]
    furniture = navigation(text, rng, pool).split("\n")
    out = list(furniture)
    for piece in kept:
        out.insert(rng.randrange(len(out) + 1), piece.strip())
    return "\n".join(out)


def truncated(text: str, rng: random.Random, pool: Pool) -> str:
    """Every paragraph begins and ends in mid-sentence."""

    def change(line: str) -> str:
        if len(line) < 12:
            return line
        start = rng.randrange(1, max(2, len(line) // 4))
        end = len(line) - rng.randrange(1, max(2, len(line) // 4))
        return line[start:end]

    return _lines(text, change)


@dataclass(frozen=True)
class Way:
    """A corruption.

    Attributes:
        head: what it teaches.
        make: the function.
        weight: how often it is drawn.
        fresh: its lines are new, so the form of the good text is lost and has to be given again.
    """

    head: str
    make: Corruption
    weight: float
    fresh: bool = False


WAYS: dict[str, Way] = {
    "shuffled_characters": Way("order", shuffled_characters, 1.0),
    "shuffled_words": Way("order", shuffled_words, 2.0),
    "shuffled_clauses": Way("order", shuffled_clauses, 0.3),
    "shuffled_sentences": Way("order", shuffled_sentences, 0.0),
    "babble": Way("order", babble, 1.5),
    "salad": Way("order", salad, 1.0),
    "spliced": Way("order", spliced, 1.0),
    "translationese": Way("order", translationese, 1.0),
    "scanned": Way("noise", scanned, 1.5),
    "mistyped": Way("noise", mistyped, 1.0),
    "mojibake": Way("noise", mojibake, 1.0),
    "random_characters": Way("noise", random_characters, 0.7),
    "junk": Way("noise", junk, 0.7),
    "repeated": Way("noise", repeated, 1.0),
    "unpunctuated": Way("noise", unpunctuated, 0.4),
    "spam_planted": Way("spam", spam_planted, 2.0),
    "advert": Way("spam", advert, 2.0, fresh=True),
    "stuffed": Way("spam", stuffed, 1.0, fresh=True),
    "navigation": Way("page", navigation, 2.0, fresh=True),
    "link_list": Way("page", link_list, 2.0, fresh=True),
    "template_page": Way("page", template_page, 0.7, fresh=True),
    "discussion": Way("page", discussion, 0.7, fresh=True),
    "failure": Way("page", failure, 0.5, fresh=True),
    "stub": Way("page", stub, 0.5, fresh=True),
    "teasers": Way("page", teasers, 0.7, fresh=True),
    "boilerplate_planted": Way("page", boilerplate_planted, 1.0, fresh=True),
    "truncated": Way("page", truncated, 0.3),
}
