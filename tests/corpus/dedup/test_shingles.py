"""Tokens, shingles and keys: kernels against their plain counterparts, and what folding promises."""

from __future__ import annotations

import random
import unicodedata
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.dedup.plain import key_plain, shingles_plain, tokens_plain
from haina.corpus.dedup.shingles import exact_key, shingle_sets, shingles_of, tokenize_batch, tokens_of
from haina.corpus.dedup.uniform_sort import MOST_BITS, sort_hashes
from haina.corpus.utf8 import pack

SIMPLIFIED = "这台计算机里面的软件，可以帮助用户整理很长的中文文档；后来头发干了，于是征求意见。"
TRADITIONAL = "這臺計算機裏面的軟件，可以幫助用戶整理很長的中文文檔；後來頭髮乾了，於是徵求意見。"
ENGLISH = "The librarian's Café re-opened at 10:30 on 5 May 2021 – internationalization guaranteed!"
# Characters that make trouble somewhere, beside plain ones of every kind.
AWKWARD = (
    "中文電腦电脑，。！々〇㍿㈱㎏½①⑴ﬁﷺﷻＡｂ１２，ａ\u0301\u0323\u0327\u0345\u00ad\u200b\u200d\ufe0f\u034f"
    "éÉệẞßſςΣİıǅκόσμεМосква가각힣한ᄒ\u1161\u11abかが\u3099カｶﾞﾊﾟーประเทศไทยالعَرَبِيَّة\u0653שָׁלוֹם"
    "देवनागरी😀👍🏽🇨🇳1️⃣𠀀𪚥\U000323af𐐀𐐨𝐀𝟏\u00a0\u3000\u2028\ufeff\ufffd\x00 \t\r\n'-_.,:;!?#@/azAZ09"
)
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(AWKWARD),
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(
            ["the ", "internationalization", "中文", "a" * 63, "b" * 64, " " * 70, "é" * 9, "。"]
        ),
    ),
    max_size=60,
).map("".join)
WORDS = st.sampled_from(
    [b"a", b"word ", b"x" * 63, b"\xe4\xb8\xad", b"\xe4\xb8", b"\xed\xa0\x80", b"\xe0\x81\x81", b"\xc0\x80", b"\xf0\x90\x80",
     b"\xf4\x90\x80\x80", b"\xf8\x88", b"\xff", b"\x80", b"\xef\xbc\x8c", b"\xcc\x81", b"\xc2\xad", b" " * 60]
)  # fmt: skip
HOSTILE = st.lists(st.one_of(WORDS, st.binary(max_size=12)), max_size=40).map(b"".join)
SPACE = b" " * 80


