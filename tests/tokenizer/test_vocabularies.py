"""Every form of vocabulary file gives the ids of the program that made it."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime.bpe.rules import PATTERN
from haina.runtime.errors import HainaError
from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer.vocabularies import (
    PieceKind,
    Vocabulary,
    flatten,
    open_vocabularies,
    open_vocabulary,
)
from haina.tokenizer.vocabularies.gguf_header import read_header
from haina.tokenizer.vocabularies.split_patterns import expressions, pattern_names

gguf = pytest.importorskip("gguf")
sentencepiece = pytest.importorskip("sentencepiece")
tiktoken = pytest.importorskip("tiktoken")

CORPUS = [
    "海纳百川，有容乃大；壁立千仞，无欲则刚。",
    "分詞器把文字切成詞元，語言模型再讀它們。",
    "The tokenizer cuts a text into pieces, and the model reads the pieces.",
    "Don't panic: 2023 was a year with 12 months and 365 days.",
    "我们在 2023 年训练了 7B 模型 with bilingual text。",
] * 8
HOSTILE = [
    "",
    " ",
    "  two  spaces \t and\ttabs \n\n\r\n lines",
    "海纳百川 sea\u3000海",
    "don't DON'T 'll",
    "1234567 １２３ ③ ½",
    "emoji 🤖👩‍👩‍👧 and \u200b zero width",
    "\x00\x01\x7f",
    "naïve café e\u0301",
    "繁體中文，简体中文",
    "<s></s><unk><pad><|im_end|>",
    "\ue000\U0010ffff\U00020000",
]
MIXED = st.text(
    st.one_of(
        st.sampled_from("海纳百川，。 的the andTOKEN12 \n\t\u3000'é🤖<|>▁"), st.characters(codec="utf-8")
    ),
    max_size=40,
)


def ids_of(vocabulary: Vocabulary, text: str) -> list[int]:
    return flatten(vocabulary.encode([text]))[0].tolist()


def texts_of(vocabulary: Vocabulary, texts: list[str]) -> list[str]:
    ids, offsets = flatten(vocabulary.encode(texts))
    return list(vocabulary.decode([ids[a:b] for a, b in pairwise(offsets)]))


def joined(vocabulary: Vocabulary, text: str) -> bytes:
    return b"".join(vocabulary.pieces[number] for number in ids_of(vocabulary, text))


# SentencePiece


@pytest.fixture(scope="module")
def train_sentencepiece() -> Callable[..., bytes]:
    def train(**settings: Any) -> bytes:
        model = io.BytesIO()
        defaults = {"vocab_size": 420, "byte_fallback": True, "model_type": "bpe", "minloglevel": 2}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS), model_writer=model, **(defaults | settings)
        )
        return model.getvalue()

    return train


VARIANTS: dict[str, dict[str, Any]] = {
    "as LLaMA": {
        "add_dummy_prefix": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
    "as Baichuan": {
        "add_dummy_prefix": False,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
    "normalising": {"normalization_rule_name": "nmt_nfkc", "split_digits": True},
    "unigram": {
        "model_type": "unigram",
        "vocab_size": 350,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
    },
}


@pytest.fixture(scope="module", params=list(VARIANTS))
def model(
    request: pytest.FixtureRequest, train_sentencepiece: Callable[..., bytes], tmp_path_factory: Any
) -> Path:
    path = tmp_path_factory.mktemp("sentencepiece") / "tiny.model"
    path.write_bytes(train_sentencepiece(**VARIANTS[request.param]))
    return path


def test_sentencepiece_ids_are_the_librarys(model: Path) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    vocabulary = open_vocabulary(model)
    assert (vocabulary.size, vocabulary.name) == (processor.vocab_size(), "tiny")
    for text in [*HOSTILE, *CORPUS[:5]]:
        assert ids_of(vocabulary, text) == processor.encode(text)
    assert texts_of(vocabulary, CORPUS[:5]) == [
        processor.decode(processor.encode(text)) for text in CORPUS[:5]
    ]
    assert sum(kind == PieceKind.BYTE for kind in vocabulary.kinds) == 256
    assert vocabulary.kinds[0] == PieceKind.UNKNOWN
    assert [vocabulary.kinds[1], vocabulary.kinds[2]] == [PieceKind.SPECIAL, PieceKind.SPECIAL]


def test_pieces_joined_are_the_text(train_sentencepiece: Callable[..., bytes], tmp_path: Path) -> None:
    for variant, before in (("as LLaMA", b" "), ("as Baichuan", b"")):
        path = tmp_path / "tiny.model"
        path.write_bytes(train_sentencepiece(**VARIANTS[variant]))
        vocabulary = open_vocabulary(path)
        for text in CORPUS[:5]:
            assert joined(vocabulary, text) == before + text.encode()
            assert texts_of(vocabulary, [text]) == [text]


def test_unknown_without_byte_fallback(train_sentencepiece: Callable[..., bytes], tmp_path: Path) -> None:
    path = tmp_path / "plain.model"
    path.write_bytes(train_sentencepiece(byte_fallback=False, vocab_size=180))
    vocabulary = open_vocabulary(path)
    assert PieceKind.UNKNOWN in [vocabulary.kinds[number] for number in ids_of(vocabulary, "龘🤖")]


def write_gguf(path: Path, family: str, tokens: list[str], types: list[int], **more: Any) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(family)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_float32("llama.rope.freq_base", 1e4)
    writer.add_array("llama.some.numbers", [1, 2, 3])
    if "pre" in more:
        writer.add_tokenizer_pre(more["pre"])
        writer.add_token_merges(more["merges"])
    if "scores" in more:
        writer.add_token_scores(more["scores"])
        writer.add_add_space_prefix(more["prefix"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("variant", ["as LLaMA", "as Baichuan", "unigram"])
def test_sentencepiece_inside_gguf(
    variant: str, train_sentencepiece: Callable[..., bytes], tmp_path: Path
) -> None:
    data = train_sentencepiece(**VARIANTS[variant])
    source = tmp_path / "tiny.model"
    source.write_bytes(data)
    processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    size = processor.vocab_size()
    types = [1] * size
    types[0], types[1], types[2] = 2, 3, 3
    for number in range(size):
        types[number] = 6 if processor.is_byte(number) else types[number]
    # As in llama.cpp's own files: rows that only fill the table up.
    tokens = [processor.id_to_piece(number) for number in range(size)] + ["", "</s>"]
    path = write_gguf(
        tmp_path / "tiny.gguf",
        "t5" if variant == "unigram" else "llama",
        tokens,
        [*types, 5, 5],
        scores=[processor.get_score(number) for number in range(size)] + [0.0, 0.0],
        prefix=variant == "as LLaMA",
    )
    one, other = open_vocabulary(source), open_vocabulary(path)
    assert other.size == size + 2
    assert list(other.pieces[:size]) == list(one.pieces)
    for text in [*HOSTILE, *CORPUS[:5]]:
        assert ids_of(one, text) == ids_of(other, text)
    with pytest.raises(HainaError, match="scores"):
        open_vocabulary(
            write_gguf(tmp_path / "short.gguf", "llama", tokens, [*types, 5, 5], scores=[0.0], prefix=True)
        )


# byte-level BPE in its three forms


@pytest.fixture(scope="module", params=["qwen2", "superbpe"])
def byte_level(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Path:
    """A folder with the same byte-level vocabulary as tokenizer.json, GGUF and tiktoken file.

    `superbpe` is what our own tokenizers are in a GGUF file; with it the fast encoder makes the ids of the folder.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("byte-level")
    (pattern,) = [PATTERN] if request.param == "superbpe" else expressions("qwen2") or []
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    (folder / "forms").mkdir()
    write_gguf(
        folder / "forms" / "tiny.gguf",
        "gpt2",
        [piece for piece, _ in pieces],
        [3, 3] + [1] * (len(pieces) - 2),
        pre=request.param,
        merges=merges,
    )
    opened = open_vocabulary(folder)
    lines = [
        f"{base64.b64encode(data).decode()} {number - 2}\n"
        for number, data in enumerate(opened.pieces)
        if data
    ]
    (folder / "forms" / "qwen.tiktoken").write_text("".join(lines))
    (folder / "pattern").write_text(pattern)
    return folder


