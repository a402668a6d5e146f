"""The run report: one HTML file that shows what a run took in, did, learnt and cost.

In: a run folder, whole or unfinished. Out: a self-contained page (styles, scripts and figures inside,
nothing fetched) that can be opened anywhere, mailed and printed.
"""

from haina.recipe.report.document import write_report

__all__ = ["write_report"]
