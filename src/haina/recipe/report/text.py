"""Text made ready to be looked at: names, token pieces, differences, a coloured recipe.

In: strings from the run folder. Out: small lists that templates turn into spans; escaping is left to the
templates.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

LANGUAGES = {
    "zh": ("Chinese", "中文"),
    "zh-Hans": ("Simplified Chinese", "简体中文"),
    "zh-Hant": ("Traditional Chinese", "繁體中文"),
    "yue": ("Cantonese", "粤语"),
    "en": ("English", "英文"),
    "mixed": ("bilingual", "双语"),
}
STEPS = {
    "read": ("read", "读取"),
    "extract": ("main text", "正文抽取"),
    "language": ("language", "语言识别"),
    "edit": ("cuts", "文内删除"),
    "signals": ("quality signals", "质量信号"),
    "quality": ("quality score", "质量评分"),
    "exact_duplicate": ("exact duplicates", "完全重复"),
    "near_duplicate": ("near duplicates", "近似重复"),
}
STAGES = {
    "corpus": "语料",
    "tokenizer": "分词器",
    "shards": "分片",
    "train": "训练",
    "quantize": "量化",
    "evaluate": "评测",
    "serve": "服务",
}
# Colour classes of the stylesheet.
LANGUAGE_CLASS = {"zh": "zh", "zh-Hans": "zh", "zh-Hant": "hant", "yue": "hant", "en": "en"}
# A run of Latin letters or digits, or any other single character: Chinese is compared character by character.
UNITS = re.compile(r"[A-Za-z0-9\u00c0-\u024f]+|[\s\S]")
RECIPE_LINE = re.compile(r"^(\s*(?:- )?)([\w.\-]+:)(.*)$")


def language_name(code: Any) -> str:
    """English name of a language code, or the code itself."""
    return LANGUAGES.get(str(code), (clip(str(code), 24), ""))[0]


def language_class(code: Any) -> str:
    """Name of the stylesheet's colour for a language."""
    return LANGUAGE_CLASS.get(str(code), "other")


def html_language(code: Any) -> str:
    """A value for the `lang` attribute, so that Han characters get the right regional shapes."""
    return {"zh": "zh-Hans", "zh-Hans": "zh-Hans", "zh-Hant": "zh-Hant", "en": "en"}.get(str(code), "")


def step_name(code: Any) -> str:
    """English name of a corpus step."""
    code = str(code)
    return STEPS.get(code, (code.replace("_", " "), ""))[0]


def step_name_zh(code: Any) -> str:
    """Chinese name of a corpus step, "" for an unknown one."""
    return STEPS.get(str(code), ("", ""))[1]


def width(text: str) -> int:
    """Columns that `text` takes where a Han character is two wide (Unicode Standard Annex 11)."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def clip(text: str, columns: int) -> str:
    """`text` cut to `columns`, with an ellipsis when something was cut."""
    if width(text) <= columns:
        return text
    kept, used = [], 1
    for character in text:
        used += width(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


def _byte_alphabet() -> dict[str, int]:
    """Character -> byte of a byte-level vocabulary (GPT-2, Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + index): byte for index, byte in enumerate(moved)
    }


BYTE_ALPHABET = _byte_alphabet()


def readable_pieces(text: str, pieces: Sequence[str]) -> list[str]:
    """Token pieces as text, whether given as text or in the byte alphabet of a byte-level vocabulary.

    A piece that is no whole character by itself is shown as its bytes, such as `⟨E4 B8⟩`.
    """
    if "".join(pieces) == text or any(
        character not in BYTE_ALPHABET for piece in pieces for character in piece
    ):
        return list(pieces)
    shown = []
    for piece in pieces:
        data = bytes(BYTE_ALPHABET[character] for character in piece)
        try:
            shown.append(data.decode("utf-8"))
        except UnicodeDecodeError:
            shown.append("⟨" + data.hex(" ").upper() + "⟩")
    return shown


def differences(left: str, right: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Both texts as (piece, differs) lists; pieces that differ are what the other text has not."""
    lefts, rights = UNITS.findall(left), UNITS.findall(right)
    matcher = SequenceMatcher(None, lefts, rights, autojunk=False)
    ours: list[tuple[str, bool]] = []
    theirs: list[tuple[str, bool]] = []
    for tag, start, stop, other_start, other_stop in matcher.get_opcodes():
        if stop > start:
            ours.append(("".join(lefts[start:stop]), tag != "equal"))
        if other_stop > other_start:
            theirs.append(("".join(rights[other_start:other_stop]), tag != "equal"))
    return ours, theirs


def recipe_lines(text: str) -> list[tuple[str, str, str]]:
    """Each YAML line as (indent, key, rest); the key is "" where the line has none."""
    found = [RECIPE_LINE.match(line) for line in text.splitlines()]
    lines = text.splitlines()
    return [
        (match[1], match[2], match[3]) if match else ("", "", line)
        for match, line in zip(found, lines, strict=True)
    ]
