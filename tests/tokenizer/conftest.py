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
    "zh-Hans": "我们的程序可以打开文档并且保存图书馆里关于天气数学历史语言网络学生老师城市交通的说明。，；",
    "zh-Hant": "這個工具能夠開啟檔案並儲存圖書館裡關於氣象數學歷史語言網路學生老師城市交通的說明。，；",
}
ENGLISH = ["the", "program", "opens", "a", "document", "and", "saves", "what", "people", "wrote", "about", "weather", "history", "language", "networks", "students"]
ENGLISH += [
    first + middle + last
    for first in ("con", "re", "pro", "sub")
    for middle in ("duc", "stru", "vi", "mit", "cei")
    for last in ("tion", "ting", "ve", "s", "ment")
]


def make_text(lang: str, rng: random.Random) -> str:
    if lang == "en":
        return " ".join(rng.choice(ENGLISH) for _ in range(90)) + f" {rng.randrange(3000)}.\n"
    return "".join(rng.choice(CHINESE[lang]) for _ in range(120)) + f" {rng.randrange(3000)}。\n"


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
