"""Claim: private data is found with span F1 >= 0.97 in Chinese and in English, at >= 100 MB/s on one core.

Cases are generated: sentences with numbers of every kind in the forms people write them, beside Han characters and in
English, and sentences with numbers that only look private (orders, ISBN, dates, versions, hashes, ...). A span counts when
its start, end and kind are right. datatrove's PIIFormatter is asked the same on the kinds it knows, e-mail and IPv4. Speed is
that over ../shared/data/text, both on the same texts, alternating.

Run: python benchmarks/privacy.py [--data ../shared/data] [--cases 4000] [--megabytes 20]
"""

# ruff: noqa: E501 - tables of cases read better in wide lines

from __future__ import annotations

import argparse
import random
import statistics
import string
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
from datatrove.pipeline.formatters.pii import PIIFormatter

from haina.corpus.privacy import KINDS, find_private, find_private_packed
from haina.corpus.privacy.checksums import CREDIT_DIGITS, credit_check_digit, id_check_digit, luhn
from haina.corpus.utf8 import pack

Rng = random.Random
WIDE = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})


@dataclass(frozen=True)
class Case:
    """A text with its private spans: (start, end, kind) in characters."""

    text: str
    spans: frozenset[tuple[int, int, str]]


def digits(rng: Rng, count: int) -> str:
    """`count` random digits."""
    return "".join(rng.choices(string.digits, k=count))


def email(rng: Rng) -> str:
    """An address with a personal or an office local part."""
    local = rng.choice(
        [
            "zhang.wei",
            "li_na88",
            "info",
            "j.smith+news",
            "wangfang1990",
            "sales-cn",
            "x",
            "Chen.YU",
            "support",
        ]
    )
    host = rng.choice(
        [
            "example.com",
            "mail.example.com.cn",
            "163.com",
            "qq.com",
            "cs.univ.edu",
            "my-firm.co.uk",
            "gmail.com",
            "abc.io",
        ]
    )
    found = f"{local}@{host}"
    return found.translate(WIDE) if rng.random() < 0.05 else found


def mobile(rng: Rng) -> str:
    """A mainland mobile number."""
    head = rng.choice(["138", "159", "186", "177", "199", "150", "131", "166", "147"])
    number = head + digits(rng, 8)
    mark = rng.choice(["", "", "", "-", " "])
    spaced = mark.join([number[:3], number[3:7], number[7:]])
    spaced = rng.choice(["", "", "", "+86 ", "+86-", "0086 ", "+86", "(+86)", "86-"]) + spaced
    return spaced.translate(WIDE).replace(" ", "　") if rng.random() < 0.05 else spaced


def landline(rng: Rng) -> str:
    """A mainland landline with its area."""
    area, size = rng.choice(
        [("010", 8), ("021", 8), ("0755", 8), ("0571", 8), ("0931", 7), ("0898", 8), ("0771", 7), ("028", 8)]
    )
    number = rng.choice("2345678") + digits(rng, size - 1)
    middle = rng.choice(["", "", "-", " "])
    number = number[: size - 4] + middle + number[size - 4 :]
    tail = rng.choice(["", "", "", "转" + digits(rng, 3), "-" + digits(rng, 4)]) if not middle else ""
    return (
        rng.choice(
            [
                f"{area}-{number}",
                f"({area}){number}",
                f"（{area}）{number}",
                f"({area}) {number}",
                f"+86-{area[1:]}-{number}",
            ]
        )
        + tail
    )


def hong_kong(rng: Rng) -> str:
    """A Hong Kong number with its country code."""
    number = rng.choice("235679") + digits(rng, 7)
    return rng.choice(["+852 ", "+852-", "(852) ", "+852"]).replace("(852)", "(+852)") + rng.choice(
        [number, f"{number[:4]} {number[4:]}"]
    )


def taiwan(rng: Rng) -> str:
    """A Taiwanese mobile or landline number."""
    tail = digits(rng, 6)
    return rng.choice(
        [f"09{digits(rng, 2)}-{tail[:3]}-{tail[3:]}", f"+886 9{digits(rng, 2)} {tail[:3]} {tail[3:]}", f"(02) 2{digits(rng, 3)}-{digits(rng, 4)}",
         f"02-2{digits(rng, 3)}-{digits(rng, 4)}", f"+886-2-2{digits(rng, 3)}-{digits(rng, 4)}", f"(07)3{digits(rng, 2)}-{digits(rng, 4)}"]
    )  # fmt: skip


