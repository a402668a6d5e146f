"""Amounts as people write them: `500M`, `1.2T`."""

from __future__ import annotations

import math
import re

from haina.runtime.errors import HainaError

_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
_AMOUNT = re.compile(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?(?:[eE][0-9]+)?)\s*([KMBGT]?)\s*")


def parse_amount(text: str) -> float:
    """A positive amount.

    Raises:
        HainaError: it is none.
    """
    match = _AMOUNT.fullmatch(text.upper())
    value = float(re.sub("[_,]", "", match[1])) * _UNITS[match[2]] if match else 0.0
    if not match or not 0 < value < math.inf:
        raise HainaError(f"--tokens {text}: not an amount", "write it like 500M, 30B or 1.2T")
    return value
