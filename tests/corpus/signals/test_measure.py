"""Signals: the kernels against the plain reference, and both against values worked out by hand."""

from __future__ import annotations

import math
import random
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.signals import COUNT_SIGNALS, SIGNALS, measure, measure_batch, words_of
from haina.corpus.signals.reference import measure_plain

HANS = "今天天气很好，我们在学习自然语言处理。版本控制系统可以记录文件的每一次修改，方便多人协作开发软件。"
HANT = "今天天氣很好，我們在學習自然語言處理。版本控制系統可以記錄檔案的每一次修改，方便多人協作開發軟體。"
ENGLISH = "The weather is fine today, and we are learning how version control records every change to a file."

# What decides most: marks, line ends, bullets, addresses, terms, characters whose class hand-made tables get wrong.
PIECES = [
    *"。！？…，、“”’」）.!?,\"')-•* \n\t\r\u3000\x0b\x85", "\n\n", "...", "。。。", "……",
    *"电電〇々１Ａａ①½ﬁカ한éÉß\u0301\u200b\ufeff\ufffd\ue000😀𠀀\U000e0100\U000f0000", "３．１", "it's", "U.S.",
    "http://", "www.", "a@b.cn", "@", "#", "{", "lorem ipsum", "privacy policy", "JavaScript", "加微信", "澳門賭場",
    "the", "of", "的", "我们的", "學習", "word", "哈哈哈", "123", "Python3", "- item", "السلام", "न\u0947",
]  # fmt: skip
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=8).map(lambda pieces: "".join(pieces) * 9),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
)


def same(ours: dict[str, float], plain: dict[str, float]) -> None:
    assert list(ours) == list(plain) == list(SIGNALS)
    for name, value in ours.items():
        if name in COUNT_SIGNALS:
            assert value == plain[name], name
            assert isinstance(value, int), name
        else:
            assert value == pytest.approx(plain[name], rel=1e-9, abs=1e-12, nan_ok=True), name


@settings(max_examples=400)
@given(texts, st.sampled_from(["zh-Hans", "zh-Hant", "en", "fr"]))
def test_one_pass_equals_the_reference(text: str, language: str) -> None:
    same(measure(text, language), measure_plain(text, language))


@pytest.mark.parametrize("language", ["zh-Hans", "en"])
def test_long_texts_equal_the_reference(language: str) -> None:
    """Words, lines and paragraphs that repeat in every order, over several sizes of hash table."""
    rng = random.Random(3)
    for count in (100, 1000, 5000):
        words = [rng.choice(PIECES) for _ in range(40)]
        text = "".join(
            rng.choice(words) + rng.choice(["", " ", "，", "\n" * rng.randrange(3)]) for _ in range(count)
        )
        same(measure(text, language), measure_plain(text, language))


def test_a_batch_is_its_documents() -> None:
    """Nothing of one document is left in the next, whatever their order and size."""
    documents = [ENGLISH * 30, "", HANS, "a", "\n", HANT * 50, "{", ENGLISH, HANS]
    languages = ["en", "en", "zh-Hans", "en", "zh-Hans", "zh-Hant", "en", "zh-Hans", "zh-Hans"]
    columns = measure_batch(documents, languages)
    for row, (text, language) in enumerate(zip(documents, languages, strict=True)):
        same({name: column[row].item() for name, column in columns.items()}, measure(text, language))
    assert measure_batch([], [])["words"].shape == (0,)
    with pytest.raises(ValueError, match="2 texts with 1"):
        measure_batch(["a", "b"], ["en"])


