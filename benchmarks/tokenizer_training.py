"""Claim: 64,000 pieces are learnt from 200 MB of Chinese and English in under 10 minutes and 8 GiB on two cores, and
each rule of the training pays for itself on text that it has not seen.

Ours is `haina tokenizer train` as a user starts it, reading, choosing and measuring included; the peer is the BPE
trainer of Hugging Face tokenizers on the same texts with the pattern that llama.cpp names `qwen2`, digits alone (it has
no merges over spaces, and no weights: every text counts once). With --ablate the same again without one rule each, and
bytes per token on held-out text for all.
Run: python benchmarks/tokenizer_training.py [--megabytes 200] [--ablate] [--skip-peer] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from held_out_text import DATA, held_out_texts, training_files
from trained_tokenizer import VOCAB_SIZE, train

VARIANTS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "no merges over spaces": ("superword_share=0",),
    "half of them over spaces": ("superword_share=0.5",),
    "repeats in a passage count": ("max_per_passage=4096",),
    "traditional text not converted": ("traditional_share=1",),
    "Chinese and English level": ("chinese_share=0.5",),
    "characters to 0.9999": ("character_coverage=0.9999",),
    "characters to 0.998": ("character_coverage=0.998",),
    "pieces to 18 bytes": ("max_token_bytes=18",),
    "pieces to 48 bytes": ("max_token_bytes=48",),
}
PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PEER_LIMIT = 1800  # seconds
MEASURED = 1_000_000  # bytes of each held-out set


def cut(files: list[Path], megabytes: float, out: Path) -> tuple[list[Path], int]:
    """The first documents of each file, in proportion, so that all together are so large; and their bytes."""
    tables = [pq.read_table(path) for path in files]
    sizes = [sum(len(text.encode()) for text in table["text"].to_pylist()) for table in tables]
    share = min(1.0, megabytes * 1e6 / sum(sizes))
    made, total = [], 0
    for path, table in zip(files, tables, strict=True):
        part = table.slice(0, round(share * table.num_rows))
        total += sum(len(text.encode()) for text in part["text"].to_pylist())
        made.append(out / path.name)
        pq.write_table(part, made[-1])
    return made, total


def measured(command: list[str], limit: float | None = None) -> dict[str, float]:
    """Wall and processor seconds and the peak memory of a command; `seconds` is missing when it ran into the limit."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0
    try:
        while process.poll() is None:
            peak = max(peak, peak_of(process.pid))
            if limit is not None and time.monotonic() - start > limit:
                process.kill()
                process.wait()
                return {"peak_gib": peak / 2**20}
            time.sleep(0.2)
    finally:
        if process.poll() is None:
            process.kill()
    if process.returncode:
        raise SystemExit(process.stderr.read() if process.stderr else "failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.monotonic() - start, "cpu": cpu, "peak_gib": peak / 2**20}


def peak_of(process: int) -> int:
    """Peak memory of a running process, KiB; 0 when it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return max((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), default=0)


def peer(files: list[Path], out: Path) -> None:
    """Train with Hugging Face's trainer; runs in a process of its own."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, max_token_length=24, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    texts = (text for path in files for text in pq.read_table(path, columns=["text"])["text"].to_pylist())
    tokenizer.train_from_iterator(texts, trainer)
    out.mkdir()
    tokenizer.save(str(out / "tokenizer.json"))


def rates(folder: Path, texts: dict[str, list[str]]) -> dict[str, float]:
    """Bytes per token on the beginning of each held-out set."""
    from haina.runtime.tokenizer_file import TokenizerFile

    tokenizer = TokenizerFile(folder)
    found = {}
    for name, documents in texts.items():
        size, chosen = 0, []
        for text in documents:
            if size > MEASURED:
                break
            size += len(text.encode())
            chosen.append(text)
        found[name] = size / sum(map(len, tokenizer.encode_batch(chosen)))
    return found


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--skip-peer", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer", nargs="+", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer(options.peer[1:], options.peer[0])
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"tokenizers {importlib.metadata.version('tokenizers')}")  # fmt: skip
    texts = held_out_texts(options.data)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "all").mkdir()
        (folder / "cut").mkdir()
        files, size = cut(training_files(folder / "all", options.data), options.megabytes, folder / "cut")
        print(f"{size / 1e6:.0f} MB of text from {len(files)} files")
        columns = list(texts)
        print(
            f"{'':32}{'wall s':>8}{'CPU s':>8}{'GiB':>6}  " + "".join(f"{column:>14}" for column in columns)
        )
        variants = VARIANTS if options.ablate else {"as it is": ()}
        for number, (variant, settings) in enumerate(variants.items()):
            out = folder / f"ours-{number}"
            found = measured(train(files, out, settings))
            results[variant] = {**found, **rates(out, texts)}
            show(variant, results[variant], columns)
        if not options.skip_peer:
            out = folder / "peer"
            command = [sys.executable, __file__, "--peer", str(out), *map(str, files)]
            found = measured(command, PEER_LIMIT)
            results["tokenizers"] = {**found, **(rates(out, texts) if "seconds" in found else {})}
            show("tokenizers", results["tokenizers"], columns)
    if options.json:
        options.json.write_text(json.dumps({"bytes": size, "results": results}, indent=1))


def show(name: str, row: dict[str, float], columns: list[str]) -> None:
    """One line of the table."""
    took = f"{row['seconds']:8.0f}{row['cpu']:8.0f}" if "seconds" in row else f"{f'> {PEER_LIMIT}':>16}"
    measured_on = [f"{row[column]:14.3f}" if column in row else f"{'-':>14}" for column in columns]
    print(f"{name:32}{took}{row['peak_gib']:6.2f}  " + "".join(measured_on), flush=True)


if __name__ == "__main__":
    main()
