"""Which of the places that were looked at hold an item.

Comes in: features of candidates. Goes out: for each the method by which it is an item, or none, and a score.
What counts is the question with what makes it one: the words that ask, the open blank, or options that are not
all true. A statute, poem or definition that a question quotes is in the corpus by its own right.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from haina.corpus.decontaminate.score import FEATURES

NONE, QUESTION, JOINT, PASSAGE, OPTIONS = range(5)
METHODS = ("", "question", "question+options", "question+passage", "options")

Floats = npt.NDArray[np.float64]


@cache
def rules() -> dict[str, dict[str, Any]]:
    """The thresholds of `rules.yaml`."""
    data: dict[str, dict[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("rules.yaml").read_text(encoding="utf-8")
    )
    return data


def decide(features: Floats, ends: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int8], Floats]:
    """(method, score) of each candidate: int8 [candidates], and the share that decided, 0 to 1: float64 [candidates].

    Args:
        features: as `score_candidates` gives them: float64 [candidates, FEATURES].
        ends: whether a line or sentence ends where the question does: bool [candidates].
    """
    f = dict(zip(FEATURES, features.T, strict=True))
    share = np.minimum(f["question"], f["question_plain"])
    weight = f["question_weight"] + f["option_weight"]
    both = (f["question"] * f["question_weight"] + f["option_share"] * f["option_weight"]) / np.maximum(
        weight, 1e-9
    )
    length = f["high"] - f["low"]
    no_frame = f["frame"] < 0
    open_blank = (f["joined"] > 0) & (f["tail"] >= 0)

    rule = rules()["question"]
    least = np.interp(f["question_bits"], rule["bits"], rule["share"])
    enough = (f["question_bits"] >= rule["bits"][0]) & (share >= least) & (f["ask"] >= rule["ask"])
    bare = no_frame & open_blank & (f["statement"] == 0) & (share >= rule["bare_share"]) & ends
    question = enough & ((f["frame"] >= rule["frame"]) | bare)

    rule = rules()["joint"]
    found = f["options_found"]
    joint = (
        (found >= np.maximum(2, rule["options"] * f["options"]))
        & (share >= rule["question"])
        & (both >= rule["share"])
        & (f["question_bits"] + f["option_bits"] >= rule["bits"])
        & (f["option_own"] >= rule["own"])
        & (length <= rule["spread"] * (f["question_tokens"] + f["option_tokens"]) + 4 * f["options"] + 10)
        & (
            (f["frame"] >= rule["frame"])
            | (no_frame & (both >= rule["bare_share"]) & ends & (open_blank | (found >= f["options"])))
            | ((both >= rule["sure_share"]) & (found >= np.maximum(2, 0.75 * f["options"])))
        )
    )

    rule = rules()["passage"]
    passage = (
        (f["question"] >= rule["question"])
        & (f["passage"] >= rule["passage"])
        & (f["passage_bits"] >= rule["bits"])
        & (f["ask"] >= rule["ask"])
        & (f["frame"] >= rule["frame"])
    )

    rule = rules()["options"]
    options = (
        (found >= np.maximum(3, f["options"]))
        & (f["option_share"] >= rule["share"])
        & (f["option_bits"] >= rule["bits"])
        & (f["option_own"] >= rule["own"])
        & (length <= rule["spread"] * f["option_tokens"] + 4 * f["options"] + 10)
    )
    methods = np.select([joint, question, passage, options], [JOINT, QUESTION, PASSAGE, OPTIONS], NONE)
    scores = np.select(
        [joint, question, passage, options], [both, share, f["question"], f["option_share"]], 0.0
    )
    return methods.astype(np.int8), scores
