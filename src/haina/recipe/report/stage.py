"""The report stage: everything earlier stages wrote down, on one page."""

from __future__ import annotations

from haina.recipe.report import write_report
from haina.runtime.stage import StageContext, StageResult


def run(config: None, context: StageContext) -> StageResult:
    """Write `report.html` from the run folder. It has no settings of its own."""
    target = context.work / "out" / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_report(context.input("run"), target)
    return StageResult(1, 1, 0, "reports", {"bytes": target.stat().st_size})
