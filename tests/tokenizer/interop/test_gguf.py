"""The GGUF fields, and that llama.cpp's other cuts change no id. (llama.cpp itself: benchmarks/same_ids.py.)"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from gguf import GGUFReader
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers
from typer.testing import CliRunner

from haina.cli.tokenizer_gguf import gguf
from haina.runtime.errors import HainaError
from haina.runtime.gguf_vocabulary import NEW_NUMBERS, GgufVocabulary, is_across, write_vocabulary
from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer.folder import write_folder

SPELLING = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
NEW = [chr(code) for first, last in NEW_NUMBERS for code in (first, last)]


def test_fields_come_back(base_folder: Path, backend: Tokenizer, tmp_path: Path) -> None:
    out = tmp_path / "new" / "vocabulary.gguf"
    vocabulary = write_vocabulary(base_folder, out)
    fields = {name: field.contents() for name, field in GGUFReader(out).fields.items()}
    ours = {name: value for name, value in fields.items() if name.startswith("tokenizer")}
    tokens = sorted(backend.get_vocab(), key=backend.token_to_id)
    assert ours == {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "superbpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * 16 + [1] * (len(tokens) - 16),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in json.loads(backend.to_str())["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": (base_folder / "chat_template.jinja").read_text("utf-8"),
    }
    assert fields["general.architecture"] == "llama"
    assert (vocabulary.add_bos, vocabulary.special_ids) == (True, {"bos": 0, "eos": 1, "pad": 2})
    again = tmp_path / "again.gguf"
    write_vocabulary(base_folder, again)
    assert again.read_bytes() == out.read_bytes()


def superbpe(text: str) -> list[str]:
    """llama.cpp's cuts under that name: around runs of numbers, and in runs of ASCII digits before every third
    from the right. Numbers are those of this Python's Unicode, which is older than that of `tokenizers`."""
    spans, cut = [], []
    for character in text:
        number = unicodedata.category(character)[0] == "N"
        if spans and cut[-1] == number:
            spans[-1] += character
        else:
            spans.append(character)
            cut.append(number)
    return [piece for span in spans for piece in re.split(r"(?=(?:[0-9]{3})+(?![0-9]))", span) if piece]


def encode_cut(backend: Tokenizer, text: str) -> list[int]:
    return [
        token.id
        for span in superbpe(text)
        for token in backend.model.tokenize(SPELLING.pre_tokenize_str(span)[0][0])
    ]


TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=("Cs",)),
        st.sampled_from("的海纳百川，。！（：？ \n\r\t0123９９①③Ⅳ一½a'<>|s海納"),
        st.sampled_from(NEW),
    ),
    max_size=60,
)


@settings(max_examples=400)
@given(text=TEXT)
@example(text="1234567 １２３４,５６ ①②③\r\n\n\r1000\n 第12章\r海 ")
@example(text="，".join(NEW))
@example(text="".join(f"！{new}，{new}{new} {new}\n" for new in NEW))
def test_cuts_of_llama_cpp_change_nothing(base: TokenizerFile, backend: Tokenizer, text: str) -> None:
    assert encode_cut(backend, text) == base.encode(text)


def test_the_cuts_are_not_the_same() -> None:
    assert superbpe("a1234567\r\n 1２b") == ["a", "1", "234", "567", "\r\n ", "1２", "b"]


@pytest.mark.parametrize(
    ("piece", "across"),
    [
        ("海纳百川，", False),
        (" of the", False),
        ("\r\n\n", False),
        ("１", False),
        (b"\xef\xbc", False),  # two bytes of a full-width digit, or of a comma
        (b"\x91", False),
        ("a\n", True),
        ("\n ", True),
        ("12", True),
        ("１２", True),
        (b"\x91\xef\xbc", True),  # between two full-width digits
        (b"\x91\xef\xbc\x8c", True),  # the end of a character that may be a new number, and a comma
        (b" \xf0\x9f", False),  # space and emoji
        (b" \xf0\x9c", True),  # space and what may be a new number
        (b"\xe4\xba\x86\xe4", False),  # a character and the beginning of another, none of them a number
    ],
)
def test_pieces_across_a_border(piece: str | bytes, across: bool) -> None:
    assert is_across(piece if isinstance(piece, bytes) else piece.encode()) is across


