"""Bounds over signals: named presets, and which of its bounds a document breaks.

Comes in: `presets.yaml` or a file of the same form. Goes out: bounds by language group and signal. Signals are
measurements and never decide; what is taken out is decided here, from numbers alone, and can be decided again without
the text. NaN (a signal that is not known) breaks no bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import yaml

from haina.corpus.signals.names import SIGNALS, Group
from haina.runtime.errors import HainaError, os_errors_about

GROUPS: tuple[Group, ...] = ("zh", "en")


@dataclass(frozen=True)
class Bound:
    """Smallest and largest value of a signal that a document may have; None leaves that side open."""

    min: float | None = None
    max: float | None = None


class BoundLike(Protocol):
    """A bound of any type."""

    @property
    def min(self) -> float | None:
        """Smallest value allowed."""

    @property
    def max(self) -> float | None:
        """Largest value allowed."""


Bounds = dict[str, Bound]
Preset = dict[Group, Bounds]


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise HainaError(f"{where}: {value!r} is not a number", "write a number")
    return float(value)


def _bound(data: Any, where: str) -> Bound:
    if not isinstance(data, dict) or not data.keys() <= {"min", "max"}:
        raise HainaError(
            f"{where}: {data!r} is not a bound", "write {min: 1}, {max: 2}, both, or {} for none"
        )
    bound = Bound(**{side: _number(value, f"{where}.{side}") for side, value in data.items()})
    if bound.min is not None and bound.max is not None and bound.min > bound.max:
        raise HainaError(f"{where}: min {bound.min:g} is above max {bound.max:g}", "change one of them")
    return bound


def parse_preset(data: Any, where: str) -> Preset:
    """A preset from what YAML gave: {zh: {signal: {min, max}}, en: {...}}.

    Raises:
        HainaError: the form is wrong, a signal does not exist, or a bound is no number or upside down.
    """
    if not isinstance(data, dict) or not data or not data.keys() <= set(GROUPS):
        raise HainaError(
            f"{where}: not a preset", "write bounds under zh: and en:, as {signal: {min: 1, max: 2}}"
        )
    preset: Preset = {"zh": {}, "en": {}}
    for group in GROUPS:
        signals = data.get(group) or {}
        if not isinstance(signals, dict):
            raise HainaError(f"{where}: {group}: not a list of bounds", "write signal: {min: 1, max: 2}")
        for name in signals:
            if name not in SIGNALS:
                raise HainaError(f"{where}: {group}.{name}: no such signal", f"one of {', '.join(SIGNALS)}")
        # Bounds are tried in the order of the signals, however the file orders them.
        preset[group] = {
            name: _bound(signals[name], f"{where}: {group}.{name}") for name in SIGNALS if name in signals
        }
    return preset


@cache
def _shipped() -> dict[str, Preset]:
    path = Path(__file__).with_name("presets.yaml")
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: parse_preset(preset, f"{path.name}: {name}") for name, preset in data.items()}


def preset_names() -> tuple[str, ...]:
    """Names of the shipped presets."""
    return tuple(_shipped())


def load_preset(name: str) -> Preset:
    """A shipped preset by name, or the one in a YAML file.

    Raises:
        HainaError: neither a preset nor a file, or the file is no preset.
    """
    if name in _shipped():
        return {group: dict(bounds) for group, bounds in _shipped()[name].items()}
    path = Path(name)
    if not path.is_file():
        raise HainaError(
            f"{name}: no such preset or file", f"one of {', '.join(preset_names())}, or a YAML file"
        )
    with os_errors_about(path):
        text = path.read_bytes()
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HainaError(f"{name}: not readable as YAML", "mend the file") from error
    return parse_preset(data, name)


def override(preset: Preset, settings: Sequence[str]) -> Preset:
    """The preset with single settings replaced: `zh.words.min=20`, or a whole bound `zh.words={}`.

    Raises:
        HainaError: a name, side or value is wrong.
    """
    merged: dict[str, dict[str, Any]] = {
        group: {
            name: {side: value for side, value in vars(bound).items() if value is not None}
            for name, bound in bounds.items()
        }
        for group, bounds in preset.items()
    }
    for setting in settings:
        path, equals, text = setting.partition("=")
        group, *names = path.strip().split(".")
        if not equals or group not in merged or len(names) not in (1, 2):
            raise HainaError(
                f"--set {setting}: not a bound",
                "write zh.SIGNAL.min=1, en.SIGNAL.max=2, or zh.SIGNAL={} for none",
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise HainaError(f"--set {setting}: the value is not valid YAML", "write a number") from error
        bounds = merged[group]
        bounds[names[0]] = value if len(names) == 1 else {**bounds.get(names[0], {}), names[1]: value}
    return parse_preset(merged, "--set")


def first_broken(values: Mapping[str, float], bounds: Mapping[str, BoundLike]) -> tuple[str, str] | None:
    """(signal, evidence) of the first bound that does not hold, as ("characters", "12 < 50"), or None."""
    for name, bound in bounds.items():
        value = values[name]
        if bound.min is not None and value < bound.min:
            return name, f"{value:.4g} < {bound.min:g}"
        if bound.max is not None and value > bound.max:
            return name, f"{value:.4g} > {bound.max:g}"
    return None
