"""The files of a plan while it is made: each domain's packs grow in files of their own, and are strung together at the
end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.errors import os_errors_about
from haina.shards.plan import PACKS_FILE, PIECE, PIECES_FILE

_BLOCK = 1 << 23


@dataclass
class DomainWriter:
    """A domain being packed: counters, its two growing files, and the pieces that wait for company."""

    name: str
    pieces_path: Path
    sizes_path: Path
    waiting: NDArray[np.void] = field(default_factory=lambda: np.empty(0, PIECE))
    tokens: int = 0
    packs: int = 0
    documents: int = 0
    targets: int = 0

    def write(self, pieces: NDArray[np.void], sizes: NDArray[np.int64]) -> None:
        """Append packs: their pieces [sum of sizes] and how many each has [packs]."""
        for path, array in ((self.pieces_path, pieces), (self.sizes_path, sizes.astype("<i8"))):
            with os_errors_about(path), path.open("ab") as file:
                file.write(array.tobytes())
        self.packs += len(sizes)


def pieces_of(
    documents: NDArray[np.int64],
    positions: NDArray[np.int64],
    first: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> NDArray[np.void]:
    """PIECE [n]; `positions` are of the documents' first tokens."""
    result = np.empty(len(documents), PIECE)
    result["document"], result["position"] = documents, positions + first
    result["first"], result["length"] = first, lengths
    return result


def join_domains(folder: Path, made: list[DomainWriter], stream_length: int | None) -> list[dict[str, Any]]:
    """String the domains' files together and describe them; rows of a stream predict `stream_length` tokens each."""
    described = []
    pieces_before = packs_before = 0
    with os_errors_about(folder), (folder / PACKS_FILE).open("wb") as packs:
        packs.write(np.zeros(1, "<i8").tobytes())
        for domain in made:
            pieces_of_domain = 0
            with domain.sizes_path.open("rb") as file:
                while block := file.read(_BLOCK):
                    ends = np.cumsum(np.frombuffer(block, "<i8")) + pieces_before + pieces_of_domain
                    packs.write(ends.astype("<i8").tobytes())
                    pieces_of_domain = int(ends[-1]) - pieces_before
            domain.sizes_path.unlink()
            if domain is made[0]:
                domain.pieces_path.rename(folder / PIECES_FILE)
            else:
                with domain.pieces_path.open("rb") as file, (folder / PIECES_FILE).open("ab") as pieces:
                    while block := file.read(_BLOCK):
                        pieces.write(block)
                domain.pieces_path.unlink()
            if stream_length is not None:
                domain.targets = domain.packs * stream_length
            described.append(
                {
                    "name": domain.name,
                    "first_pack": packs_before,
                    "packs": domain.packs,
                    "pieces": pieces_of_domain,
                    "documents": domain.documents,
                    "targets": domain.targets,
                }
            )
            pieces_before += pieces_of_domain
            packs_before += domain.packs
    return described
