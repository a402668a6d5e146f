"""A small tokenizer of the form that we train, made here in a second, and the folders that hold it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from haina.runtime.bpe.rules import PATTERN
from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer.folder import write_folder
from haina.tokenizer.special_tokens import BREAKING_FILTERS, special_tokens

RESERVED = 11
CHINESE = "海纳百川 ，有容乃大 。图书馆 的 程序 可以 打开 文档 ，但是 我们的 語言 檔案 圖書館 氣象 第 章 “ ” （ ） ： ！ ？"
ENGLISH = (
    "the sea takes in a hundred rivers of program and document , but . def return self ( ) : == <s> im_start"
)
CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}{{ message['content'] | " + BREAKING_FILTERS + " }}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def sample(rng: random.Random) -> str:
    words, glue = rng.choice([(CHINESE, ""), (ENGLISH, " ")])
    return glue.join(rng.choice(words.split()) for _ in range(30)) + f"{rng.randrange(3000)}\n    "


def byte_level(characters: Tokenizer, texts: list[str]) -> Tokenizer:
    """The merges of characters as merges of bytes: first those that put each character together."""
    names = special_tokens(RESERVED)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces, merges = set(alphabet), []
    spelling = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def spelled(text: str) -> str:
        return spelling.pre_tokenize_str(text)[0][0]

    def merge(first: str, second: str) -> None:
        known = first in pieces and second in pieces
        # The words hold `<s>`: a piece spelled like a special token would give its id to text.
        if known and first + second not in pieces and first + second not in names:
            pieces.add(first + second)
            merges.append((first, second))

    for character in sorted(set("".join(texts))):
        parts = spelled(character)
        for size in range(1, len(parts)):
            merge(parts[:size], parts[size])
    for first, second in json.loads(characters.to_str())["model"]["merges"]:
        merge(spelled(first), spelled(second))
    vocabulary = {piece: number for number, piece in enumerate([*names, *alphabet, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "isolated"), spelling]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B:1", special_tokens=[("<s>", 0)]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer


def train(texts: list[str], vocab_size: int) -> Tokenizer:
    characters = Tokenizer(models.BPE())
    characters.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, max_token_length=8, show_progress=False)
    characters.train_from_iterator(texts, trainer)
    return byte_level(characters, texts)


@pytest.fixture(scope="session")
def backend() -> Tokenizer:
    rng = random.Random(3)
    return train([sample(rng) for _ in range(400)], 700)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory, backend: Tokenizer) -> Path:
    """A base model's: no turns."""
    folder = tmp_path_factory.mktemp("base")
    write_folder(folder, backend)
    return folder


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory, backend: Tokenizer) -> Path:
    """A fine-tuned model's: ChatML turns."""
    folder = tmp_path_factory.mktemp("chat")
    write_folder(folder, backend, CHATML)
    return folder


@pytest.fixture(scope="session")
def base(base_folder: Path) -> TokenizerFile:
    return TokenizerFile(base_folder)


@pytest.fixture(scope="session")
def auto() -> Callable[..., Any]:
    """`transformers.AutoTokenizer.from_pretrained`."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained
