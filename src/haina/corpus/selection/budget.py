"""Budgets of tokens by language, and the scale that meets each.

Comes in: weights, draws and tokens of all documents, a block at a time. Goes out: for each language the scale
c of p = min(1, c x weight), such that the documents whose draw is below p hold the budget within one
document. That is sequential Poisson sampling (Ohlsson 1998): of the documents in the order of draw / weight
the first ones are taken, so a larger budget adds documents to a smaller one. Histograms of whole tokens find
the place, a second look at one bin the exact document.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from haina.runtime.errors import HainaError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Bins of log2 over -64 to 64: 1/64 of an octave for weights, 1/256 for the order of documents.
_LOWEST = -64
_OCTAVES = 128
_ORDER_STEPS = 256
_WEIGHT_STEPS = 64

Arrays = tuple[npt.NDArray[np.int32], Floats, Floats, Ints]
Blocks = Callable[[], Iterator[Arrays]]


def _bins(values: Floats, steps: int) -> npt.NDArray[np.int64]:
    """Bin of each positive value by its logarithm."""
    place = (np.log2(values) - _LOWEST) * steps
    return np.clip(place, 0, _OCTAVES * steps - 1).astype(np.int64)


@dataclass
class Mass:
    """Tokens of one language by weight.

    Attributes:
        tokens: of the documents of positive weight, which are all that can be taken.
        histogram: the same by logarithm of weight: int64 [bins].
    """

    tokens: int = 0
    histogram: Ints = field(default_factory=lambda: np.zeros(_OCTAVES * _WEIGHT_STEPS, np.int64))

    def add(self, weight: Floats, tokens: Ints) -> None:
        """Count documents of positive weight."""
        np.add.at(self.histogram, _bins(weight, _WEIGHT_STEPS), tokens)
        self.tokens += int(tokens.sum())

    def expected(self, scale: float) -> float:
        """Tokens taken on average when p = min(1, scale x weight)."""
        middle = 2.0 ** ((np.arange(len(self.histogram)) + 0.5) / _WEIGHT_STEPS + _LOWEST)
        return float((np.minimum(1.0, scale * middle) * self.histogram).sum())


def common_scale(masses: Mapping[str, Mass], budget: int) -> float:
    """The scale at which all languages together give `budget` tokens on average; infinite for all there is."""
    if sum(mass.tokens for mass in masses.values()) <= budget:
        return math.inf
    low, high = -160.0, 160.0
    for _ in range(64):
        middle = (low + high) / 2.0
        enough = sum(mass.expected(2.0**middle) for mass in masses.values()) >= budget
        low, high = (low, middle) if enough else (middle, high)
    return float(2.0**high)


def _shared_out(masses: Mapping[str, Mass], budget: int) -> dict[str, int]:
    """`budget` by weights: one scale for all languages, rounded to whole tokens with nothing lost."""
    scale = common_scale(masses, budget)
    if math.isinf(scale):
        return {name: mass.tokens for name, mass in masses.items()}
    parts = {name: mass.expected(scale) for name, mass in masses.items()}
    total = sum(parts.values())
    names = sorted(parts)
    edges = [0]
    held = 0.0
    for name in names:
        held += parts[name]
        edges.append(round(budget * held / total))
    return {name: high - low for name, low, high in zip(names, edges, edges[1:], strict=False)}


def split_budget(
    masses: Mapping[str, Mass], budget: int, shares: Mapping[str, float]
) -> tuple[dict[str, int], list[str]]:
    """Tokens to take of each language, and what there is to say about it.

    Languages without a share divide the rest by their weights. What a language with a share cannot give goes to
    the others.

    Raises:
        HainaError: a share for a language without documents, or shares below 1 with nothing to take the rest.
    """
    for name in shares:
        if name not in masses:
            known = ", ".join(sorted(masses))
            raise HainaError(f"--share {name}: no document of this language", f"the input has {known}")
    free = {name: mass for name, mass in masses.items() if name not in shares}
    missing = 1.0 - sum(shares.values())
    if not free and missing > 1e-9:
        raise HainaError(
            f"--share: {1.0 - missing:g} together, and no other language to take the rest",
            "make the shares add up to 1",
        )
    if sum(mass.tokens for mass in masses.values()) <= budget:
        return {name: mass.tokens for name, mass in masses.items()}, []
    notes = []
    parts = {name: round(budget * share) for name, share in shares.items()}
    for name, wanted in parts.items():
        if wanted > masses[name].tokens:
            parts[name] = masses[name].tokens
            notes.append(
                f"{name} holds {masses[name].tokens:,} tokens, not the {wanted:,} of its share: all are taken, "
                "the rest of the share goes to the other languages"
            )
    parts |= _shared_out(free, max(0, budget - sum(parts.values()))) if free else {}
    left = budget - sum(parts.values())
    for name in sorted(parts):
        more = min(left, masses[name].tokens - parts[name]) if left > 0 else 0
        parts[name] += more
        left -= more
    return parts, notes


def find_scales(blocks: Blocks, budgets: Mapping[int, int]) -> dict[int, float]:
    """The scale of each language: documents with draw < scale x weight hold its budget, less one document at
    most.

    Args:
        blocks: gives language code, weight, draw and tokens of the documents, a block at a time, every time the
            same; documents of weight 0 are never taken.
        budgets: tokens to take, by language code.
    """
    histograms = {code: np.zeros(_OCTAVES * _ORDER_STEPS, np.int64) for code in budgets}
    for language, weight, draw, tokens in blocks():
        for code, histogram in histograms.items():
            rows = (language == code) & (weight > 0.0)
            np.add.at(histogram, _bins(draw[rows] / weight[rows], _ORDER_STEPS), tokens[rows])
    scales: dict[int, float] = {}
    open_bins: dict[int, tuple[int, int]] = {}
    for code, histogram in histograms.items():
        held = np.cumsum(histogram)
        place = int(np.searchsorted(held, budgets[code], "right"))
        if place == len(held):
            scales[code] = math.inf
        else:
            open_bins[code] = place, budgets[code] - int(held[place] - histogram[place])
    inside: dict[int, list[tuple[Floats, Ints]]] = {code: [] for code in open_bins}
    for language, weight, draw, tokens in blocks():
        for code, (place, _) in open_bins.items():
            rows = np.flatnonzero((language == code) & (weight > 0.0))
            order = draw[rows] / weight[rows]
            chosen = _bins(order, _ORDER_STEPS) == place
            inside[code].append((order[chosen], tokens[rows[chosen]]))
    for code, (_, room) in open_bins.items():
        scales[code] = _cut(inside[code], room)
    return scales


def _cut(parts: list[tuple[Floats, Ints]], room: int) -> float:
    """A number that parts the documents that fit into `room` tokens from the first that does not."""
    order = np.concatenate([values for values, _ in parts])
    tokens = np.concatenate([counts for _, counts in parts])
    by_order = np.lexsort((tokens, order))
    order = order[by_order]
    first_out = int(np.searchsorted(np.cumsum(tokens[by_order]), room, "right"))
    above = float(order[first_out])
    # Two documents with the very same draw / weight are both in or both out.
    below = order[:first_out][order[:first_out] < above]
    return (float(below[-1]) + above) / 2.0 if len(below) else above * (1.0 - 1e-9)


def probability(weight: Floats, scale: float) -> Floats:
    """min(1, scale x weight), and 0 for weight 0 whatever the scale."""
    if math.isinf(scale):
        return (weight > 0.0).astype(np.float64)
    return np.minimum(1.0, scale * weight)
