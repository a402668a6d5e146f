"""Claim: encoding on one thread at twice the rate of SentencePiece and more, in Chinese and in English, with the ids
of Hugging Face tokenizers.

All programs encode the same held-out documents of ../shared/data in interleaved rounds, single-threaded, in process
CPU time; medians with their range, in MB of UTF-8 text per second. Ours is asked for the ids of Python strings
(`batch`) and of an Arrow column (`column`); tokenizers for `encode_batch_fast` with the same tokenizer.json; tiktoken
for `encode_ordinary_batch` with our pieces as ranks and our pattern, on a tenth of the documents; SentencePiece for
`Encode` with the vocabularies of Baichuan-7B and InternLM2, as their models are. SentencePiece, tiktoken and
tokenizers end in Python lists of ids, ours in one array. Ids are compared with tokenizers' and tiktoken's document by
document. Without --tokenizer, 64,000 pieces are learnt on other documents first.

Run: python benchmarks/encode_speed.py [--tokenizer DIR] [--data ../shared/data] [--megabytes 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pyarrow as pa
import pyarrow.parquet as pq

from haina.runtime.bpe import FastEncoder
from haina.runtime.bpe.rules import PATTERN
from held_out_text import DATA, is_held_out
from trained_tokenizer import tokenizer_folder

SETS = {"zh wiki": "zh_wikipedia", "zh law": "zh_laws", "en wiki": "en_wikipedia"}
PEERS = {"SentencePiece, Baichuan": "baichuan.model", "SentencePiece, InternLM2": "internlm2.model"}
TIKTOKEN_SHARE = 0.1  # of the documents: it takes long for spans without a space
Program = tuple[list[str], Callable[[list[str]], object]]


def documents(path: Path, size: int) -> list[str]:
    """The first held-out documents of a file, about `size` bytes."""
    texts: list[str] = []
    total = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(4096, columns=["id", "title", "source", "text"], use_threads=False):
            for row in batch.to_pylist():
                if total >= size:
                    return texts
                if row["text"] and is_held_out(row):
                    texts.append(row["text"])
                    total += len(row["text"].encode())
    return texts


def programs(folder: Path, data: Path, encoder: FastEncoder, texts: list[str]) -> dict[str, Program]:
    """What is timed: name, its texts, and the call that encodes them."""
    import sentencepiece
    import tiktoken
    from tokenizers import Tokenizer

    column = pa.array(texts, pa.large_string())
    peer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    peer.encode_special_tokens = True
    pieces = {encoder.decode_bytes([number]): number for number in range(peer.get_vocab_size())}
    pieces.pop(b"", None)
    ranked = tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=pieces, special_tokens={})
    few = texts[: max(1, int(len(texts) * TIKTOKEN_SHARE))]
    out: dict[str, Program] = {
        "haina, column": (texts, lambda _: encoder.encode_column(column)),
        "haina, batch": (texts, encoder.encode_batch),
        "tokenizers": (
            texts,
            lambda texts: [item.ids for item in peer.encode_batch_fast(texts, add_special_tokens=False)],
        ),
        "tiktoken": (few, lambda texts: ranked.encode_ordinary_batch(texts, num_threads=1)),
    }
    for name, file in PEERS.items():
        model = sentencepiece.SentencePieceProcessor(model_file=str(data / "vocabs" / file))
        out[name] = (texts, lambda texts, model=model: model.Encode(texts, num_threads=1))
    return out


def megabytes(texts: list[str]) -> float:
    """UTF-8 size."""
    return sum(len(text.encode()) for text in texts) / 1e6


def rates(runs: dict[str, Program], rounds: int) -> dict[str, list[float]]:
    """MB/s of each program in each of the interleaved rounds, after one that is not counted."""
    out: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, (texts, call) in runs.items():
            start = time.process_time()
            call(texts)
            seconds = time.process_time() - start
            if number:
                out[name].append(megabytes(texts) / seconds)
    return out


def same(encoder: FastEncoder, runs: dict[str, Program]) -> dict[str, float]:
    """Share of documents whose ids are ours, for the programs that have our pieces."""
    found = {}
    for name in ("tokenizers", "tiktoken"):
        texts, call = runs[name]
        ids, offsets = encoder.encode_batch(texts)
        theirs = call(texts)
        assert isinstance(theirs, list)
        ours = (ids[offsets[i] : offsets[i + 1]].tolist() for i in range(len(texts)))
        found[name] = sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(texts)
    return found


def main() -> None:
    """Measure and print; `--json` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, help="default: learnt now, kept in build/")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--megabytes", type=float, default=3.0, help="of each set")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = tokenizer_folder(options.tokenizer)
    start = time.process_time()
    encoder = FastEncoder.open(folder / "tokenizer.json")
    if encoder is None:
        raise SystemExit(f"{folder}/tokenizer.json: not of the form that the fast encoder takes")
    loading = time.process_time() - start
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("tokenizers", "sentencepiece", "tiktoken", "numba", "numpy")
    )
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {versions}, one thread, {options.rounds} rounds, "
        f"process CPU time; tables ready in {loading:.2f} s (kernels loaded or compiled with it)\n"
    )
    print("| documents | program | MB/s | range | haina's column is faster by | same ids |")
    print("|---|---|---:|---|---:|---:|")
    found: dict[str, object] = {}
    for name, file in SETS.items():
        texts = documents(options.data / "text" / f"{file}.parquet", int(options.megabytes * 1e6))
        runs = programs(folder, options.data, encoder, texts)
        shares, measured = same(encoder, runs), rates(runs, options.rounds)
        medians = {program: statistics.median(values) for program, values in measured.items()}
        for program, values in measured.items():
            share = f"{shares[program]:.2%}" if program in shares else ""
            print(
                f"| {name} | {program} | {medians[program]:,.1f} | {min(values):,.1f} to {max(values):,.1f} "
                f"| {medians['haina, column'] / medians[program]:,.1f} | {share} |",
                flush=True,
            )
        tokens = len(encoder.encode_batch(texts)[0])
        size = megabytes(texts)
        print(
            f"| {name} | {len(texts):,} documents, {size:.1f} MB, {size * 1e6 / tokens:.2f} bytes a token: "
            f"{size / medians['haina, column'] / tokens * 1e9:.0f} ns a token | | | | |"
        )
        found[name] = {"rates": measured, "same": shares, "bytes": size * 1e6, "tokens": tokens}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
