"""Which language a text is in, as a whole and piece by piece.

Comes in: text. Goes out: zh-Hans, zh-Hant, yue, en, ja, ko, code, mixed or other (with its ISO 639 code) and a
confidence. `tables` holds what single characters tell, `pieces` counts it, `shapes` tells code from prose, `model` asks
lid.176 where scripts do not decide, `identify` puts the evidence together, `segments` draws the borders.
"""

from haina.corpus.language.identify import (
    LANGUAGES,
    Identified,
    chinese_variant,
    identify_batch,
    identify_language,
)
from haina.corpus.language.segments import Segment, identify_segments
from haina.corpus.language.tables import variant_table

__all__ = [
    "LANGUAGES",
    "Identified",
    "Segment",
    "chinese_variant",
    "identify_batch",
    "identify_language",
    "identify_segments",
    "variant_table",
]
