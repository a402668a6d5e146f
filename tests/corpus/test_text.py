"""Encoding, extraction, language and signals: Chinese and English alike, and what hostile pages do to them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus import extract_page, identify_language
from haina.corpus.config import CorpusConfig
from haina.corpus.encoding import UndecodableError, codec_name, decode, plausibility
from haina.corpus.extract import MAX_DEPTH, nesting_depth
from haina.corpus.records import clean_text
from haina.corpus.signals import first_broken, measure

HANS = "今天天气很好，我们在学习自然语言处理。版本控制系统可以记录文件的每一次修改，方便多人协作开发软件。"
HANT = "今天天氣很好，我們在學習自然語言處理。版本控制系統可以記錄檔案的每一次修改，方便多人協作開發軟體。"
ENGLISH = "The weather is fine today, and we are learning how version control records every change to a file."


@pytest.mark.parametrize(
    ("text", "encodings"),
    [
        (HANS, ["utf-8", "gb18030", "utf-16-le", "utf-16-be", "utf-16", "utf-8-sig"]),
        (HANT, ["utf-8", "big5", "gb18030", "utf-16-le", "utf-16-be"]),
        (ENGLISH + " “Café” costs £5.", ["utf-8", "cp1252", "utf-16-le", "utf-16-be"]),
    ],
)
def test_undeclared_encodings_are_found(text: str, encodings: list[str]) -> None:
    for encoding in encodings:
        for sample in (text, text * 40, text[:20]):
            assert decode(sample.encode(encoding)).text == sample, encoding


def test_order_of_evidence() -> None:
    assert decode(HANS.encode("gbk"), "gb2312").encoding == "gb18030"
    assert decode(HANS.encode("utf-8"), "iso-8859-1").encoding == "utf-8"
    assert decode(HANS.encode("gbk"), "iso-8859-1").encoding == "gb18030"
    assert decode(b"<meta charset=big5>" + HANT.encode("big5")).encoding == "big5hkscs"
    lying = b'<meta http-equiv=Content-Type content="text/html; charset=utf-8">' + HANS.encode("gbk")
    assert decode(lying).encoding == "gb18030"
    assert decode("Привет, мир".encode("cp1251"), "windows-1251").text == "Привет, мир"
    assert codec_name("GB_2312-80") == "gb18030"
    assert codec_name("no-such-charset") is None
    assert decode(b"\xef\xbb\xbf" + HANS.encode(), "gbk").text == HANS


def test_a_few_damaged_bytes_do_not_cost_the_page() -> None:
    data = bytearray((HANS * 20).encode())
    data[301] = 0xFF
    assert HANS in decode(bytes(data)).text
    assert decode(HANS.encode()[:-1]).text == HANS[:-1]


def test_binary_is_undecodable() -> None:
    import random

    with pytest.raises(UndecodableError):
        decode(random.Random(7).randbytes(5000))


def test_plausibility_tells_right_from_wrong() -> None:
    for text, right, wrong in (
        (HANS, "gb18030", "big5hkscs"),
        (HANT, "big5", "gb18030"),
        (HANS, "utf-8", "gb18030"),
    ):
        assert plausibility(text) > plausibility(text.encode(right).decode(wrong, "replace")) + 0.5


@given(st.text())
def test_clean_text_is_always_encodable(text: str) -> None:
    clean_text(text + "\ud800\0\r\n").encode("utf-8")
    assert "\0" not in clean_text(text + "\0")


PAGE = """<html><head><title> 海纳 title </title><link rel="canonical" href="https://x.org/p"></head><body>
<header>Site name</header><nav><a href=/>首页</a> <a href=/s>Search</a></nav>
<div class="toc">目录 Contents</div>
<main><h1>标题 Heading</h1><p>第一段，<code>alpha</code>、<code>beta</code>和<i>x</i>（<b>y</b>）都是正文的一部分，足够长。</p>
<p>The second paragraph is in English &mdash; it is long enough to be taken for content by any rule.</p>
<ul><li>第一项是一个比较长的列表项目，包含说明文字。</li><li>The second item of the list is also fairly long text.</li></ul>
<table><tr><td>键</td><td>value one</td></tr><tr><td>二</td><td>value two</td></tr></table>
<pre>def f():
    return 1</pre></main>
