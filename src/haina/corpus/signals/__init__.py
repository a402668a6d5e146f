"""Signals: measurements of a document, in one pass over it, and bounds over them.

Comes in: text and its language. Goes out: one number a signal of `SIGNALS`. `measure` is one text, `measure_batch`
many; `reference.py` says the same in plain Python. Bounds stand in `presets.yaml` and are applied afterwards.
Importing this package loads no kernel.
"""

from haina.corpus.signals.batch import measure, measure_batch, measure_packed
from haina.corpus.signals.names import COUNT_SIGNALS, SIGNAL_NAMES, SIGNALS, Signal, language_group
from haina.corpus.signals.presets import Bound, first_broken, load_preset, override, preset_names

__all__ = [
    "COUNT_SIGNALS",
    "SIGNALS",
    "SIGNAL_NAMES",
    "Bound",
    "Signal",
    "first_broken",
    "language_group",
    "load_preset",
    "measure",
    "measure_batch",
    "measure_packed",
    "override",
    "preset_names",
    "words_of",
]


def words_of(text: str) -> list[str]:
    """Han characters one by one, otherwise runs of letters and digits: `用Python写` -> 用, Python, 写."""
    from haina.corpus.signals.reference import words_of as plain_words_of

    return plain_words_of(text)
