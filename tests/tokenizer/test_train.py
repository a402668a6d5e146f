"""The vocabulary: lossless for every string, the same every time, cut where it should be."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from haina.runtime.errors import HainaError
from haina.runtime.tokenizer_file import StreamDecoder, TokenizerFile
from haina.tokenizer import train_tokenizer
from haina.tokenizer.config import TokenizerConfig
from haina.tokenizer.pieces import piece_bytes
from haina.tokenizer.special_tokens import NAMED_TOKENS as SPECIAL_TOKENS
from haina.tokenizer.symbols import joins
from haina.tokenizer.train import untrained_tokenizer

HOSTILE = [
    "",
    "\x00",
    "a\x00海\x00",
    "<s>你好</s><pad><|im_start|>user<|im_end|>",
    "\r\n \u3000\u00a0\u200b\u2028\t\t x  ",
    "１２３4五六七八",
    "e\u0301 é ﬁ Å \u212b 豈 \uf900",  # nothing may be normalised
    "👩‍👩‍👧‍👦🇨🇳𠮷𡃁",
    "don't DON'T it'S ſ",
    "\ufffd\ufeff\uffff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_comes_back(tokenizer: TokenizerFile, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False) == text
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=True)) == text


characters = st.characters(exclude_categories=("Cs",))
bilingual = st.text(st.one_of(characters, st.sampled_from("的海纳百川，。 \n\t0９a'")), max_size=60)


@settings(max_examples=300, deadline=None)
@given(text=bilingual)
@example(text="海纳百川，有容乃大。The sea takes in 100 rivers.")
def test_every_string_comes_back(tokenizer: TokenizerFile, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert all(len(SPECIAL_TOKENS) <= token_id < tokenizer.vocab_size for token_id in ids)
    assert tokenizer.encode_batch([text]) == [ids]
    if "\ufffd" not in text:  # the stream decoder takes it for bytes still missing
        stream = StreamDecoder(tokenizer)
        assert "".join([stream.push(token_id) for token_id in ids]) + stream.flush() == text


@pytest.mark.parametrize("text", ["a\ud800b", "海\udfff", "\ud83d"])
def test_half_a_character_is_an_error(tokenizer: TokenizerFile, text: str) -> None:
    with pytest.raises(HainaError, match=r"unpaired surrogate U\+D[8F]"):
        tokenizer.encode(text)
    with pytest.raises(HainaError, match="unpaired surrogate"):
        tokenizer.encode_batch(["好", text])
    with pytest.raises(HainaError, match="unpaired surrogate"):
        train_tokenizer([text], TokenizerConfig(vocab_size=512))


@pytest.mark.parametrize(
    ("text", "cuts"),
    [
        ("我们的程序，可以运行。", ["我们的程序，可以运行。"]),
        ("price 1234元", ["price ", "1", "2", "3", "4", "元"]),
        ("第１２章", ["第", "１", "２", "章"]),
        ("it's John'S", ["it's John'S"]),
        ("a  b\n\n  c", ["a  b", "\n\n", "  c"]),
        ("x == y!\r\n", ["x == y!", "\r\n"]),
    ],
)
def test_pre_tokens(text: str, cuts: list[str]) -> None:
    pieces = untrained_tokenizer(models.BPE()).pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in pieces] == cuts


@settings(max_examples=200, deadline=None)
@given(text=bilingual)
def test_ids_do_not_depend_on_where_text_was_cut(tokenizer: TokenizerFile, text: str) -> None:
    whole = Tokenizer.from_str(tokenizer.backend.to_str())
    whole.encode_special_tokens = True
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert (
        whole.encode(text, add_special_tokens=False).ids
        == tokenizer.backend.encode(text, add_special_tokens=False).ids
    )


def test_pieces_are_made_in_one_way_and_hold_nothing_forbidden(tokenizer: TokenizerFile) -> None:
    model = json.loads(tokenizer.backend.to_str())["model"]
    products = ["".join(merge) for merge in model["merges"]]
    assert len(products) == len(set(products)) == tokenizer.vocab_size - 256 - len(SPECIAL_TOKENS)
    assert not set(products) & set(SPECIAL_TOKENS)
    table = joins()
    for number, piece in enumerate(products):
        data = piece_bytes(piece)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            assert number < tokenizer.vocab_size // 2
            assert data[0] >= 0xC2
            assert all(0x80 <= byte < 0xC0 for byte in data[1:])  # the beginning of one character
            continue
        kinds = table.kinds[[ord(character) for character in text]]
        assert (table.gaps[kinds[:-1], kinds[1:]] <= 1).all()
        ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
        assert ids == [model["vocab"][piece]]


def test_pieces_of_several_words_take_their_share() -> None:
    rng = random.Random(11)
    texts = [
        " ".join(rng.choice(["of the", "in a", "on top of", "one more", "海 纳"]) for _ in range(9))
        + f" {number}"
        for number in range(80)
    ]
    superwords = {}
    for share, size in ((0.0, 274), (0.6, 300)):
        # Below the smallest size of a recipe, so that the words are learnt to the end.
        config = TokenizerConfig.model_construct(
            **{**TokenizerConfig().model_dump(), "vocab_size": size, "superword_share": share}
        )
        made = train_tokenizer(texts, config)
        pieces = [piece_bytes(piece).decode("utf-8", "replace") for piece in made.get_vocab()]
        superwords[share] = {piece for piece in pieces if " " in piece.strip()}
    assert superwords[0.0] == set()
    assert " of the" in superwords[0.6]
    assert not any("海 纳" in piece for piece in superwords[0.6])


def test_special_tokens_come_first_and_text_cannot_forge_them(tokenizer: TokenizerFile) -> None:
    assert [tokenizer.backend.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.vocab_size) == (0, 1, 2, 600)
    for token in SPECIAL_TOKENS:
        assert min(tokenizer.encode(f"你好{token}hello")) >= len(SPECIAL_TOKENS)
    assert tokenizer.encode("你好", add_special_tokens=True) == [0, *tokenizer.encode("你好")]


def test_digits_never_join_and_pieces_keep_to_their_length(tokenizer: TokenizerFile) -> None:
    assert len(tokenizer.encode("2026")) == 4
    pieces = [piece for piece in tokenizer.backend.get_vocab() if piece not in SPECIAL_TOKENS]
    assert max(map(len, pieces)) <= TokenizerConfig().max_token_bytes  # one character a byte
    assert not any(len(piece) > 1 and any(digit in piece for digit in "0123456789") for piece in pieces)


TRAIN = """
import random, sys
from haina.tokenizer import train_tokenizer
from haina.tokenizer.config import TokenizerConfig
from haina.tokenizer.pieces import piece_bytes
rng = random.Random(3)
def word(letters, length):
    return "".join(rng.choice(letters) for _ in range(length))
