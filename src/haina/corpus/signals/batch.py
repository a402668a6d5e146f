"""Signals of documents: the functions that the rest of Haina calls.

Comes in: texts and their languages, and what extraction knows of their pages. Goes out: numbers by name. Kernels are
loaded on the first call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from haina.corpus.signals.names import COUNT_SIGNALS, PAGE_SIGNALS, SIGNALS, language_group


class PageShares(Protocol):
    """What extraction hands over of a page: two shares, 0 to 1."""

    @property
    def link_share(self) -> float:
        """Share of the visible characters that stand inside links."""

    @property
    def main_share(self) -> float:
        """Share of the visible characters that were kept."""


def measure_packed(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], chinese: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Signals of packed documents.

    Args:
        data: valid UTF-8 of all documents, one after the other: uint8 [bytes].
        offsets: where each begins, and the end: int64 [documents + 1].
        chinese: which of them get the Chinese form of the signals: bool [documents].

    Returns:
        float64 [documents, signals], columns in the order of `SIGNALS`; those of the page are NaN.
    """
    from haina.corpus.signals.character_model import load_model
    from haina.corpus.signals.grams import new_gram_scratch
    from haina.corpus.signals.rows import COLUMNS, measure_rows
    from haina.corpus.signals.scan import new_scratch
    from haina.corpus.signals.tables import code_table, lexicon

    out = np.full((len(chinese), len(SIGNALS)), np.nan)
    if len(chinese):
        longest = int(np.diff(offsets).max())
        measure_rows(
            data, offsets, chinese, COLUMNS, code_table(), load_model(), lexicon().arrays,
            new_scratch(longest), new_gram_scratch(longest), out,
        )  # fmt: skip
    return out


def measure_batch(
    texts: Sequence[str], languages: Sequence[str], pages: Sequence[PageShares | None] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Every signal of many texts: an array [texts] a signal, int64 for counts and float64 for the others.

    Args:
        texts: without lone surrogates.
        languages: code of each text; zh-* and yue get the Chinese form, all others the English one.
        pages: what extraction knows of each text's page, if anything.

    Raises:
        UnicodeEncodeError: a text holds a lone surrogate.
    """
    from haina.corpus.utf8 import pack

    chinese = np.array([language_group(language) == "zh" for language in languages], dtype=np.bool_)
    if len(chinese) != len(texts):
        raise ValueError(f"{len(texts)} texts with {len(chinese)} languages")
    rows = measure_packed(*pack(texts), chinese)
    columns = {
        name: rows[:, column].astype(np.int64) if name in COUNT_SIGNALS else rows[:, column].copy()
        for column, name in enumerate(SIGNALS)
    }
    if pages is not None:
        for name in PAGE_SIGNALS:
            columns[name] = np.array(
                [np.nan if page is None else getattr(page, name) for page in pages], dtype=float
            )
    return columns


def measure(text: str, language: str, page: PageShares | None = None) -> dict[str, float]:
    """Every signal of one text, in the order of `SIGNALS`; see `measure_batch`, which is faster for many."""
    columns = measure_batch([text], [language], [page])
    return {name: values[0].item() for name, values in columns.items()}
