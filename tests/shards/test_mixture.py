"""Drawing by weight: exact shares, every window of a domain before any comes again, a pure function of seed and step."""

from __future__ import annotations

import json
from collections import Counter
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
from haina.shards import LoaderSection, open_loader, stage, verify
from haina.shards.batch import Batch
from haina.shards.config import MixtureSection, ShardsConfig
from haina.shards.mixture import Order, period_counts, schedule

WriteLengths = Callable[..., Path]


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


# ------------------------------------------------------------------------------------------------ order


@settings(max_examples=40)
@given(
    packs=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    seed=st.integers(-(2**63), 2**64 - 1),
    first=st.integers(0, 10**7),
    data=st.data(),
)
def test_rows_are_the_plain_ones(packs: list[int], seed: int, first: int, data: st.DataObject) -> None:
    shares = data.draw(st.lists(st.floats(0.01, 1.0), min_size=len(packs), max_size=len(packs)))
    sizes = np.array(packs, np.int64)
    order = Order.of(sizes, np.cumsum(sizes) - sizes, np.array(shares), seed)
    domains, found = order.rows(first, 40)
    assert list(zip(domains.tolist(), found.tolist(), strict=True)) == [
        order.plain_row(first + number) for number in range(40)
    ]


def test_a_domain_reads_all_of_its_packs_before_any_comes_again() -> None:
    sizes = np.array([50, 120, 7], np.int64)
    order = Order.of(sizes, np.array([0, 50, 170]), np.array([0.5, 0.3, 0.2]), 1)
    domains, packs = order.rows(0, 2000)
    for domain, size in enumerate(sizes):
        drawn = packs[domains == domain]
        epochs = drawn[: len(drawn) // size * size].reshape(-1, size)
        assert len(epochs) >= 2
        for epoch in epochs:
            assert sorted(epoch.tolist()) == list(
                range(order.first_packs[domain], order.first_packs[domain] + size)
            )
        assert epochs[0].tolist() != epochs[1].tolist()


def test_order_is_fixed_for_ever() -> None:
    sizes = np.array([157, 170, 154], np.int64)
    order = Order.of(sizes, np.cumsum(sizes) - sizes, np.array([0.5, 0.3, 0.2]), 0)
    domains, packs = order.rows(7 * 16, 16)
    assert domains.tolist() == [2, 0, 1, 0, 0, 2, 1, 0, 0, 1, 2, 0, 1, 0, 0, 2]
    assert packs.tolist() == [400, 114, 299, 69, 41, 432, 215, 20, 89, 248, 456, 149, 214, 105, 59, 420]


# ------------------------------------------------------------------------------------------------ weights


LANGS = ("zh", "zh", "en", "law", "en", "zh")


def made_up(write_lengths: WriteLengths, folder: Path, mixture: dict[str, float] | None = None) -> Path:
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 90, 600)
    langs = [LANGS[number % len(LANGS)] for number in range(600)]
    path: Path = write_lengths(folder, lengths, langs, mixture, documents_a_shard=100)
    return path


