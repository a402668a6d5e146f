"""The character model: what training keeps is found again, by the kernel and by plain lookups."""

from __future__ import annotations

import random
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haina.corpus.signals import character_model, train_character_model
from haina.corpus.signals.character_model import STEP, UNKNOWN_STEPS, CharacterModel, cost_of, symbols_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CharacterModel:
    """Trained on small texts, through the command."""
    folder = tmp_path_factory.mktemp("model")
    rng = random.Random(4)
    zh = ["".join(rng.choices(["今天", "天气", "很好", "我们", "学习", "。"], k=200)) for _ in range(50)]
    en = [" ".join(rng.choices(["the", "weather", "is", "fine", "today"], k=200)) for _ in range(50)]
    for name, texts in (("zh", zh), ("en", en)):
        pq.write_table(pa.table({"text": texts}), folder / f"{name}.parquet")
    out = folder / "model.npz"
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["train", str(out), "--zh", f"{folder}/zh.parquet", "--en", f"{folder}/en.parquet:1"]
        patch.setattr(sys, "argv", arguments)
        train_character_model.main()
    with np.load(out) as file:
        return CharacterModel(file["singles"], file["pairs"].view(np.uint64), file["triples"].view(np.uint64))


def bits(model: CharacterModel, text: str) -> float:
    """Mean cost of the symbols, by the kernel."""
    older = before = np.uint64(0x20)
    total = weight = np.int64(0)
    for symbol in map(np.uint64, symbols_of(text)):
        cost, weight = cost_of(model.singles, model.pairs, model.triples, older, before, symbol, weight)
        total += cost
        older, before = before, symbol
    return float(total) * STEP / len(symbols_of(text))


def test_kernel_equals_plain_lookups(model: CharacterModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(character_model, "load_model", lambda: model)
    for text in ("今天天气很好", "the weather", "天天 the 今 xyz 电脑 12", "𠀀q"):
        assert bits(model, text) == pytest.approx(character_model.bits_per_character_plain(text))


def test_what_was_seen_is_cheap_and_what_was_not_is_dear(model: CharacterModel) -> None:
    # Six words of two characters: log2(6) bits for a word, which its first character may share with another.
    assert bits(model, "今天天气很好我们学习今天我们") < np.log2(6)
    assert bits(model, "气今好天很习们我天学们我天今") > 2 * np.log2(6)
    assert bits(model, "龘龘龘") >= UNKNOWN_STEPS * STEP - 1
    assert bits(model, "今天天氣") == bits(model, "今天天气")
