"""Lines and chats that tokenizers disagree on, the same on every machine; `same_ids.py` encodes them.

In: real text (Chinese in both scripts, English). Out: lines of it beside code, numbers of all scripts, emoji and
combining marks, special tokens spelled out, odd white space, NULs, random Unicode and very long lines; chats whose
messages try to write special tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

SEED = 5
SPECIALS = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<|reserved_0|>", "<|reserved_1|>"]
PARTS = ["<", ">", "<|", "|>", "</", "<s", "s>", "<|im_", "end|>", "im_start", "<pad", "|"]
SPACES = [*" \t\n\r\u00a0\u3000\u200b\u2028\u2029\x0b\x0c\x85\ufeff", "  ", "\r\n", "\n\n", "    "]
NUMBERS = (
    "0123456789 ０１２３４５６７８９ ①②③⑳㉑㊿ ⅠⅡⅢⅫⅰⅱ ½¾⅓⅞ ²³¹₀₁₂ 一二三四五六七八九十百千万亿〇 ㈠㈡㈢㊀㊁ ٠١٢٣٤٥٦٧٨٩ "
    "०१२३४५६७८९ 𝟎𝟏𝟐𝟗𝟘𝟡 🄀🄁🄂⓪❶❷➀ 〡〢〣〸〹〺 𐄇𐄈𒐀𒐁 "
    # Numbers since Unicode 15, 16 and 17.
    "\U00011f50\U00011f59\U0001d2c0\U0001e4f0 \U0001ccf0\U0001ccf9\U000116d0\U00016130\U0001e5f1 "
    "\U00011de0\U00012550\U00016ff4"
)
MARKS = (
    "👩‍👩‍👧‍👦 🇨🇳 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👍🏽 ☃️ ❤️‍🔥 😀 🀄 e\u0301 a\u0308\u0323 ไม่ 한\u1100\u1161 𠮷 𡃁 豈 \ufdd0 \uffff 的 the a"
)


def prose(data: Path, name: str) -> list[str]:
    """The lines of the first 400 documents of `data/text/NAME.parquet`."""
    import pyarrow.parquet as pq

    rows = next(pq.ParquetFile(data / "text" / f"{name}.parquet").iter_batches(400, columns=["text"]))
    return [line for text in rows.column(0).to_pylist() for line in text.splitlines() if line]


def mixed_lines(count: int, data: Path) -> tuple[list[str], list[str]]:
    """`count` lines and the kind of each."""
    rng = random.Random(SEED)
    zh, en = prose(data, "zh_wikipedia") + prose(data, "zh_laws"), prose(data, "en_wikipedia")
    poems = prose(data, "zh_tang_poems")
    sources = sorted((Path(__file__).parent.parent / "src").rglob("*.py"))[:60]
    code = [line for path in sources for line in path.read_text("utf-8").splitlines() if line.strip()]

    def some(parts: list[str], number: int) -> str:
        return "".join(rng.choice(parts) for _ in range(number))

    def number() -> str:
        return some(list(rng.choice(NUMBERS.split())), rng.randrange(1, 9))

    def character() -> str:
        while True:
            code_point = rng.randrange(rng.choice([0x80, 0x3000, 0x30000, 0x110000]))
            if not 0xD800 <= code_point < 0xE000:
                return chr(code_point)

    def pieces_of_both() -> str:
        return "".join(rng.choice(rng.choice((zh, en)))[: rng.randrange(1, 40)] for _ in range(6))

    def long() -> str:
        text = some(rng.choice([zh, en, code]), rng.randrange(200, 900))
        return rng.choice([text, "".join(text.split()), "哈" * 20_000, "ha " * 20_000, " " * 20_000])

    kinds: dict[str, Callable[[], str]] = {
        "Chinese": lambda: rng.choice(zh),
        "Chinese, traditional": lambda: rng.choice(poems),
        "English": lambda: rng.choice(en),
        "both languages": pieces_of_both,
        "code": lambda: "\n".join(rng.choice(code) for _ in range(rng.randrange(1, 8))),
        "numbers": lambda: "".join(
            rng.choice([number(), rng.choice(zh)[:4], " ", ",", "第", "x"]) for _ in range(12)
        ),
        "emoji, combining marks": lambda: some([*MARKS.split(), " "], 14),
        "special tokens spelled": lambda: some([*SPECIALS, *PARTS, "海", " sea ", "\n"], 12),
        "white space": lambda: some([*SPACES, *SPACES, "海纳", "the", "1", "。"], 20),
        "NUL and control": lambda: some(["\x00", chr(rng.randrange(32)), "海", "a", "\x7f", " "], 16),
        "any Unicode": lambda: "".join(character() for _ in range(24)),
    }
    names = [list(kinds)[place % len(kinds)] if place % 250 else "very long" for place in range(count)]
    return [kinds[name]() if name in kinds else long() for name in names], names


def attacking_chats(count: int) -> list[list[dict[str, str]]]:
    """Chats whose messages are special tokens, parts of them, and text."""
    rng = random.Random(SEED)
    parts = [*SPECIALS, *PARTS, "海纳百川", " sea ", "\n", "\u2060", "\ufdd0", ""]
    roles = ("system", "user", "assistant", "user")
    return [
        [
            {"role": role, "content": "".join(rng.choice(parts) for _ in range(rng.randrange(1, 8)))}
            for role in roles
        ]
        for _ in range(count)
    ]
