"""Drawing by weight: exact shares, every window of a domain before any comes again, a pure function of seed and step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree, write_json
from haina.runtime.stage import StageContext
from haina.shards import IndexedDataset, PackedLoader, stage, verify, write_indexed
from haina.shards.config import MixtureSection, ShardsConfig
from haina.shards.indexed import token_dtype
from haina.shards.mixture import PERIOD, MixtureLoader, open_loader, period_counts, schedule


@settings(max_examples=60)
@given(
    weights=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=12),
    period=st.sampled_from([64, 1000, 4096]),
)
def test_every_prefix_has_its_shares(weights: list[float], period: int) -> None:
    array = np.array(weights)
    counts = period_counts(array, period)
    assert counts.sum() == period
    assert counts.min() >= 1
    exact = array / array.sum() * period
    # Domains below one sample are raised to one; the others stay within one of their share but for what that took.
    assert np.abs(counts - exact).max() <= 1 + (exact < 1).sum()
    domains, numbers = schedule(counts)
    for domain, count in enumerate(counts):
        seen = np.cumsum(domains == domain)
        due = np.arange(1, period + 1) * count / period
        assert np.abs(seen - due).max() <= 1 + len(weights) / 2
        assert numbers[domains == domain].tolist() == list(range(count))


NAMES = ("zh", "en", "law")


def dataset_of(folder: Path, lengths: list[int]) -> tuple[IndexedDataset, np.ndarray]:
    """Documents of three domains in turn; a token tells its domain (thousands) and its place in the domain's stream."""
    places = [0, 0, 0]
    sequences = []
    for number, length in enumerate(lengths):
        domain = number % 3
        sequences.append(20_000 * domain + places[domain] + np.arange(length))
        places[domain] += length
    write_indexed(folder / "train", sequences, token_dtype(60_000))
    return IndexedDataset(folder / "train"), np.arange(len(lengths)) % 3


def loader_of(folder: Path, weights: dict[str, float], seed: int = 1, batch_size: int = 16) -> MixtureLoader:
    rng = np.random.default_rng(0)
    dataset, domains = dataset_of(folder, rng.integers(0, 90, 120).tolist())
    return MixtureLoader(dataset, domains, weights, 10, batch_size, seed)


