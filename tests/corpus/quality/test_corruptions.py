"""Every corruption: changes the text, is deterministic, and survives hostile input."""

from __future__ import annotations

import random

import pytest

from haina.corpus.quality.corruptions import WAYS, Pool, sentences, words
from haina.corpus.quality.forms import FORMS, restyled
from haina.corpus.quality.grammar import expand, grammars
from haina.corpus.quality.sets import SetOptions, passage

HOSTILE = ["", "a", "海", "\0", "\ufffd{}", "{slot} {title}", "。。。", "\n\n", "x" * 5000, "𠀀🙂 עברית"]


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("name", WAYS)
def test_a_corruption_changes_text_the_same_way_each_time(
    name: str, language: str, good_texts: dict[str, list[str]]
) -> None:
    pool = Pool(good_texts[language], language)
    made = [WAYS[name].make(text, random.Random(7), pool) for text in pool.texts[:12]]
    again = [WAYS[name].make(text, random.Random(7), pool) for text in pool.texts[:12]]
    assert made == again
    assert sum(bad != good for bad, good in zip(made, pool.texts, strict=False)) >= 10
    assert all(made)


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("name", WAYS)
def test_a_corruption_takes_any_text(name: str, language: str) -> None:
    for text in HOSTILE:
        for seed in range(4):
            assert isinstance(WAYS[name].make(text, random.Random(seed), Pool(HOSTILE[1:], language)), str)


def test_shuffles_keep_what_they_shuffle(good_texts: dict[str, list[str]]) -> None:
    for language in ("zh", "en"):
        text = good_texts[language][0]
        made = WAYS["shuffled_sentences"].make(text, random.Random(1), Pool([text], language))
        assert sorted(made) == sorted(text)
    text = good_texts["zh"][0]
    made = WAYS["shuffled_characters"].make(text, random.Random(1), Pool([text], "zh"))
    assert sorted(made) == sorted(text)


def test_sentences_join_to_the_text() -> None:
    for language, text in (
        ("zh", "他说：“好。”走了！\n第二行，没完"),
        ("en", 'It costs 3.5 dollars. "Yes!" he said\nnext'),
    ):
        assert "".join(sentences(text, language)) == text
    assert len(sentences("It costs 3.5 dollars. Good.", "en")) == 3


def test_words_of_both_languages() -> None:
    assert words("a bc  d", "en", random.Random(0)) == ["a", "bc", "d"]
    assert "".join(words("海纳百川，有容", "zh", random.Random(0))) == "海纳百川，有容"


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_template_can_be_filled(language: str) -> None:
    rng = random.Random(0)
    spam, page = grammars()["spam"][language], grammars()["page"][language]
    shared = {"keyword": ["甲"], "title": ["乙"]}
    for topic in spam["topics"].values():
        for template in [*topic["lines"], *spam["pitches"]]:
            filled = expand(
                template, rng, language, {**spam["slots"], **shared, "product": topic["products"]}
            )
            assert "{" not in filled
    for kind in ("footer", "notice", "forum", "form", "error", "entry", "stub", "template"):
        for template in page[kind]:
            assert "{" not in expand(
                template, rng, language, {**page["slots"], **shared, "menu": page["menu"]}
            )


@pytest.mark.parametrize("language", ["zh", "en"])
def test_forms_keep_a_text(language: str, good_texts: dict[str, list[str]]) -> None:
    text = good_texts[language][3]
    for form in FORMS:
        assert len(form(text, language, random.Random(0))) > len(text) / 2
    assert {restyled(text, language, random.Random(seed)) == text for seed in range(20)} == {True, False}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_passage_is_part_of_the_text(language: str, good_texts: dict[str, list[str]]) -> None:
    text = good_texts[language][5]
    drawn = {passage(text, language, random.Random(seed)) for seed in range(30)}
    assert all(piece and piece in text for piece in drawn)
    assert len(drawn) > 5


def test_ways_can_be_left_out_and_chosen() -> None:
    assert "advert" not in SetOptions(without=frozenset(["advert"])).ways()
    assert SetOptions(only=frozenset(["shuffled_sentences"])).ways() == {"shuffled_sentences": 1.0}
