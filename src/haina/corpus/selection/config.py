"""Settings of `haina select`, and how its numbers are read from the command line.

Comes in: `10M`, `1.2T`, `zh=0.5`. Goes out: whole tokens, shares by language, checked settings; or an error
that names what is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from haina.runtime.errors import HainaError

_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kmbgt]?)", re.IGNORECASE)
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
MAX_TOKENS = 10**15


class SelectionConfig(BaseModel):
    """What to take, and in how many pieces the work is done."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int = Field(ge=1, le=MAX_TOKENS, description="tokens to take, 1 to 1000T")
    temperature: float = Field(
        0.5,
        ge=0.01,
        le=1e6,
        allow_inf_nan=False,
        description="weights take quality to the power 1 / temperature: lower prefers the best more strongly",
    )
    shares: dict[str, float] = Field(
        default_factory=dict,
        description="share of the tokens by language, such as zh: 0.5; the others divide the rest by their weights",
    )
    block_bytes: int = Field(
        64 << 20, ge=1 << 10, description="text that one task holds, in bytes; also the size of output files"
    )


def parse_tokens(text: str) -> int:
    """`500`, `10M` or `1.2T` as a number of tokens.

    Raises:
        HainaError: it is no such number, or not 1 to 1000T.
    """
    found = _COUNT.fullmatch(text.strip())
    if found is None:
        raise HainaError(f"--tokens {text}: not a number of tokens", "write it like 500000, 10M, 3B or 1.2T")
    count = int(Decimal(found[1]) * _SCALE[found[2].lower()])
    if not 1 <= count <= MAX_TOKENS:
        raise HainaError(f"--tokens {text}: must be 1 to 1000T", "say how many tokens to take")
    return count


def parse_shares(texts: Sequence[str]) -> dict[str, float]:
    """`zh=0.5` and the like, by language.

    Raises:
        HainaError: not of this form, named twice, outside 0 to 1, or more than 1 together.
    """
    shares: dict[str, float] = {}
    for text in texts:
        language, equals, number = text.partition("=")
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not language or not equals or not 0.0 <= share <= 1.0:
            raise HainaError(f"--share {text}: not LANGUAGE=SHARE", "write it like zh=0.5, with 0 to 1")
        if language in shares:
            raise HainaError(f"--share {text}: {language} stands twice", "name a language once")
        shares[language] = share
    if sum(shares.values()) > 1.0 + 1e-9:
        raise HainaError(f"--share: {sum(shares.values()):g} together", "shares may add up to 1 at most")
    return shares
