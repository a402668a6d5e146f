"""The identity of a task: equal for equal work, in any process; other for anything that changes the outcome."""

from __future__ import annotations

import copy
import enum
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.runtime import executor_tasks as tasks

from haina.runtime.executor.identity import Identities, code_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.frozensets(st.text(max_size=3), max_size=3)
    ),
    max_leaves=8,
)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Item:
    words: Any
    limit: int = 3


class Settings(BaseModel):
    threshold: float = 0.7
    names: list[str] = []


def encode(value: Any, made: dict[str, str] | None = None) -> bytes:
    return Identities(made or {}).encode(value, [])


@given(VALUES)
def test_equal_values_are_the_same_however_they_share_objects(value: Any) -> None:
    assert encode(value) == encode(copy.deepcopy(value))
    assert encode([value, value]) == encode([value, copy.deepcopy(value)])


@given(VALUES, VALUES)
def test_other_values_are_not(one: Any, other: Any) -> None:
    # 1 == True == 1.0 in Python, not here; their `repr` tells them apart, and so it does lists and sets of them.
    if repr(one) != repr(other) and not (isinstance(one, dict | frozenset) and one == other):
        assert encode(one) != encode(other)


def test_forms_are_told_apart() -> None:
    values = [
        None, False, 0, 0.0, "", b"", (), {}, set(), Path(), 1, True, 1.0, "1", b"1", ["1"], ["ab", "c"], ["a", "bc"],
        [["a"], "b"], [["a", "b"]], {"a": "b"}, {"a", "b"}, Path("a"), "a", Colour.RED, Colour.BLUE, Item(["a"]),
        Item(["a"], 4), Item("a"), Settings(), Settings(threshold=0.8), np.zeros(2), np.zeros(2, np.float32),
        np.zeros((2, 1)), np.array([0.0, 1.0]), encode, tasks.collect,
    ]  # fmt: skip
    encoded = [encode(value) for value in values]
    assert len(set(encoded)) == len(encoded)
    assert encode({"a": 1, "b": 2}) == encode({"b": 2, "a": 1})


def test_the_hash_seed_does_not_matter() -> None:
    code = "from haina.runtime.executor.identity import Identities; print(Identities({}).encode({'海', '纳', 'sea', 'x'}, []))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_files_count_by_content_or_by_who_made_them(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    absent = encode(path)
    path.write_text("海", encoding="utf-8")
    first = encode(path)
    path.write_text("海", encoding="utf-8")
    assert encode(path) == first != absent
    path.write_text("河", encoding="utf-8")
    assert encode(path) not in (first, absent)
    inputs: list[str] = []
    made = Identities({str(path): "a"}).encode([Item(path), {"b": path}], inputs)
    assert inputs == [str(path)] * 2
    path.write_text("湖", encoding="utf-8")
    assert encode([Item(path), {"b": path}], {str(path): "a"}) == made
    assert encode([Item(path), {"b": path}], {str(path): "b"}) != made


def test_a_large_file_counts_by_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(2 << 20))
    os.utime(path, ns=(1, 1))
    first = encode(path)
    assert encode(path) == first
    os.utime(path, ns=(1, 2))
    assert encode(path) != first


def test_the_code_of_a_task_is_its_package_or_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from haina.corpus.utf8 import pack
    from haina.runtime.files import write_bytes

    assert code_of(pack) != code_of(write_bytes) != code_of(tasks.collect)
    assert code_of(tasks.collect) == code_of(tasks.spread)
