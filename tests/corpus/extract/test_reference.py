"""The kernels against the same in plain Python, on random and hostile markup and on made-up pages."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.extract.blocks import Blocks, find_blocks
from haina.corpus.extract.features import FEATURES, describe
from haina.corpus.extract.reference import plain_blocks, plain_complete, plain_features, plain_render
from haina.corpus.extract.reference_scan import plain_scan
from haina.corpus.extract.render import render
from haina.corpus.extract.scan import scan
from haina.corpus.extract.select import complete
from haina.corpus.extract.synthesize import make_page
from haina.corpus.extract.tags import NAMED

PROSE = (
    "深处的文字在这里，很容易找到它，大家都应该来看看这条河。",
    "The text in the deep is easy to find, and it goes on. ",
)
NAMES = [
    *NAMED[1:],
    "object",
    "template",
    "select",
    "style",
    "noscript",
    "iframe",
    "annotation",
    "x",
    "nav",
    "EM",
]
ATTRIBUTES = [
    " class='nav post a1'", " class=commentList", " hidden", " href=x", " style='a:b; Display : none'", " aria-hidden=true",
    " id=mainContent", " src='?tex=12'", " alt='\\x'", " =x", "/", " class", " alttext='{\\displaystyle x}'",
    " alttext='{\\displaystyle}'", " type=math/tex", " role=\"main", " lang=zh", " data-x=" + "很长" * 400, ' title="a>b"',
]  # fmt: skip
PIECES = [
    "<!--", "-->", "--!>", "<!-- x -->", "<!", "<?", "<", "</", ">", "\0", "\u0301", "\u202e", "\ufffd", "😀", "\u3000", "\u00a0",
    "&nbsp;", "&#x4e2d;", "&#9999999999;", "&", "&#;", "&rsquo;", "T.", "版权©", "1", "\n \n", "河 two", " ", "一：", "a1, ",
    "<math><annotation encoding=TeX>y</annotation></math>", '<math><annotation tex="text">y', '<img alt="\\f">z',
    *PROSE,
]  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
TAGS = st.builds(
    lambda end, name, attributes: f"<{end}{name}{''.join(attributes)}>",
    st.sampled_from(["", "", "/"]),
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(ATTRIBUTES), max_size=2),
)
MARKUP = st.lists(TAGS | st.sampled_from(PIECES) | TEXT, max_size=40).map("".join)
MADE_UP = st.builds(
    lambda seed, chinese, forum: make_page(PROSE[not chinese] * 12, chinese, forum, seed)[0],
    st.integers(0, 10**6),
    st.booleans(),
    st.booleans(),
)
TITLE, DESCRIPTION = "河 two 文字", "The text in the deep 深处的文字 a1"


def as_bytes(page: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(page, dtype=np.uint8)


def assert_scan(html: str) -> None:
    page = html.encode("utf-8")
    for ours, plain in zip(scan(as_bytes(page))[:2], plain_scan(page)[:2], strict=True):
        for name in ours._fields:
            assert np.array_equal(getattr(ours, name), getattr(plain, name)), name
    assert np.array_equal(scan(as_bytes(page))[2], plain_scan(page)[2])


def assert_the_rest(html: str, seed: int) -> None:
    """Blocks, features, completion and text; which blocks are kept is drawn."""
    page = html.encode("utf-8")
    data = as_bytes(page)
    elements, runs, _ = scan(data)
    blocks = find_blocks(data, elements, runs, TITLE, DESCRIPTION)
    plain = plain_blocks(page, elements, runs, TITLE, DESCRIPTION)
    assert len(blocks.first) == len(plain)
    if not plain:
        return
    for name in Blocks._fields:
        expected = [block[name] for block in plain]
        if name == "key":
            keys = blocks.key.tolist()
            assert [keys.index(key) for key in keys] == [expected.index(text) for text in expected]
        else:
            assert np.allclose(getattr(blocks, name), np.array(expected, np.float64), rtol=1e-6), name
    address = np.array([1, 0, 1], np.float32)
    described = describe(elements, blocks, address)
    rows, items = plain_features(elements, blocks, address)
    for row, found in zip(rows, described.features, strict=True):
        assert set(row) == set(FEATURES)
        values = np.array([row[name] for name in FEATURES])
        differ = ~np.isclose(found, values, rtol=1e-4, atol=1e-3)
        assert not differ.any(), np.array(FEATURES)[differ]
    assert described.item.tolist() == items
    chance = np.random.default_rng(seed)
    probability = chance.random(len(plain)).astype(np.float32)
    kept = chance.random(len(plain)) < 0.8
    assert complete(elements, blocks, probability, kept).tolist() == plain_complete(
        elements, blocks, probability, kept
    )
    text = plain_render(page, elements, runs, blocks, kept)
    assert render(data, elements, runs, blocks, kept).decode("utf-8") == text


@settings(max_examples=400, deadline=None)
@given(MARKUP)
def test_scan_of_any_markup(html: str) -> None:
    assert_scan(html)


@settings(max_examples=150, deadline=None)
@given(MARKUP, st.integers(0, 99))
def test_blocks_features_and_text_of_any_markup(html: str, seed: int) -> None:
    assert_the_rest(html, seed)


@settings(max_examples=8, deadline=None)
@given(MADE_UP, st.integers(0, 99))
def test_made_up_pages(html: str, seed: int) -> None:
    assert_scan(html)
    assert_the_rest(html, seed)


@pytest.mark.parametrize("depth", [399, 400, 401, 700])
def test_depth_beyond_the_bound(depth: int) -> None:
    assert_scan("<div>" * depth + "好" + "</div>" * (depth - 3) + "<p>a<b>b</div>c")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a<!-- x -->好", "a好"),
        ("<img alt='\\f'>x<img alt='\\g'>y<img alt='\\h'>z", "$\\f$x$\\g$y$\\h$z"),
        ("<p>one</b> <i hidden>x</i>二<i hidden>x</i>", "one 二"),
        ("<p>one<br><i hidden>x</i>二", "one\n二"),
        ("<p>a<math alttext='{\\displaystyle}'></math>好", "a好"),
    ],
)
def test_what_the_references_found(html: str, text: str) -> None:
    """Each was wrong once: a last character lost behind a comment, text behind many formulas, words joined."""
    page = html.encode("utf-8")
    data = as_bytes(page)
    elements, runs, _ = scan(data)
    blocks = find_blocks(data, elements, runs, "", "")
    kept = np.ones(len(blocks.first), np.bool_)
    assert render(data, elements, runs, blocks, kept).decode("utf-8") == text
    assert_scan(html)