def test_forms_agree(byte_level: Path) -> None:
    opened = dict(zip(("json", "gguf", "ranks"), _opened(byte_level), strict=True))
    ours = TokenizerFile(byte_level)
    for text in [*HOSTILE, *CORPUS[:5]]:
        ids = ids_of(opened["json"], text)
        assert ids == ours.encode(text)
        assert ids == ids_of(opened["gguf"], text)
        assert [number - 2 for number in ids] == ids_of(opened["ranks"], text)
    for vocabulary in opened.values():
        assert texts_of(vocabulary, HOSTILE) == HOSTILE
        assert [joined(vocabulary, text) for text in HOSTILE] == [text.encode() for text in HOSTILE]
    assert opened["json"].kinds[0] == PieceKind.SPECIAL
    assert opened["gguf"].kind in ("GGUF, BPE (qwen2)", "GGUF, BPE (superbpe)")


@settings(max_examples=200)
@given(text=MIXED)
def test_forms_agree_on_any_text(byte_level: Path, text: str) -> None:
    opened = _opened(byte_level)
    ids = ids_of(opened[0], text)
    assert ids == ids_of(opened[1], text)
    assert [number - 2 for number in ids] == ids_of(opened[2], text)
    assert joined(opened[0], text) == text.encode()
    assert texts_of(opened[2], [text]) == [text]