def langs_of(batch: Batch) -> np.ndarray:
    """Language [rows, length] of each token; a token tells its document."""
    table = np.array([LANGS[number % len(LANGS)] for number in range(600)])
    return np.where(batch.segments >= 0, table[batch.inputs // 1000], "")


@pytest.mark.parametrize("packing", ["best_fit", "concatenate"])
@pytest.mark.parametrize("length", [64, 200])
def test_weights_are_shares_of_the_predicted_tokens(
    write_lengths: WriteLengths, tmp_path: Path, packing: str, length: int
) -> None:
    """Exact although rows of one domain hold more padding, or more borders, than those of another."""
    weights = {"zh": 3.0, "en": 2.0, "law": 1.0}
    section = LoaderSection(packing=packing, by="lang", weights=weights)
    loader = open_loader(made_up(write_lengths, tmp_path / "s"), section.with_sizes(length, 64, 1))
    counts: Counter[str] = Counter()
    for step in range(120):
        batch = loader.batch(step)
        found = langs_of(batch)
        assert all(len({*row} - {""}) == 1 for row in found.tolist())
        assert [row[0] for row in found.tolist()] == loader.domains(step)
        counts.update(found[batch.targets >= 0].tolist())
    for name, weight in weights.items():
        assert counts[name] / counts.total() == pytest.approx(weight / 6, rel=0.01)


def test_epochs_are_how_often_a_domain_is_read(write_lengths: WriteLengths, tmp_path: Path) -> None:
    section = LoaderSection(by="lang", epochs={"law": 3.0, "en": 0.5})
    loader = open_loader(made_up(write_lengths, tmp_path / "s"), section.with_sizes(64, 8, 1))
    packs = {domain.name: domain.packs for domain in loader.plan.domains}
    assert set(packs) == {"*", "en", "law"}
    steps = round((packs["*"] + 3 * packs["law"] + packs["en"] / 2) / 8)
    assert loader.epochs(steps) == pytest.approx({"*": 1.0, "en": 0.5, "law": 3.0}, rel=0.02)
    seen: Counter[int] = Counter()
    for step in range(steps):
        for row, _, document, first, _ in loader.batch(step).pieces.tolist():
            assert row < 8
            seen[document] += first == 0
    often = {lang: [seen[n] for n in range(600) if LANGS[n % len(LANGS)] == lang] for lang in set(LANGS)}
    assert np.mean(often["law"]) == pytest.approx(3.0, abs=0.1)
    assert np.mean(often["zh"]) == pytest.approx(1.0, abs=0.05)
    assert np.mean(often["en"]) == pytest.approx(0.5, abs=0.1)


def test_epochs_that_name_everything_and_weights_that_leave_out(
    write_lengths: WriteLengths, tmp_path: Path
) -> None:
    folder = made_up(write_lengths, tmp_path / "s")
    section = LoaderSection(by="lang", epochs={"law": 2.0, "en": 1.0, "zh": 1.0})
    loader = open_loader(folder, section.with_sizes(64, 8, 1))
    assert [domain.name for domain in loader.plan.domains] == ["en", "law", "zh"]
    assert loader.order.counts.argmax() != 1
    section = LoaderSection(by="lang", weights={"law": 2.0, "en": 1.0, "zh": 0.0})
    loader = open_loader(folder, section.with_sizes(64, 8, 1))
    assert [domain.name for domain in loader.plan.domains] == ["en", "law"]
    section = LoaderSection(by="lang", epochs={"law": 2.0, "*": 0.0})
    loader = open_loader(folder, section.with_sizes(64, 8, 1))
    assert [domain.name for domain in loader.plan.domains] == ["law"]


def test_the_mixture_of_the_shards_is_the_default(write_lengths: WriteLengths, tmp_path: Path) -> None:
    folder = made_up(write_lengths, tmp_path / "s", {"en": 0.25, "law": 0.25, "zh": 0.5})
    by_shards = open_loader(folder, LoaderSection().with_sizes(64, 8, 1))
    section = LoaderSection(by="lang", weights={"zh": 2, "en": 1, "law": 1})
    written_out = open_loader(folder, section.with_sizes(64, 8, 1))
    for step in range(5):
        assert np.array_equal(by_shards.batch(step).inputs, written_out.batch(step).inputs)


def test_by_source(write_lengths: WriteLengths, tmp_path: Path) -> None:
    sources = {f"{lang}/{half}": 1.0 for lang in set(LANGS) for half in (0, 1)}
    there = {f"{LANGS[n % len(LANGS)]}/{n % 2}" for n in range(600)}
    weights = {name: weight for name, weight in sources.items() if name in there}
    section = LoaderSection(by="source", weights=weights)
    loader = open_loader(made_up(write_lengths, tmp_path / "s"), section.with_sizes(64, 8, 1))
    assert {domain.name for domain in loader.plan.domains} == there


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"by": "lang", "weights": {"zh": 1, "en": 1}}, "no weight for documents with lang 'law'"),
        ({"by": "lang", "weights": {"zh": 1, "en": 1, "law": 1, "fr": 1}}, "no documents with lang 'fr'"),
        ({"by": "lang", "epochs": {"fr": 1}}, "no documents with lang 'fr'"),
        ({"weights": {"zh": 1}}, "the documents have no domains"),
        ({"by": "source", "epochs": {str(number): 1 for number in range(5000)}}, "5,001 values of source"),
    ],
)
def test_proportions_that_do_not_fit(
    write_lengths: WriteLengths, tmp_path: Path, values: dict[str, object], message: str
) -> None:
    folder = made_up(write_lengths, tmp_path / "s")
    with pytest.raises(HainaError, match=message):
        open_loader(folder, LoaderSection.model_validate(values).with_sizes(64, 8, 1))


