"""A packing plan on disk: which stretch of which document goes into which row.

A plan is made once for shards, a sequence length and a way to pack (`planner.py`), and is then only mapped into
memory: a thousand ranks read the same pages of it, and none holds it. Its folder:

    plan.json     what it was made from, domains, sizes and BLAKE2 of the two arrays
    pieces.bin    PIECE of all packs, one pack after another
    packs.bin     int64 [packs + 1], number of the first piece of each pack, then the number of pieces

The packs of a domain lie together. The order in which packs are read is not part of a plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import read_json

PLAN_VERSION = 1
PLAN_FILE, PIECES_FILE, PACKS_FILE = "plan.json", "pieces.bin", "packs.bin"
# document: number in the split; position: of its first token of this piece, in the tokens of the split;
# first: place of that token in the document; length: tokens that the piece takes up in its row.
PIECE = np.dtype([("document", "<i8"), ("position", "<i8"), ("first", "<i4"), ("length", "<i4")], align=True)
# Larger plans are held against their checksums by who makes them, not by every rank that opens them: every piece is
# held against the bounds of its file when it is read.
CHECKED_BYTES = 1 << 28


@dataclass(frozen=True)
class PlannedDomain:
    """Packs of one domain.

    Attributes:
        name: of the domain; empty where domains do not matter.
        first_pack, packs: where its packs lie.
        pieces: pieces in them.
        documents: documents of the domain.
        targets: tokens that are predicted when all packs are read once and borders of documents do not matter.
    """

    name: str
    first_pack: int
    packs: int
    pieces: int
    documents: int
    targets: int


@dataclass(frozen=True)
class PackPlan:
    """An opened plan.

    Attributes:
        identity: what it was made from and how; JSON values.
        pieces: PIECE [pieces], pack_first: int64 [packs + 1], both mapped or in memory; not to be
            written.
        domains: in the order of their packs.
        cut: documents longer than a row, the only ones that best-fit cuts.
        empty: documents of fewer than two tokens, in which there is nothing to predict.
    """

    identity: Mapping[str, Any]
    pieces: NDArray[np.void]
    pack_first: NDArray[np.int64]
    domains: tuple[PlannedDomain, ...]
    cut: int
    empty: int

    @property
    def packs(self) -> int:
        return len(self.pack_first) - 1

    @property
    def padding(self) -> float:
        """Share of all places in rows at which nothing is read."""
        places = self.packs * int(self.identity["sequence_length"])
        return 1.0 - sum(domain.targets for domain in self.domains) / max(1, places)


def describe_array(path: Path) -> dict[str, Any]:
    """Size and BLAKE2 of an array file, for `plan.json`."""
    digest = hashlib.blake2b(digest_size=16)
    with os_errors_about(path), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        return {"bytes": file.tell(), "blake2": digest.hexdigest()}


def read_plan(folder: Path, identity: Mapping[str, Any], keep: bool = False) -> PackPlan:
    """Open the plan in `folder`.

    Args:
        identity: what it has to be made from.
        keep: read the arrays into memory instead of mapping them, for a folder that will vanish.

    Raises:
        HainaError: it is damaged, or made from something else.
    """
    description = read_json(folder / PLAN_FILE)
    advice = f"delete {folder}; it is made again"
    try:
        found, arrays = description["identity"], description["arrays"]
        domains = tuple(PlannedDomain(**domain) for domain in description["domains"])
        cut, empty = int(description["cut"]), int(description["empty"])
        sizes = {name: int(arrays[name]["bytes"]) for name in (PIECES_FILE, PACKS_FILE)}
        sums = {name: str(arrays[name]["blake2"]) for name in sizes}
    except (KeyError, TypeError, ValueError) as error:
        raise HainaError(f"{folder / PLAN_FILE}: not a packing plan ({error!r})", advice) from error
    if found != identity:
        other = sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key))
        raise HainaError(f"{folder}: a packing plan of another {', '.join(other)}", advice)
    for name, size in sizes.items():
        path = folder / name
        with os_errors_about(path):
            actual = path.stat().st_size
        if actual != size:
            raise HainaError(
                f"{path}: at byte {min(actual, size)}: {actual:,} bytes, {PLAN_FILE} promises {size:,}",
                advice,
            )
        if size <= CHECKED_BYTES and describe_array(path)["blake2"] != sums[name]:
            raise HainaError(f"{path}: its content is not the one that {PLAN_FILE} describes", advice)
    pieces = _array(folder / PIECES_FILE, PIECE, keep)
    pack_first = _array(folder / PACKS_FILE, np.dtype("<i8"), keep)
    if len(pack_first) == 0 or pack_first[0] != 0 or pack_first[-1] != len(pieces):
        raise HainaError(f"{folder / PACKS_FILE}: does not cover the pieces", advice)
    return PackPlan(found, pieces, pack_first, domains, cut, empty)


def _array(path: Path, dtype: np.dtype[Any], keep: bool) -> NDArray[Any]:
    with os_errors_about(path):
        if keep or path.stat().st_size == 0:
            return np.fromfile(path, dtype)
        # Copy on write, though nobody writes: numba compiles kernels anew for arrays that are read-only. A plain view:
        # they take it without a detour over the subclass.
        return np.asarray(np.memmap(path, dtype, "c"))
