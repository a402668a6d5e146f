"""Languages of documents and segments: every class, and what is easily taken for another."""

from __future__ import annotations

import inspect
import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.characters import code_points
from haina.corpus.language import (
    chinese_variant,
    identify_batch,
    identify_language,
    identify_segments,
    variant_table,
)
from haina.corpus.language.tables import japanese_table

HANS = "今天天气很好，我们在学习自然语言处理。版本控制系统可以记录文件的每一次修改，方便多人协作开发软件。"
HANT = "今天天氣很好，我們在學習自然語言處理。版本控制系統可以記錄檔案的每一次修改，方便多人協作開發軟體。"
YUE = "今日天氣幾好，我哋喺度學緊自然語言處理。呢個系統可以記低啲檔案每一次改咗啲乜嘢，咁樣大家一齊做嘢就方便好多。"
YUE_HANS = "今日天气几好，我哋喺度学紧自然语言处理。呢个系统可以记低啲档案每一次改咗啲乜嘢，咁样大家一齐做嘢就方便好多。"
ENGLISH = (
    "The weather is fine today, and we are learning how version control records every change to a file. "
)
JAPANESE = "今日は天気がいいので、自然言語処理を勉強しています。版管理はファイルの変更をすべて記録します。"
KOREAN = "오늘은 날씨가 좋아서 자연어 처리를 공부하고 있습니다. 버전 관리는 파일의 모든 변경을 기록합니다."
GERMAN = "Das Wetter ist heute schön, und wir lernen, wie die Versionsverwaltung jede Änderung einer Datei festhält. "
RUSSIAN = "Сегодня хорошая погода, и мы изучаем, как система управления версиями записывает каждое изменение файла. "
POEM = "國破山河在，城春草木深。感時花濺淚，恨別鳥驚心。烽火連三月，家書抵萬金。白頭搔更短，渾欲不勝簪。"
CODE = {
    "python": inspect.getsource(json.JSONDecoder),
    "chinese comments": "# 读取配置文件\ndef load(path):\n    # 如果不存在就返回空\n    if not path.exists():\n        return {}\n    with open(path) as f:\n        return json.load(f)  # 解析内容\n",
    "c": '#include <stdio.h>\n\nint main(int argc, char **argv) {\n    for (int i = 0; i < argc; i++) {\n        printf("%s\\n", argv[i]);\n    }\n    return 0;\n}\n',
    "html": '<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>x</title></head>\n<body class="a"><div id="b"><a href="/c.html">d</a></div></body></html>\n',
    "sql": "SELECT u.id, u.name, COUNT(*) AS n\nFROM users u\nLEFT JOIN orders o ON o.user_id = u.id\nWHERE u.created_at > '2020-01-01'\nGROUP BY u.id, u.name;\n",
    "shell": '#!/bin/sh\nset -e\nfor f in "$@"; do\n  if [ -f "$f" ]; then\n    grep -n "x" "$f" | sort -u > "${f%.txt}.out"\n  fi\ndone\n',
    "json": '{"name": "haina", "version": "0.1.0", "items": [{"id": 1, "tags": ["a", "b"]}, {"id": 2, "tags": []}], "ok": true}\n',
    "trace": 'Traceback (most recent call last):\n  File "/app/main.py", line 12, in <module>\n    run(config["x"])\n  File "/app/run.py", line 40, in run\n    raise ValueError(f"bad {x!r}")\nValueError: bad None\n',
    "js": "export const get = async (url) => {\n  const res = await fetch(url, { method: 'GET' });\n  if (!res.ok) { throw new Error(`HTTP ${res.status}`); }\n  return res.json();\n};\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "language", "detail"),
    [
        (HANS * 5, "zh-Hans", ""), (HANT * 5, "zh-Hant", ""), (YUE * 5, "yue", ""), (YUE_HANS * 5, "yue", ""), (ENGLISH * 5, "en", ""),
        (JAPANESE * 5, "ja", ""), (KOREAN * 5, "ko", ""), (GERMAN * 5, "other", "de"), (RUSSIAN * 5, "other", "ru"), (POEM * 3, "zh-Hant", ""),
    ],
)  # fmt: skip
def test_documents_and_segments(text: str, language: str, detail: str) -> None:
    for piece in (text, text[:90]):
        found = identify_language(piece)
        assert (found.language, found.detail) == (language, detail)
        assert found.confidence > 0.8


