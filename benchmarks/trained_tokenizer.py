"""The 64,000 pieces that other benchmarks measure, learnt once from the training part of ../shared/data/text.

In: a folder that the reader names, or nothing. Out: a tokenizer folder; without a name `build/tokenizer-64000`, made
when it is not there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from held_out_text import training_files

HERE = Path(__file__).resolve().parents[1] / "build" / "tokenizer-64000"
VOCAB_SIZE = 64_000


def train(inputs: list[Path], out: Path, settings: tuple[str, ...] = ()) -> list[str]:
    """The command that trains on `inputs` into `out`."""
    chosen = [part for setting in settings for part in ("--set", setting)]
    return [
        sys.executable, "-m", "haina", "tokenizer", "train", *map(str, inputs), "--out", str(out),
        "--vocab-size", str(VOCAB_SIZE), "--set", "reserved_tokens=59", *chosen,
    ]  # fmt: skip


def tokenizer_folder(given: Path | None) -> Path:
    """The folder that was named, or the one that is made here."""
    if given is not None:
        return given
    if not HERE.exists():
        HERE.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(train(training_files(Path(folder)), HERE), check=True, stdout=subprocess.DEVNULL)
    return HERE
