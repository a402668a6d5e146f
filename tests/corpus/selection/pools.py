"""Made-up documents with every column that selection reads, so that no text has to be measured."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.selection.config import SelectionConfig
from haina.corpus.selection.stage import run
from haina.runtime.stage import StageContext

Rows = list[dict[str, Any]]


def make_rows(count: int, seed: int = 0, languages: Sequence[str] = ("zh-Hans", "en")) -> Rows:
    """Documents of random length, quality and signals."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        language = languages[number % len(languages)]
        characters = int(rng.lognormvariate(6.0, 1.2)) + 1
        rows.append(
            {
                "id": f"document-{number}",
                "text": ("海纳百川。" if language != "en" else "The sea. ") * 3 + f"{rng.getrandbits(256):x}",
                "lang": language,
                "source": rng.choice(("encyclopaedia", "laws", "forum")),
                "score.quality": rng.random(),
                "cluster_id": f"cluster-{rng.randrange(count)}" if rng.random() < 0.5 else None,
                "duplicate_count": min(500, int(rng.paretovariate(1.0))),
                "signal.characters": characters,
                "signal.compression_ratio": rng.uniform(1.0, 4.0),
                "signal.unique_word_share": rng.random(),
                "signal.digit_share": rng.random() * 0.2,
                "signal.stop_word_share": rng.random() * 0.6,
            }
        )
    return rows


def write_rows(rows: Rows, path: Path) -> Path:
    """The rows as a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def select_from(
    sources: Sequence[Path],
    work: Path,
    *,
    seed: int = 0,
    workers: int = 1,
    clusters: Path | None = None,
    tokenizer: Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Run the stage; its summary, with the folder it wrote as `folder`."""
    given = {"clusters": clusters, "tokenizer": tokenizer}
    context = StageContext(
        work=work,
        inputs={name: path for name, path in given.items() if path is not None},
        sources=tuple(sources),
        seed=seed,
        workers=workers,
    )
    run(SelectionConfig(**settings), context)
    folder = context.out("selection")
    return {**json.loads((folder / "summary.json").read_text("utf-8")), "folder": folder}


def chosen(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Documents taken, by id."""
    return {row["id"]: row for row in pq.read_table(summary["folder"] / "documents").to_pylist()}


def dropped(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Documents not taken, by id."""
    return {row["id"]: row for row in pq.read_table(summary["folder"] / "dropped").to_pylist()}
