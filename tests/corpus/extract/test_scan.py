"""The scan against a parser that follows the whole standard, and the kernels against plain references."""

from __future__ import annotations

from html import unescape

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.characters import DIGIT, class_table
from haina.corpus.extract.blocks import find_blocks
from haina.corpus.extract.reference_scan import plain_mask
from haina.corpus.extract.scan import BLOCK, NO_BORDER, Runs, scan, words_mask
from haina.corpus.extract.select import select
from haina.corpus.extract.tags import NAMED, rules, vocabulary
from haina.corpus.extract.tokens import token_f1, tokens
from haina.corpus.extract.trees import Trees, plain_predict

TEXT = st.text(
    st.characters(exclude_categories=("Cs",)) | st.sampled_from("<>&\"'/= 海纳百川a1\t\n"), max_size=60
)


def as_bytes(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)


def texts(html: str) -> list[str]:
    data = html.encode("utf-8")
    _, runs, _ = scan(as_bytes(html))
    return [data[a:b].decode("utf-8") for a, b in zip(runs.start, runs.end, strict=True)]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>一<p>two", ["一", "two"]),
        ("a<!-- x > <b> --!>b<!-->c<!--->d", ["a", "b", "c", "d"]),
        ("a<?php x ?>b<!doctype html>c</ x>d", ["a", "b", "c", "d"]),
        ("<script>if (a<b) '</p>'</script>文<style>p{}</STYLE >字", ["文", "字"]),
        ('<a title="x>y" href=\'a"b\'>链接</a>', ["链接"]),
        ("1 < 2 <3 <", ["1 ", "< 2 ", "<3 ", "<"]),
        ("<textarea><p>x</textarea>y<title>z", ["y"]),
        ("<svg/>x<svg><path/><text>t</text></svg>y", ["x", "y"]),
        ("<p", []),
        ("<a href='", []),
    ],
)
def test_runs_of_text(html: str, expected: list[str]) -> None:
    assert texts(html) == expected


@pytest.mark.parametrize(
    "html",
    [
        "<ul><li>一<li>two<ul><li>三</ul><li>four</ul>tail",
        "<table><tr><td>a<td>b<tr><td>c</table>d",
        "<b><p>x</b>y</p>z",
        "<div><span></div>文</span>字",
        "<p>a<div>b</p>c</div>d",
        "<dl><dt>a<dd>b<dt>c</dl>d",
        "<a href=x>one<a href=y>two</a>three",
        "</p></div>x<h1>a<h2>b</h1>c",
        "<select><option>a<option>b</select>c",
    ],
)
def test_parents_are_those_of_a_full_parser(html: str) -> None:
    """Block-level ancestors of every run, against lexbor's tree (written out and scanned: it is well-formed then)."""
    from resiliparse.parse.html import HTMLTree

    def ancestors(page: str) -> list[tuple[str, list[str]]]:
        elements, runs, _ = scan(as_bytes(page))
        data = page.encode("utf-8")
        found: list[tuple[str, list[str]]] = []
        for start, end, holder, border in zip(runs.start, runs.end, runs.parent, runs.border, strict=True):
            way = []
            element = holder
            while element > 0:
                name = NAMED[elements.tag[element]]
                if name not in ("b", "span", "other", "tbody"):
                    way.append(name)
                element = elements.parent[element]
            if found and border == NO_BORDER and found[-1][1] == way:
                found[-1] = (found[-1][0] + data[start:end].decode("utf-8"), way)
            else:
                found.append((data[start:end].decode("utf-8"), way))
        return found

    assert ancestors(html) == ancestors(HTMLTree.parse(html).document.html)


@settings(max_examples=60)
@given(
    st.text(st.sampled_from("aeBCnovimtr-_ 1海"), max_size=30)
    | st.lists(st.sampled_from(" ".join(rules()["class_words"].values()).split()), max_size=4).map("".join)
)
def test_words_of_a_class(value: str) -> None:
    data = as_bytes(value)
    known = vocabulary()
    assert words_mask(data, 0, len(data), known.class_keys, known.class_values) == plain_mask(
        value.encode("utf-8")
    )