def american(rng: Rng) -> str:
    """A number of the North American plan."""
    area, exchange, line = (
        rng.choice(["212", "415", "650", "312", "206"]),
        "5" + rng.choice("2345") + digits(rng, 1),
        digits(rng, 4),
    )
    return rng.choice(
        [f"({area}) {exchange}-{line}", f"{area}-{exchange}-{line}", f"{area}.{exchange}.{line}", f"+1 {area} {exchange} {line}",
         f"+1-{area}-{exchange}-{line}", f"1-{area}-{exchange}-{line}", f"+1{area}{exchange}{line}", f"({area}){exchange}-{line} ext. {digits(rng, 3)}"]
    )  # fmt: skip


def identity(rng: Rng) -> str:
    """An 18-digit identity card number."""
    body = (
        rng.choice(["110101", "310115", "440305", "510104", "650102", "330106"])
        + f"{rng.randint(1940, 2015)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
        + digits(rng, 3)
    )
    found = body + id_check_digit(body)
    return rng.choice([found, found, found.lower(), f"{found[:6]} {found[6:14]} {found[14:]}"])


def bank_card(rng: Rng) -> str:
    """A card number with a known issuer."""
    head, size = rng.choice(
        [
            ("622848", 19),
            ("621226", 19),
            ("625965", 16),
            ("4392", 16),
            ("5412", 16),
            ("3782", 15),
            ("4532", 16),
        ]
    )
    body = head + digits(rng, size - len(head) - 1)
    found = next(body + digit for digit in string.digits if luhn(body + digit))
    if size == 15:
        return rng.choice([found, f"{found[:4]} {found[4:10]} {found[10:]}"])
    mark = rng.choice(["", "", " ", "-"])
    return mark.join(found[place : place + 4] for place in range(0, size, 4))


def credit_code(rng: Rng) -> str:
    """A unified social credit code."""
    body = (
        rng.choice(["91", "92", "12", "51"])
        + rng.choice(["110108", "310115", "440300"])
        + "".join(rng.choices(CREDIT_DIGITS, k=9))
    )
    return body + credit_check_digit(body)


def passport(rng: Rng) -> str:
    """A Chinese or other passport number."""
    return (
        rng.choice(["E", "G", "P", "S", "K"]) + digits(rng, 8)
        if rng.random() < 0.6
        else rng.choice(["E" + rng.choice("ABJK") + digits(rng, 7), digits(rng, 9)])
    )


def plate(rng: Rng) -> str:
    """A mainland plate."""
    head = rng.choice("京沪粤浙苏川鲁鄂") + rng.choice("ABCDEF")
    body = rng.choice(
        [
            digits(rng, 5),
            "D" + digits(rng, 5),
            digits(rng, 2) + "K" + digits(rng, 2),
            digits(rng, 4) + "学",
            "F" + digits(rng, 4),
        ]
    )
    return head + rng.choice(["", "·", " "]) + body


def address(rng: Rng) -> str:
    """A public IPv4 or IPv6 address."""
    if rng.random() < 0.3:
        return rng.choice(
            [
                "2001:4860:4860::8888",
                "2400:3200::1",
                "2606:4700:4700::1111",
                "240e:0:a:1b2c:3d4e:5f6a:7b8c:9d0e",
            ]
        )
    return f"{rng.choice([8, 114, 223, 47, 139, 61])}.{rng.randint(33, 250)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"