def test_a_domain_without_a_row_and_a_table_that_is_not_there(
    write_lengths: WriteLengths, tmp_path: Path
) -> None:
    weights = {"zh": 1.0, "en": 1.0}
    settings_ = LoaderSection(by="lang", weights=weights).with_sizes(64, 8, 1)
    with pytest.raises(
        HainaError, match="domain 'en' has 9 tokens to train on in 1 documents, a row takes 65"
    ):
        open_loader(write_lengths(tmp_path / "a", [90, 9, 90], ["zh", "en", "zh"]), settings_)
    with pytest.raises(HainaError, match="no table of documents"):
        open_loader(write_lengths(tmp_path / "b", [90, 9, 90]), settings_)
    folder = write_lengths(tmp_path / "c", [90, 90, 90], ["zh", "en", "zh"])
    pq.write_table(pq.read_table(folder / "d.parquet").slice(0, 2), folder / "d.parquet")
    with pytest.raises(HainaError, match="its rows are not the 3 documents of train"):
        open_loader(folder, settings_)
    (folder / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(HainaError, match=r"d\.parquet: no readable column `lang`"):
        open_loader(folder, settings_)


# ------------------------------------------------------------------------------------------------ shards stage


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
    loader = open_loader(shards, LoaderSection().with_sizes(16, 64, 3))
    train = {row["index"]: row for row in table if row["shard"] == "train"}
    pieces = np.concatenate([loader.batch(step).pieces for step in range(20)])
    found = Counter()
    for _, _, document, _, length in pieces.tolist():
        found[train[document]["lang"]] += length
    for name, share in description["mixture"]["weights"].items():
        assert found[name] / found.total() == pytest.approx(share, rel=0.03)
    # The tokens are those of shards without a mixture, which the plain loader reads.
    plain = shards_of(tmp_path / "b", corpus, tokenizer_folder, None)
    assert (plain / "train-00000.bin").read_bytes() == (shards / "train-00000.bin").read_bytes()
    assert len(open_loader(plain, LoaderSection().with_sizes(16, 64, 3)).plan.domains) == 1
    assert fingerprint_tree(
        shards_of(tmp_path / "c", corpus, tokenizer_folder, {"by": "lang", "weights": WEIGHTS}, workers=2)
    ) == fingerprint_tree(shards)


def test_weight_zero_leaves_a_domain_out(tmp_path: Path, corpus: Path, tokenizer_folder: Path) -> None:
    weights = {**WEIGHTS, "zh-Hant": 0}
    shards = shards_of(tmp_path, corpus, tokenizer_folder, {"weights": weights})
    loader = open_loader(shards, LoaderSection().with_sizes(16, 8, 0))
    assert [domain.name for domain in loader.plan.domains] == ["en", "zh-Hans"]
    table = pq.read_table(tmp_path / "out" / "shards" / "documents.parquet").to_pylist()
    without = {row["index"] for row in table if row["shard"] == "train" and row["lang"] == "zh-Hant"}
    assert without
    assert not without & set(loader.plan.pieces["document"].tolist())


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
        ({"by": "topic", "weights": WEIGHTS}, "no column 'topic'|documents with topic None"),
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
