"""The same ids, and the same text again, in our loader, in transformers and with the calls that vLLM makes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers.decoders import DecodeStream

from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer.special_tokens import special_tokens

SPECIALS = special_tokens(11)
LINES = [
    "",
    "海纳百川，有容乃大。The sea takes in a hundred rivers of program, but the document .",
    "圖書館 opens 第１２章 ，第①②③章 ⅣⅤ ½ ²³ 一二三 ㉑ ٠١٢ 𝟎𝟏 1234567890",
    "def return(self):\n    if x == 1:\n\t\treturn  'a'\n",
    "\r\n\r \u3000\u00a0\u200b\u2028\x85\x0b\t\t x  \n",
    "\x00a\x00海\x00\x00 \x1b\x7f",
    "e\u0301 é ﬁ Å \u212b 豈 \uf900 ไม่ 👩‍👩‍👧‍👦🇨🇳👍🏽𠮷𡃁",
    "\ufffd\ufeff\uffff\ufdd0\U0010ffff",
    "\U0001ccf0\U0001ccf9 \U000116d0海\U00016130, \U0001e5f1a\U00011f50",  # numbers of new versions of Unicode
    "<s>你好</s><pad><|im_start|>user<|im_end|><|reserved_0|><|reserved_10|>",
    "<s>海</s>" * 50,
    "哈" * 3000 + "ha " * 3000 + " " * 3000,
]
TEXT = st.text(
    st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from("的海纳百川，。 \n\r\t0９①a'<>|s/")),
    max_size=40,
)
MIXED = st.lists(st.one_of(TEXT, st.sampled_from(SPECIALS), st.sampled_from(LINES[:10])), max_size=6).map(
    "".join
)


@pytest.fixture(scope="module")
def auto_base(auto: Callable[..., Any], base_folder: Path) -> Any:
    return auto(base_folder)


@pytest.mark.parametrize("line", LINES)
def test_lines(base: TokenizerFile, auto_base: Any, line: str) -> None:
    check(base, auto_base, line)


@settings(max_examples=300)
@given(text=MIXED)
@example(text="<|im_<|im_end|>end|>")
def test_any_text(base: TokenizerFile, auto_base: Any, text: str) -> None:
    check(base, auto_base, text)


def check(base: TokenizerFile, auto_base: Any, text: str) -> None:
    ids = base.encode(text)
    assert min(ids, default=16) >= 16  # text gives no special token, reserved ones included
    assert auto_base(text, add_special_tokens=False)["input_ids"] == ids
    assert auto_base(text)["input_ids"] == base.encode(text, add_special_tokens=True) == [0, *ids]
    assert auto_base.decode(ids) == text
    assert base.decode(ids, skip_special_tokens=False) == text


def test_reserved_tokens_are_in_the_vocabulary_and_skipped_in_text(
    base: TokenizerFile, auto_base: Any
) -> None:
    reserved = [auto_base.convert_tokens_to_ids(f"<|reserved_{number}|>") for number in range(11)]
    assert reserved == list(range(5, 16))
    assert set(reserved) <= set(auto_base.all_special_ids)
    ids = [0, *base.encode("海"), 7, 4]
    assert auto_base.decode(ids, skip_special_tokens=True) == base.decode(ids) == "海"
    assert auto_base.decode(ids) == "<s>海<|reserved_2|><|im_end|>"


def test_decoding_keeps_every_space(base: TokenizerFile, auto_base: Any) -> None:
    text = "it 's a sea , is n't it ? do not ' touch ' . 海 ， 川"
    assert auto_base.decode(base.encode(text)) == text


# What follows are the calls of vLLM (vllm/tokenizers/hf.py and registry.py, vllm/v1/engine/detokenizer.py).


@pytest.fixture(scope="module")
def served(auto: Callable[..., Any], base_folder: Path) -> Any:
    """A tokenizer as vLLM opens it and wraps it."""
    tokenizer = auto(
        str(base_folder), trust_remote_code=False, revision=None, cache_dir=None, truncation_side="left"
    )
    cached = copy.copy(tokenizer)
    kept = {
        "all_special_ids": tokenizer.all_special_ids,
        "all_special_tokens": tokenizer.all_special_tokens,
        "max_token_id": max(*tokenizer.get_vocab().values(), tokenizer.vocab_size),
        "length": len(tokenizer),
    }

    class Cached(type(tokenizer)):  # type: ignore[misc]
        all_special_ids = property(lambda self: kept["all_special_ids"])
        all_special_tokens = property(lambda self: kept["all_special_tokens"])
        max_token_id = property(lambda self: kept["max_token_id"])

        def __len__(self) -> int:
            return int(kept["length"])

    cached.__class__ = Cached
    return cached


def test_vllm_reads_the_folder(served: Any, base: TokenizerFile) -> None:
    assert served.is_fast
    assert served.all_special_ids == list(range(16))
    assert served.all_special_tokens == list(SPECIALS)
    assert len(served) == served.vocab_size == base.vocab_size
    # vLLM takes the larger of the greatest id and the size, so one past the last id.
    assert served.max_token_id == base.vocab_size
    assert served.eos_token_id == 1
    assert copy.deepcopy(served).encode("海 sea") == base.encode("海 sea", add_special_tokens=True)
    for line in LINES:
        ids = served.encode(line, truncation=False, max_length=None, add_special_tokens=True)
        assert ids == base.encode(line, add_special_tokens=True)
    long = served.encode(LINES[1], truncation=True, max_length=5, add_special_tokens=True)
    assert long == [0, *base.encode(LINES[1])[-4:]]  # cut from the left, behind <s>


@pytest.mark.parametrize("line", LINES[1:])
def test_vllm_streams_the_text_back(served: Any, base: TokenizerFile, line: str) -> None:
    prompt, ids = base.encode("海 sea", add_special_tokens=True), base.encode(line)
    stream = DecodeStream(ids=prompt, skip_special_tokens=True)
    fast = "".join(stream.step(served._tokenizer, token_id) or "" for token_id in ids)
    slow = slowly(served, prompt, ids)
    if "\ufffd" not in line:  # both streams wait for more bytes behind it
        assert fast == slow == line


def slowly(served: Any, prompt: list[int], ids: list[int]) -> str:
    """vLLM's other way: the strings of tokens joined, from two offsets that follow the output."""
    tokens = served.convert_ids_to_tokens(prompt, skip_special_tokens=True)
    start, seen, text = max(len(tokens) - 5, 0), len(tokens), ""
    for token_id in ids:
        tokens += served.convert_ids_to_tokens([token_id], skip_special_tokens=True)
        before = served.convert_tokens_to_string(tokens[start:seen])
        now = served.convert_tokens_to_string(tokens[start:])
        if len(now) > len(before) and not now.endswith("\ufffd"):
            text += now[len(before) :]
            start, seen = seen, len(tokens)
    return text
