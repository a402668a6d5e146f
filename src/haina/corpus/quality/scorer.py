"""Quality scores by language: the shipped models, or models of your own.

Comes in: texts with their languages. Goes out: a probability for each, NaN where no model reads the language.
Simplified, traditional and Cantonese text go to the model for Chinese, whose features fold the variants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from haina.corpus.characters import HAN, LATIN, classes_of, code_points
from haina.corpus.quality.model import LinearModel
from haina.runtime.errors import HainaError

GROUPS = ("zh", "en")
# One Han character carries about what three Latin letters do.
_HAN_WEIGHT = 3
_MIXED_CHARACTERS = 4000


def language_group(language: str, text: str = "") -> str:
    """`zh`, `en`, or the empty string when neither model reads the language; `mixed` goes by its script."""
    if language in ("zh", "yue") or language.startswith("zh-"):
        return "zh"
    if language == "en" or language.startswith("en-"):
        return "en"
    if language != "mixed":
        return ""
    counts = np.bincount(classes_of(code_points(text[:_MIXED_CHARACTERS])), minlength=LATIN + 1)
    return "zh" if _HAN_WEIGHT * counts[HAN] >= counts[LATIN] else "en"


def check_language(language: str) -> None:
    """Raise a `HainaError` unless the language is one that models are trained for."""
    if language not in GROUPS:
        raise HainaError(f"--lang {language}: unknown", f"one of {', '.join(GROUPS)}")


@cache
def _shipped(group: str) -> LinearModel:
    with as_file(files("haina.corpus.quality") / f"default_{group}.npz") as path:
        return LinearModel.load(path)


@dataclass(frozen=True)
class Scorer:
    """Models by language group.

    Attributes:
        models: a model for `zh`, `en` or both.
    """

    models: Mapping[str, LinearModel]

    @classmethod
    def default(cls) -> Scorer:
        """The shipped models; read once in a process."""
        return cls({group: _shipped(group) for group in GROUPS})

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Scorer:
        """Models from files, each for the language that it was trained for.

        Raises:
            HainaError: a file that is no model, one without a language, or two for the same language.
        """
        models: dict[str, LinearModel] = {}
        for path in paths:
            model = LinearModel.load(path)
            language = model.provenance.get("language")
            if language not in GROUPS:
                raise HainaError(f"{path}: trained for language {language!r}", f"one of {', '.join(GROUPS)}")
            if language in models:
                raise HainaError(f"{path}: a second model for {language}", "name one a language")
            models[language] = model
        return cls(models)

    def score(self, texts: Sequence[str], languages: Sequence[str]) -> npt.NDArray[np.float32]:
        """Probability that each text is good: float32 [texts], NaN where no model reads the language.

        Args:
            texts: the texts.
            languages: as `identify_language` names them, one a text.
        """
        scores = np.full(len(texts), np.nan, dtype=np.float32)
        groups = [language_group(language, text) for language, text in zip(languages, texts, strict=True)]
        for group, model in self.models.items():
            rows = [index for index, name in enumerate(groups) if name == group]
            if rows:
                scores[rows] = model.score([texts[index] for index in rows])
        return scores
