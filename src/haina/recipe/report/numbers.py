"""Numbers as people read them; anything that is not a number becomes a dash.

In: whatever a summary file holds at that place. Out: short strings with a fixed convention, used as
template filters.
"""

from __future__ import annotations

from typing import Any

DASH = "–"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def count(value: Any) -> str:
    """1234567 -> 1,234,567."""
    number = _number(value)
    return DASH if number is None else f"{number:,.0f}"


def short(value: Any) -> str:
    """1234567 -> 1.23 M (decimal multiples)."""
    number = _number(value)
    if number is None:
        return DASH
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"


def data_size(value: Any) -> str:
    """Bytes in binary multiples: 1536 -> 1.5 KiB."""
    number = _number(value)
    if number is None:
        return DASH
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{number:,.0f} B" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"


def share(value: Any, digits: int = 1) -> str:
    """0.125 -> 12.5 %."""
    number = _number(value)
    return DASH if number is None else f"{100 * number:.{digits}f} %"


def signed_share(value: Any) -> str:
    """0.0125 -> +1.25 %."""
    number = _number(value)
    return DASH if number is None else f"{100 * number:+.2f} %"


def decimal(value: Any, digits: int = 3) -> str:
    """A plain number with a fixed number of decimals."""
    number = _number(value)
    return DASH if number is None else f"{number:,.{digits}f}"


def compact(value: Any) -> str:
    """Three significant digits or more, for measurements of unknown size."""
    number = _number(value)
    if number is None:
        return DASH
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def duration(value: Any) -> str:
    """Seconds: 192.4 -> 3 min 12 s."""
    number = _number(value)
    if number is None:
        return DASH
    if number < 60:
        return f"{number:.1f} s"
    minutes, seconds = divmod(round(number), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def ratio(part: Any, whole: Any) -> float | None:
    """`part / whole`, None when it cannot be formed."""
    above, below = _number(part), _number(whole)
    return above / below if above is not None and below else None


FILTERS = {
    "count": count,
    "short": short,
    "data_size": data_size,
    "share": share,
    "signed_share": signed_share,
    "decimal": decimal,
    "compact": compact,
    "duration": duration,
}
