"""Bad sentences for training: slot-filled templates of what web pages carry beside their text.

Comes in: the grammars of three authors, and a seed. Goes out: items with their reason and family. The same seed
gives the same items. Authors: `phrases` (templates_zh.yaml, templates_en.yaml), `pages` (pages_zh.yaml,
pages_en.yaml), and `quality`, the grammars that the quality model learns from (haina.corpus.quality.grammar): who
learns from one and finds the items of another has learnt the thing, not the template. Grammar of the first two:
`<a|b>` is one of several, `{slot}` one line of a slot, `#` a digit, and a backslash takes the meaning from the
character behind it. Items come out as pages have them: traditional or simplified, in capitals, behind a bullet, in
brackets, with marks wedged in, cut short, or two in a row.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from haina.corpus.quality.grammar import expand, grammars

_HERE = Path(__file__).parent
FOLDS = 4
AUTHORS = ("phrases", "pages", "quality")
_SHARES = {"phrases": 0.45, "pages": 0.35, "quality": 0.2}  # of the items
# How much of the Chinese is in traditional characters, and of the English in another case.
_TRADITIONAL, _LOWER, _UPPER, _NO_MARK = 0.3, 0.06, 0.04, 0.3
_JOIN, _BULLET, _BRACKET, _WEDGE, _CUT, _OPEN = 0.06, 0.05, 0.03, 0.08, 0.02, 0.15
_BULLETS = ("• ", "- ", "* ", "» ", "> ", "→ ", "▶ ", "· ", "★", "◆", "👉", "【提示】", "1. ", "✅ ", "■")
_BRACKETS = ("[]", "()", "【】", "（）", "「」", "“”", "**", "——", "~~")
_WEDGES = ".*_❤★+/丶~| "
# Kinds of page furniture of the quality grammars, and the reason of each; lists of links, stubs and data sheets
# are whole pages rather than pieces.
_PAGE_KINDS = {
    "menu": "navigation", "footer": "boilerplate", "notice": "boilerplate", "forum": "navigation",
    "form": "navigation", "error": "garbled",
}  # fmt: skip
_SHORTEST = {"zh": 5, "en": 12}  # characters: what is shorter there is talk (`lol`, 顶)


@dataclass(frozen=True)
class Item:
    """One planted piece.

    Attributes:
        text: one line, one or several sentences.
        reason: `boilerplate`, `navigation`, `advertisement`, `spam` or `garbled`.
        family: name of its templates, with language and author: `zh:phrases:follow`.
        template: index of its template in the family.
    """

    text: str
    reason: str
    family: str
    template: int


@dataclass(frozen=True)
class Grammar:
    """Slots and families of a language, parsed; a part is a string, a slot or a choice."""

    slots: dict[str, list[list[Any]]]
    families: dict[str, tuple[str, list[list[Any]]]]


def parse(template: str) -> list[Any]:
    """Parts of a template: `str` literal, `("slot", name)`, `("choice", [parts, ...])`.

    Raises:
        ValueError: brackets that do not match.
    """
    parts, place = _parse(template, 0, top=True)
    if place != len(template):
        raise ValueError(f"template {template!r}: unmatched bracket at {place}")
    return parts


def _parse(template: str, place: int, *, top: bool) -> tuple[list[Any], int]:
    parts: list[Any] = []
    while place < len(template):
        character = template[place]
        if character == "\\":
            parts.append(template[place + 1])
            place += 2
        elif character == "{":
            end = template.index("}", place)
            parts.append(("slot", template[place + 1 : end]))
            place = end + 1
        elif character == "<":
            options: list[list[Any]] = []
            while template[place] != ">":
                option, place = _parse(template, place + 1, top=False)
                options.append(option)
                if place >= len(template):
                    raise ValueError(f"template {template!r}: `<` without `>`")
            parts.append(("choice", options))
            place += 1
        elif character in "|>" and not top:
            return parts, place
        else:
            parts.append(("digit", "") if character == "#" else character)
            place += 1
    return parts, place


@cache
def grammar(language: str, author: str) -> Grammar:
    """The grammar of `zh` or `en` by `phrases` or `pages`, which has the slots of both."""
    slots: dict[str, list[list[Any]]] = {}
    for name in ("templates", "pages"):
        data = yaml.safe_load((_HERE / f"{name}_{language}.yaml").read_text(encoding="utf-8"))
        slots |= {slot: [parse(line) for line in lines.splitlines()] for slot, lines in data["slots"].items()}
        families = {
            family: (about["reason"], [parse(line) for line in about["lines"].splitlines()])
            for family, about in data["families"].items()
        }
        if (name, author) in (("templates", "phrases"), ("pages", "pages")):
            break
    return Grammar(slots, families)


@dataclass(frozen=True)
class Family:
    """Templates of one kind.

    Attributes:
        reason: of its items.
        templates: of any form.
        write: an item from one of them.
    """

    reason: str
    templates: list[Any]
    write: Callable[[Any, random.Random], str]


@cache
def families_of(language: str, author: str) -> dict[str, Family]:
    """Families of an author by name.

    Raises:
        KeyError: not one of AUTHORS.
    """
    if author == "quality":
        return _quality_families(language)
    if author not in AUTHORS:
        raise KeyError(author)
    rules = grammar(language, author)

    def write(template: Any, rng: random.Random) -> str:
        return _fill(template, rules.slots, rng)

    return {name: Family(reason, templates, write) for name, (reason, templates) in rules.families.items()}


def _quality_families(language: str) -> dict[str, Family]:
    spam, page = grammars()["spam"][language], grammars()["page"][language]
    words = grammar(language, "phrases").slots
    keyword = {"keyword": lambda rng: _fill(rng.choice(words["thing"]), words, rng)}

    def write_page(template: str, rng: random.Random) -> str:
        if template == "{menu}":
            return rng.choice((" ", " | ", "  ", " · ", " > ")).join(
                rng.sample(page["menu"], rng.randint(3, 8))
            )
        return expand(template, rng, language, {**page["slots"], **keyword, "menu": page["menu"]})

    def write_spam(template: tuple[str, str], rng: random.Random) -> str:
        topic, line = template
        topic = topic or rng.choice(sorted(spam["topics"]))
        products = {"product": spam["topics"][topic]["products"]}
        return expand(line, rng, language, {**spam["slots"], **keyword, **products})

    found = {
        kind: Family(reason, ["{menu}"] * 4 if kind == "menu" else list(page[kind]), write_page)
        for kind, reason in _PAGE_KINDS.items()
    }
    for topic, about in spam["topics"].items():
        found[topic] = Family("spam", [(topic, line) for line in about["lines"]], write_spam)
    found["pitches"] = Family("spam", [("", line) for line in spam["pitches"]], write_spam)
    return found


def _fill(parts: list[Any], slots: dict[str, list[list[Any]]], rng: random.Random) -> str:
    out = []
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        elif part[0] == "slot":
            out.append(_fill(rng.choice(slots[part[1]]), slots, rng))
        elif part[0] == "choice":
            out.append(_fill(rng.choice(part[1]), slots, rng))
        else:
            out.append(rng.choice("0123456789"))
    return "".join(out)


@cache
def _traditional(variant: str) -> Any:
    from opencc import OpenCC

    return OpenCC(variant)


def _wedge(text: str, rng: random.Random) -> str:
    """A text with marks between the letters of one of its words, as those write who hide from filters."""
    low = rng.randrange(len(text))
    high = min(len(text), low + rng.randint(2, 6))
    mark = rng.choice(_WEDGES)
    return text[:low] + mark.join(text[low:high]) + text[high:]


def _dress(text: str, language: str, reason: str, rng: random.Random) -> str:
    """A text as some page would have it."""
    chance = rng.random()
    if language == "zh":
        if chance < _TRADITIONAL:
            text = _traditional(rng.choice(["s2t", "s2twp", "s2hk"])).convert(text)
    elif chance < _LOWER:
        text = text.lower()
    elif chance < _LOWER + _UPPER:
        text = text.upper()
    elif chance < _LOWER + 2 * _UPPER:
        text = text.title()
    if reason in ("spam", "advertisement") and rng.random() < _WEDGE:
        text = _wedge(text, rng)
    stops = "。。！!~" if language == "zh" else "...!"
    if rng.random() < _NO_MARK and text[-1:] not in "。！？.!?":
        text += rng.choice(stops)
    elif rng.random() < _OPEN:
        text = text.rstrip("。！？.!?")
    chance = rng.random()
    if chance < _BULLET:
        text = rng.choice(_BULLETS) + text
    elif chance < _BULLET + _BRACKET:
        marks = rng.choice(_BRACKETS)
        text = marks[: len(marks) // 2] + text + marks[len(marks) // 2 :]
    elif chance < _BULLET + _BRACKET + _CUT and len(text) > 24:
        text = text[: rng.randint(len(text) // 2, len(text) - 2)] + rng.choice(("...", "…", "……"))
    return text.strip()


def generate(
    language: str,
    count: int,
    seed: int,
    *,
    authors: tuple[str, ...] = AUTHORS,
    fold: int | None = None,
    held_out: bool = False,
) -> Iterator[Item]:
    """`count` items of `zh` or `en`, each from a template drawn at random.

    Args:
        language: `zh` or `en`.
        count: how many.
        seed: of the choices.
        authors: only theirs.
        fold: leave out every template whose number is `fold` modulo FOLDS; with `held_out`, only those.
        held_out: see there.
    """
    rng = random.Random(f"{language}-{seed}")
    choices: dict[str, list[tuple[str, Family, list[int]]]] = {}
    for author in authors:
        for name, family in families_of(language, author).items():
            numbers = [
                number
                for number in range(len(family.templates))
                if fold is None or (number % FOLDS == fold) == held_out
            ]
            if numbers:
                choices.setdefault(author, []).append((name, family, numbers))
    shares = [_SHARES[author] for author in choices]
    weights = {author: [len(numbers) for _, _, numbers in own] for author, own in choices.items()}

    def draw() -> Item:
        author = rng.choices(list(choices), shares)[0]
        name, family, numbers = rng.choices(choices[author], weights[author])[0]
        number = rng.choice(numbers)
        text = " ".join(family.write(family.templates[number], rng).split())
        return Item(text, family.reason, f"{language}:{author}:{name}", number)

    made = 0
    while made < count:
        item = draw()
        text = item.text
        if len(text) < _SHORTEST[language] and ":quality:" in item.family:
            continue
        if rng.random() < _JOIN:
            text += rng.choice((" ", " | ", "  ", ", " if language == "en" else "，")) + draw().text
        text = _dress(text, language, item.reason, rng)
        if text:
            made += 1
            yield Item(text, item.reason, item.family, item.template)
