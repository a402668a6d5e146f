"""How many tokens a text has: counted by a tokenizer, or estimated from its characters.

Comes in: texts with their languages, or lengths alone. Goes out: whole tokens. The estimate divides
characters by what one token holds on average. Measured with the vocabularies of Baichuan-7B and InternLM2 on
encyclopaedia, laws and histories: 1.17 to 1.72 characters a token in Chinese, 3.77 to 4.19 in English.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from haina.runtime.tokenizer_file import TokenizerFile

CHARACTERS_PER_TOKEN = {"zh": 1.4, "en": 4.0}
OTHER_CHARACTERS_PER_TOKEN = 2.5


def language_group(language: str) -> str:
    """`zh` for Chinese and Cantonese, otherwise what stands before the first hyphen; `unknown` for none."""
    if language in ("zh", "yue") or language.startswith("zh-"):
        return "zh"
    return language.partition("-")[0] or "unknown"


def estimate_tokens(characters: npt.NDArray[np.int64], groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """Tokens of documents by their code points: int64 [documents], at least 1 for a text that is not empty."""
    size = np.array([CHARACTERS_PER_TOKEN.get(group, OTHER_CHARACTERS_PER_TOKEN) for group in groups])
    return np.where(characters > 0, np.maximum(1, np.rint(characters / size)), 0).astype(np.int64)


def count_tokens(tokenizer: TokenizerFile, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Tokens of texts without special ones: int64 [texts], at least 1 for a text that is not empty."""
    counts = [len(ids) for ids in tokenizer.encode_batch(texts)]
    return np.array(
        [max(count, 1) if text else 0 for text, count in zip(texts, counts, strict=True)], np.int64
    )
