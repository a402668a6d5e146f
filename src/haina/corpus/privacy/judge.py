"""What a candidate is: a phone number, a card, an address, ... or nothing private.

Comes in: a folded window of text and where in it the candidate lies. Goes out: spans with their kind. Rules that rest
on a check digit come first, then those on a numbering plan. A number that only looks like something needs a word
beside it (`电话`, `passport`); a word for something else (`订单号`, `ISBN`) that stands nearer takes it away.
`rules.yaml` has the words and the plans.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import cache

from haina.corpus.privacy.candidates import ADDRESS, EMAIL, NUMBER, PLATE, rules
from haina.corpus.privacy.checksums import is_credit_code, is_identity_card, is_public_address, luhn

KINDS = ("email", "phone", "id_card", "bank_card", "credit_code", "passport", "plate", "ip")
# Characters of text around a candidate that the rules may look at.
REACH_BEFORE = 96
REACH_AFTER = 200

Place = tuple[int, int]

# Never `\b`: a Han character beside a digit is no boundary for it, and must be none here. A decimal, a time and a
# longer row of groups are no place for a number to start or end.
_FREE = r"(?<![0-9A-Za-z_])(?<![0-9][.:-])"
_END = r"(?![0-9A-Za-z_])(?![.:-][0-9])"

_LOCAL = r"[A-Za-z0-9_%+-]+(?:[.'][A-Za-z0-9_%+-]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(
    rf"(?<![A-Za-z0-9._%+@-])({_LOCAL})@((?:{_LABEL}\.)+([A-Za-z]{{2,24}}))(?![A-Za-z0-9@_]|-[A-Za-z0-9])"
)
_EMAIL_WORDS = re.compile(
    rf"(?<![A-Za-z0-9._%+@-])({_LOCAL})\s?(?:\([aA][tT]\)|\[[aA][tT]\])\s?"
    rf"((?:{_LABEL}\s?(?:\.|\([dD][oO][tT]\)|\[[dD][oO][tT]\])\s?)+([A-Za-z]{{2,24}}))(?![A-Za-z0-9@_-])"
)
_EXTENSION = r"(?:\s?(?:转|轉|ext\.?|EXT\.?|Ext\.?|x|分机|分機|#)\s?[0-9]{1,6}(?![0-9]))?"
_CHINA = r"(?:(?:\((?:\+|00)?86\)|(?:\+|00)86|(?<![0-9+])86)[- ]?)"
_MOBILE = re.compile(
    rf"{_FREE}(?<!\+)({_CHINA}?)(1[3-9][0-9](?:[0-9]{{8}}|([-. ])[0-9]{{4}}\3[0-9]{{4}}|([- ])[0-9]{{3}}\4[0-9]{{5}}"
    rf"|[0-9]([- ])[0-9]{{3}}\5[0-9]{{4}})){_END}"
)
_LANDLINE = re.compile(
    rf"{_FREE}(?<!\+)({_CHINA}?)(\(0?[0-9]{{2,3}}\)|0?[0-9]{{2,3}})([- ]{{0,3}})([2-8][0-9]{{2,3}}([- ]?)[0-9]{{4}})"
    rf"((?:-[0-9]{{1,5}}(?![0-9-]))|{_EXTENSION}){_END}"
)
_HONG_KONG = re.compile(
    rf"{_FREE}(?<!\+)(?:\((?:\+|00)?85[23]\)|(?:\+|00)85[23]|(?<![0-9+])85[23](?=[- ]))[- ]?"
    rf"[2-9][0-9]{{3}}[- ]?[0-9]{{4}}{_END}"
)
_TAIWAN = re.compile(
    rf"{_FREE}(?<!\+)(?:(?:\((?:\+|00)?886\)|(?:\+|00)886)[- ]?(?:\(0\)|0)?"
    rf"(?:9[0-9]{{2}}[- ]?[0-9]{{3}}[- ]?[0-9]{{3}}|([2-8][0-9]?)[- ]?[0-9]{{3,4}}[- ]?[0-9]{{4}})"
    rf"|09[0-9]{{2}}(?:[0-9]{{6}}|([- ])[0-9]{{3}}\2?[0-9]{{3}})"
    rf"|(?:\((0[0-9]{{1,3}})\)[- ]?|(0[0-9]{{1,3}})-)[0-9]{{3,4}}[- ]?[0-9]{{4}}){_EXTENSION}{_END}"
)
_US = re.compile(
    rf"{_FREE}(?<!\+)((?:\+1|(?<![0-9+])(?:001|1))[-. ]?)?"
    rf"(?:\(([2-9][0-8][0-9])\)[-. ]?|([2-9][0-8][0-9])([-. ]?))([2-9][0-9]{{2}})([-. ]?)[0-9]{{4}}{_EXTENSION}{_END}"
)
_WORLD = re.compile(
    rf"(?<![0-9A-Za-z+])\+[1-9][0-9]{{0,2}}(?:[- .]?(?:\([0-9]{{1,5}}\)|[0-9]{{1,5}})){{2,6}}{_END}"
)
_SHORT_PHONE = re.compile(rf"{_FREE}(?<!\+)[2-9][0-9]{{2,3}}[- ]?[0-9]{{4}}{_EXTENSION}{_END}")
_IDENTITY = re.compile(
    rf"{_FREE}([1-8][0-9]{{5}}([- ]?)[0-9]{{8}}\2[0-9]{{3}}[0-9Xx]|[1-8][0-9]{{14}}){_END}"
)
_CARD = re.compile(
    rf"{_FREE}(?:[2-9][0-9]{{12,18}}"
    rf"|(?<![0-9] )[2-9][0-9]{{3}}([- ])(?:[0-9]{{4}}\1){{2,3}}[0-9]{{1,4}}(?! [0-9]{{4}})"
    rf"|3[0-9]{{3}}([- ])[0-9]{{6}}\2[0-9]{{4,5}}){_END}"
)
_CREDIT = re.compile(r"(?<![0-9A-Za-z_-])[1-9ANY][0-9][0-9]{6}[0-9A-HJ-NPQRTUWXY]{10}(?![0-9A-Za-z_-])")
_PASSPORT = re.compile(
    rf"{_FREE}(?:[EKH][A-HJ-NP-Z][0-9]{{7}}|[A-Z][0-9]{{8}}|[0-9]{{9}}|[CTW][0-9A-Z][0-9]{{7}}){_END}"
)
_IPV4 = re.compile(r"(?<![0-9A-Za-z_.-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z_]|[.-][0-9A-Za-z])")
_IPV6 = re.compile(r"(?<![0-9A-Za-z_:.])[0-9A-Fa-f:]+(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3})?(?![0-9A-Za-z_:])")
# A number in the path of an address is the number of a page.
_URL = re.compile(r"(?:://|www\.)[A-Za-z0-9./?=&_%#~+:-]*$")


@cache
def _plate() -> re.Pattern[str]:
    letters = "A-HJ-NP-Z"
    body = (
        f"(?:[A-HJK][{letters}0-9][0-9]{{4}}|[0-9]{{5}}[A-HJK]"
        f"|(?=[{letters}]{{0,2}}[0-9][{letters}]{{0,2}}[0-9])[{letters}0-9]{{4}}[{letters}0-9挂掛学學警港澳])"
    )
    return re.compile(f"[{rules()['plate_provinces']}][{letters}][ ·•・‧.-]?{body}(?![0-9A-Za-z])")


@cache
def _words(kind: str) -> re.Pattern[str]:
    """Context words of a kind, those in Latin letters whole."""
    words = [str(word) for word in (rules()["other"] if kind == "other" else rules()["context"][kind])]
    parts = [
        rf"(?<![A-Za-z]){re.escape(word)}(?![a-z])" if word.isascii() else re.escape(word) for word in words
    ]
    return re.compile("|".join(sorted(parts, key=len, reverse=True)), re.IGNORECASE)


@cache
def _units() -> re.Pattern[str]:
    """A unit right after a number: what is counted is nobody's number."""
    return re.compile(rf" ?(?:{'|'.join(re.escape(unit) for unit in rules()['units'])})")


