"""Tokens as the measure of extraction counts them: a Han or kana character, elsewhere a run of letters and digits."""

from __future__ import annotations

import re
from collections import Counter

from haina.corpus.characters import HAN_CLASS

_KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_TOKEN = re.compile(rf"[{HAN_CLASS}{_KANA}]|[^\W_{HAN_CLASS}{_KANA}]+")


def tokens(text: str) -> list[str]:
    """Lower-cased tokens in order."""
    return _TOKEN.findall(text.lower())


def token_f1(found: str, gold: str) -> float:
    """F1 of two texts as multisets of tokens: 0 to 1; 1 when both are empty."""
    ours, theirs = Counter(tokens(found)), Counter(tokens(gold))
    common = sum((ours & theirs).values())
    total = sum(ours.values()) + sum(theirs.values())
    return 2 * common / total if total else 1.0
