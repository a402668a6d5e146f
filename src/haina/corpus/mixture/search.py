"""Finds the mixture with the smallest predicted loss.

Comes in: a function of mixtures, an upper bound for each share, mixtures to start from. Goes out: the best mixture. A
pattern search over pairs: move some share from one domain to another, keep the best move, halve the step when none
helps (Hooke and Jeeves 1961). It needs no gradient, so it serves smooth laws and trees alike, and nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from haina.corpus.mixture.mixtures import Shares

Objective = Callable[[Shares], Shares]
FIRST_STEP, LAST_STEP = 0.064, 0.0005


def best_mixture(objective: Objective, upper: Shares, starts: Shares) -> Shares:
    """The mixture [domains] with the smallest value.

    Args:
        objective: mixtures [n, domains] to values [n].
        upper: largest share of each domain [domains], together at least 1.
        starts: mixtures within the bounds [n, domains]; the best of them is where the search begins.
    """
    values = objective(starts)
    here, value = starts[int(np.argmin(values))], float(values.min())
    domains = len(upper)
    giver, taker = (side.ravel() for side in np.indices((domains, domains)))
    giver, taker = giver[giver != taker], taker[giver != taker]
    rows = np.arange(len(giver))
    step = FIRST_STEP
    while step >= LAST_STEP:
        moved = np.minimum(step, np.minimum(here[giver], upper[taker] - here[taker]))
        tried = np.repeat(here[None], len(giver), axis=0)
        tried[rows, giver] -= moved
        tried[rows, taker] += moved
        values = objective(tried)
        best = int(np.argmin(values))
        if values[best] < value - 1e-12:
            here, value = tried[best], float(values[best])
        else:
            step /= 2
    here = np.maximum(here, 0.0)
    return here / here.sum()
