"""Bounds: shipped presets, files, single settings, and what they do to documents of every kind."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from haina.corpus.signals import SIGNALS, Bound, first_broken, load_preset, measure, override, preset_names
from haina.runtime.errors import HainaError

POEM_HANS = "静夜思\n床前明月光，疑是地上霜。\n举头望明月，低头思故乡。"
POEM_HANT = "靜夜思\n牀前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。"
PROSE = {
    "zh-Hans": "图书馆在城市的中心，每天都有很多人来这里看书。管理员把新书放在门口的架子上，旁边写着作者的名字。\n"
    "下午的阳光照进大厅，孩子们坐在地毯上听老师讲故事。有一个男孩问，为什么海水是咸的？\n"
    "老师没有马上回答，而是让他自己去查一查。半个小时以后，他带着三本厚厚的百科全书回来了。",
    "zh-Hant": "圖書館在城市的中心，每天都有很多人來這裡看書。管理員把新書放在門口的架子上，旁邊寫著作者的名字。\n"
    "下午的陽光照進大廳，孩子們坐在地毯上聽老師講故事。有一個男孩問，為什麼海水是鹹的？\n"
    "老師沒有馬上回答，而是讓他自己去查一查。半個小時以後，他帶著三本厚厚的百科全書回來了。",
    "en": "The library stands in the middle of the city, and many people come to read there every day.\n"
    "A librarian puts the new books on a shelf near the door, with the names of the authors beside them.",
}


def verdict(text: str, language: str, preset: str = "default") -> str:
    group = "zh" if language.startswith("zh") else "en"
    broken = first_broken(measure(text, language), load_preset(preset)[group])
    return broken[0] if broken else ""


@pytest.mark.parametrize("name", preset_names())
def test_presets_bound_signals_of_both_languages(name: str) -> None:
    preset = load_preset(name)
    for group in ("zh", "en"):
        assert list(preset[group]) == [signal for signal in SIGNALS if signal in preset[group]] != []


def test_default_keeps_prose_and_short_poems() -> None:
    for language, text in PROSE.items():
        assert verdict(text, language) == "", language
    assert verdict(POEM_HANS, "zh-Hans") == verdict(POEM_HANT, "zh-Hant") == ""


_RNG = random.Random(2)
GARBLED_HAN = "".join(chr(_RNG.randrange(0x4E00, 0x9FA5)) for _ in range(300))
GARBLED_LATIN = " the ".join("".join(_RNG.choices("zqxjkvbpygwmuhf", k=9)) for _ in range(60))


@pytest.mark.parametrize(
    ("reason", "language", "text"),
    [
        ("characters", "zh-Hans", "首页"),
        ("characters", "en", "Home"),
        ("duplicate_line_share", "zh-Hans", "返回首页看看吧\n" * 20),
        ("duplicate_line_share", "en", "back to the home page again\n" * 20),
        ("policy_line_share", "zh-Hans", "本站使用Cookie。\n请先启用JavaScript，然后再继续访问本站的内容。"),
        ("policy_line_share", "en", "Please enable JavaScript to go on.\nBy going on you agree to our privacy policy, to "
         "the terms of use of this site and to the way in which we keep what you write to us."),
        ("bits_per_character", "zh-Hans", GARBLED_HAN),
        ("bits_per_character", "en", GARBLED_LATIN),
        ("digit_share", "zh-Hans", "2024-01-02 03:04:05 " * 20),
        ("digit_share", "en", "temperature 2024.125 pressure 1013.2500\n" * 20),
        ("replacement_share", "zh-Hans", PROSE["zh-Hans"] + "\ufffd" * 20),
        ("replacement_share", "en", PROSE["en"] + "\ue000" * 20),
        ("gambling_terms", "zh-Hans", "澳门赌场百家乐真人荷官，注册送彩金，老虎机线上娱乐城欢迎你的到来，六合彩投注平台。"),
        ("gambling_terms", "en", "The best online casino of the year has free spins for you and a no deposit bonus, so come "
         "to play online slots, live casino and online roulette, or try our sports betting with the best odds."),
    ],
)  # fmt: skip
def test_default_drops_what_is_no_text(reason: str, language: str, text: str) -> None:
    assert verdict(text, language) == reason


def test_gopher_in_chinese_counts_characters_and_chinese_stop_words() -> None:
    assert verdict(PROSE["zh-Hans"], "zh-Hans", "gopher") == ""
    assert verdict(PROSE["zh-Hant"], "zh-Hant", "gopher") == ""
    # The English form asks for words of three letters.
    broken = first_broken(measure(PROSE["zh-Hans"], "en"), load_preset("gopher")["en"])
    assert broken is not None
    assert broken[0] == "mean_word_characters"


@pytest.mark.parametrize("language", ["zh-Hans", "zh-Hant"])
def test_c4_and_fineweb_take_chinese_line_ends(language: str) -> None:
    text = PROSE[language]
    assert verdict(text, language, "c4") == ""
    assert verdict(text, language, "fineweb") == ""
    bare = text.replace("。", "，").replace("？", "，")
    assert verdict(bare, language, "c4") == "prose_sentences"
    assert verdict(bare, language, "fineweb") == "terminal_line_share"


def test_first_broken_tells_value_and_bound() -> None:
    values = measure("短", "zh-Hans")
    assert first_broken(values, {"characters": Bound(50)}) == ("characters", "1 < 50")
    assert first_broken(values, {"characters": Bound(), "han_share": Bound(max=0.5)}) == (
        "han_share",
        "1 > 0.5",
    )
    assert first_broken(values, {"characters": Bound(1, 1)}) is None
    assert math.isnan(values["link_share"])
    assert first_broken(values, {"link_share": Bound(0.5, 0.6)}) is None


def test_single_settings() -> None:
    preset = override(
        load_preset("default"),
        ["zh.characters.min=1", "zh.mean_line_characters={}", "en.urls.max=3", "en.words={min: 5, max: 9}"],
    )
    assert preset["zh"]["characters"] == Bound(1)
    assert preset["zh"]["mean_line_characters"] == Bound()
    assert preset["en"]["urls"] == Bound(None, 3)
    assert preset["en"]["words"] == Bound(5, 9)
    assert load_preset("default")["zh"]["characters"] != Bound(1)


def test_a_preset_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("zh:\n  words: {min: 3}\n  characters: {max: 9.5}\n", encoding="utf-8")
    assert load_preset(str(path)) == {"zh": {"characters": Bound(None, 9.5), "words": Bound(3)}, "en": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1", "not a preset"),
        ("", "not a preset"),
        ("fr: {}", "not a preset"),
        ("zh: [words]", "not a list of bounds"),
        ("zh: {no_such: {min: 1}}", "no such signal"),
        ("zh: {words: 5}", "not a bound"),
        ("zh: {words: {low: 5}}", "not a bound"),
        ("zh: {words: {min: many}}", "not a number"),
        ("zh: {words: {min: true}}", "not a number"),
        ("zh: {words: {min: .nan}}", "not a number"),
        ("zh: {words: {min: 5, max: 4}}", "above max"),
        ("zh: {words: {", "not readable as YAML"),
        ("\x00\x01", "not readable as YAML"),
    ],
)
def test_wrong_presets_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(HainaError, match=message):
        load_preset(str(path))


@pytest.mark.parametrize(
    "setting",
    [
        "words.min=1",
        "zh=1",
        "zh.words",
        "zh.no_such.min=1",
        "zh.words.low=1",
        "zh.words.min=x",
        "zh.words.min={",
    ],
)
def test_wrong_settings_are_refused(setting: str) -> None:
    with pytest.raises(HainaError):
        override(load_preset("default"), [setting])


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(HainaError, match="no such preset"):
        load_preset("no-such-preset")


def test_the_guide_tells_the_meaning_of_every_signal() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guide" / "signals.md").read_text(encoding="utf-8")
    for signal in SIGNALS.values():
        assert f"| `{signal.name}` | {signal.meaning} |" in guide
