"""Claim: mixture weights learned from proxy runs predict the loss of mixtures never tried (Spearman >= 0.9), beat
natural, temperature and uniform weights at equal tokens, and cost minutes of one core. How much the weights differ
between seeds (L1) is printed too.

Eleven domains, Chinese and English, from ../shared/data and Debian's manuals. Laws are fitted to validation text and to
one slice of the training text; everything printed is measured on test text and on other slices. Beside it stand
RegMix's regression (LightGBM, best 100 of 100,000 mixtures) and a group-DRO loop in the manner of DoReMi, each with as
many proxy runs as the fit had. With --transformer a small transformer is trained on the mixtures that the n-gram
proxies chose.

Run: python benchmarks/mixture.py DIR --prepare EXTRACTED_DEBS    writes the domains as Parquet into DIR
     python benchmarks/mixture.py DIR [--seeds 3] [--unseen 40] [--proxies 96] [--tokens N] [--transformer]

EXTRACTED_DEBS holds libreoffice-help-zh-cn, libreoffice-help-en-us and linux-doc-6.1 (`apt-get download`, `dpkg -x`).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import platform
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from haina.corpus.mixture.fit import CHECKS, PROXIES, Bench, Fit, FitOptions, fit_mixture
from haina.corpus.mixture.laws import fit_family
from haina.corpus.mixture.mixtures import capped, random_mixtures, tempered
from haina.corpus.mixture.ngram import warm_up
from haina.corpus.mixture.pools import Pools
from haina.corpus.mixture.proxy import Losses, Streams
from haina.runtime.executor import LocalExecutor

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MANUALS = {
    "zh_office": "libreoffice/help/zh-CN/text",
    "en_office": "libreoffice/help/en-US/text",
    "en_kernel": "doc/linux-doc-6.1/html",
}


def column_texts(data: Path, name: str) -> list[str]:
    return [
        text for text in pq.read_table(data / "text" / name, columns=["text"])["text"].to_pylist() if text
    ]


def wikipedia_by_script(data: Path) -> dict[str, list[str]]:
    from haina.corpus.language import chinese_variant

    found: dict[str, list[str]] = {"zh_wiki_hans": [], "zh_wiki_hant": []}
    for text in column_texts(data, "zh_wikipedia.parquet"):
        variant = chinese_variant(np.array(list(map(ord, text)), np.uint32)).language
        found["zh_wiki_hant" if variant == "zh-Hant" else "zh_wiki_hans"].append(text)
    return found


def table_questions(data: Path, archive: str) -> Iterator[str]:
    """Questions with their options, one text each; a subject's questions in the order of its file."""
    with zipfile.ZipFile(data / "benchmarks" / archive) as file:
        for name in sorted(name for name in file.namelist() if name.endswith(".csv")):
            rows = list(csv.reader(io.StringIO(file.read(name).decode("utf-8", "replace"))))
            for row in rows[0 if archive == "mmlu.zip" else 1 :]:
                yield "\n".join(row[0 if archive == "mmlu.zip" else 1 :])


def listed_questions(data: Path, chinese: bool) -> Iterator[str]:
    with zipfile.ZipFile(data / "benchmarks" / "agieval.zip") as file:
        for name in sorted(name for name in file.namelist() if name.endswith(".jsonl")):
            if any(part in name for part in ("gaokao", "jec", "logiqa-zh")) == chinese:
                for line in file.read(name).decode().splitlines():
                    row = json.loads(line)
                    yield "\n".join([row.get("passage") or "", row["question"], *(row.get("options") or [])])


def html_texts(folder: Path) -> Iterator[str]:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    for path in sorted(folder.rglob("*.html")):
        tree = HTMLTree.parse_from_bytes(path.read_bytes(), "utf-8")
        yield extract_plain_text(tree, main_content=True, list_bullets=False)


