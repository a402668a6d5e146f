"""Spam and page furniture out of small grammars, the same for the same random numbers.

Comes in: a template such as `{city}{product}，{cta}` and a random generator. Goes out: a line in which every slot is
replaced by a choice from its list, again and again. The lists are spam.yaml and boilerplate.yaml.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_SLOT = re.compile(r"\{(\w+)\}")
_DEPTH = 6
_SYLLABLES = (
    "bo",
    "ka",
    "ti",
    "mi",
    "xin",
    "da",
    "le",
    "yu",
    "go",
    "pro",
    "web",
    "buy",
    "hao",
    "zan",
    "vip",
    "win",
    "top",
)


@cache
def grammars() -> dict[str, Any]:
    """spam.yaml and boilerplate.yaml: `spam` and `page`, each by language."""
    folder = files("haina.corpus.quality")
    return {
        name: yaml.safe_load((folder / f"{file}.yaml").read_text("utf-8"))
        for name, file in (("spam", "spam"), ("page", "boilerplate"))
    }


def _domain(rng: random.Random) -> str:
    name = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(1, 3)))
    number = str(rng.randrange(1000)) if rng.random() < 0.4 else ""
    prefix = rng.choice(("www.", "www.", "http://www.", "http://", "https://", "", "m."))
    return f"{prefix}{name}{number}.{rng.choice(('com', 'net', 'cn', 'cc', 'top', 'vip', 'info', 'org', 'xyz', 'biz'))}"


def _phone(rng: random.Random, language: str) -> str:
    digits = "".join(rng.choice(string.digits) for _ in range(10))
    if language == "zh":
        forms = (
            f"1{digits}",
            f"0{digits[:2]}-{digits[2:]}",
            f"400-{digits[:3]}-{digits[3:7]}",
            f"1 {digits[:2]} {digits[2:6]} {digits[6:]}",
        )
    else:
        forms = (
            f"1-8{digits[:2]}-{digits[2:5]}-{digits[5:9]}",
            f"({digits[:3]}) {digits[3:6]}-{digits[6:]}",
            f"+1 {digits}",
            f"+44 {digits}",
        )
    return rng.choice(forms)


def _contact(rng: random.Random, language: str) -> str:
    digits = "".join(rng.choice(string.digits) for _ in range(rng.randint(6, 10)))
    name = "".join(rng.choice(_SYLLABLES) for _ in range(2))
    if language == "zh":
        channel = rng.choice(("微信", "QQ", "加微信", "V信", "扣扣", "电话", "加V", "QQ群", ""))
        return channel + rng.choice((digits, f"{name}{digits[:4]}", _phone(rng, language)))
    return rng.choice(
        (f"{name}{digits[:3]}@gmail.com", f"@{name}{digits[:2]}", _phone(rng, language), f"{name}@{name}.com")
    )


def _code(rng: random.Random) -> str:
    return "".join(rng.choice(string.ascii_uppercase + string.digits) for _ in range(rng.randint(5, 11)))


_PRICES = (9, 19, 29, 49, 58, 68, 88, 99, 100, 128, 168, 199, 299, 500, 888, 999, 1000, 3000, 5000, 10000)
_PERCENTS = (0.5, 1, 3, 5, 8, 10, 20, 30, 50, 70, 80, 90, 99.9, 300)
# Slots that are numbers and names rather than choices from a list.
_MADE: dict[str, Callable[[random.Random, str], str]] = {
    "phone": _phone,
    "contact": _contact,
    "domain": lambda rng, _: _domain(rng),
    "number": lambda rng, _: str(rng.randrange(10, 10 ** rng.randint(2, 6))),
    "small": lambda rng, _: str(rng.randint(1, 9)),
    "price": lambda rng, _: str(rng.choice(_PRICES)),
    "percent": lambda rng, _: f"{rng.choice(_PERCENTS)}%",
    "code": lambda rng, _: _code(rng),
}


def expand(template: str, rng: random.Random, language: str, slots: dict[str, Any]) -> str:
    """The template with every slot filled.

    Args:
        template: text with `{slot}`.
        rng: where choices come from.
        language: `zh` or `en`, for phone numbers and contacts.
        slots: list of choices, or a text, by slot; choices may hold slots themselves.

    Raises:
        KeyError: a slot that is neither made nor listed.
    """

    def fill(match: re.Match[str]) -> str:
        slot = match.group(1)
        if slot in slots:
            choice = slots[slot]
            return choice(rng) if callable(choice) else str(rng.choice(choice))
        return _MADE[slot](rng, language)

    for _ in range(_DEPTH):
        filled = _SLOT.sub(fill, template)
        if filled == template:
            break
        template = filled
    return template