# kind, maker, sentences; {} is the value.
POSITIVE: dict[str, list[tuple[str, Callable[[Rng], str], list[str]]]] = {
    "zh": [
        ("email", email, ["邮箱{}请联系", "来信请寄{}。", "投稿邮箱：{}，截止周五", "（E-mail：{}）", "他的地址是{}和别人不同"]),
        ("phone", mobile, ["手机{}，微信同号", "有事请打{}找王老师", "联系人：李先生{}", "电话：{}。", "【{}】", "王女士（{}）负责"]),
        ("phone", landline, ["电话：{}", "咨询电话{}，工作日有人接听", "传真{}。", "办公室号码是{}，请勿外传"]),
        ("phone", hong_kong, ["香港辦事處{}", "電話：{}", "請致電{}查詢"]),
        ("phone", taiwan, ["台北門市：{}", "連絡電話{}。", "請撥{}洽詢"]),
        ("id_card", identity, ["身份证号{}", "被告人张某，公民身份号码{}，住北京市", "证件：{}。", "其{}经核对无误"]),
        ("bank_card", bank_card, ["卡号：{}", "请汇至{}，户名李明", "银行卡{}已挂失", "中国银行 {} 王芳"]),
        ("credit_code", credit_code, ["统一社会信用代码：{}", "该公司（{}）成立于2015年", "代码{}。"]),
        ("passport", passport, ["护照号码：{}", "持护照{}入境", "護照{}已過期", "中国护照 {}"]),
        ("plate", plate, ["车牌{}的轿车", "一辆{}小客车逆行", "肇事车辆：{}。", "号牌为{}，已查扣"]),
        ("ip", address, ["IP地址{}", "来自{}的访问", "服务器{}宕机了", "用户（{}）发表评论"]),
    ],
    "en": [
        ("email", email, ["Write to {} today.", "Email: {}", "contact <{}> for details", "my address is {}, ok?", "({})"]),
        ("phone", american, ["Call {} now.", "Phone: {}", "Her number is {}, leave a message", "fax {}", "office ({})"]),
        ("phone", mobile, ["Mobile: {}", "reach Mr Wang at {} any time", "tel. {}"]),
        ("phone", hong_kong, ["Tel {}", "our Hong Kong office: {}"]),
        ("phone", landline, ["Tel: {}", "the Beijing office, phone {}, is open"]),
        ("id_card", identity, ["ID number {}", "the holder of {} appeared", "Resident ID: {}."]),
        ("bank_card", bank_card, ["card number {}", "charge it to {} please", "Visa {} expired", "pay with {}."]),
        ("credit_code", credit_code, ["registered as {}", "credit code: {}"]),
        ("passport", passport, ["passport no. {}", "Passport: {}", "holder of passport {} issued in Shanghai"]),
        ("plate", plate, ["the car {} was towed", "plate: {}"]),
        ("ip", address, ["blocked {} yesterday", "server {} is down", "from {} to us", "IP: {}"]),
    ],
}  # fmt: skip


def _hash(rng: Rng) -> str:
    return "".join(rng.choices("0123456789abcdef", k=rng.choice([32, 40, 64])))


def _decimal(rng: Rng) -> str:
    return f"{rng.randint(0, 180)}.{digits(rng, rng.randint(4, 12))}"


def _isbn(rng: Rng) -> str:
    return rng.choice(
        [
            f"978-7-{digits(rng, 3)}-{digits(rng, 5)}-{digits(rng, 1)}",
            f"978{digits(rng, 10)}",
            f"7-{digits(rng, 4)}-{digits(rng, 4)}-X",
        ]
    )


def _date(rng: Rng) -> str:
    year, month, day = rng.randint(1900, 2026), rng.randint(1, 12), rng.randint(1, 28)
    return rng.choice(
        [
            f"{year}-{month:02}-{day:02}",
            f"{year}.{month}.{day}",
            f"{year}{month:02}{day:02}",
            f"{year}-{year + 1}",
            f"{year}-{month:02}-{day:02} {day:02}:30:15",
        ]
    )