@cache
def _long_areas() -> frozenset[str]:
    return frozenset(
        str(code) for low, high in rules()["area_codes"]["long"] for code in range(low, high + 1)
    )


@cache
def _sets(name: str) -> frozenset[str]:
    return frozenset(str(value) for value in rules()[name])


@cache
def _issuers() -> tuple[tuple[re.Pattern[str], frozenset[int], bool], ...]:
    return tuple(
        (re.compile(pattern), frozenset(lengths), weak) for pattern, lengths, weak in rules()["issuers"]
    )


@cache
def _networks() -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(network) for network in rules()["networks"])


# A sentence has its own context; `tel.` and `No.` end none.
_BORDER = re.compile(r"[。！？!?；;\n]|(?<=[a-z0-9)]{4})\. ")

# What may stand between a word and its number: `订单号：`, `order number is #`.
_LINK = re.compile(
    r"(?:[ :#=(\[,]|号|號|码|碼|编|編|为|為|是|(?:numbers?|nos?\.?|num\.?|id|code|is|was)(?![a-z]))*$",
    re.IGNORECASE,
)


def _context(window: str, start: int, end: int, kind: str) -> int:
    """What words say of a number: +1 that it is of the kind, -1 that it is something else, 0 nothing.

    The nearest word decides. One for something else counts against a number only when it is its very name; a unit
    after the number takes away what speaks for it.
    """
    line = _BORDER.split(window[max(0, start - rules()["before"]) : start])[-1]
    last = max((match.end() for match in _words(kind).finditer(line)), default=-1)
    other = max((match.end() for match in _words("other").finditer(line)), default=-1)
    if other > last:
        return -1 if _LINK.fullmatch(line, other) else 0
    if _units().match(window, end):
        return 0
    if last >= 0:
        return 1
    after = window[end : end + rules()["after"]].split("\n", 1)[0]
    return 1 if re.match(r"\s?[(\[]", after) and _words(kind).search(after) else 0