def test_pieces_of_whole_characters_agree_with_the_plain_rule() -> None:
    """`is_across` looks at bytes; for whole characters the rule can be said in one line."""
    rng = random.Random(1)
    alphabet = [*"ab 海，\n\r1２①", *NEW]

    def number(character: str) -> bool:
        return unicodedata.category(character)[0] == "N" or character in NEW

    for _ in range(3000):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 5)))
        expected = any(
            (number(first) and number(second))
            or first in NEW
            or second in NEW
            or (first in "\r\n") != (second in "\r\n")
            for first, second in pairwise(text)
        )
        assert is_across(text.encode()) is expected, text


def changed(backend: Tokenizer, folder: Path, **model: object) -> Path:
    document = json.loads(backend.to_str())
    for name, value in model.items():
        target = document if name in document else document["model"]
        target[name] = value
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(document), "utf-8")
    return folder


def with_merge(backend: Tokenizer, first: str, second: str) -> Tokenizer:
    document = json.loads(backend.to_str())
    model = document["model"]
    model["merges"].append([first, second])
    model["vocab"].setdefault(first + second, len(model["vocab"]))
    return Tokenizer.from_str(json.dumps(document))


@pytest.mark.parametrize(("first", "second"), [("a", "Ċ"), ("1", "2"), ("ĳ", "ï")])
def test_a_vocabulary_that_llama_cpp_would_cut_otherwise_is_refused(
    backend: Tokenizer, tmp_path: Path, first: str, second: str
) -> None:
    write_folder(tmp_path / "wider", with_merge(backend, first, second))
    with pytest.raises(HainaError, match=rf"tokenizer\.json: token \d+ '{first}{second}' joins text"):
        write_vocabulary(tmp_path / "wider", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_other_tokenizers_are_refused(backend: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(HainaError, match="cuts text by other rules"):
        GgufVocabulary.open(changed(backend, tmp_path / "cuts", pre_tokenizer=None))
    with pytest.raises(HainaError, match="without a normalizer"):
        GgufVocabulary.open(changed(backend, tmp_path / "nfc", normalizer={"type": "NFC"}))
    with pytest.raises(HainaError, match="ignore_merges"):
        GgufVocabulary.open(changed(backend, tmp_path / "ignore", ignore_merges=True))
    gap = json.loads(backend.to_str())["model"]["vocab"]
    gap["很远"] = 5000
    with pytest.raises(HainaError, match=r"its \d+ ids are not 0 to \d+; GGUF has no room for gaps"):
        GgufVocabulary.open(changed(backend, tmp_path / "gap", vocab=gap))
    with pytest.raises(HainaError, match=r"no tokenizer\.json"):
        GgufVocabulary.open(tmp_path)


def test_a_folder_without_names_and_template(backend: Tokenizer, tmp_path: Path) -> None:
    folder = changed(backend, tmp_path / "bare", post_processor=None)
    vocabulary = GgufVocabulary.open(folder)
    assert (vocabulary.special_ids, vocabulary.add_bos, vocabulary.chat_template) == ({}, False, None)
    template = {"chat_template": "{{ messages }}", "bos_token": {"content": "<s>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(template), "utf-8")
    vocabulary = GgufVocabulary.open(folder)
    assert (vocabulary.special_ids, vocabulary.chat_template) == ({"bos": 0}, "{{ messages }}")


def test_command(base_folder: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(gguf)
    out = tmp_path / "vocabulary.gguf"
    done = CliRunner().invoke(app, [str(base_folder), "--out", str(out), "--json"])
    printed = json.loads(done.stdout)
    assert printed["bytes"] == out.stat().st_size
    assert printed["pre_tokenizer"] == "superbpe"
    assert printed["tokens"] == TokenizerFile(base_folder).vocab_size
    done = CliRunner().invoke(app, [str(base_folder), "--out", str(out)])
    assert f"{printed['tokens']:,} tokens, {printed['merges']:,} merges" in done.stdout