<footer>版权所有 Copyright</footer></body></html>"""


def test_main_text_without_the_frame_of_the_site() -> None:
    page = extract_page(PAGE.encode("gb18030"), charset="gbk")
    assert page.title == "海纳 title"
    assert page.url == "https://x.org/p"
    for wanted in (
        "标题 Heading",
        "alpha、beta和x（y）都是",
        "English — it",
        "第一项",
        "second item",
        "键\tvalue one",
        "    return 1",
    ):
        assert wanted in page.text
    for frame in ("首页", "Search", "Contents", "Copyright", "Site name"):
        assert frame not in page.text


def test_hidden_alternatives_show_the_default() -> None:
    spans = (
        "<span class=s><span hidden=true id=m>偏好设置</span><span hidden=true id=d>工具选项</span></span>"
    )
    text = extract_page(
        f"<body><p>选择「{spans}」打开对话框，然后继续操作，直到完成所有的设置。</p></body>"
    ).text
    assert "选择「工具选项」打开" in text
    assert "偏好设置" not in text


@pytest.mark.parametrize(
    "html", ["", "<html>", "\0\0<p>", "<p>" + "\ud800", "<!-- ", "<a" * 50, "<script>x</script>"]
)
def test_fragments_do_not_crash(html: str) -> None:
    extract_page(html).text.encode("utf-8")


def test_deep_nesting_is_bounded() -> None:
    deep = "<div>" * 10_000 + "深处的文字 text in the deep" + "</div>" * 10_000
    assert nesting_depth(deep) > MAX_DEPTH
    start = time.monotonic()
    assert extract_page(f"<body>{deep}</body>").text == "深处的文字 text in the deep"
    assert time.monotonic() - start < 5
    assert nesting_depth("<p>x<li>y<br>" * 5000) == 0


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (HANS, "zh-Hans"),
        (HANT, "zh-Hant"),
        (ENGLISH, "en"),
        ("你好", "zh-Hans"),
        ("電腦軟體", "zh-Hant"),
        ("使用Python编写脚本", "zh-Hans"),
        ("今日は天気がいいので散歩します", "ja"),
        ("오늘은 날씨가 좋습니다", "ko"),
        ("Le temps est magnifique aujourd'hui et nous allons nous promener", "other"),
        ("Сегодня хорошая погода", "other"),
        ("", "other"),
        ("12345 --- !!!", "other"),
    ],
)
def test_language(text: str, language: str) -> None:
    found = identify_language(text)
    assert found.language == language
    assert 0 <= found.confidence <= 1


def test_language_reads_the_whole_page() -> None:
    page = "Menu Home Login Contact About Impressum Datenschutz Startseite Suche Hilfe.\n" + ENGLISH * 20
    assert identify_language(page).language == "en"


def test_bounds_and_overrides() -> None:
    values = measure("短", "zh-Hans")
    assert first_broken(values, CorpusConfig().bounds("zh-Hant")) == ("characters", "1 < 24")
    loose = CorpusConfig.model_validate(
        {"thresholds": {"zh": {"characters": {"min": 1}, "stop_word_share": {}, "mean_line_characters": {}}}}
    )
    assert first_broken(values, loose.bounds("zh-Hans")) is None
    assert first_broken(measure("too short", "en"), loose.bounds("en")) is not None


@pytest.mark.parametrize(
    "bad",
    [
        {"thresholds": {"zh": {"no_such_signal": {"min": 1}}}},
        {"thresholds": {"zh": {"bytes": {"min": 2, "max": 1}}}},
        {"permutations": 32},
        {"split_similarity": 0.9},
        {"languages": []},
        {"unknown": 1},
    ],
)
def test_wrong_configuration_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        CorpusConfig.model_validate(bad)
