"""A batch that broke a step in; out: `quarantine/step-00000812/`, for a person to read and a program to load.

`batch.json` says what was seen, which documents stand in which row, and what their text is; `batch.npz` holds the
arrays of the batch as the model saw them. Equal batches give equal bytes: a step repeated after a kill leaves the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from haina.runtime.errors import HainaError
from haina.runtime.files import atomic_path, remove, write_json
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards.batch import IGNORED, Batch
from haina.shards.look import document_rows
from haina.shards.shard_set import TRAIN
from haina.train.watch import Record

FOLDER = "quarantine"
# Of the text of a piece; all of its tokens are in batch.npz.
LONGEST_TEXT = 2000
# Later ones are counted only: a run that breaks on every batch must not fill the disk.
MOST_SAVED = 64
ARRAYS = ("inputs", "targets", "positions", "segments", "pieces")


def finite(value: float) -> float | str:
    """A number for JSON, which knows neither NaN nor infinity: those by name."""
    return value if math.isfinite(value) else str(value)


@dataclass(frozen=True)
class Quarantine:
    """Where bad batches go.

    Attributes:
        folder: `quarantine/`. shards: the folder whose documents stand in the batches.
        tokenizer: writes their text. vocab_size: ids from it on are no tokens.
    """

    folder: Path
    shards: Path
    tokenizer: TokenizerFile
    vocab_size: int

    def save(self, step: int, batch: Batch, seen: Mapping[str, Any], record: Record) -> Path | None:
        """Count a batch and write it; returns its folder, or None where there are too many already.

        Args:
            step: counted from 1. batch: what it read.
            seen: JSON values: reasons, loss, norms, learning rate.
            record: of the run. After a rollback the same step may come by again, with another batch.

        Raises:
            HainaError: it cannot be written.
        """
        record.quarantined += 1
        if record.quarantined > MOST_SAVED:
            return None
        replay = len(record.rollbacks)
        target = self.folder / (f"step-{step:08d}" + (f"-replay-{replay}" if replay else ""))
        # Once for all rows: the table of documents may be large.
        known = self._documents([int(number) for number in batch.pieces["document"]])
        rows = [self._row(batch, number, known) for number in range(len(batch.inputs))]
        remove(target)
        with atomic_path(target) as temporary:
            temporary.mkdir()
            content = {
                "step": step,
                "batch": batch.step,
                **seen,
                "tokens_outside_vocabulary": self._outside(batch),
            }
            write_json(temporary / "batch.json", content | {"rows": rows})
            np.savez(temporary / "batch.npz", **{name: getattr(batch, name) for name in ARRAYS})
        return target

    def _outside(self, batch: Batch) -> list[dict[str, int]]:
        """Row, column and id of what is no token; of a target, one column before where it stands in the text."""
        found = []
        for name in ("inputs", "targets"):
            values = getattr(batch, name)
            wrong = (values < 0) | (values >= self.vocab_size)
            if name == "targets":
                wrong &= values != IGNORED
            for row, column in np.argwhere(wrong).tolist():
                found.append(
                    {"row": row, "column": column + (name == "targets"), "id": int(values[row, column])}
                )
        return [dict(item) for item in sorted({tuple(item.items()) for item in found})]

    def _row(self, batch: Batch, number: int, known: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        pieces = batch.pieces[batch.pieces["row"] == number]
        described = []
        for piece in pieces:
            first, length = int(piece["column"]), int(piece["length"])
            ids = [*batch.inputs[number, first : first + length].tolist()]
            last = int(batch.targets[number, first + length - 1])
            text = self.text_of([*ids, last] if last != IGNORED else ids)
            described.append(
                {
                    "document": int(piece["document"]),
                    **known.get(int(piece["document"]), {}),
                    "first_token": int(piece["first"]),
                    "column": first,
                    "tokens": length,
                    "text": text[:LONGEST_TEXT],
                    "text_is_cut": len(text) > LONGEST_TEXT,
                }
            )
        return {"row": number, "pieces": described}

    def _documents(self, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        try:
            rows = document_rows(self.shards, TRAIN, numbers)
        except HainaError:
            # What broke the batch may have broken the table too; the batch is worth keeping without it.
            return {}
        names = ("id", "source", "url", "lang")
        return {number: {name: row[name] for name in names if name in row} for number, row in rows.items()}

    def text_of(self, ids: Sequence[int]) -> str:
        """Readable text; special tokens by name, what is no token as `<id 65535?>`."""
        parts: list[str] = []
        run: list[int] = []
        special = self.tokenizer.backend.get_added_tokens_decoder()
        for number in ids:
            known = 0 <= number < self.vocab_size
            if known and number not in special:
                run.append(number)
                continue
            parts.append(self.tokenizer.decode(run) if run else "")
            parts.append(special[number].content if known else f"<id {number}?>")
            run = []
        parts.append(self.tokenizer.decode(run) if run else "")
        return "".join(parts)
