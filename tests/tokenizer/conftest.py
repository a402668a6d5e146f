"""A small bilingual corpus as the corpus stage leaves it, and a tokenizer learnt from it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haina.runtime.stage import StageContext
from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer import stage
from haina.tokenizer.config import TokenizerConfig

CHINESE = {
    "zh-Hans": "我们的 程序 可以 打开 文档 并且 保存 图书馆 里 关于 天气 数学 历史 语言 网络 城市 的 ， 。",
    "zh-Hant": "我們的 程式 能夠 開啟 檔案 並且 儲存 圖書館 裡 關於 氣象 數學 歷史 語言 網路 城市 的 ， 。",
}
ENGLISH = [
    "the",
    "program",
    "opens",
    "a",
    "document",
    "and",
    "saves",
    "what",
    "people",
    "wrote",
    "about",
    "weather",
    "history",
    "languages",
]
ENGLISH += [
    first + middle + last
    for first in ("con", "re", "pro", "sub")
    for middle in ("duc", "stru", "vi", "mit", "cei")
    for last in ("tion", "ting", "ve", "s", "ment")
]


def make_text(lang: str, rng: random.Random) -> str:
    """About 400 bytes that end in a number."""
    words = ENGLISH if lang == "en" else CHINESE[lang].split()
    chosen = [rng.choice(words) for _ in range(52 if lang == "en" else 68)]
    return (" " if lang == "en" else "").join(chosen) + f" {rng.randrange(3000)}\n"


def write_corpus(
    folder: Path, documents: int = 90, parts: int = 3, langs: tuple[str, ...] = ("zh-Hans", "en", "zh-Hant")
) -> Path:
    rng = random.Random(7)
    rows = []
    for number in range(documents):
        lang = langs[number % len(langs)]
        name = hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()
        rows.append(
            {
                "id": name,
                "text": make_text(lang, rng),
                "lang": lang,
                "cluster_id": name,
                "source": f"{number}.html",
                "url": "",
            }
        )
    (folder / "documents").mkdir(parents=True)
    for part in range(parts):
        pq.write_table(
            pa.Table.from_pylist(rows[part::parts]), folder / "documents" / f"part-{part:05d}.parquet"
        )
    return folder


@pytest.fixture(scope="session")
def make_corpus() -> Callable[..., Path]:
    return write_corpus


@pytest.fixture(scope="session")
def write_line() -> Callable[[str, random.Random], str]:
    return make_text


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """The tokenizer output of the stage."""
    context = StageContext(tmp_path_factory.mktemp("work"), {"corpus": corpus})
    stage.run(TokenizerConfig(vocab_size=600), context)
    return context.out("tokenizer")


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> TokenizerFile:
    return TokenizerFile(folder)
