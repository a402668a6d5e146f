"""The fast encoder against the definition of BPE and against Hugging Face tokenizers, on hostile vocabularies."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from haina.runtime.bpe import FastEncoder, reference
from haina.runtime.bpe.rules import PATTERN
from haina.runtime.bpe.spans import classes, number_characters, span_end
from haina.runtime.bpe.tables import BEGINS, ENDS, addresses, build_tables, compatible
from haina.runtime.byte_pieces import byte_characters
from haina.runtime.errors import HainaError

SPECIAL = ["<s>", "</s>", "<pad>"]
MergeList = list[tuple[bytes, bytes]]
# Bytes that make hard cases: runs of one letter, two letters, characters that share bytes (海 and 测, , and 。), digits.
ALPHABETS = [
    b"a",
    b"ab",
    b"ab ",
    "海测".encode(),
    "，。的".encode(),
    b"a1\n",
    "a²①".encode(),
    "😀😁".encode(),
]
ODD = "0123٣²½①〇Ⅷ５𝟗 \t\r\n\x00\u3000\u200b，。的海e\u0301ﷺ한😀🏽‍‍𠀀\ufffd\U0010ffff<s></s>"


def spell(piece: bytes) -> str:
    names = {byte: character for character, byte in byte_characters().items()}
    return "".join(names[byte] for byte in piece)


def document(merges: MergeList, cuts: bool = True) -> dict[str, Any]:
    """A `tokenizer.json` with these merges; ids are not in the order of ranks."""
    pieces = [bytes([byte]) for byte in range(256)] + [first + second for first, second in merges]
    vocabulary = {name: number for number, name in enumerate(SPECIAL)}
    vocabulary |= {spell(piece): len(SPECIAL) + number for number, piece in enumerate(reversed(pieces))}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": name, **flags} for number, name in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]} if cuts else byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": vocabulary,
            "merges": [[spell(first), spell(second)] for first, second in merges],
        },
    }


def opened(content: dict[str, Any]) -> FastEncoder | None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return FastEncoder.open(path)


def ranks_of(merges: MergeList) -> dict[tuple[bytes, bytes], int]:
    return {pair: rank for rank, pair in enumerate(merges)}


@st.composite
def merge_lists(draw: st.DrawFn, sound: bool = True) -> MergeList:
    """Merges of random earlier pieces; if `sound`, only such that each piece encodes to itself."""
    pieces = sorted({bytes([byte]) for byte in draw(st.sampled_from(ALPHABETS))})
    merges: MergeList = []
    for first, second in draw(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=30)):
        pair = (pieces[first % len(pieces)], pieces[second % len(pieces)])
        piece = pair[0] + pair[1]
        if piece in pieces or len(piece) > 12:
            continue
        if sound and reference.encode(piece, ranks_of([*merges, pair])) != [piece]:
            continue
        merges.append(pair)
        pieces.append(piece)
    return merges


@st.composite
def texts_for(draw: st.DrawFn, merges: MergeList) -> bytes:
    """Bytes made of the pieces and of everything else."""
    pieces = [first + second for first, second in merges] + [first for first, _ in merges] + [b"a", b"\xe6"]
    parts = st.one_of(
        st.sampled_from(pieces),
        st.sampled_from(ODD).map(str.encode),
        st.text(max_size=3).map(
            lambda text: text.encode("utf-8", "surrogatepass")
        ),  # surrogates are no UTF-8
        st.binary(max_size=3),
    )
    return b"".join(draw(st.lists(parts, max_size=14)))


def expected_ids(text: bytes, content: dict[str, Any], merges: MergeList, cuts: bool) -> list[int]:
    stretches = reference.spans(text, number_characters() if cuts else frozenset(), "\r\n" if cuts else "")
    ranks, vocabulary = ranks_of(merges), content["model"]["vocab"]
    return [vocabulary[spell(piece)] for span in stretches for piece in reference.encode(span, ranks)]


@settings(max_examples=250)
@given(st.data(), merge_lists(), st.booleans())
def test_any_bytes_get_the_ids_of_the_definition_and_come_back(
    data: st.DataObject, merges: MergeList, cuts: bool
) -> None:
    content = document(merges, cuts)
    encoder = opened(content)
    assert encoder is not None
    texts = [data.draw(texts_for(merges)) for _ in range(3)]
    expected = [expected_ids(text, content, merges, cuts) for text in texts]
    assert [encoder.encode(text).tolist() for text in texts] == expected
    assert [encoder.decode_bytes(ids) for ids in expected] == texts
    ids, offsets = encoder.encode_batch(texts)
    assert [ids[start:end].tolist() for start, end in pairwise(offsets)] == expected


@settings(max_examples=300)
@given(st.randoms(use_true_random=False), merge_lists())
def test_long_rows_of_few_letters_get_the_ids_of_the_definition(
    rng: random.Random, merges: MergeList
) -> None:
    """Where the longest piece is often wrong, and taking it back is not enough."""
    content = document(merges, cuts=False)
    encoder = opened(content)
    assert encoder is not None
    letters = sorted({bytes([byte]) for pair in merges for byte in pair[0] + pair[1]}) or [b"a"]
    text = b"".join(rng.choices(letters, k=120)).decode("utf-8", "ignore").encode()
    assert encoder.encode(text).tolist() == expected_ids(text, content, merges, False)


@settings(max_examples=150)
@given(st.data(), merge_lists(), st.booleans())
def test_strings_get_the_ids_of_tokenizers(data: st.DataObject, merges: MergeList, cuts: bool) -> None:
    content = document(merges, cuts)
    encoder, peer = opened(content), Tokenizer.from_str(json.dumps(content))
    peer.encode_special_tokens = True
    assert encoder is not None
    for _ in range(4):
        text = data.draw(texts_for(merges)).decode("utf-8", "ignore")
        assert encoder.encode(text).tolist() == peer.encode(text, add_special_tokens=False).ids


@settings(max_examples=200)
@given(merge_lists(sound=False))
def test_a_piece_that_does_not_encode_to_itself_is_declined(merges: MergeList) -> None:
    ranks = ranks_of(merges)
    sound = all(reference.encode(first + second, ranks) == [first + second] for first, second in merges)
    assert (opened(document(merges)) is not None) == sound


@settings(max_examples=200)
@given(merge_lists())
def test_two_pieces_are_compatible_if_they_encode_to_themselves(merges: MergeList) -> None:
    from haina.runtime.bpe.rules import read_merges

    read = read_merges(document(merges))
    assert read is not None
    built = build_tables(read)
    assert built is not None
    tables, pieces = built
    at, ranks = addresses(tables), ranks_of(merges)
    used = [number for number, piece in enumerate(pieces) if number >= 256 or piece in b"ab "]
    for first in used:
        for second in used:
            joined = pieces[first] + pieces[second]
            whole = reference.encode(joined, ranks) == [pieces[first], pieces[second]]
            assert compatible(first, second, at, 0) == whole
            # The bits may raise a false alarm, never miss one.
            assert whole or int(tables.rows[first, ENDS]) & int(tables.rows[second, BEGINS])


@pytest.mark.parametrize(
    ("merges", "text", "expected"),
    [
        # A and the second byte of Á have their lower six bits in common: the merge says nothing of Á.
        ([(b"\xc3", b"A")], "ÁA", [b"\xc3", b"\x81", b"A"]),
        ([(b"b", b"c"), (b"a", b"b")], "abc", [b"a", b"bc"]),  # the later merge does not stop the earlier one
        ([(b"a", b"b"), (b"b", b"c")], "abc", [b"ab", b"c"]),
        ([(b"a", b"a")], "aaaaa", [b"aa", b"aa", b"a"]),
        ([(b"a", b"a"), (b"aa", b"a")], "aaaaa", [b"aa", b"aaa"]),
    ],
)
def test_rows_that_a_reader_can_check(merges: MergeList, text: str, expected: list[bytes]) -> None:
    content = document(merges)
    encoder = opened(content)
    assert encoder is not None
    vocabulary = content["model"]["vocab"]
    assert encoder.encode(text).tolist() == [vocabulary[spell(piece)] for piece in expected]


def kernel_spans(text: bytes, cuts: bool = True) -> list[bytes]:
    first, numbers = classes(cuts)
    data = np.frombuffer(text, np.uint8)
    out, place = [], 0
    while place < len(text):
        end, _ = span_end(data.ctypes.data, place, len(text), first.ctypes.data, numbers.ctypes.data)
        out.append(text[place:end])
        place = end
    return out


@settings(max_examples=300)
@given(
    st.lists(st.one_of(st.binary(max_size=5), st.text(ODD + "letters of a word").map(str.encode))).map(
        b"".join
    )
)
def test_spans_are_those_of_the_pattern(text: bytes) -> None:
    assert kernel_spans(text) == reference.spans(text, number_characters())
    assert b"".join(kernel_spans(text, cuts=False)) == text


def test_every_character_is_cut_as_tokenizers_cuts_it() -> None:
    from tokenizers import Regex, pre_tokenizers

    cutter = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    for plane in range(17):
        codes = (code for code in range(plane << 16, (plane + 1) << 16) if not 0xD800 <= code < 0xE000)
        text = "a".join(map(chr, codes))
        assert kernel_spans(text.encode()) == [span.encode() for span, _ in cutter.pre_tokenize_str(text)]


@pytest.mark.parametrize(
    "text", [b"\xe6\xb5", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xff"]
)
def test_bytes_that_are_no_utf8_stand_alone(text: bytes) -> None:
    assert kernel_spans(b"a" + text + b"b") == [b"a", *(bytes([byte]) for byte in text), b"b"]


def changed(path: str, value: object) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        content = document([(b"a", b"b"), (b"ab", b"a")])
        *parents, last = path.split(".")
        place: Any = content
        for parent in parents:
            place = place[int(parent) if isinstance(place, list) else parent]
        place[int(last) if isinstance(place, list) else last] = value
        return content

    return make


@pytest.mark.parametrize(
    "make",
    [
        changed("normalizer", {"type": "NFC"}),
        changed("pre_tokenizer", None),
        changed("pre_tokenizer.pretokenizers.0.pattern", {"Regex": r"\p{N}"}),
        changed("pre_tokenizer.pretokenizers.0.behavior", "Removed"),
        changed("pre_tokenizer.pretokenizers.1.use_regex", True),
        changed("pre_tokenizer.pretokenizers.1.add_prefix_space", True),
        changed("added_tokens.0.special", False),
        changed("model.type", "WordPiece"),
        changed("model.dropout", 0.1),
        changed("model.ignore_merges", True),
        changed("model.end_of_word_suffix", "</w>"),
        changed("model.merges", [["a", "b"], ["a", "b"]]),
        changed("model.merges", [["ab", "a"], ["a", "b"]]),
        changed("model.merges", [["a", "b"], ["b", "a"]]),
        changed("model.vocab.a", 5),
    ],
)
def test_other_files_are_declined(make: Callable[[], dict[str, Any]]) -> None:
    assert opened(make()) is None


def test_old_files_write_merges_in_one_string() -> None:
    content = changed("model.merges", ["a b", "ab a"])()
    encoder = opened(content)
    assert encoder is not None
    assert encoder.decode_bytes(encoder.encode("ababa")) == b"ababa"
    assert len(encoder.encode("ababa")) == 2


def test_half_a_surrogate_pair_in_a_string_is_named() -> None:
    encoder = opened(document([]))
    assert encoder is not None
    with pytest.raises(HainaError, match=r"U\+D800 at character 1"):
        encoder.encode("海\ud800")
    with pytest.raises(HainaError, match=r"U\+D800 at character 1"):
        encoder.encode_batch(["a", "海\ud800"])


def test_an_id_outside_the_vocabulary_is_named() -> None:
    encoder = opened(document([]))
    assert encoder is not None
    assert encoder.decode_bytes([0, 3, 1]) == b"\xff"
    with pytest.raises(HainaError, match="id 259 "):
        encoder.decode_bytes([3, 259])
