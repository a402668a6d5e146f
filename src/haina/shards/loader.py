"""Batches of packed documents, computed from `(seed, step)` alone.

In: a packing plan, the token files, the settings of a run. Out: the rows of any step, or of one rank's part of it. Row
number n of a run is the same pack of documents for any number of ranks, workers and threads, so a run is resumed by
asking for the next step: on as many machines as there are then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.shards.batch import Batch
from haina.shards.loader_settings import LoaderSettings
from haina.shards.mixture import Order
from haina.shards.plan import PackPlan, PlannedDomain
from haina.shards.plan_cache import plan_for
from haina.shards.proportions import Proportions, proportions_of
from haina.shards.rows import count_places, read_rows
from haina.shards.split_files import SplitFiles
from haina.shards.token_files import TokenFiles

LAST_ROW = 1 << 62


@dataclass(frozen=True)
class Loader:
    """The rows of a run.

    Attributes:
        folder: the shards.
        settings: of the run.
        files: the tokens.
        plan: which documents stand in which pack.
        order: which pack is which row.
    """

    folder: Path
    settings: LoaderSettings
    files: TokenFiles
    plan: PackPlan
    order: Order

    @property
    def rows_per_epoch(self) -> int:
        """Rows in which everything stands once, whatever the weights."""
        return self.plan.packs

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The part of step `step` (>= 0) that `rank` of `world` equal ones computes.

        Raises:
            HainaError: the step is out of range, or the rows cannot be dealt out evenly.
        """
        rows = self.settings.rows
        if world < 1 or not 0 <= rank < world:
            raise HainaError(f"loader: rank {rank} of {world}", "ranks count from 0 to world - 1")
        if rows % world:
            raise HainaError(
                f"loader: {rows} rows of a step cannot be dealt out to {world} ranks",
                "make the global batch a multiple of the number of ranks",
            )
        mine = rows // world
        packs = self._packs(step, rank * mine, mine)
        window = self.settings.window_of(step)
        masked = self.settings.document_mask
        arrays = read_rows(self.files, self.plan, packs, self._stream, masked, window)
        separate = masked or window < self.settings.sequence_length
        targets = int(np.count_nonzero(arrays[1] >= 0)) if world == 1 else self.targets(step)
        return Batch(step, *arrays, separate, targets)

    def targets(self, step: int) -> int:
        """Tokens that step `step` predicts, over all ranks; needs no tokens, so that every rank can know it."""
        packs = self._packs(step, 0, self.settings.rows)
        if not self._stream:
            return int(count_places(self.plan.pieces, self.plan.pack_first, packs))
        pieces = int((self.plan.pack_first[packs + 1] - self.plan.pack_first[packs]).sum())
        borders = pieces - len(packs) if self.settings.document_mask else 0
        return len(packs) * self.settings.sequence_length - borders

    def domains(self, step: int) -> list[str]:
        """Domain of each row [rows] of a step."""
        self._check_step(step)
        places = self.order.rows(step * self.settings.rows, self.settings.rows)[0]
        return [self.plan.domains[place].name for place in places]

    def epochs(self, steps: int) -> dict[str, float]:
        """How often each domain has been read after `steps` steps."""
        self._check_step(steps)
        shares = self.order.counts / self.order.period * steps * self.settings.rows / self.order.packs
        return {domain.name: float(share) for domain, share in zip(self.plan.domains, shares, strict=True)}

    def state(self, step: int) -> dict[str, Any]:
        """All that has to be kept to go on with `step`: JSON values."""
        self._check_step(step)
        return {"step": step, **self.identity()}

    def identity(self) -> dict[str, Any]:
        """What fixes the order of rows: JSON values, equal exactly when the rows are."""
        settings = self.settings
        return {
            "seed": settings.seed,
            "rows": settings.rows,
            "sequence_length": settings.sequence_length,
            "packing": settings.packing,
            "document_mask": settings.document_mask,
            "context_schedule": [list(pair) for pair in settings.context_schedule],
            "shards": self.plan.identity["shards"],
            "domains": [domain.name for domain in self.plan.domains],
            "rows_of_domains": self.order.counts.tolist(),
        }

    def check_state(self, state: Mapping[str, Any]) -> int:
        """The step to go on with.

        Raises:
            HainaError: the state is of other shards or settings; names what differs.
        """
        expected = self.identity()
        if not isinstance(state.get("step"), int) or not set(expected) <= set(state):
            raise HainaError("loader: not a state of the loader", "use what Loader.state gave")
        other = [name for name, value in expected.items() if state[name] != value]
        if other:
            raise HainaError(
                f"{self.folder}: the state of the loader is of another {', '.join(other)}",
                "go on with the shards and settings that the run began with",
            )
        self._check_step(state["step"])
        return int(state["step"])

    @property
    def _stream(self) -> bool:
        return self.settings.packing == "concatenate"

    def _packs(self, step: int, start: int, count: int) -> NDArray[np.int64]:
        self._check_step(step)
        return self.order.rows(step * self.settings.rows + start, count)[1]

    def _check_step(self, step: int) -> None:
        if step < 0 or (step + 1) * self.settings.rows > LAST_ROW:
            raise HainaError(
                f"loader: step {step} is out of range", f"steps are 0 to {LAST_ROW // self.settings.rows - 1}"
            )


