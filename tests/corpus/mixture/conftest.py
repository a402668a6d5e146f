"""Invented domains: each draws its words from a list of its own and one that all of its language share."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ZH = "海纳百川有容乃大图书馆天气预报歷史資料語言模型山水花鳥春夏秋冬東西南北法律条款规定人民社会经济"
EN = [
    "river",
    "ocean",
    "library",
    "weather",
    "history",
    "language",
    "model",
    "mountain",
    "water",
    "flower",
    "law",
]


def make_texts(lang: str, topic: int, documents: int, seed: int = 0) -> list[str]:
    """Documents of some 1,200 bytes; half of the words are the topic's own."""
    rng = random.Random(f"{lang}-{topic}-{seed}")
    own = random.Random(f"{lang}-{topic}")
    if lang == "zh":
        words = ["".join(own.choices(ZH, k=own.randrange(1, 4))) for _ in range(300)]
        shared, glue, end = [ZH[place : place + 2] for place in range(0, 40, 2)], "", "。"
    else:
        words = ["".join(own.choices("abcdefghilmnoprstu", k=own.randrange(2, 8))) for _ in range(300)]
        shared, glue, end = EN, " ", ". "
    weights = [1 / (rank + 3) for rank in range(len(words))]
    texts = []
    for _ in range(documents):
        sentences = []
        for _ in range(rng.randrange(12, 24)):
            pool = rng.choices(words, weights, k=6) + rng.choices(shared, k=6)
            rng.shuffle(pool)
            sentences.append(glue.join(pool))
        texts.append(end.join(sentences) + end.strip())
    return texts


def write_texts(path: Path, texts: list[str], **columns: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts, **columns}), path)
    return path


@pytest.fixture(scope="session")
def domain_file() -> Callable[..., Path]:
    """`domain_file(path, lang, topic, documents, seed)` writes a Parquet file of one domain."""

    def write(path: Path, lang: str, topic: int, documents: int, seed: int = 0) -> Path:
        return write_texts(path, make_texts(lang, topic, documents, seed))

    return write


@pytest.fixture(scope="session")
def three_domains(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`DOMAIN=PATH` words: a large Chinese, a large English and a small Chinese domain."""
    folder = tmp_path_factory.mktemp("domains")
    return [
        f"zh={write_texts(folder / 'zh.parquet', make_texts('zh', 1, 240))}",
        f"en={write_texts(folder / 'en.parquet', make_texts('en', 1, 240))}",
        f"zh small={write_texts(folder / 'a=b c.parquet', make_texts('zh', 2, 80))}",
    ]
