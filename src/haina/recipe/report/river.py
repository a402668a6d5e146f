"""The picture of the funnel: a stream of pages from which every step lets some run off.

In: steps with the records that each took out, and why. Out: plain geometry (paths and labels) for an inline
SVG, so that the picture needs no script, follows the page's colours and prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from haina.recipe.report.text import clip

WIDTH = 1040
TOP = 34
DEPTH = 150
LEFT = 92
RIGHT = 128
RUNOFF_END = 232
LINE = 15
REASONS = 4
LEAST = 1.5


@dataclass(frozen=True)
class Step:
    """One step of curation: its display names and (reason, records) pairs, largest first."""

    name: str
    name_zh: str
    reasons: Sequence[tuple[str, int]]

    @property
    def dropped(self) -> int:
        return sum(records for _, records in self.reasons)


@dataclass(frozen=True)
class Runoff:
    """What one step lets run off: a band that leaves the stream, and its label."""

    path: str
    x: float
    name: str
    name_zh: str
    dropped: int
    lines: list[tuple[str, int]]
    full: str


@dataclass(frozen=True)
class River:
    """Geometry of the whole picture in SVG units."""

    width: int
    height: int
    stem: str
    stem_top: float
    left_middle: float
    right_middle: float
    left: float
    right: float
    runoffs: list[Runoff] = field(default_factory=list)


def _band(x: float, bottom: float, thickness: float, column: float) -> str:
    """A band of `thickness` that bends from the stream's lower edge, ending at `bottom`, downwards."""
    near, far = x + 0.28 * column, x + 0.28 * column + thickness
    top = bottom - thickness
    bend = bottom + 0.55 * (RUNOFF_END - bottom)
    return (
        f"M{x:.1f},{top:.1f} C{far:.1f},{top:.1f} {far:.1f},{top:.1f} {far:.1f},{bend:.1f} "
        f"L{far:.1f},{RUNOFF_END} L{near:.1f},{RUNOFF_END} L{near:.1f},{bend:.1f} "
        f"C{near:.1f},{bottom:.1f} {near:.1f},{bottom:.1f} {x:.1f},{bottom:.1f} Z"
    )


def draw(pages: int, steps: Sequence[Step]) -> River:
    """Lay the stream out: thickness is proportional to records, losses leave from the lower edge."""
    steps = [step for step in steps if step.dropped > 0]
    scale = DEPTH / max(pages, 1)
    column = (WIDTH - LEFT - RIGHT) / max(len(steps), 1)
    thickness, x = float(DEPTH), float(LEFT)
    lower = [(float(LEFT), thickness)]
    runoffs = []
    for step in steps:
        loss = max(step.dropped * scale, LEAST)
        runoffs.append(_runoff(step, x, TOP + thickness, loss, column))
        thickness = max(thickness - step.dropped * scale, LEAST)
        lower += [(x, thickness), (x + column, thickness)]
        x += column
    right = WIDTH - RIGHT
    edge = " ".join(f"L{px:.1f},{TOP + depth:.1f}" for px, depth in reversed(lower))
    lines = max((len(runoff.lines) for runoff in runoffs), default=0)
    return River(
        width=WIDTH,
        height=RUNOFF_END + 68 + LINE * lines if runoffs else TOP + DEPTH + 20,
        stem=f"M{LEFT},{TOP} L{right},{TOP} L{right},{TOP + thickness:.1f} {edge} Z",
        stem_top=TOP,
        left_middle=TOP + DEPTH / 2,
        right_middle=TOP + thickness / 2,
        left=LEFT,
        right=right,
        runoffs=runoffs,
    )


def _runoff(step: Step, x: float, bottom: float, loss: float, column: float) -> Runoff:
    columns = max(8, int(column / 6.4) - 6)
    shown = [(clip(reason, columns), records) for reason, records in step.reasons[:REASONS]]
    rest = sum(records for _, records in step.reasons[REASONS:])
    if rest:
        shown.append(("other", rest))
    full = "; ".join(f"{reason}: {records:,}" for reason, records in step.reasons)
    return Runoff(
        path=_band(x, bottom, loss, column),
        x=x + 0.28 * column,
        name=clip(step.name, columns + 6),
        name_zh=step.name_zh,
        dropped=step.dropped,
        lines=shown,
        full=full,
    )
