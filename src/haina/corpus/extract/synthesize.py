"""Made-up pages whose main text is known.

Comes in: texts and a seed. Goes out: markup and gold text. The pages with gold text by hand are few; these
teach what those have little of: short posts among long sidebars, excerpts of other articles below one, tables
and code that belong to the text. Names of classes, order and nesting are drawn anew for each page, one page in
four has classes that say nothing, so that the shape of a page is learnt rather than a theme's words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

_SENTENCE = re.compile(r"[^。！？!?\n]{8,200}?(?:[。！？!?]|\.(?=\s))")
_CLASSES = {
    "content": "content article-content post-body entry-content detail main-text text rich-text markdown-body story zw",
    "post": "post message comment-item reply answer topic-post thread-item post-stream floor item row media-item",
    "body": "post-content message-body bbWrapper postbody cooked reply-text t_f comment-text markdown prose content",
    "user": "user author-info poster profile avatar-box postprofile member userinfo left-col username",
    "date": "date time post-date meta byline timestamp info relative-time article-info publish",
    "action": "actions post-actions toolbar buttons reply-bar like-bar controls post-links share-tools",
    "side": "sidebar widget right-col aside rail module side-box panel recommend block",
    "nav": "nav navbar menu header-menu breadcrumb crumbs tabs top-bar site-nav",
    "foot": "footer foot site-info copyright bottom links",
    "related": "related recommend more-news card-list teasers hot-list read-next feed list",
    "comment": "comments comment-list replies respond discussion pinglun",
    "sign": "signature sig user-sign",
    "overlay": "modal popup cookie-banner consent overlay dialog notice",
    "title": "title headline post-title topic-title subject entry-title thread-title",
}


class _Words(NamedTuple):
    nav: tuple[str, ...]
    actions: tuple[str, ...]
    rank: tuple[str, ...]
    ago: str
    legal: str
    cookie: str
    related: tuple[str, ...]
    counts: str
    editor: str


_CHINESE = _Words(
    ("首页", "论坛", "新闻", "登录", "注册", "帮助", "视频", "财经", "体育", "搜索", "关于我们", "专栏", "问答"),
    ("回复", "引用", "举报", "点赞", "分享", "收藏", "只看该作者", "编辑"),
    ("初级会员", "版主", "高级会员", "管理员", "新手上路"),
    "{n}小时前", "版权所有 © {y} 未经许可不得转载 ICP备{n}号",
    "我们使用 Cookie 来改善您的体验。继续浏览即表示您同意我们的隐私政策。",
    ("相关阅读", "推荐阅读", "热门帖子", "猜你喜欢", "最新文章"), "阅读 {n} 回复 {m}", "责任编辑：{name}",
)  # fmt: skip
_ENGLISH = _Words(
    ("Home", "Forums", "News", "Log in", "Sign up", "Help", "Video", "Business", "Sports", "Search", "About", "Blog"),
    ("Reply", "Quote", "Report", "Like", "Share", "Save", "Permalink", "Edit"),
    ("Junior Member", "Moderator", "Senior Member", "Administrator", "New User"),
    "{n} hours ago", "Copyright © {y} All rights reserved. Terms of Service. Privacy Policy {n}",
    "We use cookies to improve your experience. By continuing to browse you agree to our privacy policy.",
    ("Related stories", "Recommended", "Popular topics", "You may also like", "Latest posts"), "{n} views {m} replies",
    "Edited by {name}",
)  # fmt: skip


class _Page:
    """One page in the making: `gold` collects the main text in order."""

    def __init__(self, random_: random.Random, text: str, words: _Words) -> None:
        self.random, self.words = random_, words
        found = [one.strip() for one in _SENTENCE.findall(text)]
        self.sentences = found if len(found) >= 5 else [*found, *[text[:60] + "。"] * 5]
        self.gold: list[str] = []
        self.telling = random_.random() < 0.75
        self.names: dict[str, str] = {}

    def sentence(self) -> str:
        return self.random.choice(self.sentences)

    def prose(self, low: int, high: int) -> str:
        glue = "" if self.words is _CHINESE else " "
        return glue.join(self.sentence() for _ in range(self.random.randint(low, high)))

    def short(self) -> str:
        sentence = self.sentence().rstrip("。.!?！？")
        if self.words is _CHINESE:
            return sentence[: self.random.randint(5, 20)]
        return " ".join(sentence.split()[: self.random.randint(2, 10)])

    def name(self) -> str:
        return "".join(
            self.random.choice("abcdefghijkmnorstuvwxyz0123456789") for _ in range(self.random.randint(4, 9))
        )

    def number(self) -> int:
        return self.random.randint(1, 3000)

    def attributes(self, role: str) -> str:
        """The class of a role, the same all over the page."""
        if role not in self.names:
            name = self.random.choice(_CLASSES[role].split())
            self.names[role] = name if self.telling else f"c{self.random.randint(100, 999)}{name[:1]}x"
        return f' class="{self.names[role]}"' if self.random.random() < 0.95 else ""

    def element(self, tag: str, role: str, inside: str) -> str:
        return f"<{tag}{self.attributes(role)}>{inside}</{tag}>"

    def keep(self, text: str) -> str:
        """Text of the main content, escaped."""
        self.gold.append(text)
        return escape(text)

    def date(self) -> str:
        if self.random.random() < 0.5:
            return self.words.ago.format(n=self.random.randint(1, 23))
        year, month, day = (
            self.random.randint(2010, 2025),
            self.random.randint(1, 12),
            self.random.randint(1, 28),
        )
        return f"{year}-{month:02d}-{day:02d} 10:{self.random.randint(10, 59)}"

    def links(self, count: int, make: Callable[[], str]) -> str:
        tag = self.random.choice(("li", "div", "span", ""))
        items = [f'<a href="/{self.number()}">{escape(make())}</a>' for _ in range(count)]
        if not tag:
            return " | ".join(items)
        joined = "".join(f"<{tag}>{item}</{tag}>" for item in items)
        return f"<ul>{joined}</ul>" if tag == "li" else joined

    def nav(self) -> str:
        words = self.words.nav
        return self.element(
            "div", "nav", self.links(self.random.randint(4, 12), lambda: self.random.choice(words))
        )

    def box(self) -> str:
        """A box of the sidebar: links, excerpts of other pages, a word on the site, figures."""
        head = f"<h3>{self.random.choice(self.words.related)}</h3>"
        kind = self.random.randrange(4)
        if kind == 0:
            inside = self.links(self.random.randint(4, 10), self.short)
        elif kind == 1:
            inside = "".join(
                f'<div><a href="/{self.number()}">{escape(self.short())}</a><p>{escape(self.prose(1, 2))}</p></div>'
                for _ in range(self.random.randint(2, 6))
            )
        elif kind == 2:
            inside = f"<p>{escape(self.prose(1, 4))}</p>"
        else:
            inside = self.words.counts.format(n=self.number(), m=self.number())
        return self.element(self.random.choice(("div", "section", "aside")), "side", head + inside)

    def boxes(self, low: int, high: int) -> str:
        return "".join(self.box() for _ in range(self.random.randint(low, high)))

    def related(self) -> str:
        cards = "".join(
            f'<div><img src=x><a href="/{self.number()}"><h4>{escape(self.short())}</h4></a>'
            + (f"<p>{escape(self.prose(1, 3))}</p>" if self.random.random() < 0.6 else "")
            + f"<span>{self.date()}</span></div>"
            for _ in range(self.random.randint(2, 8))
        )
        return self.element("div", "related", f"<h3>{self.random.choice(self.words.related)}</h3>{cards}")

    def foot(self) -> str:
        legal = self.words.legal.format(y=2024, n=self.number())
        return self.element(self.random.choice(("div", "footer")), "foot", self.nav() + f"<p>{legal}</p>")

    def overlay(self) -> str:
        return self.element("div", "overlay", f"<p>{self.words.cookie}</p><button>OK</button>")

    def actions(self) -> str:
        return self.element(
            "div",
            "action",
            self.links(self.random.randint(2, 5), lambda: self.random.choice(self.words.actions)),
        )

    def code(self) -> str:
        lines = "\n".join(
            f"{self.name()} = {self.name()}({self.number()})" for _ in range(self.random.randint(1, 8))
        )
        return f"<pre><code>{self.keep(lines)}</code></pre>"

    def table(self) -> str:
        columns = self.random.randint(2, 4)
        rows = [
            "".join(
                f"<td>{self.keep(self.short() if self.random.random() < 0.6 else str(self.number()))}</td>"
                for _ in range(columns)
            )
            for _ in range(self.random.randint(2, 8))
        ]
        return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"

    def items(self) -> str:
        tag = self.random.choice(("ul", "ol"))
        make = self.sentence if self.random.random() < 0.5 else self.short
        return (
            f"<{tag}>"
            + "".join(f"<li>{self.keep(make())}</li>" for _ in range(self.random.randint(2, 7)))
            + f"</{tag}>"
        )

    def paragraphs(self, count: int, low: int, high: int) -> str:
        style = self.random.randrange(3)
        texts = [self.keep(self.prose(low, high)) for _ in range(count)]
        if style == 0 and self.random.random() < 0.6:
            return "<br><br>".join(texts)
        tag = "p" if style < 2 else "div"
        return "".join(f"<{tag}>{text}</{tag}>" for text in texts)

    def body(self, length: int) -> str:
        """The body of an article: paragraphs, and between them what manuals and blogs have."""
        rich = self.random.random() < 0.5
        parts = []
        for _ in range(length):
            if rich and self.random.random() < 0.5:
                parts.append(f"<h2>{self.keep(self.short())}</h2>")
            parts.append(self.paragraphs(self.random.randint(1, 4), 1, 5))
            if rich:
                parts.append(
                    self.random.choice((self.code, self.table, self.items, lambda: "", lambda: ""))()
                )
        return "".join(parts)

    def heading(self) -> str:
        title = self.short()
        kept = self.keep(title) if self.random.random() < 0.4 else escape(title)
        return f"<h1{self.attributes('title')}>{kept}</h1>"

    def post(self, frame: str, long: float) -> str:
        user = self.element(
            "div",
            "user",
            f'<a href="/u">{self.name()}</a> <span>{self.random.choice(self.words.rank)}</span>',
        )
        date = self.element("div", "date", f"{self.date()} #{self.random.randint(1, 40)}")
        inside = self.paragraphs(self.random.randint(1, 3), 1, 4 if self.random.random() < long else 2)
        if self.random.random() < 0.12:
            inside += self.code()
        if self.random.random() < 0.15:
            inside = f"<blockquote>{self.keep(self.sentence())}</blockquote>" + inside
        body = self.element("div", "body", inside)
        sign = self.element("div", "sign", escape(self.short())) if self.random.random() < 0.15 else ""
        if frame == "tr":
            return f"<tr><td>{user}</td><td>{date}{body}{sign}{self.actions()}</td></tr>"
        order = (
            user + date + body + sign + self.actions() if self.random.random() < 0.8 else body + user + date
        )
        return self.element(frame, "post", order)

    def comments(self) -> str:
        held = self.gold
        self.gold = []
        posts = "".join(self.post("li", 0.2) for _ in range(self.random.randint(1, 8)))
        self.gold = held
        return self.element("div", "comment", f"<h3>{self.words.actions[0]}</h3><ul>{posts}</ul>")


def make_page(text: str, chinese: bool, forum: bool, seed: int) -> tuple[str, str]:
    """A page with sentences of `text`, and its main text; `forum` for posts, else an article."""
    page = _Page(random.Random(seed), text, _CHINESE if chinese else _ENGLISH)
    chance = page.random.random
    parts: list[str] = [page.nav()]
    if chance() < 0.4:
        parts.append(page.overlay())
    left = page.boxes(0, 2) if chance() < 0.3 else ""
    main = [page.nav() if chance() < 0.5 else "", page.heading()]
    if forum:
        frame = page.random.choice(("div", "div", "li", "article", "tr"))
        posts = [page.post(frame, 0.6) for _ in range(page.random.choice((1, 1, 2, 3, 4, 6, 9, 14, 20)))]
        tag = {"tr": "table", "li": "ul"}.get(frame, "div")
        main += [f"<{tag}>", *posts, f"</{tag}>"]
        main.append(page.related() if chance() < 0.4 else "")
    else:
        main.append(
            page.element("div", "date", f"{page.date()} {page.name()} {page.words.counts.format(n=9, m=2)}")
        )
        main.append(
            page.element(
                page.random.choice(("div", "article", "section")),
                "content",
                page.body(page.random.randint(1, 6)),
            )
        )
        main.append(f"<p>{page.words.editor.format(name=page.name())}</p>" if chance() < 0.4 else "")
        main += [make() for make in (page.actions, page.related, page.comments, page.box) if chance() < 0.5]
    inside = "".join(main)
    for _ in range(page.random.randint(0, 3)):
        inside = f"<div>{inside}</div>"
    parts += [left, inside, page.boxes(0, 4), page.overlay() if chance() < 0.2 else "", page.foot()]
    html = f"<html><head><title>{escape(page.short())}</title></head><body>{''.join(parts)}</body></html>"
    return html, "\n".join(page.gold)


def make_pages(texts: Sequence[tuple[str, bool]], count: int) -> list[tuple[str, str, bool]]:
    """`count` pages from (text, is Chinese) pairs: (markup, main text, is a forum)."""
    return [
        (*make_page(*texts[seed % len(texts)], forum=seed % 3 > 0, seed=seed), seed % 3 > 0)
        for seed in range(count)
    ]
