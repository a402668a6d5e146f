"""Bytes to text in many languages: labels that lie, marks that are missing, mojibake that is provable and not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.encoding import UndecodableError, decode
from haina.corpus.mojibake import repair_mojibake

TEXTS = {
    "zh": "海纳百川，有容乃大。这是一个用来测试编码的中文段落，里面有标点、数字１２３和English words。我们在学习历史。",
    "zh-Hant": "海納百川，有容乃大。這是一個用來測試編碼的中文段落，裡面有標點、數字和English words。我們在香港學習。",
    "en": "The quick brown fox — it doesn’t “jump” over the lazy dog… and costs €5, naïve café.",
    "fr": "Où est-ce que l’été s’achève ? À Besançon, près de la forêt, « ça c’est l’ÉTÉ ». ÉCOLE SUPÉRIEURE, CAFÉ À VENDRE.",
    "vi": "Tiếng Việt là ngôn ngữ của người Việt và là ngôn ngữ chính thức tại Việt Nam.",
    "de": "Größe, Übung, Fußgänger, Straße; die Bäume blühen schön. „Ja“, sagte er.",
    "ja": "これは日本語の文章です。文字化けのテストをしています。漢字とカタカナとひらがな。",
    "ko": "이것은 한국어 문장입니다. 인코딩을 시험하고 있습니다. 대한민국의 수도는 서울이다.",
    "ru": "Это русский текст для проверки кодировки. Москва — столица России.",
    "pt": "São João não comeu pão; a ação da nação é ÍMPAR. AÇÃO, NÃO, LIÇÕES, CORAÇÃO.",
    "cs": "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "el": "Αυτό είναι ένα ελληνικό κείμενο για δοκιμή.",
    "ar": "هذا نص عربي لاختبار الترميز. اللغة العربية جميلة.",
    "th": "นี่คือข้อความภาษาไทยสำหรับการทดสอบ",
    "hi": "यह परीक्षण के लिए हिंदी पाठ है।",
    "tr": "Pijamalı hasta yağız şoföre çabucak güvendi.",
}


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("charset", [None, "utf-8", "iso-8859-1", "gbk", "big5", "nonsense"])
def test_utf8_stays_as_it_is_whatever_the_label(language: str, charset: str | None) -> None:
    text = TEXTS[language] * 3
    decoded = decode(text.encode(), charset)
    assert decoded.text == text
    assert not decoded.repaired


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("wrong", ["latin-1", "sloppy-windows-1252"])
def test_utf8_read_as_latin_is_turned_back(language: str, wrong: str) -> None:
    import ftfy

    assert ftfy.__version__
    text = TEXTS[language]
    assert repair_mojibake(text.encode().decode(wrong)) == (text, True)
    decoded = decode(f"<p>{text.encode().decode(wrong)}</p>\n<p>plain</p>".encode())
    assert text in decoded.text
    assert decoded.repaired


@pytest.mark.parametrize(
    "text", ["海纳百川，有容乃大，这是测试", "中华人民共和国成立了，", "我们在这里学习中文编码的"]
)
def test_utf8_read_as_gbk_is_turned_back_where_nothing_was_lost(text: str) -> None:
    # An odd number of bytes leaves half a character of GBK, which every program shows as something else.
    whole = text if len(text.encode()) % 2 == 0 else text + "！"
    wrong = f"{whole.encode().decode('gb18030')}\n" * 2
    assert repair_mojibake(wrong) == (f"{whole}\n" * 2, True)
    lossy = f"{whole[1:].encode().decode('gb18030', 'replace')}\n" * 2
    assert repair_mojibake(lossy) == (lossy, False)


@pytest.mark.parametrize(
    "text",
    [
        "网页显示“浣犲ソ”，这是因为UTF-8被当成GBK来读，正确的文字是“你好”，请检查编码设置。" * 2,
        "The page shows â€™ instead of ’ when UTF-8 is read as Windows-1252.",
        "锟斤拷锟斤拷烫烫烫",
        "Ã is a letter; so is Â. Ä, Å and É too: «É», ÊTRE À L’HEURE.",
        "鐨勭‘，生僻字：鐨 涓 鏄 都是字。",
        "TRÈS ÉLÉGANT — ÎLE D’YEU…",
        "Ð Ñ Þ Æ Ø Å: íslenska, føroyskt, dansk.",
        "",
        "a",
        "\x00\x80\x9f",
        "𠮷野家，𡃁仔。",
    ],
)
def test_what_is_not_provable_is_left_alone(text: str) -> None:
    assert repair_mojibake(text) == (text, False)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_repair_never_raises_and_what_it_changes_is_reversible(text: str) -> None:
    repaired, changed = repair_mojibake(text)
    assert changed == (repaired != text)


@given(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=60))
def test_random_han_text_is_never_repaired(text: str) -> None:
    assert repair_mojibake(text) == (text, False)


@pytest.mark.parametrize(
    ("language", "encoding"),
    [
        ("zh", "gb18030"), ("zh", "utf-16-le"), ("zh", "utf-16-be"), ("zh", "utf-16"), ("zh", "utf-8-sig"),
        ("zh", "utf-32"), ("zh-Hant", "big5hkscs"), ("zh-Hant", "gb18030"), ("zh-Hant", "utf-16-le"),
        ("ja", "cp932"), ("en", "cp1252"), ("fr", "cp1252"), ("de", "cp1252"), ("en", "utf-16"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("charset", [None, "iso-8859-1", "utf-8", "own"])
def test_other_encodings_with_and_without_a_true_label(
    language: str, encoding: str, charset: str | None
) -> None:
    data = TEXTS[language].encode(encoding)
    label = encoding if charset == "own" else charset
    assert decode(data, label).text == TEXTS[language]


def test_rare_characters() -> None:
    four_bytes = "生僻字𠮷𡃁㐀和蒙古文ᠮᠣᠩ，我们在这里测试编码的。"
    for label in (None, "gb2312", "gbk", "GB18030"):
        assert decode(four_bytes.encode("gb18030"), label).text == four_bytes
    hong_kong = "佢哋喺香港食嘢，嘅咗啲嗰度冇人知，我們的。"
    for label in (None, "big5", "Big5-HKSCS"):
        assert decode(hong_kong.encode("big5hkscs"), label).text == hong_kong


def test_header_and_meta_disagree() -> None:
    text = TEXTS["zh"] * 4
    for header, meta, real in (
        ("gbk", "utf-8", "utf-8"), ("utf-8", "gb2312", "gb18030"), ("big5", "gb2312", "gb18030"),
        ("iso-8859-1", "utf-8", "gb18030"), ("gbk", "gbk", "utf-8"), ("utf-16", "utf-8", "utf-8"),
    ):  # fmt: skip
        page = f'<meta charset="{meta}"><p>{text}</p>'
        assert text in decode(page.encode(real), header).text, (header, meta, real)
    traditional = TEXTS["zh-Hant"] * 4
    page = f'<meta charset="gb2312"><p>{traditional}</p>'
    assert traditional in decode(page.encode("big5hkscs"), "gbk").text


def test_a_few_damaged_bytes() -> None:
    data = bytearray(("<p>" + TEXTS["zh"] * 20).encode())
    for place in (100, 900, 2000):
        data[place] ^= 0x55
    decoded = decode(bytes(data))
    assert decoded.encoding == "utf-8"
    assert 1 <= decoded.text.count("\ufffd") <= 12
    assert decoded.text.count("海纳百川") >= 17


def test_what_no_encoding_fits() -> None:
    with pytest.raises(UndecodableError):
        decode(bytes(range(128, 256)) * 40)