_CACHE: dict[Path, list[Vocabulary]] = {}


def _opened(folder: Path) -> list[Vocabulary]:
    if folder not in _CACHE:
        pattern = (folder / "pattern").read_text()
        names = ("tokenizer.json", "forms/tiny.gguf", "forms/qwen.tiktoken")
        _CACHE[folder] = [open_vocabulary(folder / name, pattern=pattern) for name in names]
    return _CACHE[folder]


def test_other_tokenizer_files(tmp_path: Path) -> None:
    """Files that are not byte-level: continuations, unknown words, bytes as pieces, spaces as marks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = Tokenizer(models.WordPiece({"[UNK]": 0, "play": 1, "##ing": 2, "海": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.decoder = decoders.WordPiece()
    words.save(str(tmp_path / "words.json"))
    opened = open_vocabulary(tmp_path / "words.json")
    assert list(opened.pieces) == [b"", b"play", b"ing", "海".encode()]
    assert ids_of(opened, "playing 海 zebra") == [1, 2, 3, 0]
    assert opened.kinds[0] == PieceKind.UNKNOWN

    table = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"<unk>": 256, "▁": 257, "a": 258, "▁a": 259}
    model = models.BPE(table, [("▁", "a")], unk_token="<unk>", byte_fallback=True)
    fallback = Tokenizer(model)
    fallback.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    fallback.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")]
    )
    fallback.save(str(tmp_path / "bytes.json"))
    opened = open_vocabulary(tmp_path / "bytes.json")
    assert joined(opened, "a a海") == "a a海".encode()
    assert [opened.kinds[number] for number in ids_of(opened, " a海")] == [PieceKind.TEXT] + [
        PieceKind.BYTE
    ] * 3


def test_specials_typed_in_a_text_are_text(byte_level: Path) -> None:
    for vocabulary in _opened(byte_level)[:2]:
        assert not {0, 1} & set(ids_of(vocabulary, "a<s>b</s>"))


# names and choices


def test_names_and_patterns(byte_level: Path, tmp_path: Path) -> None:
    ranks = byte_level / "forms" / "qwen.tiktoken"
    odd = tmp_path / "odd.tiktoken"
    odd.write_bytes(ranks.read_bytes())
    both = open_vocabularies(
        [str(byte_level), f"mine={ranks}", str(ranks), str(ranks), str(odd)], {"odd": r"\p{N}|\P{N}+"}
    )
    assert [vocabulary.name for vocabulary in both] == [byte_level.name, "mine", "qwen", "qwen (2)", "odd"]
    assert both[4].kind == "tiktoken (own pattern)"
    assert joined(both[4], "海 12") == "海 12".encode()
    with pytest.raises(HainaError, match=r"odd\.tiktoken.*not know.*--pattern odd=NAME"):
        open_vocabulary(odd)
    with pytest.raises(HainaError, match="not a regular expression"):
        open_vocabulary(odd, pattern="(unclosed")
    with pytest.raises(HainaError, match="--pattern nobody: no vocabulary of that name"):
        open_vocabularies([str(ranks)], {"nobody": "qwen2"})
    assert "Llama" not in {"".join(names) for names in [pattern_names()]}


def test_a_model_file_may_hold_ranks(byte_level: Path, tmp_path: Path) -> None:
    """Llama 3 ships its tiktoken ranks under the name that SentencePiece models have."""
    path = tmp_path / "tokenizer.model"
    path.write_bytes((byte_level / "forms" / "qwen.tiktoken").read_bytes())
    assert open_vocabulary(path, pattern="llama3").kind == "tiktoken (llama3)"
    assert open_vocabulary(tmp_path, pattern="qwen2").name == tmp_path.name


def test_every_pattern_compiles_and_keeps_the_text() -> None:
    from tokenizers import Regex, pre_tokenizers

    for name in pattern_names():
        for expression in expressions(name) or []:
            cutter = pre_tokenizers.Split(Regex(expression), behavior="isolated")
            for text in HOSTILE:
                assert "".join(piece for piece, _ in cutter.pre_tokenize_str(text)) == text


# bad input


def test_damaged_gguf_names_the_byte(byte_level: Path, tmp_path: Path) -> None:
    data = (byte_level / "forms" / "tiny.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for size in [*range(4, 64), *range(64, len(data), 997)]:
        path.write_bytes(data[:size])
        with pytest.raises(HainaError, match=r"cut\.gguf: .*byte [\d,]+|cut\.gguf: .*tokens"):
            open_vocabulary(path)
    path.write_bytes(data[:4] + (99).to_bytes(4, "little") + data[8:])
    with pytest.raises(HainaError, match="GGUF version 99"):
        open_vocabulary(path)
    key = data.index(b"tokenizer.ggml.model") + len(b"tokenizer.ggml.model")
    path.write_bytes(data[:key] + (77).to_bytes(4, "little") + data[key + 4 :])
    with pytest.raises(HainaError, match=rf"unknown type 77 at byte {key + 4:,}"):
        open_vocabulary(path)
    path.write_bytes(data.replace(b"qwen2", b"qwen\xff").replace(b"superbpe", b"superbp\xff"))
    place = data.index(b"tokenizer.ggml.pre") + len(b"tokenizer.ggml.pre") + 4
    with pytest.raises(HainaError, match=rf"not UTF-8 at byte {place:,}"):
        open_vocabulary(path)


def test_header_reader_reads_what_the_gguf_package_wrote(byte_level: Path) -> None:
    path = byte_level / "forms" / "tiny.gguf"
    reader = gguf.GGUFReader(path)
    found = read_header(path, lambda key: True)
    assert found == {
        key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")
    }


def test_gguf_that_cannot_be_read(byte_level: Path, tmp_path: Path) -> None:
    alphabet = [data.decode("latin-1") for data in _opened(byte_level)[0].pieces[2:10]]
    for family, more, message in (
        ("bert", {}, "family 'bert'"),
        ("gpt2", {"pre": "no-such", "merges": ["a b"]}, "pre-tokenizer 'no-such' is not known"),
        ("gpt2", {"pre": "gpt-2", "merges": ["lonely"]}, "merge 0"),
        ("gpt2", {"pre": "gpt-2", "merges": ["missing pieces"]}, "do not fit"),
    ):
        with pytest.raises(HainaError, match=message):
            open_vocabulary(write_gguf(tmp_path / "bad.gguf", family, alphabet, [1] * 8, **more))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"IQ== 0\nIg== x\n", r"line 2 \(byte 7\)"),
        (b"IQ== 0\n$$$ 1\n", r"line 2 \(byte 7\)"),
        (b"IQ== 0\nIQ== 1\n", r"line 2 \(byte 7\) repeats"),
        (b"IQ== 0\n", "no piece for byte 0x00"),
    ],
)
def test_damaged_ranks(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "gpt2.tiktoken"
    path.write_bytes(content)
    with pytest.raises(HainaError, match=message) as caught:
        open_vocabulary(path)
    assert str(path) in str(caught.value)


def test_a_megabyte_of_spaces_is_encoded_or_refused(byte_level: Path) -> None:
    text = " " * (1 << 20)
    for vocabulary in _opened(byte_level):
        try:
            assert joined(vocabulary, text) == text.encode()
        except HainaError as error:
            assert vocabulary.kind.startswith("tiktoken")
            assert "a text of 1,048,576 characters" in str(error)  # noqa: PT017


def test_other_damage(tmp_path: Path) -> None:
    for name, content, message in (
        ("x.model", b"\x00\x01\x02 no model", "not a SentencePiece model"),
        ("x.json", b'{"model": 3}', "not a tokenizer"),
        ("x.json", b'{"half": ', "not a tokenizer"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(HainaError, match=message) as caught:
            open_vocabulary(path)
        assert str(path) in str(caught.value)
    with pytest.raises(HainaError, match="no such file"):
        open_vocabulary(tmp_path / "absent.model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HainaError, match="no vocabulary in it"):
        open_vocabulary(tmp_path / "empty")
    (tmp_path / "y.model").write_bytes(b"x")
    with pytest.raises(HainaError, match="2 vocabularies in it"):
        open_vocabulary(tmp_path)


def test_missing_library_says_what_to_install(
    byte_level: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    (tmp_path / "x.model").write_bytes(b"\x0a\x01x")
    for path, name in (
        (byte_level / "forms" / "qwen.tiktoken", "tiktoken"),
        (tmp_path / "x.model", "sentencepiece"),
    ):
        with pytest.raises(HainaError, match=rf"package {name}.*pip install 'haina\[compare\]'"):
            open_vocabulary(path)


DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.mark.needs_data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("baichuan.model", 64_000),
        ("llama-spm.model", 32_000),
        ("internlm2.model", 92_544),
        ("ggml-vocab-falcon.gguf", 65_024),
        ("ggml-vocab-mpt.gguf", 50_432),
    ],
)
def test_published_vocabularies(name: str, size: int) -> None:
    vocabulary = open_vocabulary(DATA / "vocabs" / name)
    assert vocabulary.size == size
    texts = [text for text in HOSTILE if "\x00" not in text] + CORPUS[:5]
    assert texts_of(vocabulary, texts) == texts