NEGATIVE: dict[str, list[tuple[Callable[[Rng], str], list[str]]]] = {
    "zh": [
        (lambda rng: digits(rng, rng.choice([12, 16, 18, 20])), ["订单号{}已发货", "快递单号：{}", "流水号{}", "编号{}的样品"]),
        (lambda rng: "138" + digits(rng, 8), ["订单编号{}", "商品条码{}"]),
        (lambda rng: "13912345678" + digits(rng, rng.randint(3, 9)), ["串码{}无效", "代码是{}。"]),
        (_isbn, ["ISBN {}", "书号ISBN：{}，定价45元"]), (_date, ["出生于{}", "时间：{}", "（{}）"]),
        (_decimal, ["圆周率约等于{}", "坐标为{}", "系数{}", "东经{}度"]), (_hash, ["校验值{}", "提交{}修复了它"]),
        (lambda rng: f"{rng.randint(1, 20)}.{rng.randint(0, 20)}.{rng.randint(0, 9)}.{rng.randint(0, 9)}", ["版本{}发布", "升级到{}版本", "见{}节"]),
        (lambda rng: rng.choice(["192.168.1.", "10.0.0.", "127.0.0.", "169.254.7."]) + str(rng.randint(1, 254)), ["内网地址{}", "本机{}"]),
        (lambda rng: f"{rng.randint(1, 999)},{digits(rng, 3)},{digits(rng, 3)}", ["价格{}元", "人口{}人"]),
        (lambda rng: rng.choice(["400-", "800-"]) + digits(rng, 3) + "-" + digits(rng, 4), ["客服热线{}", "免费电话{}"]),
        (lambda rng: f"{rng.randint(1000, 9999)}-{rng.randint(1000, 9999)}", ["第{}页", "页码{}"]),
        (lambda rng: digits(rng, 8), ["共有{}个样本", "专利号{}", "本期印数{}册"]),
    ],
    "en": [
        (lambda rng: digits(rng, rng.choice([10, 12, 16, 18, 20])), ["order number {}", "tracking no. {}", "Invoice #{}", "serial {}"]),
        (lambda rng: "212555" + digits(rng, 4 + rng.randint(3, 8)), ["the string {} overflows", "token {}."]),
        (_isbn, ["ISBN {}", "(ISBN: {})"]), (_date, ["on {}", "dated {}.", "({})"]),
        (_decimal, ["pi is {}", "at {} degrees north", "a factor of {}"]), (_hash, ["commit {}", "sha {}"]),
        (lambda rng: f"{rng.randint(1, 20)}.{rng.randint(0, 20)}.{rng.randint(0, 9)}.{rng.randint(0, 9)}", ["version {} is out", "v{}", "see section {}"]),
        (lambda rng: rng.choice(["192.168.1.", "10.0.0.", "127.0.0.", "169.254.7."]) + str(rng.randint(1, 254)), ["localhost is {}", "the gateway {}"]),
        (lambda rng: f"${rng.randint(1, 999)},{digits(rng, 3)},{digits(rng, 3)}.00", ["a budget of {}", "sold for {}"]),
        (lambda rng: f"{rng.randint(1000, 9999)}-{rng.randint(1000, 9999)}", ["pp. {}", "pages {}"]),
        (lambda rng: digits(rng, rng.choice([8, 9, 10])), ["a total of {} people", "in {} steps", "PMID {}"]),
        (lambda rng: f"icon@{rng.randint(2, 3)}x.png", ["the file {}", "see {}"]),
        (lambda rng: ":".join("".join(rng.choices("0123456789abcdef", k=2)) for _ in range(6)), ["MAC {}", "device {}"]),
        (lambda rng: "git@github.com:user/repo.git", ["clone {}"]),
    ],
}  # fmt: skip
FILLER = {
    "zh": [
        "今天的会议改到下午三点。",
        "请大家准时参加，不要迟到。",
        "2023年共完成12个项目，增长8.5%。",
        "他在北京住了十五年，",
    ],
    "en": [
        "The meeting was moved to 3 pm. ",
        "Please be on time. ",
        "In 2023 we finished 12 projects, up 8.5%. ",
        "She lived there for 15 years, ",
    ],
}


def make_case(rng: Rng, language: str) -> Case:
    """One to four sentences, each with a private value, a look-alike, or nothing."""
    text, spans = "", []
    for _ in range(rng.randint(1, 4)):
        text += rng.choice(FILLER[language]) if rng.random() < 0.5 else ""
        if rng.random() < 0.5:
            kind, make, sentences = rng.choice(POSITIVE[language])
        else:
            make, sentences = rng.choice(NEGATIVE[language])
            kind = ""
        before, after = rng.choice(sentences).split("{}")
        value = make(rng)
        text += before
        if kind:
            spans.append((len(text), len(text) + len(value), kind))
        text += value + after + rng.choice(["\n", "\n", "。" if language == "zh" else ". "])
    return Case(text, frozenset(spans))


def f1(found: int, wanted: int, right: int) -> float:
    """Harmonic mean of precision and recall."""
    return 2 * right / (found + wanted) if found + wanted else 1.0


def peer_spans(formatter: PIIFormatter, text: str) -> set[tuple[int, int, str]]:
    """What datatrove would replace."""
    spans = {(*match.span(), "email") for match in formatter.emails_replacer.regex.finditer(text)}
    replacer = formatter.ip_replacer
    return spans | {
        (*match.span(), "ip")
        for match in replacer.regex.finditer(text)
        if replacer.validator is None or replacer.validator(match.group(0))
    }