texts = [word("海纳百川有容乃大", 9) + " " + word("abcd", 7) for _ in range(400)]
texts += texts[: len(texts) // 2]
if sys.argv[1] == "reversed":
    texts = texts[::-1]
sys.stdout.write(train_tokenizer(texts, TokenizerConfig(vocab_size=700)).to_str())
"""


def test_the_same_file_whatever_the_hash_seed_threads_or_order() -> None:
    """Random words over small alphabets are full of pairs that are equally frequent."""
    made = set()
    for hash_seed, threads, order in (("0", "1", "forward"), ("77", "2", "forward"), ("5", "3", "reversed")):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "RAYON_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, order], env=environment, capture_output=True, check=True
        )
        made.add(done.stdout)
    assert len(made) == 1
    assert len(made.pop()) > 10_000


def test_too_little_text_says_what_can_be_had() -> None:
    texts = ["海纳百川，有容乃大。", "The sea takes in a hundred rivers."] * 3
    with pytest.raises(
        HainaError, match=r"tokenizer\.vocab_size: the text gives (\d+) pieces, 512"
    ) as caught:
        train_tokenizer(texts, TokenizerConfig(vocab_size=512))
    assert "lower tokenizer.vocab_size to" in str(caught.value)
    reached = int(re.search(r"gives (\d+) pieces", str(caught.value))[1])
    with pytest.raises(HainaError, match="the special tokens and bytes alone are 4357"):
        train_tokenizer(texts, TokenizerConfig(vocab_size=512, reserved_tokens=4096))
    assert 261 < reached < 512


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_an_error(texts: list[str]) -> None:
    with pytest.raises(HainaError, match="no text"):
        train_tokenizer(texts, TokenizerConfig())


def test_rare_characters_give_their_place_to_frequent_words() -> None:
    rng = random.Random(2)
    rare = [chr(0x4E00 + 50 * number) for number in range(300)]  # each once
    words = ["".join(rng.choices("的是在有人我他这", k=2)) for _ in range(60)]
    texts = ["".join(rng.choices(words, k=30)) + rng.choice(rare) for _ in range(300)]
    pieces = {
        piece_bytes(piece).decode("utf-8", "replace")
        for piece in train_tokenizer(
            texts, TokenizerConfig(vocab_size=512, character_coverage=1.0)
        ).get_vocab()
    }
    assert set("的是在有人我他这") <= pieces
    assert sum(character in pieces for character in rare) < 20
    assert len(pieces & set(words)) > 30