def test_values_by_hand() -> None:
    values = measure("The cat sat.\nThe cat sat.\n\n电脑，", "en")
    expected = {
        "bytes": 26 + 1 + 9,
        "characters": 30,
        "words": 8,
        "sentences": 3,
        "lines": 3,
        "paragraphs": 2,
        "mean_line_characters": 9,
        "median_line_characters": 12,
        "longest_line_characters": 12,
        "median_word_characters": 3,
        "mean_sentence_words": 8 / 3,
        "mean_paragraph_words": 4,
        "median_paragraph_words": 4,
        "duplicate_line_share": 1 / 3,
        "duplicate_line_character_share": 12 / 27,
        "top_2gram_share": 2 / 7,
        "top_2gram_character_share": 2 * 6 / 20,
        "top_3gram_character_share": 2 * 9 / 20,
        "stop_word_share": 2 / 8,
        "han_share": 2 / 23,
        "uppercase_share": 2 / 18,
        "short_line_share": 1,
        "terminal_line_share": 2 / 3,
        "newline_word_ratio": 3 / 8,
        "prose_sentences": 2,
        "unique_word_share": 5 / 8,
        "letter_word_share": 8 / 11,
        "full_width_share": 1 / 23,
        "gopher_stop_words": 1,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected)


def test_words_part_han_from_latin() -> None:
    assert words_of("用Python3写_脚本 it's") == ["用", "Python3", "写", "脚", "本", "it", "s"]
    assert measure("用Python3写_脚本 it's", "zh-Hans")["words"] == 7


def test_full_width_digits_are_digits() -> None:
    values = measure("版本１２３４是新的", "zh-Hans")
    assert values["digit_share"] == pytest.approx(4 / 9)
    assert values["punctuation_share"] == 0
    assert measure("版本1234是新的", "zh-Hans")["digit_share"] == values["digit_share"]


def test_each_language_has_its_own_stop_words() -> None:
    assert measure("我的书", "zh-Hant")["stop_word_share"] == pytest.approx(2 / 3)
    assert measure("我的书", "yue")["stop_word_share"] == pytest.approx(2 / 3)
    assert measure("the book of a cat", "en")["stop_word_share"] == pytest.approx(3 / 5)
    assert measure(HANS, "en")["stop_word_share"] == 0
    assert measure("這是我們的與會", "zh-Hant")["stop_word_share"] == pytest.approx(
        measure("这是我们的与会", "zh-Hans")["stop_word_share"]
    )


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("他说：“走吧！”然后走了。", 2),
        ("It costs 3.14 dollars. He paid.", 2),
        ("价格是3.14元。真的？真的！！", 3),
        ("Wait... what?! Yes", 3),
        ("第一行\n第二行", 2),
        ("“。”。！", 0),
        ("See index.php?x=1 now", 1),
        ("", 0),
    ],
)
def test_sentences(text: str, sentences: int) -> None:
    assert measure(text, "zh-Hans")["sentences"] == sentences


def test_line_rules_know_marks_of_both_languages() -> None:
    for line in (
        "他来了。",
        "他来了？",
        "他说：“走。”",
        "（他来了！）",
        "He came.",
        'He said: "go."',
        "Really?)",
    ):
        assert measure(line, "zh-Hans")["terminal_line_share"] == 1, line
    for line in ("首页", "Home", "他来了，", "“他”", "(he)"):
        assert measure(line, "zh-Hans")["terminal_line_share"] == 0, line
    for line in ("点击阅读...", "更多…", "更多……", "更多。。。"):
        assert measure(line, "zh-Hans")["ellipsis_line_share"] == 1, line
    for line in ("- one", "• 一", "* one", "·一", "●一"):
        assert measure(line, "en")["bullet_line_share"] == 1, line
    assert measure("本站使用Cookie，请启用JavaScript。\n正文。", "zh-Hans")["policy_line_share"] == 0.5
    assert measure("Please read our Privacy  Policy.\nText.", "en")["policy_line_share"] == 0.5


def test_prose_is_what_c4_would_leave() -> None:
    prose = "He came back home. She was not there.\n他回到了家里。她不在。"
    assert measure(prose, "en")["prose_sentences"] == 4
    assert (
        measure(prose + "\nHome\n目录\nOh no.\nRead the story...\nEnable JavaScript to see it.", "en")[
            "prose_sentences"
        ]
        == 4
    )


