"""A small bilingual corpus with near-duplicate clusters, and a tokenizer of bytes."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haina.tokenizer import train_tokenizer
from haina.tokenizer.config import TokenizerConfig
from haina.tokenizer.folder import write_folder

CHINESE = ["海纳百川", "有容乃大", "图书馆", "天气预报", "歷史資料", "語言模型", "。", "，"]
ENGLISH = ["rivers", "oceans", "library", "weather", "history", "language", ".", ","]
LANGS = ("zh-Hans", "en", "zh-Hant")


def make_rows(
    documents: int, cluster_size: int = 2, seed: int = 0, langs: tuple[str, ...] = LANGS
) -> list[dict[str, str]]:
    """Documents of which every `cluster_size` in a row, of several languages, form a cluster."""
    rng = random.Random(seed)
    rows = []
    for number in range(documents):
        lang = langs[number % len(langs)]
        words, glue = (ENGLISH, " ") if lang == "en" else (CHINESE, "")
        text = glue.join(rng.choice(words) for _ in range(rng.randrange(1, 80)))
        cluster = f"cluster-{seed}-{number // cluster_size}"
        rows.append(
            {
                "id": f"{seed}-{number}",
                "text": text,
                "url": f"https://example.org/{number}",
                "source": f"{number}.html",
                "lang": lang,
                "cluster_id": cluster,
            }
        )
    return rows


def write_rows(folder: Path, rows: list[dict[str, str]], parts: int = 4) -> Path:
    (folder / "documents").mkdir(parents=True)
    for part in range(parts):
        table = pa.Table.from_pylist(rows[part::parts], schema=pa.Table.from_pylist(rows).schema)
        pq.write_table(table, folder / "documents" / f"part-{part:05d}.parquet")
    return folder


@pytest.fixture(scope="session")
def make_corpus() -> Callable[..., Path]:
    """`make_corpus(folder, documents, ...)` writes a corpus output."""

    def make(folder: Path, documents: int = 120, parts: int = 4, **how: object) -> Path:
        return write_rows(folder, make_rows(documents, **how), parts)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, make_corpus: Callable[..., Path]) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "corpus")


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    rng = random.Random(1)
    letters = "海纳百川有容乃大图书馆天气预报abcdefghij"
    texts = ["".join(rng.choice(letters) for _ in range(30)) for _ in range(400)]
    write_folder(folder, train_tokenizer(texts, TokenizerConfig(vocab_size=512)))
    return folder


@pytest.fixture(scope="session")
def write_lengths() -> Callable[..., Path]:
    """`write_lengths(folder, lengths, ...)` of `token_shards.py` beside this file."""
    spec = importlib.util.spec_from_file_location(
        "haina_tests_token_shards", Path(__file__).with_name("token_shards.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_lengths  # type: ignore[no-any-return]
