"""Counts are those of a plain count, character by character."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer.measure import Counts, Meter, batches, compression
from haina.tokenizer.pieces import is_fragment, is_part_of_character
from haina.tokenizer.scripts import CLASSES, class_of, class_of_piece, classes_of, classes_of_pieces
from haina.tokenizer.vocabularies import PieceKind, Vocabulary, flatten
from haina.tokenizer.vocabularies.tokenizer_json import from_tokenizer

TEXTS = st.lists(
    st.text(
        st.one_of(
            st.sampled_from("海纳百川繁體，。々〇 \n\u3000abcXYZé'-12３ΩжカなA한"),
            st.characters(codec="utf-8"),
        ),
        max_size=30,
    ),
    max_size=4,
)


def name_of(character: str) -> str:
    return CLASSES[class_of(character)]


@lru_cache(maxsize=2)
def vocabulary(space_before: bool) -> Vocabulary:
    """Byte-level, with pieces that hold parts of characters, several words, and both scripts."""
    wanted = [" of the ", "th", "the", "e ", "the ", "海纳", "百川", "，海", "a", "é", "海a"]
    table = {piece: number for number, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    cutter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in wanted:
        ((piece, _),) = cutter.pre_tokenize_str(text)
        for end in range(2, len(piece) + 1):
            left, right = piece[: end - 1], piece[end - 1]
            if left + right not in table and left in table:
                table[left + right] = len(table)
                merges.append((left, right))
    tokenizer = Tokenizer(models.BPE(table, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space_before, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return from_tokenizer(tokenizer, "plain", None, "test")  # type: ignore[arg-type]


def plain_counts(opened: Vocabulary, texts: list[str]) -> dict[str, int]:
    """Every count by the definitions, one character and one piece after another."""
    found = dict.fromkeys(("words", "word_tokens", "han", "han_tokens", "tokens", "byte_tokens"), 0)
    for text in texts:
        ids = flatten(opened.encode([text]))[0].tolist()
        pieces = [opened.pieces[number] for number in ids]
        found["tokens"] += len(ids)
        found["byte_tokens"] += sum(is_part_of_character(piece) for piece in pieces)
        previous = ""
        for character in text:
            name = name_of(character)
            found["han"] += name == "Han"
            found["words"] += name == "Latin" and previous != "Latin"
            previous = name
        owner = [name_of(character) for character in text for _ in character.encode()]
        place = len(text.encode()) - sum(map(len, pieces))
        for piece in pieces:
            held = owner[max(place, 0) : place + len(piece)]
            found["word_tokens"] += "Latin" in held
            found["han_tokens"] += "Han" in held
            place += len(piece)
    return found


@settings(max_examples=300)
@given(texts=TEXTS, space_before=st.booleans())
def test_counts_are_the_plain_ones(texts: list[str], space_before: bool) -> None:
    opened = vocabulary(space_before)
    counts, used = Meter(opened).count(texts)
    expected = plain_counts(opened, texts)
    assert {name: getattr(counts, name) for name in expected} == expected
    assert counts.documents == counts.aligned == len(texts)
    assert counts.bytes == sum(len(text.encode()) for text in texts)
    assert counts.characters == sum(map(len, texts))
    assert int(used.sum()) == counts.tokens
    if not space_before:
        assert counts.differing == 0


def test_pieces_of_words_by_hand() -> None:
    opened = vocabulary(False)
    counts, _ = Meter(opened).count([" of the 海纳百川"])
    # One piece for " of the ", one each for the two pairs of characters.
    assert (counts.tokens, counts.words, counts.word_tokens) == (3, 2, 1)
    assert (counts.han, counts.han_tokens) == (4, 2)
    rates = counts.rates()
    assert (rates["pieces_per_english_word"], rates["pieces_per_han_character"]) == (0.5, 0.5)
    assert rates["bytes_per_token"] == round(20 / 3, 4)
    assert rates["tokens_per_character"] == 0.25


def test_a_normalising_vocabulary_differs_and_is_not_aligned() -> None:
    from tokenizers import normalizers

    tokenizer = Tokenizer.from_str(_byte_tokenizer().to_str())
    tokenizer.normalizer = normalizers.NFKC()
    opened = from_tokenizer(tokenizer, "nfkc", None, "test")  # type: ignore[arg-type]
    counts, _ = Meter(opened).count(["plain 海", "ＡＢＣ wide"])
    assert (counts.documents, counts.differing, counts.aligned) == (2, 1, 1)
    assert counts.words == 1  # of the first text alone
    assert counts.rates()["documents_not_aligned"] == 1


def _byte_tokenizer() -> Tokenizer:
    table = {piece: number for number, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(table, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def test_unknown_and_special_pieces() -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "海": 1, "sea": 2, "<s>": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens([AddedToken("<s>", special=True)])
    opened = from_tokenizer(words, "words", None, "test")  # type: ignore[arg-type]
    counts, used = Meter(opened, check=False).count(["海 sea 川 river"])
    assert (counts.tokens, counts.unknown) == (4, 2)
    assert used.tolist() == [2, 1, 1, 0]
    assert counts.rates()["unknown_share"] == 0.5
    names = [CLASSES[number] for number in classes_of_pieces(opened.pieces, opened.kinds)]
    assert names == ["special and unknown", "Han", "Latin", "special and unknown"]


def test_counts_add_up_and_nothing_has_no_rate() -> None:
    opened = vocabulary(False)
    texts = ["海纳百川 the sea", "second text", "第三"]
    whole, _ = Meter(opened).count(texts)
    parts = sum((Meter(opened).count([text])[0] for text in texts), Counts())
    whole.seconds = parts.seconds = 0.0
    assert whole == parts
    assert Counts().rates()["bytes_per_token"] is None
    assert Counts().rates()["megabytes_per_second"] is None


def test_batches_keep_order_and_lose_nothing() -> None:
    texts = ["x" * 100_000, "", "y" * 200_000, *("z" * 3 for _ in range(5))]
    groups = list(batches(texts))
    assert [text for group in groups for text in group] == texts
    assert len(groups) == 2
    assert list(batches([])) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("海", "Han"),
        ("々", "Han"),
        ("〇", "Han"),
        ("\U00020000", "Han"),
        ("豈", "Han"),
        ("é", "Latin"),
        ("Ａ", "Latin"),
        ("ﾊ", "kana"),
        ("ｶﾅ", "kana"),
        ("한", "Hangul"),
        ("Ж", "Cyrillic"),
        ("Ω", "Greek"),
        ("ع", "Arabic"),
        ("ไ", "other letters"),
        ("3", "numbers"),
        ("３", "numbers"),
        ("½", "numbers"),
        ("，但是", "Han"),
        (" of the", "Latin"),
        ("海a", "several scripts"),
        ("。", "punctuation and symbols"),
        ("🤖", "punctuation and symbols"),
        (" 3.", "numbers"),
        ("\u3000\n", "spaces and line ends"),
        ("\x00", "control and unassigned"),
        ("\ue000", "control and unassigned"),
    ],
)
def test_scripts(text: str, name: str) -> None:
    assert CLASSES[class_of_piece(text.encode())] == name


@given(text=st.text(max_size=20))
def test_classes_of_arrays_are_those_of_characters(text: str) -> None:
    points = np.array([ord(character) for character in text], np.uint32)
    assert classes_of(points).tolist() == [class_of(character) for character in text]
    han = [character for character in text if unicodedata.name(character, "").startswith("CJK UNIFIED")]
    assert all(name_of(character) == "Han" for character in han)


def test_parts_of_characters() -> None:
    assert CLASSES[class_of_piece("海".encode()[:2])] == "bytes and parts of characters"
    assert [is_fragment(piece) for piece in ("Ġthe", "æµ·", "æµ", "<s>")] == [False, False, True, False]
    kinds = np.array([PieceKind.BYTE], np.uint8)
    assert CLASSES[classes_of_pieces([b"a"], kinds)[0]] == "bytes and parts of characters"


def test_compression_of_a_tokenizer_folder(tmp_path: Any) -> None:
    _byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    found = compression(TokenizerFile(tmp_path), iter(["海", "ab"]))
    assert found == {
        "bytes_per_token": 1.0,
        "tokens_per_character": round(5 / 3, 4),
        "byte_tokens_share": 0.6,
        "bytes": 5,
        "characters": 3,
        "tokens": 5,
    }
    assert compression(TokenizerFile(tmp_path), [])["bytes_per_token"] == 0.0
