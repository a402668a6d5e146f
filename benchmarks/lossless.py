"""Claim: every document comes back from its ids byte for byte, and so does any other string of bytes.

All documents of ../shared/data/text are encoded and decoded as Arrow columns; then random bytes, and the same documents
with random bytes written over them, which makes them invalid UTF-8.
Run: python benchmarks/lossless.py [--tokenizer DIR] [--data ../shared/data]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from haina.runtime.bpe import FastEncoder
from held_out_text import DATA
from trained_tokenizer import tokenizer_folder

BROKEN_EVERY = 50  # bytes


def come_back(encoder: FastEncoder, texts: list[bytes]) -> int:
    """How many texts are the same after encoding and decoding."""
    ids, offsets = encoder.encode_batch(texts)
    return sum(
        encoder.decode_bytes(ids[first:last]) == text
        for text, first, last in zip(texts, offsets[:-1], offsets[1:], strict=True)
    )


def main() -> None:
    """Encode, decode, compare; ends with 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, help="default: learnt now, kept in build/")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    encoder = FastEncoder.open(tokenizer_folder(options.tokenizer) / "tokenizer.json")
    if encoder is None:
        raise SystemExit("not a tokenizer that the fast encoder takes")
    rng = np.random.default_rng(0)
    worst = 0
    for path in sorted((options.data / "text").glob("*.parquet")):
        good = documents = size = broken = 0
        for batch in pq.ParquetFile(path).iter_batches(2048, columns=["text"]):
            texts = [text.encode() for text in batch["text"].to_pylist()]
            documents += len(texts)
            size += sum(map(len, texts))
            good += come_back(encoder, texts)
            damaged = []
            for text in texts:
                data = np.frombuffer(text, np.uint8).copy()
                data[::BROKEN_EVERY] = rng.integers(0, 256, len(data[::BROKEN_EVERY]))
                damaged.append(data.tobytes())
            broken += come_back(encoder, damaged)
        worst = max(worst, 2 * documents - good - broken)
        print(f"{path.stem:24} {documents:7,} documents, {size / 1e6:6.1f} MB: {good:7,} come back, "
              f"{broken:7,} with broken bytes", flush=True)  # fmt: skip
    random = [rng.bytes(int(length)) for length in rng.integers(0, 200, 100_000)]
    same = come_back(encoder, random)
    print(f"{'random bytes':24} {len(random):7,} strings: {same:7,} come back")
    raise SystemExit(int(worst > 0 or same < len(random)))


if __name__ == "__main__":
    main()
