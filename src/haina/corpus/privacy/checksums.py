"""Check digits and the shapes of official numbers.

Comes in: a number without separators. Goes out: whether it can be one. ISO 7064 mod 11-2 (GB 11643, identity cards),
mod 31 (GB 32100, unified social credit codes), Luhn (ISO/IEC 7812, bank cards), calendar dates and IP addresses.
"""

from __future__ import annotations

import datetime
import ipaddress

CREDIT_DIGITS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_WEIGHTS = tuple(pow(3, place, 31) for place in range(17))
_CARD_WEIGHTS = tuple(pow(2, 17 - place, 11) for place in range(17))


def is_date(year: int, month: int, day: int) -> bool:
    """Whether there is such a day, from 1900 on."""
    try:
        return datetime.date(year, month, day).year >= 1900
    except ValueError:
        return False


def id_check_digit(body: str) -> str:
    """The last character of an identity card with these 17 digits (ISO 7064 mod 11-2)."""
    total = sum(int(digit) * weight for digit, weight in zip(body, _CARD_WEIGHTS, strict=True))
    return "10X98765432"[total % 11]


def is_identity_card(number: str, provinces: frozenset[str], last_year: int) -> bool:
    """18 characters with a province, a birthday and the check digit, or the 15 digits used until 1999."""
    if number[:2] not in provinces:
        return False
    if len(number) == 18:
        born = int(number[6:10]), int(number[10:12]), int(number[12:14])
        return born[0] <= last_year and is_date(*born) and id_check_digit(number[:17]) == number[17].upper()
    return len(number) == 15 and is_date(1900 + int(number[6:8]), int(number[8:10]), int(number[10:12]))


def credit_check_digit(body: str) -> str:
    """The last character of a credit code with these 17 (GB 32100, mod 31)."""
    total = sum(
        CREDIT_DIGITS.index(digit) * weight for digit, weight in zip(body, _CREDIT_WEIGHTS, strict=True)
    )
    return CREDIT_DIGITS[-total % 31]


def is_credit_code(code: str, provinces: frozenset[str]) -> bool:
    """18 characters: authority, kind, six digits of a region, nine of the body, check digit."""
    if len(code) != 18 or any(digit not in CREDIT_DIGITS for digit in code):
        return False
    if code[0] not in "123456789ANY" or not code[2:8].isdigit() or code[2:4] not in provinces | {"10"}:
        return False
    return credit_check_digit(code[:17]) == code[17]


def luhn(number: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_public_address(
    address: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
) -> bool:
    """Whether this is an IP address, and in none of the networks that belong to nobody."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not any(found.version == network.version and found in network for network in networks)