def open_loader(shards: Path, settings: LoaderSettings, cache: Path | None = None) -> Loader:
    """The loader of a shards folder's `train` split.

    Args:
        shards: a shards folder.
        settings: of the run.
        cache: folder for packing plans, shared by runs and ranks; None: the plan is made anew, in memory.

    Raises:
        HainaError: too little text for a row, a weight for what is not there, damaged shards, a damaged plan.
    """
    split = SplitFiles.read(shards)
    proportions = proportions_of(split, settings)
    plan = plan_for(split, settings, proportions, cache)
    if proportions.by is not None:
        # Only what `epochs` does not name can be nothing.
        there = [place for place, domain in enumerate(plan.domains) if domain.documents]
        plan = replace(plan, domains=tuple(plan.domains[place] for place in there))
        proportions = replace(proportions, values=tuple(proportions.values[place] for place in there))
    for domain in plan.domains:
        _check_size(split, domain, settings.sequence_length)
    packs = np.array([domain.packs for domain in plan.domains], np.int64)
    first = np.array([domain.first_pack for domain in plan.domains], np.int64)
    order = Order.of(packs, first, _shares_of_rows(plan, settings, proportions), settings.seed)
    return Loader(shards, settings, TokenFiles.open(split.files, split.dtype), plan, order)


def _check_size(split: SplitFiles, domain: PlannedDomain, length: int) -> None:
    if domain.targets >= length:
        return
    about = f"domain {domain.name!r} has" if domain.name else "there are"
    raise HainaError(
        f"{split.folder}: {about} {domain.targets + domain.documents:,} tokens to train on in "
        f"{domain.documents:,} documents, a row takes {length + 1:,}",
        ("give it weight 0, " if domain.name else "") + "shorten train.sequence_length or bring more text",
    )


def _shares_of_rows(
    plan: PackPlan, settings: LoaderSettings, proportions: Proportions
) -> NDArray[np.float64] | None:
    """Share of the rows of each domain [domains], such that its share of the predicted tokens is the one asked for: a
    domain whose rows hold more padding is read more often.
    """
    if proportions.by is None:
        return None
    asked = np.array(proportions.values, np.float64)
    packs = np.array([domain.packs for domain in plan.domains], np.float64)
    if proportions.of_epochs:
        return asked * packs
    targets = np.array([domain.targets for domain in plan.domains], np.float64)
    if settings.packing == "concatenate" and settings.document_mask:
        targets -= np.array([domain.pieces for domain in plan.domains]) - packs
    return asked * packs / targets