def accuracy(count: int, seed: int, errors: int) -> None:
    """Span F1 by language and kind, ours and datatrove's."""
    formatter = PIIFormatter()
    for language in ("zh", "en"):
        rng = random.Random(f"{seed} {language}")
        cases = [make_case(rng, language) for _ in range(count)]
        tallies = {"ours": Counter[tuple[str, str]](), "datatrove": Counter[tuple[str, str]]()}
        for case in cases:
            ours = {(span.start, span.end, span.kind) for span in find_private(case.text)}
            if ours != case.spans and errors:
                errors -= 1
                print(
                    f"  {case.text!r}\n     missed {[case.text[a:b] for a, b, _ in case.spans - ours]}, wrong {[(case.text[a:b], k) for a, b, k in ours - case.spans]}"
                )
            for name, found in (("ours", ours), ("datatrove", peer_spans(formatter, case.text))):
                for label, spans in (("found", found), ("wanted", case.spans), ("right", found & case.spans)):
                    tallies[name].update((kind, label) for _, _, kind in spans)
        print(
            f"{language}: {count} cases, {sum(len(case.spans) for case in cases)} spans; F1 (precision, recall)"
        )
        for kind in (*KINDS, "all", "email+ip"):
            kinds = KINDS if kind == "all" else ("email", "ip") if kind == "email+ip" else (kind,)
            cells = []
            for name, tally in tallies.items():
                found, wanted, right = (
                    sum(tally[each, label] for each in kinds) for label in ("found", "wanted", "right")
                )
                if name == "ours" or kind in {"email", "ip", "email+ip"}:
                    cells.append(
                        f"{name} {f1(found, wanted, right):.4f} ({right / max(1, found):.3f}, {right / max(1, wanted):.3f})"
                    )
            print(f"  {kind:12} {'   '.join(cells)}")


def speed(data: Path, megabytes: float) -> None:
    """MB/s over whole documents, medians of alternating rounds; what was found there, for reading."""
    formatter = PIIFormatter()
    for name in ("zh_wikipedia", "en_wikipedia", "zh_laws"):
        texts: list[str] = []
        size = 0
        for batch in pq.ParquetFile(data / f"text/{name}.parquet").iter_batches(500, columns=["text"]):
            texts += [text for text in batch["text"].to_pylist() if text]
            size = sum(len(text.encode()) for text in texts)
            if size > megabytes * 1e6:
                break
        packed, offsets = pack(texts)
        few = texts[: max(1, len(texts) // 20)]
        few_size = sum(len(text.encode()) for text in few)
        spans = find_private_packed(packed, offsets)
        ours, theirs = [], []
        for _ in range(5):
            start = time.perf_counter()
            find_private_packed(packed, offsets)
            ours.append(size / 1e6 / (time.perf_counter() - start))
            start = time.perf_counter()
            for text in few:
                formatter.format(text)
            theirs.append(few_size / 1e6 / (time.perf_counter() - start))
        middle, peer = statistics.median(ours), statistics.median(theirs)
        print(
            f"{name:14} {size / 1e6:6.1f} MB: ours {middle:7.1f} MB/s ({min(ours):.0f} to {max(ours):.0f}), datatrove {peer:6.1f} MB/s "
            f"({min(theirs):.1f} to {max(theirs):.1f}), {middle / peer:.1f} times; found {dict(Counter(KINDS[kind] for kind in spans.kind.tolist()))}"
        )


def main() -> None:
    """Generate, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1] / "../shared/data")
    parser.add_argument("--cases", type=int, default=4000, help="generated texts of each language")
    parser.add_argument("--megabytes", type=float, default=20, help="text of each file for the speed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--errors", type=int, default=0, help="show so many wrong cases")
    arguments = parser.parse_args()
    if not (arguments.data / "text").is_dir():
        print(f"{arguments.data}/text: not there; see ../shared/data/README.md", file=sys.stderr)
        raise SystemExit(2)
    accuracy(arguments.cases, arguments.seed, arguments.errors)
    speed(arguments.data, arguments.megabytes)
    print(*(f"{name} {version(name)}" for name in ("datatrove", "numba", "numpy")), sep=", ")


if __name__ == "__main__":
    main()