def test_windows_are_the_domains_stream(tmp_path: Path) -> None:
    """Every window is consecutive text of one domain, and an epoch of a domain is all of its windows once."""
    loader = loader_of(tmp_path, dict(zip(NAMES, (0.5, 0.3, 0.2), strict=True)))
    seen: list[list[int]] = [[], [], []]
    rows: list[list[int]] = [[], [], []]
    for step in range(140):
        for row, domain in zip(loader.batch(step), loader.samples(step)[0], strict=True):
            assert (np.diff(row) == 1).all()
            assert row[0] // 20_000 == domain
            assert (row[0] - 20_000 * domain) % 10 == 0
            seen[domain].append(int(row[0] - 20_000 * domain) // 10)
            rows[domain].append(step)
    for domain, windows in enumerate(loader.windows):
        epochs = len(seen[domain]) // windows
        assert epochs >= 2
        for epoch in range(epochs):
            assert sorted(seen[domain][epoch * windows : (epoch + 1) * windows]) == list(range(windows))
        assert seen[domain][:windows] != seen[domain][windows : 2 * windows]


def test_shares_are_exact_over_a_period(tmp_path: Path) -> None:
    loader = loader_of(tmp_path, {"zh": 3.0, "en": 2.0, "law": 1.0}, batch_size=PERIOD)
    for step in (0, 5):
        counts = np.bincount(loader.samples(step)[0], minlength=3)
        assert np.abs(counts - np.array([3, 2, 1]) / 6 * PERIOD).max() <= 1
    assert loader.epochs(1)["zh"] == pytest.approx(PERIOD / 2 / loader.windows[0], rel=1e-4)


def test_a_pure_function_of_seed_and_step(tmp_path: Path) -> None:
    weights = {"zh": 0.6, "en": 0.4, "law": 0.01}
    loader = loader_of(tmp_path, weights)
    wanted = [loader.batch(step) for step in range(30)]
    again = loader_of(tmp_path, weights)
    for step in (29, 3, 17, 3):
        assert np.array_equal(again.batch(step), wanted[step])
    assert not np.array_equal(loader_of(tmp_path, weights, seed=2).batch(0), wanted[0])
    # Batches of another size are the same samples.
    whole = loader_of(tmp_path, weights, batch_size=32)
    assert np.array_equal(whole.batch(4), np.concatenate(wanted[8:10]))
    with pytest.raises(ValueError, match="negative"):
        loader.batch(-1)


def test_order_is_fixed_for_ever(tmp_path: Path) -> None:
    loader = loader_of(tmp_path, {"zh": 0.5, "en": 0.3, "law": 0.2}, seed=0)
    domains, windows = loader.samples(7)
    assert domains.tolist() == [2, 0, 1, 0, 0, 2, 1, 0, 0, 1, 2, 0, 1, 0, 0, 2]
    assert windows.tolist() == [73, 114, 142, 69, 41, 105, 58, 20, 89, 91, 129, 149, 57, 105, 59, 93]


def test_zh_and_en_are_treated_alike(tmp_path: Path) -> None:
    """The same text under exchanged names gives the same numbers, exchanged."""
    one = loader_of(tmp_path, {"zh": 0.7, "en": 0.2, "law": 0.1})
    other = loader_of(tmp_path, {"en": 0.7, "zh": 0.2, "law": 0.1})
    assert np.array_equal(one.batch(3), other.batch(3))


def test_a_domain_without_a_window_is_named(tmp_path: Path) -> None:
    dataset, domains = dataset_of(tmp_path, [50, 50, 5])
    with pytest.raises(HainaError, match=r"domain 'law' has 5 tokens, a window needs 11"):
        MixtureLoader(dataset, domains, dict.fromkeys(NAMES, 1.0), 10, 4, 0)
    with pytest.raises(HainaError, match="both must be at least 1"):
        MixtureLoader(dataset, domains, {"zh": 1.0}, 0, 4, 0)


def shards_of(work: Path, corpus: Path, tokenizer: Path, mixture: object, workers: int = 1) -> Path:
    config = ShardsConfig.model_validate({"validation_fraction": 0.1, "mixture": mixture})
    context = StageContext(work, {"corpus": corpus, "tokenizer": tokenizer}, workers=workers)
    stage.run(config, context)
    return context.out("shards")


WEIGHTS = {"zh-Hans": 2.0, "en": 1.0, "zh-Hant": 1.0}


def test_shards_learn_domains_and_the_loader_follows(
    tmp_path: Path, corpus: Path, tokenizer_folder: Path
) -> None:
    shards = shards_of(tmp_path / "a", corpus, tokenizer_folder, {"by": "lang", "weights": WEIGHTS})
    description = verify(shards)
    assert description["mixture"] == {"by": "lang", "weights": {"en": 0.25, "zh-Hans": 0.5, "zh-Hant": 0.25}}
    table = pq.read_table(shards / "documents.parquet").to_pylist()
    assert all(row["domain"] == row["lang"] for row in table)
    loader = open_loader(shards, 16, 64, seed=3)
    assert isinstance(loader, MixtureLoader)
    train = {row["index"]: row["lang"] for row in table if row["shard"] == "train"}
    tokens = {
        lang: sum(row["tokens"] for row in table if (row["shard"], row["lang"]) == ("train", lang))
        for lang in WEIGHTS
    }
    assert dict(zip(loader.names, loader.windows, strict=True)) == {
        lang: (tokens[lang] - 1) // 16 for lang in loader.names
    }
    for name, documents in zip(loader.names, loader.documents, strict=True):
        assert {train[int(index)] for index in documents} == {name}
    counts = np.bincount(np.concatenate([loader.samples(step)[0] for step in range(20)]), minlength=3)
    assert np.abs(counts / counts.sum() - [0.25, 0.5, 0.25]).max() < 0.01
    # The tokens are those of shards without a mixture, which the plain loader reads.
    plain = shards_of(tmp_path / "b", corpus, tokenizer_folder, None)
    assert (plain / "train.bin").read_bytes() == (shards / "train.bin").read_bytes()
    assert isinstance(open_loader(plain, 16, 64, seed=3), PackedLoader)
    assert fingerprint_tree(
        shards_of(tmp_path / "c", corpus, tokenizer_folder, {"by": "lang", "weights": WEIGHTS}, workers=2)
    ) == fingerprint_tree(shards)


def test_weight_zero_leaves_a_domain_out(tmp_path: Path, corpus: Path, tokenizer_folder: Path) -> None:
    weights = {**WEIGHTS, "zh-Hant": 0}
    loader = open_loader(shards_of(tmp_path, corpus, tokenizer_folder, {"weights": weights}), 16, 8, seed=0)
    assert isinstance(loader, MixtureLoader)
    assert loader.names == ["en", "zh-Hans"]
    table = pq.read_table(tmp_path / "out" / "shards" / "documents.parquet").to_pylist()
    without = {row["index"] for row in table if row["shard"] == "train" and row["lang"] == "zh-Hant"}
    assert without
    assert not without & set(np.concatenate(loader.documents).tolist())


def test_weights_of_a_fit_mean_the_same_text_for_any_tokenizer(
    tmp_path: Path, make_corpus: Callable[..., Path], tokenizer_folder: Path
) -> None:
    """`text_weights` are shares of bytes; a domain whose bytes need more tokens gets more of the tokens."""
    corpus = make_corpus(tmp_path / "corpus")
    path = tmp_path / "mixture.json"
    write_json(
        path, {"by": "lang", "sources": None, "text_weights": {"zh-Hans": 0.5, "en": 0.3, "zh-Hant": 0.2}}
    )
    shards = shards_of(tmp_path / "a", corpus, tokenizer_folder, str(path))
    table = [
        row for row in pq.read_table(shards / "documents.parquet").to_pylist() if row["shard"] == "train"
    ]
    weights = json.loads((shards / "shards.json").read_text())["mixture"]["weights"]
    assert sum(weights.values()) == pytest.approx(1)
    text = {}
    for lang, weight in weights.items():
        rows = [row for row in table if row["lang"] == lang]
        text[lang] = weight * sum(row["bytes"] for row in rows) / sum(row["tokens"] for row in rows)
    total = sum(text.values())
    assert {lang: size / total for lang, size in text.items()} == pytest.approx(
        {"zh-Hans": 0.5, "en": 0.3, "zh-Hant": 0.2}
    )


def test_domains_by_source(tmp_path: Path, corpus: Path, tokenizer_folder: Path) -> None:
    """Sources of the corpus are `0.html`, `1.html`, ...; a folder's name stands for what begins with it."""
    names = {"first": ["0.html", "1.html"], "rest": [f"{number}.html" for number in range(2, 120)]}
    mixture = MixtureSection(by="source", weights={"first": 1, "rest": 9}, sources=names).model_dump()
    shards = shards_of(tmp_path, corpus, tokenizer_folder, mixture)
    for row in pq.read_table(shards / "documents.parquet").to_pylist():
        assert row["domain"] == ("first" if row["source"] in names["first"] else "rest")


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"weights": {"zh-Hans": 1, "en": 1}}, "no weight for documents with lang 'zh-Hant'"),
        ({"weights": {**WEIGHTS, "fr": 1}}, "no documents of domain 'fr' to train on"),
        ({"by": "topic", "weights": WEIGHTS}, "no column 'topic'"),
        ({"weights": dict.fromkeys(WEIGHTS, 0)}, "not all 0"),
        ("missing.json", "missing.json"),
    ],
)
def test_a_mixture_that_does_not_fit(
    tmp_path: Path, corpus: Path, tokenizer_folder: Path, mixture: object, message: str
) -> None:
    with pytest.raises(HainaError, match=message):
        shards_of(tmp_path, corpus, tokenizer_folder, mixture)


def test_a_file_that_is_no_mixture(tmp_path: Path, corpus: Path, tokenizer_folder: Path) -> None:
    path = tmp_path / "other.json"
    write_json(path, {"weights": {"en": 1}})
    with pytest.raises(HainaError, match=r"other\.json: not a mixture"):
        shards_of(tmp_path / "work", corpus, tokenizer_folder, str(path))