@pytest.mark.parametrize(
    ("signal", "spam", "plain"),
    [
        ("gambling_terms", "澳门赌场百家乐，注册送彩金", HANS),
        ("gambling_terms", "澳門賭場百家樂，註冊送彩金", HANT),
        ("gambling_terms", "best online casino with free spins and no deposit bonus", ENGLISH),
        ("adult_terms", "成人视频 无码高清 日韩av 一夜情", HANS),
        ("adult_terms", "成人視頻 無碼高清", HANT),
        ("adult_terms", "free porn and live sex cams", ENGLISH),
        ("ad_terms", "加 微 信 领 取 优 惠 券，全国包邮", HANS),
        ("ad_terms", "全國包郵，立即購買", HANT),
        ("ad_terms", "BUY NOW! Free shipping, limited-time offer", ENGLISH),
        ("seo_terms", "友情链接 关键词排名 网站优化", HANS),
        ("seo_terms", "友情連結 關鍵詞排名", HANT),
        ("seo_terms", "cheap backlinks and SEO services to rank higher", ENGLISH),
    ],
)
def test_lexicons(signal: str, spam: str, plain: str) -> None:
    assert measure(spam, "en")[signal] > 20
    assert measure(plain, "en")[signal] == 0


def test_terms_do_not_count_inside_one_another() -> None:
    assert measure("色情网站", "zh-Hans")["adult_terms"] == pytest.approx(1000 / 4)
    assert measure("lorem ipsum Lorem\nIpsum {{", "en")["lorem_ipsum"] == 2


def test_addresses() -> None:
    values = measure(
        "邮箱zhang.san@example.cn请联系，see https://www.a.cn/x and www.b.com, x@y, @z.cn a@@b.c http:/x ://",
        "zh-Hans",
    )
    assert (values["urls"], values["emails"]) == (2, 1)


def test_damage_shows() -> None:
    assert measure("ab\x00\x01", "en")["control_share"] == 0.5
    assert measure("电脑\ufffd\ue000", "zh-Hans")["replacement_share"] == 0.5
    assert measure("開關开", "zh-Hans")["traditional_share"] == pytest.approx(2 / 3)


def test_perplexity_tells_text_from_noise() -> None:
    rng = random.Random(1)
    for text in (HANS, HANT, ENGLISH):
        shuffled = "".join(rng.sample(text, len(text)))
        assert measure(shuffled, "en")["bits_per_character"] > measure(text, "en")["bits_per_character"] + 1.5
    assert measure(HANS, "zh-Hans")["bits_per_character"] == pytest.approx(
        measure(HANS.replace("。", "。 \n"), "zh-Hans")["bits_per_character"], rel=0.15
    )


def test_compression_ratio_is_near_that_of_zlib() -> None:
    import zlib

    rng = random.Random(5)
    for text in (HANS, HANT, ENGLISH):
        for document in (
            text * 40,
            "".join(rng.choices(text, k=3000)),
            text + "".join(rng.choices(text, k=400)),
        ):
            data = document.encode()
            wanted = len(data) / len(zlib.compress(data, 1))
            assert measure(document, "en")["compression_ratio"] == pytest.approx(wanted, rel=0.25)


def test_shares_of_the_page() -> None:
    page = SimpleNamespace(link_share=0.25, main_share=0.5)
    values = measure(ENGLISH, "en", page)
    assert (values["link_share"], values["main_share"]) == (0.25, 0.5)
    assert math.isnan(measure(ENGLISH, "en")["link_share"])
    columns = measure_batch([HANS, HANS], ["zh-Hans"] * 2, [None, page])
    np.testing.assert_equal(columns["main_share"], [np.nan, 0.5])


@given(texts, st.sampled_from(["zh-Hans", "en"]))
def test_values_are_finite_and_shares_are_shares(text: str, language: str) -> None:
    values = {name: value for name, value in measure(text, language).items() if not math.isnan(value)}
    assert len(values) == len(SIGNALS) - 2
    assert all(0 <= value < 1e9 for value in values.values())
    assert all(value <= 1 for name, value in values.items() if name.endswith("_share"))


@pytest.mark.parametrize(
    "unit",
    ["啊", "a", "a ", "\n", "...", "@", "www.", "（", "'", "的\n", "\x00", "a\u0301", "no such line\n"],
)
def test_time_is_linear_in_hostile_input(unit: str) -> None:
    measure("warm", "en")
    start = time.monotonic()
    measure(unit * (2_000_000 // len(unit)), "zh-Hans")
    assert time.monotonic() - start < 3
