"""A multiple-choice suite: its rules from YAML, its questions from the user's files.

In: the suite's name, a folder or .zip with its authors' CSV files. Out: solved examples and questions by
subject. Haina ships no questions; `suites/*.yaml` says where they lie, how they are asked and how they are
averaged.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import files_below

LETTERS = ("A", "B", "C", "D")


class Prompt(BaseModel):
    """The parts of a prompt; `{...}` are plainly replaced, so braces in a question stay braces."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: str
    question: str
    option: str
    answer: str
    letter: str
    after: str


class Subject(BaseModel):
    """One subject: its name in the prompt and the groups it counts towards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    groups: tuple[str, ...]


class Suite(BaseModel):
    """The rules of a suite, as its YAML file states them.

    `average`: `subjects` is the mean of subject accuracies (C-Eval, CMMLU), `questions` that over all
    questions (MMLU). `columns`: by header name, or by position where the files have no header.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    language: Literal["zh", "en"]
    shots_file: str
    questions_file: str
    header: bool
    columns: dict[str, str | int]
    prompt: Prompt
    average: Literal["subjects", "questions"]
    subjects: dict[str, Subject]


@dataclass(frozen=True)
class Question:
    """One question, four options and the letter of the right one."""

    text: str
    options: tuple[str, str, str, str]
    answer: str


@dataclass(frozen=True)
class SubjectQuestions:
    """A subject's solved examples (dev split, file order) and its questions (file order)."""

    shots: tuple[Question, ...]
    questions: tuple[Question, ...]


def load_suite(name: str) -> Suite:
    """The rules of the suite called `name`."""
    folder = files(__package__) / "suites"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(
            sorted(
                item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")
            )
        )
        raise HainaError(f"suite {name}: unknown", f"choose one of {known}")
    return Suite.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def read_suite(suite: Suite, data: Path) -> dict[str, SubjectQuestions]:
    """The questions of every subject, from a folder or .zip at any depth inside it.

    Raises:
        HainaError: `data` cannot be read, lacks a subject, or a row is not a question with an answer.
    """
    contents = _csv_files(data)
    return {
        subject: SubjectQuestions(
            tuple(_read(suite, contents, suite.shots_file.format(subject=subject), data)),
            tuple(_read(suite, contents, suite.questions_file.format(subject=subject), data)),
        )
        for subject in suite.subjects
    }


def _csv_files(data: Path) -> dict[str, bytes]:
    """The CSV files by the last two parts of their names (`dev/law.csv`)."""
    with os_errors_about(data):
        if data.is_dir():
            named = (
                (path.relative_to(data).as_posix(), path.read_bytes())
                for path in files_below(data)
                if path.suffix == ".csv"
            )
            return {_short(name): content for name, content in named}
        try:
            with zipfile.ZipFile(data) as archive:
                return {
                    _short(name): archive.read(name)
                    for name in sorted(archive.namelist())
                    if name.endswith(".csv")
                }
        except zipfile.BadZipFile as error:
            raise HainaError(
                f"{data}: neither a folder nor a .zip archive ({error})",
                "name the suite's folder or zip file",
            ) from error


def _short(name: str) -> str:
    return "/".join(name.split("/")[-2:])


def _read(suite: Suite, contents: Mapping[str, bytes], name: str, data: Path) -> list[Question]:
    if name not in contents:
        raise HainaError(
            f"{data}: no {name}, which {suite.title} needs",
            f"give the folder or zip of {suite.title} as published",
        )
    try:
        text = contents[name].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HainaError(
            f"{data}: {name} is not UTF-8 (byte {error.start})", "restore the file as published"
        ) from error
    rows = list(csv.reader(io.StringIO(text, newline="")))
    places = _places(suite, rows[0] if rows else [], name, data)
    questions = []
    for number, row in enumerate(rows[1:] if suite.header else rows, start=2 if suite.header else 1):
        if not row:
            continue
        if len(row) <= max(places.values()) or row[places["answer"]].strip() not in LETTERS:
            raise HainaError(
                f"{data}: {name}, row {number}: not a question with four options and an answer from A to D",
                "restore the file as published",
            )
        a, b, c, d = (row[places[letter]] for letter in LETTERS)
        questions.append(Question(row[places["question"]], (a, b, c, d), row[places["answer"]].strip()))
    if not questions:
        raise HainaError(f"{data}: {name} has no questions", "restore the file as published")
    return questions


def _places(suite: Suite, first: list[str], name: str, data: Path) -> dict[str, int]:
    """Column number of each field."""
    places = {}
    for field, column in suite.columns.items():
        if isinstance(column, int):
            places[field] = column
        elif column in first:
            places[field] = first.index(column)
        else:
            raise HainaError(
                f"{data}: {name} has no column {column!r}",
                "restore the file as published; splits without answers cannot be scored",
            )
    return places