def _touching(pattern: re.Pattern[str], window: str, place: Place) -> Iterator[re.Match[str]]:
    """Matches that touch the candidate at `place`."""
    for match in pattern.finditer(window, max(0, place[0] - REACH_BEFORE)):
        if match.start() >= place[1]:
            return
        if match.end() > place[0]:
            yield match


def _digits(text: str) -> str:
    return re.sub(r"[^0-9]", "", text)


def _identity(window: str, place: Place) -> Iterator[tuple[int, int, str]]:
    provinces, last_year = _sets("provinces"), int(rules()["last_birth_year"])
    for match in _touching(_IDENTITY, window, place):
        number = re.sub(r"[- ]", "", match.group())
        if not is_identity_card(number, provinces, last_year):
            continue
        near = _context(window, *match.span(), "id_card")
        # Fifteen digits have no check digit; some of them are numbers of American Express.
        weak = len(number) == 15 and number[:2] in ("34", "37") and luhn(number)
        if near > 0 or (near == 0 and not weak) or (near < 0 and len(number) == 18):
            yield *match.span(), "id_card"


def _credit(window: str, place: Place) -> Iterator[tuple[int, int, str]]:
    for match in _touching(_CREDIT, window, place):
        if match.group()[:2] not in _sets("authorities") or not is_credit_code(
            match.group(), _sets("provinces")
        ):
            continue
        # One number in thirty-one has the check digit: digits alone need more.
        if _context(window, *match.span(), "credit_code") >= match.group().isdigit():
            yield *match.span(), "credit_code"


def _card(window: str, place: Place) -> Iterator[tuple[int, int, str]]:
    if _URL.search(window[: place[0]]):
        return
    for match in _touching(_CARD, window, place):
        number = _digits(match.group())
        fits = [
            weak for pattern, lengths, weak in _issuers() if len(number) in lengths and pattern.match(number)
        ]
        if not fits or not luhn(number) or len(set(number)) == 1:
            continue
        near = _context(window, *match.span(), "bank_card")
        if near > 0 or (near == 0 and not all(fits)):
            yield *match.span(), "bank_card"


def _chinese_phone(window: str, place: Place) -> Iterator[tuple[int, int]]:
    prefixes = _sets("mobile_prefixes")
    for match in _touching(_MOBILE, window, place):
        near = _context(window, *match.span(), "phone")
        # 86 without a mark before or after it may be the start of a longer number.
        weak = match.group(1) == "86"
        if _digits(match.group(2))[:3] in prefixes and near >= weak:
            yield match.span()
    short = frozenset(rules()["area_codes"]["short"])
    for match in _touching(_LANDLINE, window, place):
        country, area, gap, number, inner, _ = match.groups()
        code = _digits(area)
        if not country and not code.startswith("0"):
            continue
        code = code.removeprefix("0")
        size = len(_digits(number))
        if not (code in short and size == 8) and not (code in _long_areas() and size in (7, 8)):
            continue
        near = _context(window, *match.span(), "phone")
        strong = (
            (country and country != "86")
            or area.startswith("(")
            or (gap and not (gap == " " and not inner and size == 7))
        )
        if near > 0 or (near == 0 and strong):
            yield match.span()