@pytest.mark.parametrize("name", CODE)
def test_code(name: str) -> None:
    assert identify_language(CODE[name]).language == "code"
    prose = HANS * 4 + "\n\n" + CODE[name][:150] + "\n\n" + HANS * 4
    assert identify_language(prose).language == "zh-Hans"
    assert identify_language(ENGLISH * 5 + "\n\n" + CODE[name][:150] + "\n\n" + ENGLISH * 5).language == "en"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("开会。", "zh-Hans"), ("開會。", "zh-Hant"), ("你好", "zh-Hans"), ("電腦軟體", "zh-Hant"), ("使用Python编写脚本", "zh-Hans"),
        ("請使用 apt-get install vim 安裝這個軟體", "zh-Hant"), ("鬼滅の刃", "ja"), ("気象庁の働き", "ja"), ("東京大学大学院情報理工学系研究科", "ja"),
        ("日本动画《鬼灭之刃》（日语：鬼滅の刃）是吾峠呼世晴的作品，在中国也很受欢迎。", "zh-Hans"), ("床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。", "zh-Hant"),
        ("他用广东话说：“唔该”，大家都笑了，因为这是他们学会的第一个词，也是最重要的一个词。", "zh-Hans"), ("佢話佢唔嚟喇", "yue"),
        ("這是皇后的后冠，于右任的書法也在這裡展出。", "zh-Hant"), ("", "other"), ("12345 --- !!!", "other"), ("3.14\t2.71\n1.41\t1.73\n", "other"),
    ],
)  # fmt: skip
def test_short_and_hard(text: str, language: str) -> None:
    assert identify_language(text).language == language


@pytest.mark.parametrize(
    ("first", "second", "detail"),
    [
        (HANS * 3, ENGLISH * 3, "en+zh-Hans"), (HANS * 3, HANT * 3, "zh-Hans+zh-Hant"), (HANT * 3, YUE * 3, "yue+zh-Hant"),
        (JAPANESE * 3, HANS * 3, "ja+zh-Hans"),
        (JAPANESE * 3, POEM * 3, "ja+zh-Hant"), (ENGLISH * 4, GERMAN * 4, "en+other"), (KOREAN * 3, ENGLISH * 3, "en+ko"),
    ],
)  # fmt: skip
def test_mixed_and_where(first: str, second: str, detail: str) -> None:
    text = first + "\n" + second
    found = identify_language(text)
    assert (found.language, found.detail) == ("mixed", detail)
    assert identify_language(first * 9 + "\n" + second[:60]).language == identify_language(first).language
    segments = identify_segments(text)
    assert sorted(segment.language for segment in segments) == sorted(detail.split("+"))
    assert abs(segments[0].end - len(first)) <= 2


def test_the_whole_page_is_read() -> None:
    page = "Menu Home Login Contact About Impressum Datenschutz Startseite Suche Hilfe.\n" + ENGLISH * 20
    assert identify_language(page).language == "en"


def test_a_line_without_marks_follows_its_neighbours() -> None:
    text = HANT + "\n山水\n人口\n" + HANT
    assert [(segment.start, segment.end, segment.language) for segment in identify_segments(text)] == [
        (0, len(text), "zh-Hant")
    ]


def test_code_inside_prose_is_a_segment() -> None:
    languages = [
        segment.language for segment in identify_segments(HANS * 3 + "\n\n" + CODE["c"] * 3 + "\n" + HANS * 3)
    ]
    assert languages == ["zh-Hans", "code", "zh-Hans"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_anything_is_covered(text: str) -> None:
    found = identify_language(text)
    assert 0 <= found.confidence <= 1
    segments = identify_segments(text)
    assert "".join(text[segment.start : segment.end] for segment in segments) == text
    assert all(0 <= segment.confidence <= 1 and segment.start < segment.end for segment in segments)
    assert all(a.end == b.start for a, b in pairwise(segments))


def test_batches_are_the_same() -> None:
    texts = [HANS, ENGLISH, "", YUE, CODE["c"]]
    assert identify_batch(texts) == [identify_language(text) for text in texts]


def test_hostile_texts_end_soon() -> None:
    for text in (
        "汉a" * 500_000,
        "a. " * 300_000,
        "x" * 2_000_000,
        "1. a" * 200_000,
        "\0\ufffd\ue000\u202e" * 10_000,
        "é\u0301" * 100_000,
    ):
        start = time.monotonic()
        identify_language(text)
        identify_segments(text[:40_000])
        assert time.monotonic() - start < 20


def test_tables() -> None:
    assert variant_table()[ord("國")] == 1
    assert variant_table()[ord("国")] == -1
    assert chinese_variant(code_points(HANT)).language == "zh-Hant"
    assert chinese_variant(code_points("山水")).confidence == 0.5
    assert all(japanese_table()[ord(character)] == 1 for character in "図働込峠々")
    assert all(japanese_table()[ord(character)] == -1 for character in "们會國")
