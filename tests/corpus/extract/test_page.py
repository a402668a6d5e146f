"""Whole pages, Chinese and English: what is kept, how it is written, what is known of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from haina.corpus.extract import extract_page
from haina.corpus.extract.fit import example
from haina.corpus.extract.page import Weights, shipped_weights
from haina.corpus.extract.synthesize import make_page
from haina.corpus.extract.tokens import token_f1

ZH = [
    "海纳百川的意思是大海可以容纳成百上千条河流，比喻一个人心胸宽广，能够包容各种不同的意见。",
    "这条河发源于西部的高山，流经三个省份，最后在东部的平原注入大海，全长约两千公里。",
    "气象部门表示，未来一周仍有降雨，沿岸居民应当注意防范洪水，提前做好转移准备。",
    "研究人员用三年时间记录了水位的变化，发现夏季的流量是冬季的四倍，而且逐年增加。",
    "当地渔民说，以前每到秋天，河里的鱼多得可以用手去捉，现在要走很远才能看到鱼群。",
]
EN = [
    "The sea takes in a hundred rivers, the saying goes, and it means that a great mind has room for many views.",
    "The river rises in the mountains of the west, crosses three provinces and reaches the sea after two thousand kilometres.",
    "The weather service expects more rain next week, and people who live along the banks were told to be ready to leave.",
    "For three years researchers wrote down the level of the water and found that summer carries four times as much as winter.",
    "Fishermen say that in the autumns of their childhood you could catch fish by hand, and now they travel far to see any.",
]
NAV = "".join(
    f'<li><a href="/{i}">{name}</a></li>'
    for i, name in enumerate(["首页", "新闻", "Sports", "Video", "论坛", "Log in"])
)
SIDE = "".join(f'<li><a href="/a/{i}">{text[:24]}</a></li>' for i, text in enumerate(ZH + EN))


def article(sentences: list[str], extra: str = "") -> str:
    paragraphs = "".join(f"<p>{sentence}</p>" for sentence in sentences)
    return (
        f'<html lang="zh-CN"><head><title>河流与大海 - 海纳新闻网</title><meta property="og:title" content="河流与大海">'
        f'<meta property="article:published_time" content="2024-05-09T08:00:00+08:00"></head><body>'
        f'<div class="header"><ul class="nav">{NAV}</ul></div><div class="wrap"><div class="main"><h1>河流与大海</h1>'
        f'<div class="info">2024-05-09 来源：海纳 <a href="/s">分享</a></div><div class="article-content">{paragraphs}{extra}</div>'
        f'</div><div class="sidebar"><h3>热门推荐</h3><ul>{SIDE}</ul></div></div>'
        f'<div class="footer"><p>版权所有 Copyright © 2024 海纳新闻网 All rights reserved ICP备12345号</p></div></body></html>'
    )


def forum(sentences: list[str]) -> str:
    posts = "".join(
        f'<div class="post"><div class="user"><a href="/u/{i}">user{i}</a> 等级 Lv{i}</div><div class="date">2024-05-{i + 1:02d} 10:00</div>'
        f'<div class="post-content"><p>{sentence}</p></div><div class="actions"><a href="#">回复 Reply</a> <a href="#">Like</a></div></div>'
        for i, sentence in enumerate(sentences)
    )
    return (
        f'<html><head><title>谁见过大海 | 海纳论坛</title><link rel="canonical" href="https://bbs.example.org/thread-12-1.html"></head>'
        f'<body><ul class="nav">{NAV}</ul><div class="thread"><h1>谁见过大海</h1>{posts}</div>'
        f'<div class="sidebar"><ul>{SIDE}</ul></div><div class="footer">Powered by Haina © 2024 All rights reserved</div></body></html>'
    )


@pytest.mark.parametrize("sentences", [ZH, EN])
def test_an_article_is_its_text(sentences: list[str]) -> None:
    page = extract_page(article(sentences), "https://news.example.org/a.html")
    for sentence in sentences:
        assert sentence in page.text
    assert "\n\n".join(sentences) in page.text
    for frame in ("Sports", "热门推荐", "Copyright", "分享", "Log in"):
        assert frame not in page.text
    assert page.kind == "article"
    assert page.title == "河流与大海"
    assert page.date == "2024-05-09"
    assert page.language_hint == "zh-CN"
    assert 0.05 < page.link_share < 0.6
    assert 0.3 < page.main_share < 0.95


@pytest.mark.parametrize("sentences", [ZH, EN])
def test_posts_are_the_text_of_a_forum(sentences: list[str]) -> None:
    page = extract_page(forum(sentences))
    for sentence in sentences:
        assert sentence in page.text
    for frame in ("Sports", "Powered by", "Like"):
        assert frame not in page.text
    assert page.kind == "forum"
    assert page.url == "https://bbs.example.org/thread-12-1.html"


@pytest.mark.parametrize("sentences", [ZH, EN])
def test_comments_under_an_article_are_not_its_text(sentences: list[str]) -> None:
    comments = "".join(
        f'<li class="comment"><b>user{i}</b><p>说得好 well said {i}</p><a href="#">回复</a></li>'
        for i in range(5)
    )
    html = article(sentences).replace(
        '<div class="sidebar">',
        f'<div class="comments"><h3>评论 Comments</h3><ul>{comments}</ul></div><div class="sidebar">',
    )
    page = extract_page(html, "https://news.example.org/a.html")
    assert sentences[-1] in page.text
    assert "well said" not in page.text


def test_structure_is_kept() -> None:
    extra = (
        f"<h2>数据 Data</h2><p>{ZH[1]}</p><table><tr><th>河 River</th><th>长 Length</th></tr><tr><td>长江</td><td>6300</td></tr>"
        f"<tr><td>Rhine</td><td>1233</td></tr></table><p>{EN[1]}</p><ul><li>第一项说明文字在这里。<ul><li>nested item here</li></ul></li>"
        f"<li>The second item of the list.</li></ul><ol><li>first step of it</li><li>第二步</li></ol><p>{ZH[2]}</p>"
        "<pre><code>def f(x):\n    if x &lt; 1:\n        return 0\n</code></pre>"
        rf'<p>公式 <math alttext="{{\displaystyle e^{{i\pi}}}}"><mi>e</mi></math> 与 <script type="math/tex">a_1 &lt; b</script> 以及'
        r'<img src="/equation?tex=y" alt="y^3">，'
        f"{EN[2]}</p><p>{ZH[3]}<br>second line<br><br>{ZH[4]}</p>"
    )
    text = extract_page(article(ZH + EN, extra)).text
    for wanted in (
        "\n\n数据 Data\n\n",
        "河 River\t长 Length\n长江\t6300\nRhine\t1233\n\n",
        "• 第一项说明文字在这里。\n  • nested item here\n• The second item of the list.\n",
        "1. first step of it\n2. 第二步\n",
        "def f(x):\n    if x < 1:\n        return 0\n",
        r"公式 $e^{i\pi}$ 与 $a_1 < b$ 以及$y^3$，",
        f"{ZH[3]}\nsecond line\n\n{ZH[4]}",
    ):
        assert wanted in text, wanted


def test_katex_is_written_once() -> None:
    formula = (
        '<span class="katex"><span class="katex-mathml"><math><semantics><mrow><mi>x</mi></mrow><annotation encoding="application/x-tex">'
        'x^2</annotation></semantics></math></span><span class="katex-html" aria-hidden="true">x2</span></span>'
    )
    text = extract_page(
        article([*ZH, f"面积是 {formula} 平方米，这是一个简单的公式，大家都应该记住它。"])
    ).text
    assert "面积是 $x^2$ 平方米" in text


def test_a_table_of_prose_is_layout() -> None:
    rows = "".join(f"<tr><td>{'<br><br>'.join([a] * 4)}</td></tr>" for a in ZH)
    text = extract_page(f"<body><table>{rows}</table></body>").text
    assert "\t" not in text
    assert text.count(ZH[0]) == 4
    assert f"{ZH[0]}\n\n{ZH[0]}" in text


def test_numbers_beside_code_are_left_out() -> None:
    code = "<table><tr><td><pre>1\n2\n3</pre></td><td><pre>a = 1\nb = 2\nprint(a + b)</pre></td></tr></table>"
    text = extract_page(article(ZH, code)).text
    assert "a = 1\nb = 2\nprint(a + b)" in text
    assert "1\n2\n3" not in text


def test_links_only_make_a_list() -> None:
    links = "".join(f'<li><a href="/{i}">{text}</a></li>' for i, text in enumerate(ZH + EN))
    assert extract_page(f"<body><ul>{links}</ul></body>").kind == "list"
    assert extract_page("<body></body>").kind == "other"


def test_pages_that_only_send_on_are_empty() -> None:
    for text in ("正在跳转，请稍候……", "You are being redirected to another page."):
        assert extract_page(f"<body><p>{text}</p></body>").text == ""


def test_gbk_and_big5_give_the_same_text_as_utf_8() -> None:
    html = article(ZH)
    assert extract_page(html.encode("gb18030"), charset="gbk").text == extract_page(html).text
    assert extract_page(html.encode("utf-8")).encoding == "utf-8"
    assert extract_page(html).encoding == "str"


@pytest.mark.parametrize("chinese", [True, False])
@pytest.mark.parametrize("is_forum", [True, False])
def test_made_up_pages_of_other_seeds(chinese: bool, is_forum: bool) -> None:
    """Themes that the weights never saw: drawn with seeds past those of training."""
    text = "".join(sentence + ("" if chinese else " ") for sentence in (ZH if chinese else EN))
    scores = []
    for seed in range(5000, 5012):
        html, gold = make_page(text, chinese, is_forum, seed)
        scores.append(token_f1(extract_page(html).text, gold))
    assert sum(scores) / len(scores) > 0.8


def test_targets_of_an_example() -> None:
    one = example("<p>一二三四</p><p>foo bar baz</p><p>五六七八</p>", "一二三四 五六七八", "", "article")
    assert one.target.tolist() == [1, 0, 1]


def test_weights_for_other_features_are_refused(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "weights.npz"
    shipped_weights().save(path)
    assert np.array_equal(Weights.load(path).trees.leaf, shipped_weights().trees.leaf)
    with np.load(path) as file:
        held = dict(file)
    held["features"] = held["features"][::-1]
    np.savez(path, **held)
    with pytest.raises(ValueError, match="other features"):
        Weights.load(path)


@pytest.mark.needs_data
def test_real_pages() -> None:
    """Far above chance on pages with gold text; the held-out figure is the benchmark's."""
    import pyarrow.parquet as pq

    data = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "web"
    if not data.exists():
        pytest.skip(f"{data} is not there")
    for kind, least in (("article", 0.88), ("forum", 0.80)):
        rows = pq.read_table(data / f"magic_html_{kind}.parquet").to_pylist()
        scores = [token_f1(extract_page(row["html"]).text, row["gold"]) for row in rows]
        assert sum(scores) / len(scores) > least