def _other_phone(window: str, place: Place) -> Iterator[tuple[int, int]]:
    for match in _touching(_HONG_KONG, window, place):
        yield match.span()
    areas = _sets("taiwan_areas")
    for match in _touching(_TAIWAN, window, place):
        area = (match.group(3) or match.group(4) or match.group(1) or "").removeprefix("0")
        if (not area or area in areas or area[:1] in areas) and _context(window, *match.span(), "phone") >= 0:
            yield match.span()
    for match in _touching(_US, window, place):
        country, bracketed, area, gap, exchange, second = match.groups()
        if exchange[1:] == "11" or (bracketed or area) in _sets("toll_free") or (area or "")[1:] == "11":
            continue
        if not bracketed and not country and bool(gap) != bool(second):
            continue
        near = _context(window, *match.span(), "phone")
        strong = (
            bracketed or (country or "").startswith("+") or (gap and second and (gap, second) != (" ", " "))
        )
        if near > 0 or (near == 0 and strong):
            yield match.span()
    for match in _touching(_WORLD, window, place):
        if 8 <= len(_digits(match.group())) <= 15:
            near = _context(window, *match.span(), "phone")
            planned = re.match(r"\+(?:86|1[- .(]|852|886)", match.group())  # their own rules know better
            if not planned and (near > 0 or (near == 0 and re.search(r"[- ]", match.group()))):
                yield match.span()
    for match in _touching(_SHORT_PHONE, window, place):
        if _context(window, *match.span(), "phone") > 0:
            yield match.span()


def _phone(window: str, place: Place) -> Iterator[tuple[int, int, str]]:
    if _URL.search(window[: place[0]]):
        return
    for start, end in (*_chinese_phone(window, place), *_other_phone(window, place)):
        yield start, end, "phone"


def _passport(window: str, place: Place) -> Iterator[tuple[int, int, str]]:
    for match in _touching(_PASSPORT, window, place):
        if _context(window, *match.span(), "passport") > 0:
            yield *match.span(), "passport"


def _ipv4(window: str, place: Place) -> Iterator[tuple[int, int, str]]:
    for match in _touching(_IPV4, window, place):
        if not is_public_address(match.group(), _networks()):
            continue
        near = _context(window, *match.span(), "ip")
        # 1.2.3.4 is a version or a section more often than an address.
        small = all(int(part) < 32 for part in match.group().split("."))
        served = window[: match.start()].endswith(("//", "@")) or re.match(
            r":[0-9]{2,5}(?![0-9])", window[match.end() :]
        )
        if near > 0 or (near == 0 and (served or not small)):
            yield *match.span(), "ip"


def _ipv6(window: str, place: Place) -> Iterator[tuple[int, int, str]]:
    for match in _touching(_IPV6, window, place):
        if is_public_address(match.group(), _networks()):
            yield *match.span(), "ip"


def _email(window: str, place: Place) -> Iterator[tuple[int, int, str]]:
    for pattern in (_EMAIL, _EMAIL_WORDS):
        for match in _touching(pattern, window, place):
            local, domain, top = match.groups()
            if len(local) > 64 or len(domain) > 200 or top.lower() in _sets("file_suffixes"):
                continue
            if local.lower() in _sets("shared_accounts") and window[match.end() :].startswith((":", "/")):
                continue
            yield *match.span(), "email"


def _plates(window: str, place: Place) -> Iterator[tuple[int, int, str]]:
    for match in _touching(_plate(), window, place):
        if not _words("other").search(window[max(0, match.start() - 6) : match.start()].rsplit("\n", 1)[-1]):
            yield *match.span(), "plate"


_RULES = {
    NUMBER: (_identity, _credit, _card, _ipv4, _phone, _passport),
    EMAIL: (_email,),
    ADDRESS: (_ipv6,),
    PLATE: (_plates,),
}


def judge(window: str, start: int, end: int, group: int) -> list[tuple[int, int, str]]:
    """Spans (start, end, kind) in a folded window that touch its candidate at `start` to `end`, apart from one another.

    Earlier rules win over later ones, and of one rule's spans the longer ones over the shorter.
    """
    taken: list[tuple[int, int, str]] = []
    covered = bytearray(len(window))
    for rule in _RULES[group]:
        for span in sorted(rule(window, (start, end)), key=lambda item: (item[0] - item[1], item[0])):
            if not any(covered[span[0] : span[1]]):
                covered[span[0] : span[1]] = b"\1" * (span[1] - span[0])
                taken.append(span)
    return sorted(taken)