def prepare(data: Path, manuals: Path, out: Path) -> None:
    """Write every domain as OUT/DOMAIN.parquet."""
    domains = {
        **wikipedia_by_script(data),
        "en_wiki": column_texts(data, "en_wikipedia.parquet"),
        "zh_laws": column_texts(data, "zh_laws.parquet"),
        "zh_tang": column_texts(data, "zh_tang_poems.parquet"),
        "zh_histories": column_texts(data, "zh_histories_modern.parquet"),
        "zh_exams": [
            *table_questions(data, "ceval.zip"),
            *table_questions(data, "cmmlu.zip"),
            *listed_questions(data, chinese=True),
        ],
        "en_exams": [*table_questions(data, "mmlu.zip"), *listed_questions(data, chinese=False)],
    }
    for name, place in MANUALS.items():
        found = [path for path in manuals.rglob("*") if path.is_dir() and path.as_posix().endswith(place)]
        domains[name] = [text for folder in found for text in html_texts(folder)]
    out.mkdir(parents=True, exist_ok=True)
    for name, texts in domains.items():
        pq.write_table(pa.table({"text": texts}), out / f"{name}.parquet")
        print(f"{name}: {len(texts):,} documents, {sum(len(text.encode()) for text in texts) / 1e6:.1f} MB")


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Rank correlation; losses have no ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def on_checks(bench: Bench, name: str, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Test losses [CHECKS, domains] of a mixture on the slices that nothing was fitted on."""
    runs = bench.measure([name] * CHECKS, np.tile(shares, (CHECKS, 1)), range(1, CHECKS + 1), "test")
    return np.array([run.losses for run in runs])


def regmix(fit: Fit, proxies: int, seed: int) -> NDArray[np.float64]:
    """RegMix: one LightGBM for the target loss, the mean of the best 100 of 100,000 random mixtures."""
    centre = tempered(fit.natural)
    runs = fit.bench.measure(
        ["wide"] * proxies, random_mixtures(centre, fit.upper, proxies, seed), [0] * proxies
    )
    shares = np.array([run.shares for run in runs])
    law = fit_family("trees", shares, np.array([run.losses for run in runs]) @ fit.target)
    tried = random_mixtures(centre, fit.upper, 100_000, seed + 9)
    mean: NDArray[np.float64] = tried[np.argsort(law(tried), kind="stable")[:100]].mean(axis=0)
    return mean


def group_dro(fit: Fit, proxies: int, step: float = 1.0, smoothing: float = 1e-3) -> NDArray[np.float64]:
    """Weights moved towards domains whose loss exceeds that of a natural proxy; the mean over all rounds."""
    reference = fit.bench.measure(["reference"], fit.natural[None], [0])[0].losses
    shares, path = np.full(len(fit.names), 1.0 / len(fit.names)), []
    for _ in range(proxies - 1):
        mixture = capped(shares, fit.upper)
        path.append(mixture)
        excess = np.maximum(fit.bench.measure(["round"], mixture[None], [0])[0].losses - reference, 0.0)
        shares = shares * np.exp(step * excess)
        shares = (1.0 - smoothing) * shares / shares.sum() + smoothing / len(shares)
    return np.mean(path, axis=0)


def transformer_losses(pools: Pools, streams: Streams, side: str, seed: int) -> Losses:
    """Bits a byte of a two-block transformer, 128 tokens at once, one pass over shuffled windows, AdamW."""
    import torch

    from haina.model import ModelConfig, Transformer

    torch.set_num_threads(1)
    window, batch = 128, 16
    config = ModelConfig(
        vocab_size=pools.vocabulary,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=window,
    )
    model = Transformer(config)
    model.initialize(seed)
    text = np.concatenate([tokens for tokens, copies in streams for _ in range(copies)])
    rows = text[: len(text) // (window + 1) * (window + 1)].reshape(-1, window + 1).astype(np.int64)
    rows = rows[np.random.default_rng(seed).permutation(len(rows))]
    steps = len(rows) // batch
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.1)

    def loss_of(part: NDArray[np.int64]) -> torch.Tensor:
        tokens = torch.from_numpy(part)
        hidden = model.hidden_states(tokens[:, :-1]).flatten(0, 1)
        logits = hidden @ model.lm_head.weight.T
        return torch.nn.functional.cross_entropy(logits, tokens[:, 1:].reshape(-1), reduction="sum")

    for step in range(steps):
        part = rows[step * batch : (step + 1) * batch]
        (loss_of(part) / part[:, 1:].size).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    losses = []
    with torch.no_grad():
        for stream, size in zip(pools.held_out[side], pools.held_bytes[side], strict=True):
            held = stream[: min(len(stream), 20_000) // (window + 1) * (window + 1)].reshape(-1, window + 1)
            nats = sum(float(loss_of(held[at : at + 32].astype(np.int64))) for at in range(0, len(held), 32))
            losses.append(nats / np.log(2.0) / (held[:, 1:].size * size / len(stream)))
    return np.array(losses)


def table(title: str, losses: dict[str, NDArray[np.float64]], base: str) -> None:
    """Mean target loss of each mixture, and how much more than `base` run by run."""
    print(
        f"\n{title}\n\n| mixture | target loss | more than {base} | runs better than {base} |\n|---|---|---|---|"
    )
    for name, values in losses.items():
        more = values - losses[base]
        spread = f"{more.mean():+.4f} +- {more.std(ddof=1):.4f}"
        print(f"| {name} | {values.mean():.4f} | {spread} | {(more < 0).sum()} of {len(more)} |")


def compare(
    folder: Path, out: Path, seeds: int, unseen: int, proxies: int, tokens: int | None, transformer: bool
) -> None:
    words = [f"{path.stem}={path}" for path in sorted(folder.glob("*.parquet"))]
    warm_up()
    fits, seconds = [], []
    for seed in range(seeds):
        started = time.process_time()
        fits.append(
            fit_mixture(
                FitOptions(words, out / str(seed), proxies=proxies, tokens=tokens, seed=seed), LocalExecutor()
            )
        )
        seconds.append(time.process_time() - started)
    fit = fits[0]
    print(
        f"{platform.machine()}, one core; {len(fit.names)} domains, {proxies} proxies of {fit.tokens:,} tokens"
    )
    print(
        f"CPU seconds of a fit, drawing and encoding included: {', '.join(f'{value:.0f}' for value in seconds)}"
    )
    weights = np.array([item.weights for item in fits])
    apart = [abs(one - other).sum() for at, one in enumerate(weights) for other in weights[at + 1 :]]
    print(f"L1 between the weights of two seeds: {', '.join(f'{value:.3f}' for value in apart)}")

    tried = random_mixtures(tempered(fit.natural), fit.upper, unseen, 987)
    runs = fit.bench.measure(["unseen"] * unseen, tried, [1 + at % CHECKS for at in range(unseen)], "test")
    shares, truth = np.array([run.shares for run in runs]), np.array([run.losses for run in runs])
    predicted = fit.predict(shares)
    by_domain = [spearman(predicted[:, at], truth[:, at]) for at in range(len(fit.names))]
    whole = spearman(predicted @ fit.target, truth @ fit.target)
    print(
        f"Spearman, predicted against measured, {unseen} unseen mixtures on other text: target {whole:.3f}, "
        f"domains {min(by_domain):.3f} to {max(by_domain):.3f}"
    )

    print("\n| domain | natural | learned, by seed | epochs | bound | law |\n|---|---|---|---|---|---|")
    for at, name in enumerate(fit.names):
        each = ", ".join(f"{value:.3f}" for value in weights[:, at])
        epochs = fit.epochs(fit.weights)[at]
        print(
            f"| {name} | {fit.natural[at]:.3f} | {each} | {epochs:.2f} | {fit.upper[at]:.3f} | {fit.laws[at].family} |"
        )

    names = list(fit.mixtures)
    pooled = {name: np.concatenate([item.checks[name] @ item.target for item in fits]) for name in names}
    table(f"Target loss on test text, bits a byte, {seeds} seeds x {CHECKS} slices", pooled, "learned")
    rivals = {"learned": fit.checks["learned"] @ fit.target}
    rivals["RegMix (LightGBM)"] = on_checks(fit.bench, "regmix", regmix(fit, proxies, 5)) @ fit.target
    rivals["group DRO"] = on_checks(fit.bench, "dro", group_dro(fit, proxies)) @ fit.target
    table(f"Against other ways to learn weights, {proxies} proxies each, seed 0", rivals, "learned")
    if transformer:
        bench = replace(fit.bench, model=transformer_losses, tokens=min(fit.tokens, 150_000))
        rows = {name: on_checks(bench, name, fit.mixtures[name]) @ fit.target for name in names}
        table(f"A small transformer on {bench.tokens:,} tokens of each mixture, seed 0", rows, "learned")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="a Parquet file a domain; see --prepare")
    parser.add_argument("--prepare", type=Path, metavar="EXTRACTED_DEBS")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--unseen", type=int, default=40)
    parser.add_argument("--proxies", type=int, default=PROXIES)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--transformer", action="store_true")
    chosen = parser.parse_args()
    if chosen.folder is None:
        print("mixture.py needs a folder of domains: mixture.py DIR --prepare EXTRACTED_DEBS makes one")
        return
    if chosen.prepare:
        prepare(chosen.data, chosen.prepare, chosen.folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        compare(
            chosen.folder,
            chosen.out or Path(scratch),
            chosen.seeds,
            chosen.unseen,
            chosen.proxies,
            chosen.tokens,
            chosen.transformer,
        )


if __name__ == "__main__":
    main()