def batch_of(documents: list[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Documents one after the other, valid UTF-8 or not."""
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    return np.frombuffer(b"".join(documents), dtype=np.uint8), offsets


def tokens_by_kernel(documents: list[bytes]) -> list[list[tuple[int, int, int]]]:
    """(hash, start, end) of the tokens of each document, as `tokens_plain` gives them."""
    tokens = tokenize_batch(*batch_of(documents))
    rows = list(zip(tokens.hashes.tolist(), tokens.starts.tolist(), tokens.ends.tolist(), strict=True))
    bounds = tokens.documents.tolist()
    return [rows[start:end] for start, end in pairwise(bounds)]


def same(left: str, right: str) -> bool:
    """Whether two texts have the same tokens, at least one."""
    tokens = tokens_of(left)
    return len(tokens) > 0 and np.array_equal(tokens, tokens_of(right))


@given(st.lists(TEXTS, max_size=4))
def test_kernel_equals_plain_on_any_text(texts: list[str]) -> None:
    # Spaces behind the last text let the paths for whole blocks see all of it; without, they must not look there.
    documents = [text.encode("utf-8") for text in texts]
    plain = [tokens_plain(document) for document in documents]
    assert tokens_by_kernel(documents) == plain
    assert tokens_by_kernel([*documents, SPACE])[:-1] == plain


@given(st.lists(HOSTILE, max_size=4))
def test_kernel_equals_plain_on_hostile_bytes(documents: list[bytes]) -> None:
    plain = [tokens_plain(document) for document in documents]
    assert tokens_by_kernel(documents) == plain
    assert tokens_by_kernel([*documents, SPACE])[:-1] == plain


@pytest.mark.parametrize("text", [SIMPLIFIED, TRADITIONAL, ENGLISH, AWKWARD, ENGLISH + SIMPLIFIED])
def test_every_cut_of_a_text_equals_plain(text: str) -> None:
    raw = text.encode("utf-8")
    documents = [raw[cut:] for cut in range(0, len(raw), 3)] + [raw[:cut] for cut in range(0, len(raw), 3)]
    assert tokens_by_kernel(documents) == [tokens_plain(document) for document in documents]


def test_documents_do_not_see_their_neighbours() -> None:
    assert tokens_by_kernel([b"wor", b"d", b"e", "\u0301f".encode(), b"\xe4\xb8", b"\xad"]) == [
        tokens_plain(document) for document in (b"wor", b"d", b"e", "\u0301f".encode(), b"\xe4\xb8", b"\xad")
    ]


def test_spans_are_bytes_of_the_document() -> None:
    raw = "前言Ａbc，cafe\u0301\u00ad end".encode()
    spans = [raw[start:end].decode() for _, start, end in tokens_by_kernel([b"before ", raw])[1]]
    assert spans == ["前", "言", "Ａbc", "cafe\u0301", "end"]


def test_tokens_of_mixed_text() -> None:
    assert len(tokens_of("使用Python3编程：3.14，don't；一二三")) == 12


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (SIMPLIFIED, TRADITIONAL),
        ("电话１３８ＡＢｃ", "電話138abc"),
        ("他说：“你好！”（笑）", "他說，你好 笑。"),
        ("STRASSE und Straße", "straße UND strasse"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("ﬁne ㎏ ① ㈱ ½", "fine kg 1 株 1 2"),
        ("co\u00adope\u200drate", "cooperate"),
        ("葛\U000e0100飾", "葛飾"),
        ("ｶﾞｷﾞ", "ガギ"),
    ],
)
def test_what_folding_takes_away(left: str, right: str) -> None:
    assert same(left, right)
    assert exact_key(left) == exact_key(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("12 3", "1 23"),
        ("ab", "ba"),
        ("中文", "文中"),
        ("か", "が"),
        ("cafe", "café"),
        ("한", "하"),
        ("湡", "an"),
    ],
)
def test_what_folding_keeps(left: str, right: str) -> None:
    assert not same(left, right)


@given(TEXTS)
def test_normal_forms_have_the_same_tokens(text: str) -> None:
    # Marks without an open run are nothing; behind a letter every mark counts.
    forms = [unicodedata.normalize(form, "a" + text) for form in ("NFC", "NFD")]
    assert np.array_equal(tokens_of(forms[0]), tokens_of(forms[1]))


def test_marks_are_put_in_order_even_when_there_are_many() -> None:
    marks = ["\u0301", "\u0323", "\u0345", "\u0327", "\u0653", "\u0302"]
    rng = random.Random(1)
    for count in (2, 6, 29, 30, 31, 90):
        chosen = "".join(rng.choice(marks) for _ in range(count))
        raw = f"q{chosen} w".encode()
        assert tokens_by_kernel([raw, SPACE])[0] == tokens_plain(raw)
        if count <= 30:
            assert same("q" + chosen, unicodedata.normalize("NFD", "q" + chosen))


@pytest.mark.parametrize("script", ["s2t", "s2tw", "s2hk"])
def test_script_variants_have_the_same_tokens(script: str) -> None:
    from opencc import OpenCC

    text = SIMPLIFIED + "他跟着我卫生台湾叙述，了解覆盖，凭借，坐标，复苏。"
    assert same(text, OpenCC(script).convert(text))


def test_long_words_spaces_and_empty_texts() -> None:
    word = "Ab1" * 70_000
    documents = [b"", word.encode(), b" " * 1_000_000, "。".encode() * 10_000, b""]
    tokens = tokenize_batch(*batch_of(documents))
    assert np.diff(tokens.documents).tolist() == [0, 1, 0, 0, 0]
    assert tokens.hashes[0] == tokens_plain(word.encode())[0][0]
    assert (tokens.starts[0], tokens.ends[0]) == (0, len(word))


def test_more_tokens_than_room_was_made_for() -> None:
    # One token in two bytes, and four from three bytes.
    raw = b"a " * 5000 + "ﷺ".encode() * 3000
    assert tokens_by_kernel([raw]) == [tokens_plain(raw)]


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 12))
def test_shingles_equal_plain(values: list[int], width: int) -> None:
    tokens = np.array(values, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert shingles_of(tokens, width).tolist() == sorted(set(shingles_plain(tokens.tolist(), width)))


@settings(max_examples=40)
@given(st.lists(TEXTS, max_size=5), st.integers(1, 7))
def test_shingle_sets_equal_those_of_single_texts(texts: list[str], width: int) -> None:
    sets = shingle_sets(*pack(texts), width)
    assert len(sets.starts) == len(texts) + 1
    for index, text in enumerate(texts):
        own = sets.shingles[sets.starts[index] : sets.starts[index + 1]]
        assert np.array_equal(own, shingles_of(tokens_of(text), width))


def test_shingle_sets_of_long_and_repetitive_documents() -> None:
    rng = random.Random(0)
    documents = [
        b"a b c d e f " * 20_000,
        bytes(rng.choice(b"abcdefgh ") for _ in range(300_000)),
        b"a " * 9000,
    ]
    sets = shingle_sets(*batch_of(documents), 5)
    for index, document in enumerate(documents):
        hashes = [token for token, _, _ in tokens_plain(document)]
        own = sets.shingles[sets.starts[index] : sets.starts[index + 1]].tolist()
        assert own == sorted(set(shingles_plain(hashes, 5)))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50, 1000, 2**15, 2**15 + 1, 300_000])
@pytest.mark.parametrize("different", [1, 2, 100, 2**40])
def test_sort_hashes(count: int, different: int) -> None:
    rng = np.random.default_rng(count)
    values = rng.integers(0, different, count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    # And some that share their upper bits, as no hashes do.
    values[: count // 3] >>= np.uint64(50)
    expected = np.sort(values)
    sort_hashes(values, np.empty_like(values), np.empty(2 << MOST_BITS, dtype=np.int64))
    assert np.array_equal(values, expected)


@given(TEXTS)
def test_key_equals_plain(text: str) -> None:
    raw = text.encode("utf-8")
    assert exact_key(text) == key_plain([token for token, _, _ in tokens_plain(raw)], raw)
    assert exact_key(text, tokens_of(text)) == exact_key(text)


def test_texts_without_tokens_stand_for_themselves() -> None:
    texts = ["", " ", "。", "...", "....", "😀", "😀😀", "\u0301"]
    assert len({exact_key(text) for text in texts}) == len(texts)
    assert all(len(tokens_of(text)) == 0 for text in texts)


def test_order_and_number_of_tokens_change_the_key() -> None:
    texts = ["a b c", "c b a", "a b", "a b c c", "a c b", "b a c", "a a b c"]
    assert len({exact_key(text) for text in texts}) == len(texts)


def test_hashes_do_not_change() -> None:
    # Signatures are written to disk: another hash is another format.
    assert [hex(token) for token in tokens_of("Ａ long-internationalization 電").tolist()] == [
        "0x8e6e70878a8d4d71",
        "0x9394e97e5e54805b",
        "0x6bd18da62cf6c5c3",
        "0x8d60dc06476723ce",
    ]


@pytest.mark.parametrize(
    ("offsets", "width"), [([], 1), ([0, 4], 1), ([-1, 3], 1), ([0, 2, 1], 1), ([0, 3], 0)]
)
def test_offsets_outside_of_the_data_are_refused(offsets: list[int], width: int) -> None:
    with pytest.raises(ValueError, match=r"offsets|shingle"):
        shingle_sets(np.zeros(3, dtype=np.uint8), np.array(offsets, dtype=np.int64), width)
