"""`score_group` in plain Python: what the kernels have to agree with.

Comes in: tokens of a range and the parts of a group. Goes out: the same features by name, found by trying every
run against every place and every stretch by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from haina.corpus.decontaminate.runs import RUN_UNITS
from haina.corpus.decontaminate.score import OPTION_FOUND, QUESTION_FOUND, SLACK, TAIL_TOKENS, Whole

Match = tuple[int, int, int]


def _runs(tokens: Sequence[int], units: Sequence[int], low: int, high: int) -> dict[int, tuple[int, ...]]:
    """The shortest run of enough units at each token that has one before `high`."""
    found = {}
    for start in range(low, high):
        for end in range(start + 1, high + 1):
            if sum(units[start:end]) >= RUN_UNITS:
                found[start] = tuple(tokens[start:end])
                break
    return found


def matches_plain(
    whole: Whole, tokens: Sequence[int], units: Sequence[int], low: int, high: int
) -> list[Match]:
    """(token of the range, token of the item, length) of every run that both have."""
    item, item_units = whole.tokens.tolist(), whole.units.tolist()
    wanted: list[tuple[int, tuple[int, ...]]] = []
    briefs: list[tuple[int, tuple[int, ...]]] = []
    for start, end in zip(whole.starts[:-1].tolist(), whole.starts[1:].tolist(), strict=True):
        runs = _runs(item, item_units, start, end)
        wanted += sorted(runs.items())
        if end > start and start not in runs:
            briefs.append((start, tuple(item[start:end])))
    there = _runs(tokens, units, low, high)
    found = []
    for at in range(low, high):
        found += [(at, where, len(run)) for where, run in wanted if there.get(at) == run]
        found += [
            (at, where, len(run))
            for where, run in briefs
            if tuple(tokens[at : min(at + len(run), high)]) == run
        ]
    return found


def _covered(matches: Sequence[Match], low: int, high: int) -> set[int]:
    return {index for _, where, run in matches if low <= where < high for index in range(where, where + run)}


def best_stretch_plain(
    matches: Sequence[Match], low: int, high: int, longest: int, weights: Sequence[float]
) -> list[Match]:
    """The matches of the stretch that covers most weight of the item's tokens low to high."""
    inside = [match for match in matches if low <= match[1] < high]
    best: list[Match] = []
    most = 0.0
    for last in range(len(inside)):
        end = inside[last][0] + inside[last][2]
        # A stretch that has become too long loses matches from its beginning, and never gets them back.
        reached = [one[0] + one[2] for one in inside[: last + 1]]
        stretch = [
            match
            for place, match in enumerate(inside[: last + 1])
            if place == last or all(after - match[0] <= longest for after in reached[place:])
        ]
        stretch = [match for match in stretch if end - match[0] <= longest or match is inside[last]]
        total = sum(weights[index] for index in _covered(stretch, low, high))
        if total > most + 1e-6:
            best, most = stretch, total
    return best


def features_plain(
    whole: Whole, tokens: Sequence[int], units: Sequence[int], low: int, high: int
) -> dict[str, float]:
    """The features of a group in a range, without the spans of options and of the whole."""
    starts, weights, bits = whole.starts.tolist(), whole.weights.tolist(), whole.bits.tolist()
    size, begin, end = starts[1], starts[1], starts[-2]
    matches = matches_plain(whole, tokens, units, low, high)
    out = {"options": float(len(starts) - 3), "joined": float(whole.blank < 0), "frame": -1.0, "tail": -1.0}
    stretch = best_stretch_plain(matches, 0, size, size * 3 // 2 + SLACK, weights)
    found = _covered(stretch, 0, size)
    if size:
        out["question"] = sum(weights[index] for index in found) / sum(weights[:size])
        out["question_plain"] = len(found) / size
        out["question_bits"] = sum(bits[index] for index in found)
        out["ask"] = sum(index >= whole.ask for index in found) / (size - whole.ask)
        asking = [index for index in range(size) if whole.frames[index]]
        if asking:
            out["frame"] = sum(index in found for index in asking) / len(asking)
        if any(where < whole.blank < where + run for _, where, run in stretch):
            out["joined"] = 1.0
        ends = [
            (size - where - run, at, where, run)
            for at, where, run in stretch
            if size - where - run <= TAIL_TOKENS
        ]
        if ends:
            rest = min(one[0] for one in ends)
            lines = Counter(at - where for at, where, _ in stretch)
            _, at, _where, run = max(
                (one for one in ends if one[0] == rest), key=lambda one: lines[one[1] - one[2]]
            )
            out["tail"] = float(at + run)
    near = matches
    reach = (end - begin) * 3 // 2 + SLACK + 4 * (len(starts) - 3)
    if out.get("question", 0.0) >= QUESTION_FOUND:
        least = min(at for at, _, _ in stretch) - reach
        most = max(at + run for at, _, run in stretch) + reach
        first = next((place for place, match in enumerate(near) if match[0] >= least), len(near))
        last = next(
            (place for place in range(len(near), first, -1) if sum(near[place - 1][::2]) <= most), first
        )
        item_units = whole.units.tolist()
        question_low, question_high = least + reach, most - reach
        near = [
            (at, where, run)
            for at, where, run in near[first:last]
            if sum(item_units[where : where + run]) >= RUN_UNITS
            or at < question_low
            or at + run > question_high
        ]
    covered = _covered(best_stretch_plain(near, begin, end, reach, weights), begin, end)
    got = []
    for option in range(1, len(starts) - 2):
        place = range(starts[option], starts[option + 1])
        if sum(weights[index] for index in place if index in covered) >= OPTION_FOUND * sum(
            weights[index] for index in place
        ):
            got.append(option)
    kept = [
        index for option in got for index in range(starts[option], starts[option + 1]) if index in covered
    ]
    out["options_found"] = float(len(got))
    out["option_bits"] = sum(bits[index] for index in kept)
    if end > begin:
        out["option_share"] = sum(weights[index] for index in kept) / sum(weights[begin:end])
    passage = _covered(matches, end, starts[-1])
    if starts[-1] > end:
        out["passage"] = sum(weights[index] for index in passage) / sum(weights[end:])
        out["passage_bits"] = sum(bits[index] for index in passage)
    return out
