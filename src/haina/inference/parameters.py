"""What a caller may ask of generation: checked numbers, nothing else.

Kept free of torch, so that the command line and the HTTP layer can check a request before any model is
loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from haina.runtime.errors import HainaError


@dataclass(frozen=True)
class SamplingParameters:
    """How the next token is chosen and when to stop.

    Attributes:
        max_tokens: most tokens to generate, >= 1; the model's window may end generation earlier.
        temperature: logits are divided by it; 0 takes the most likely token, >= 0.
        top_k: only the `top_k` most likely tokens are candidates; 0 for all.
        top_p: only the smallest set of most likely tokens whose probabilities reach `top_p` are candidates,
            in (0, 1] (nucleus sampling, arXiv 1904.09751).
        repetition_penalty: logits of tokens in the prompt or the text so far are divided by it when positive
            and multiplied when negative, > 0; 1 changes nothing (CTRL, arXiv 1909.05858).
        stop: generation ends before the first of these strings.
        seed: of this request's own random numbers; None draws one.

    Raises:
        HainaError: a value is out of its range; the message names the field.
    """

    max_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        self._check("max_tokens", self.max_tokens >= 1, "must be >= 1")
        self._check("temperature", 0 <= self.temperature < math.inf, "must be >= 0")
        self._check("top_k", self.top_k >= 0, "must be >= 0 (0: all tokens)")
        self._check("top_p", 0 < self.top_p <= 1, "must be in (0, 1]")
        self._check("repetition_penalty", 0 < self.repetition_penalty < math.inf, "must be > 0")
        self._check(
            "stop", isinstance(self.stop, tuple) and all(self.stop), "must be a tuple of non-empty strings"
        )
        self._check("seed", self.seed is None or -(2**63) <= self.seed < 2**63, "must fit in 64 bits")

    def _check(self, field: str, holds: bool, rule: str) -> None:
        if not holds:
            raise HainaError(
                f"{field}: {rule} (got {getattr(self, field)!r})", "correct the sampling parameters"
            )
