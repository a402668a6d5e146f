"""Bad sentences for training: slot-filled templates of what web pages carry beside their text.

Comes in: the grammars templates_zh.yaml and templates_en.yaml, and a seed. Goes out: items with their reason
and family. The same seed gives the same items. Grammar: `<a|b>` is one of several, `{slot}` one line of a slot,
`#` a digit, and a backslash takes the meaning from the character behind it. Chinese items come out simplified,
traditional or, rarely, full-width; English ones as written, in lower case or in capitals, as pages have them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).parent
# How much of the Chinese is in traditional characters, and of the English in another case.
_TRADITIONAL, _LOWER, _UPPER, _NO_MARK = 0.3, 0.06, 0.04, 0.3


@dataclass(frozen=True)
class Item:
    """One planted piece.

    Attributes:
        text: one line, one or several sentences.
        reason: `boilerplate`, `navigation`, `advertisement`, `spam` or `garbled`.
        family: name of its templates, with the language: `zh:follow`.
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
def grammar(language: str) -> Grammar:
    """The grammar of `zh` or `en`."""
    data = yaml.safe_load((_HERE / f"templates_{language}.yaml").read_text(encoding="utf-8"))
    return Grammar(
        {name: [parse(line) for line in lines.splitlines()] for name, lines in data["slots"].items()},
        {
            name: (family["reason"], [parse(line) for line in family["lines"].splitlines()])
            for name, family in data["families"].items()
        },
    )


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


def _dress(text: str, language: str, rng: random.Random) -> str:
    """A text as some page would have it."""
    chance = rng.random()
    if language == "zh":
        if chance < _TRADITIONAL:
            text = _traditional(rng.choice(["s2t", "s2twp", "s2hk"])).convert(text)
        if rng.random() < _NO_MARK and text[-1:] not in "。！？.!?":
            text += rng.choice("。。！!~")
    else:
        if chance < _LOWER:
            text = text.lower()
        elif chance < _LOWER + _UPPER:
            text = text.upper()
        if rng.random() < _NO_MARK and text[-1:] not in ".!?":
            text += rng.choice("...!")
    return " ".join(text.split(" ")).strip()


def generate(
    language: str, count: int, seed: int, *, families: frozenset[str] | None = None, half: int | None = None
) -> Iterator[Item]:
    """`count` items of `zh` or `en`, each from a template drawn at random.

    Args:
        language: `zh` or `en`.
        count: how many.
        seed: of the choices.
        families: only these.
        half: only templates of even (0) or odd (1) number.
    """
    rules = grammar(language)
    rng = random.Random(f"{language}-{seed}")
    names = [name for name in rules.families if families is None or name in families]
    weights = [len(rules.families[name][1]) for name in names]
    for _ in range(count):
        name = rng.choices(names, weights)[0]
        reason, templates = rules.families[name]
        index = rng.randrange(len(templates)) if half is None else rng.randrange(half, len(templates), 2)
        text = _dress(_fill(templates[index], rules.slots, rng), language, rng)
        if text:
            yield Item(text, reason, f"{language}:{name}", index)
