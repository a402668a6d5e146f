"""The tokenizer of a folder, and text that streams out of it without breaking a character."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from haina.runtime.errors import HainaError
from haina.runtime.tokenizer_file import StreamDecoder, TokenizerFile

TEXTS = [
    "海纳百川，有容乃大。",
    "计算机科学的发展",
    "The sea takes in a hundred rivers.",
    "電腦與網路",
    "😀🌊 naïve",
]
SPECIAL = ["<s>", "</s>", "<pad>"]


def byte_level(folder: Path) -> TokenizerFile:
    """Byte-level BPE with so few merges that most Chinese characters span several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding()
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    return TokenizerFile(folder)


def byte_fallback(folder: Path) -> TokenizerFile:
    """The SentencePiece layout of Llama and Baichuan: `▁` for spaces, `<0xE4>` for bytes without a piece."""
    pieces = [
        "<unk>",
        *SPECIAL,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁the",
        "▁sea",
        "川",
        "s",
        "▁",
        "海",
    ]
    tokenizer = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    return TokenizerFile(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TokenizerFile:
    return byte_level(tmp_path_factory.mktemp("byte-level"))


@pytest.fixture(scope="module")
def fallback(tmp_path_factory: pytest.TempPathFactory) -> TokenizerFile:
    return byte_fallback(tmp_path_factory.mktemp("byte-fallback"))


def stream(tokenizer: TokenizerFile, ids: list[int]) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*(decoder.push(token) for token in ids), decoder.flush()]


def test_ids_of_the_folder(plain: TokenizerFile) -> None:
    assert (plain.bos_id, plain.eos_id, plain.pad_id) == (0, 1, None)
    assert plain.vocab_size == 300
    assert len(plain.fingerprint) == 32


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_comes_back_and_is_neither_cut_nor_padded(plain: TokenizerFile, text: str) -> None:
    ids = plain.encode(text)
    assert plain.decode(ids) == text
    assert plain.encode_batch([text, ""]) == [ids, []]
    assert plain.encode(text, add_special_tokens=True) == [0, *ids]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*SPECIAL, "海", "a", " "]), max_size=6).map("".join))
def test_a_special_token_in_text_stays_text(plain: TokenizerFile, text: str) -> None:
    ids = plain.encode(text)
    assert not set(ids) & {0, 1, 2}
    assert plain.decode(ids) == text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 299), max_size=40))
def test_streamed_text_is_the_whole_text_for_any_ids(plain: TokenizerFile, ids: list[int]) -> None:
    assert "".join(stream(plain, ids)) == plain.decode(ids)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map("".join))
def test_streamed_text_never_shows_half_a_character(plain: TokenizerFile, text: str) -> None:
    pieces = stream(plain, plain.encode(text))
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)
    assert sum(map(bool, pieces)) > len(text) / 3  # it does stream


def test_a_broken_byte_does_not_swallow_the_character_after_it(plain: TokenizerFile) -> None:
    ids = [plain.backend.token_to_id(letter) for letter in ("ÿ", "ÿ", "ÿ")] + plain.encode("川")
    assert "".join(stream(plain, ids)) == "\ufffd\ufffd\ufffd川"


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("海川湖😀sa"), max_size=12).map(lambda text: text.replace("a", " the")))
def test_streamed_text_of_a_byte_fallback_vocabulary(fallback: TokenizerFile, text: str) -> None:
    ids: list[int] = []
    for piece in text.replace(" the", "\x00"):
        token = fallback.backend.token_to_id("▁the" if piece == "\x00" else piece)
        names = [f"<0x{byte:02X}>" for byte in piece.encode()]
        ids += [fallback.backend.token_to_id(name) for name in names] if token is None else [token]
    assert "".join(stream(fallback, ids)) == fallback.decode(ids)


def test_special_tokens_are_not_streamed(plain: TokenizerFile) -> None:
    assert "".join(stream(plain, [0, *plain.encode("海 sea"), 1])) == "海 sea"


def test_an_absent_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match=r"no tokenizer\.json"):
        TokenizerFile(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", "海", '{"version": "1.0", "model": {"type": "none"}}'])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(HainaError, match=r"tokenizer\.json: not a tokenizer"):
        TokenizerFile(tmp_path)


@pytest.mark.parametrize("content", ["", "[1]", '"text"', "{"])
def test_a_damaged_configuration_is_named(tmp_path: Path, content: str) -> None:
    byte_level(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(HainaError, match=r"tokenizer_config\.json"):
        TokenizerFile(tmp_path)
