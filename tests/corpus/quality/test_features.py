"""Features against plain ones on any text, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.quality.features import CHUNK, DENSE, extract_features, pack_clean
from haina.corpus.quality.features_plain import features_plain
from haina.corpus.quality.model import logits_plain, measure, measure_plain, pack_weights

BITS = 12
WEIGHTS = np.random.default_rng(0).integers(-127, 128, (1 << BITS, 5)).astype(np.int8)
SCALES = np.array([0.5, 0.01, 1.0, 0.1, 0.2], dtype=np.float32)
PIVOTS = np.array([1.5, -0.2, 0.0, 3.0, 0.7], dtype=np.float32)
SAMPLES = [
    "",
    "a",
    "海",
    "海纳百川，有容乃大。The sea takes in a hundred rivers.\n第２行：ＡＢＣ 12.5%！",
    "電腦 與 軟體\r\n\n\n（括號）“引號”‘單’",
    "\0\ufffd\ue000\u0301 עברית العربية 한국어 ひらがな 𠀀𠮷 🙂",
    "x" * 300 + " " + "好" * 300,
    "don’t don't DON'T",
]


def check(text: str) -> None:
    ids, pairs, dense = extract_features(text, BITS)
    plain_ids, plain_pairs, plain_dense = features_plain(text, BITS)
    assert ids.tolist() == plain_ids
    assert [tuple(pair) for pair in pairs.tolist()] == plain_pairs
    np.testing.assert_allclose(dense, plain_dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", SAMPLES)
def test_features_equal_the_plain_ones(text: str) -> None:
    check(text)


@settings(max_examples=150)
@given(st.text(max_size=60))
def test_features_equal_the_plain_ones_on_any_text(text: str) -> None:
    check(text)


@settings(max_examples=150)
@given(st.text(alphabet="的一是在，。 \nabcD1！的的the ", max_size=200))
def test_features_equal_the_plain_ones_on_dense_text(text: str) -> None:
    check(text)


def test_measure_equals_the_plain_one_across_chunks() -> None:
    texts = [*SAMPLES, "海纳百川，有容乃大。 abc" * (CHUNK // 10), "a much longer word" * 900]
    columns = measure(*pack_clean(texts), pack_weights(WEIGHTS), SCALES, PIVOTS)
    for text, row in zip(texts, columns, strict=True):
        np.testing.assert_allclose(row, measure_plain(text, WEIGHTS, SCALES, PIVOTS), rtol=2e-4, atol=2e-4)


def test_a_document_does_not_depend_on_its_neighbours() -> None:
    alone = measure(*pack_clean([SAMPLES[3]]), pack_weights(WEIGHTS), SCALES, PIVOTS)[0]
    among = measure(*pack_clean([SAMPLES[3], SAMPLES[4], SAMPLES[3]]), pack_weights(WEIGHTS), SCALES, PIVOTS)
    assert np.array_equal(among[0], alone)
    assert np.array_equal(among[2], alone)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("这个软件可以处理电脑里的数据", "這個軟件可以處理電腦裏的數據"),
        ("第１２页ＡＢＣ，好", "第34页abc,好"),
        ("The Year 1999", "the year 2024"),
    ],
)
def test_variants_width_case_and_digits_are_folded(left: str, right: str) -> None:
    assert extract_features(left, 18)[0].tolist() == extract_features(right, 18)[0].tolist()


def test_dense_numbers_say_what_they_mean() -> None:
    def dense(text: str) -> dict[str, float]:
        return dict(zip(DENSE, extract_features(text, BITS)[2].tolist(), strict=True))

    assert dense("好！好！好！")["emphasis"] == pytest.approx(0.5)
    assert dense("ABcd")["upper"] == pytest.approx(0.5)
    assert dense("一二三四。\n五六七八")["line_ends"] == pytest.approx(0.5)
    assert dense("首页 新闻 体育")["han_spaces"] == pytest.approx(2 / 6)
    assert dense("abc 好123")["digits"] == pytest.approx(3 / 7)
    assert dense("\ufffd好")["unreadable"] == pytest.approx(0.5)
    loop = dense("我们今天去海边散步吧" * 20)
    assert loop["repeated_6"] > 0.9
    assert dense("我们今天去海边散步吧")["repeated_6"] == 0


def test_order_counts() -> None:
    ordered = extract_features("甲乙丙丁戊己庚辛壬癸子丑", 18)[0]
    mixed = extract_features("丑甲乙丙丁戊己庚辛壬癸子", 18)[0]
    assert sorted(ordered.tolist()) != sorted(mixed.tolist())


def test_logits_are_flat_beyond_the_knots() -> None:
    knots = np.array([[0.0, 1.0, 3.0]], dtype=np.float32)
    curves = np.array([[-1.0, 0.0, 2.0]], dtype=np.float32)
    rows = np.array([[-9.0], [0.5], [2.0], [99.0]], dtype=np.float32)
    assert logits_plain(rows, knots, curves, 0.5).tolist() == [-0.5, 0.0, 1.5, 2.5]