@settings(max_examples=80)
@given(TEXT)
def test_counts_of_a_block(text: str) -> None:
    """Tokens, letters and digits of one block, counted as one would by hand."""
    text = text.replace("<", "").replace("&", "").replace("\0", "")
    data = as_bytes(text)
    runs = Runs(
        *(np.array([value], kind) for value, kind in ((0, np.int64), (len(data), np.int64), (0, np.int32))),
        np.array([BLOCK], np.uint8), np.array([False]), np.array([False]),
    )  # fmt: skip
    elements, _, _ = scan(as_bytes("x"))
    blocks = find_blocks(data, elements, runs, "", "")
    table = class_table()
    kinds = [int(table[ord(letter)]) if ord(letter) < len(table) else 9 for letter in text]
    visible = sum(kind < 8 for kind in kinds)
    assert len(blocks.first) == (visible > 0)
    if visible:
        assert blocks.characters[0] == visible
        assert blocks.digits[0] == sum(kind == DIGIT for kind in kinds)
        counted, inside = 0, False
        for kind in kinds:
            if kind in (0, 1):
                counted, inside = counted + 1, False
            elif kind <= DIGIT:
                counted, inside = counted + (not inside), True
            elif kind != 9:
                inside = False
        assert blocks.tokens[0] == counted


@settings(max_examples=150)
@given(st.lists(TEXT | st.sampled_from(["<p>", "</p>", "<div class=a>", "</div>", "<li>", "<table>", "<td>", "<a href=x>", "<script>",
                                        "<!--", "<math>", "<b", "&nbsp;", "&#x4e2d;", "&#99999999;", "<pre>", "<br>"]), max_size=20))  # fmt: skip
def test_markup_of_any_kind(parts: list[str]) -> None:
    html = "".join(parts)
    data = as_bytes(html)
    elements, runs, _ = scan(data)
    assert (elements.parent[1:] < np.arange(1, len(elements.tag))).all()
    assert (runs.start < runs.end).all()
    assert (runs.end <= len(data)).all()
    blocks = find_blocks(data, elements, runs, "", "")
    assert (blocks.first < blocks.last).all()
    assert (blocks.linked <= blocks.tokens).all()


def test_text_is_that_of_a_full_parser() -> None:
    """On sound markup nothing is lost or added against lexbor's text."""
    from resiliparse.parse.html import HTMLTree

    html = "<body><div><p>一段 <b>粗</b>体</p><ul><li>x<li>y</ul><table><tr><td>1<td>2</table>尾</div></body>"
    whole = HTMLTree.parse(html).body.text
    assert "".join("".join(texts(html)).split()) == "".join(unescape(whole).split())


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_trees_as_written_first(seed: int) -> None:
    random = np.random.default_rng(seed)
    trees = Trees(
        random.integers(-1, 6, (5, 7)).astype(np.int16),
        random.normal(size=(5, 7)).astype(np.float32),
        random.normal(size=(5, 8)).astype(np.float32),
        0.3,
    )
    rows = random.normal(size=(9, 6)).astype(np.float32)
    assert np.allclose(trees.predict(rows), plain_predict(trees, rows), atol=1e-6)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.integers(1, 50)), min_size=1, max_size=9))
def test_no_other_set_has_a_greater_expected_f1(pairs: list[tuple[float, int]]) -> None:
    from itertools import product

    probability = np.array([p for p, _ in pairs], np.float32)
    size = np.array([t for _, t in pairs], np.float32)

    def expected(kept: npt.NDArray[np.bool_]) -> float:
        return float(2 * (probability * size)[kept].sum() / (size[kept].sum() + (probability * size).sum()))

    best = max(expected(np.array(kept)) for kept in product((False, True), repeat=len(pairs)))
    assert expected(select(probability, size)) == pytest.approx(best, rel=1e-3)


def test_token_f1_by_hand() -> None:
    assert tokens("海纳 Haina3 を_x") == ["海", "纳", "haina3", "を", "x"]
    assert token_f1("海纳 abc", "海 abc d") == pytest.approx(2 * 2 / 6)
    assert token_f1("", "") == 1
    assert token_f1("", "x") == 0
