"""Rows of evaluation files as items: what is asked, what may be answered, what it is asked about.

Comes in: the tables of `rows`. Goes out: items with question, options and passage, and an account of each file.
Fields are known by their names (`fields.yaml`); a row with no field of that kind gives one item a text field.
Options that stand inside the question, a line or a few spaces each, are taken out of it, so that their order
and letters matter no more than where they have fields of their own.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from haina.corpus.decontaminate.rows import BadRow, Row, Table, read_tables
from haina.runtime.errors import HainaError

_LETTERS = "ABCDEFGH"
_MARK = re.compile(r"^\s*[(（\[【]?\s*[A-Ha-hＡ-Ｈ]\s*[)）\]】.．、:：]\s*")
_INLINE = re.compile(r"(?:(?<=^)|(?<=[\s　。．？?）)]))[(（]?\s*([A-HＡ-Ｈ])\s*[)）.．、:：]")
_WIDE = {chr(ord(letter) + 0xFEE0): letter for letter in _LETTERS}


@dataclass(frozen=True)
class Item:
    """One thing that an evaluation asks.

    Attributes:
        file: name of the file, a member's after that of its archive.
        item: its id there, or else the number of its row from 0.
        field: name of the field that holds the question.
        question: without options.
        options: without letters; may be empty.
        passage: text that the question is about; may be empty.
    """

    file: str
    item: str
    field: str
    question: str
    options: tuple[str, ...] = ()
    passage: str = ""


@dataclass
class FileAccount:
    """What came of one evaluation file: rows = read + quarantined; an item may be too short to be searched."""

    file: str
    rows: int = 0
    items: int = 0
    quarantined: list[BadRow] = field(default_factory=list)
    too_short: list[str] = field(default_factory=list)
    without_text: int = 0


@dataclass(frozen=True)
class Benchmarks:
    """Everything that was named with `--against`.

    Attributes:
        items: in the order of the files and their rows.
        accounts: one a file.
        ignored: names of files of other kinds inside folders and archives.
    """

    items: tuple[Item, ...]
    accounts: tuple[FileAccount, ...]
    ignored: tuple[str, ...]


@cache
def _names() -> dict[str, frozenset[str]]:
    data = yaml.safe_load(Path(__file__).with_name("fields.yaml").read_text(encoding="utf-8"))
    names = {kind: frozenset(value.split()) for kind, value in data.items()}
    digits = [*_LETTERS.lower(), *map(str, range(10))]
    single = {*_LETTERS.lower(), *(prefix + digit for prefix in names["option_prefixes"] for digit in digits)}
    return {**names, "option": frozenset(single)}


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-.]+", "", name).lower()


def _text(value: Any) -> str:
    """A field as text: strings as they are, numbers written out, lists line by line, else nothing."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list):
        return "\n".join(text for text in map(_text, value) if text)
    return ""


def _option_texts(value: Any) -> list[str]:
    """The options of a field that holds all of them: a list, or an object from letter to text or of lists."""
    if isinstance(value, dict):
        for name in ("text", "texts", "choices"):
            if name in value:
                return _option_texts(value[name])
        return [_text(item) for item in value.values()]
    if isinstance(value, list):
        return [_text(item.get("text", "") if isinstance(item, dict) else item) for item in value]
    if isinstance(value, str):
        _, options = split_options(value)
        return list(options) or [line.strip() for line in value.splitlines() if line.strip()]
    return []


def without_letter(option: str) -> str:
    """`(A) four` -> `four`."""
    return _MARK.sub("", option, count=1).strip()


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """The question and the options that stand behind it as `A. ... B. ... C. ...`; no options when there are not
    exactly one run of letters from A."""
    marks = [(match, _WIDE.get(match[1], match[1])) for match in _INLINE.finditer(text)]
    starts = [place for place, (_, letter) in enumerate(marks) if letter == "A"]
    if len(starts) != 1:
        return text, ()
    run = marks[starts[0] :]
    if len(run) < 3 or "".join(letter for _, letter in run) != _LETTERS[: len(run)]:
        return text, ()
    ends = [*(match.start() for match, _ in run[1:]), len(text)]
    options = tuple(text[match.end() : end].strip() for (match, _), end in zip(run, ends, strict=True))
    return text[: run[0][0].start()].strip(), options


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _kind(name: str) -> str:
    """What a field holds, by its name: options, option, question, passage, other, or text."""
    key, names = _plain(name), _names()
    kinds = ("options", "option", "question", "passage", "other")
    return next((kind for kind in kinds if key in names[kind]), "text")


def items_of_row(file: str, number: int, row: Row) -> Iterator[Item]:
    """The items of a row: one, or one a text field where no field is known by its name."""
    fields: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for name, value in row.items():
        fields[_kind(str(name))].append((str(name), value))
    named = [_text(value) for name, value in row.items() if _plain(str(name)) in _names()["ids"]]
    identity = next(filter(None, named), str(number))
    options = [text for _, value in fields["options"] for text in _option_texts(value)]
    options += [_text(value) for _, value in fields["option"]]
    questions = [(name, _text(value)) for name, value in fields["question"]]
    for name, value in fields["question"]:
        inner = next(items_of_row(file, number, value), None) if isinstance(value, dict) else None
        if inner is not None:
            questions.append((name, inner.question))
            options += inner.options
    questions = [(name, text) for name, text in questions if text]
    passage = "\n".join(filter(None, (_text(value) for _, value in fields["passage"])))
    if questions:
        question, inline = split_options("\n".join(text for _, text in questions))
        kept = tuple(filter(None, map(without_letter, options))) or inline
        yield Item(file, identity, questions[0][0], question, kept, passage)
        return
    texts = [(name, _text(value)) for name, value in fields["passage"] + fields["text"]]
    for name, text in texts:
        if text and not _is_number(text):
            yield Item(file, identity, name, *split_options(text))


def items_of_table(table: Table) -> tuple[list[Item], FileAccount]:
    """The items of a file, and its account.

    Raises:
        HainaError: rows were read, and none has a text field; or none could be read.
    """
    account = FileAccount(table.name, len(table.rows) + len(table.bad), quarantined=list(table.bad))
    items: list[Item] = []
    for number, row in table.rows:
        made = list(items_of_row(table.name, number, row))
        account.without_text += not made
        items += made
    account.items = len(items)
    if table.rows and not items:
        raise HainaError(
            f"{table.name}: no text field (it has {', '.join(map(str, table.rows[0][1])) or 'no fields'})",
            "name the field of the questions `question`",
        )
    if table.bad and not table.rows:
        reason, count = Counter(row.reason for row in table.bad).most_common(1)[0]
        raise HainaError(
            f"{table.name}: none of its {account.rows} rows could be read ({reason}: {count})",
            "save it as UTF-8",
        )
    return items, account


def read_benchmarks(paths: Sequence[Path]) -> Benchmarks:
    """Read evaluation files, folders and archives.

    Raises:
        HainaError: one is missing, damaged or holds no question.
    """
    items: list[Item] = []
    accounts: list[FileAccount] = []
    ignored: list[str] = []
    for path in paths:
        before = len(items)
        for table in _named(path, read_tables(path), ignored):
            made, account = items_of_table(table)
            items += made
            accounts.append(account)
        if len(items) == before:
            raise HainaError(f"{path}: holds no question", "CSV, TSV, JSON, JSON lines and Parquet are read")
    return Benchmarks(tuple(items), tuple(accounts), tuple(ignored))


def _named(path: Path, tables: Iterable[Table | str], ignored: list[str]) -> Iterator[Table]:
    for table in tables:
        if isinstance(table, str):
            ignored.append(table)
        else:
            yield table
