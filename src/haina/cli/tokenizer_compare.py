"""`haina tokenizer compare`: vocabularies side by side on the same texts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from haina.cli.common import JsonOption, console, human_bytes, print_json, print_table

ALL = "all"


def _patterns(given: list[str]) -> dict[str, str]:
    """`NAME=PATTERN` as a dictionary."""
    from haina.runtime.errors import HainaError

    found = {}
    for item in given:
        name, _, pattern = item.partition("=")
        if not name or not pattern:
            raise HainaError(
                f"--pattern {item}: not of the form NAME=PATTERN", "such as --pattern my=cl100k_base"
            )
        found[name] = pattern
    return found


def compare(
    texts: Annotated[
        list[Path],
        typer.Argument(metavar="TEXTS...", help="Parquet, JSON-lines or text files, or folders of them."),
    ],
    vocabularies: Annotated[
        list[str],
        typer.Option(
            "--with",
            metavar="FILE",
            help="tokenizer.json, SentencePiece .model, .gguf, .tiktoken, or a folder with one; NAME=FILE names it in "
            "tables. May be given again.",
        ),
    ],
    sample: Annotated[
        int, typer.Option(min=1, metavar="MB", help="Text of each file that is measured, at most, in MB.")
    ] = 8,
    language: Annotated[
        str | None,
        typer.Option(help="Language of all texts, such as zh or en; else the column lang says it."),
    ] = None,
    patterns: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern",
            metavar="NAME=PATTERN",
            help="Where text is cut for the tiktoken file NAME: a known name or a regular expression.",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots here.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Compare vocabularies on texts: compression, words, unknown and byte tokens, scripts, speed, losslessness.

    Example: haina tokenizer compare zh.parquet en.parquet --with tokenizer/ --with baichuan.model --html compare.html
    """
    from haina.runtime.progress import default_reporter
    from haina.tokenizer.compare import compare as run_compare
    from haina.tokenizer.samples import read_samples
    from haina.tokenizer.vocabularies import open_vocabularies

    opened = open_vocabularies(vocabularies, _patterns(patterns or []))
    reporter = default_reporter()
    samples = read_samples(texts, sample * 1_000_000, reporter, language)
    found = run_compare(samples, opened, reporter).as_dict()
    if html is not None:
        from haina.tokenizer.compare_report import write_report

        write_report(found, html)
    if json_output:
        print_json(found)
        return
    _print(found)
    if html is not None:
        console().print(f"{html}: written", markup=False)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3%}"


def _print(found: dict[str, Any]) -> None:
    """Tables for people: one for each file and language, then the vocabularies and their scripts."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in found["results"]:
        groups.setdefault((row["text"], row["language"]), []).append(row)
    in_files = Counter(lang for name, lang in groups if name != ALL)
    for (name, lang), rows in groups.items():
        if lang != ALL and (name != ALL or in_files[lang] > 1):
            _print_rates(f"{'all files' if name == ALL else name}, {lang}", rows)
    print_table(
        "vocabularies",
        ("vocabulary", "form", "pieces", "used", "compress rate", "Han pieces, used", "Latin pieces, used"),
        [
            (
                row["name"],
                row["kind"],
                f"{row['size']:,}",
                f"{row['used']:,}",
                _number(row["compress_rate"], 3),
                _script(row, "Han"),
                _script(row, "Latin"),
            )
            for row in found["vocabularies"]
        ],
        fold=False,
    )
    out = console()
    out.print(f"compress rate: {found['conditions']['compress_rate']}", markup=False)
    out.print(f"speed: {found['conditions']['speed']}", markup=False)
    for text in found["texts"]:
        bad = sum(text["bad_rows"].values())
        measured = f"{text['measured_documents']:,} of {text['documents']:,} documents"
        line = f"{text['name']}: {measured} ({human_bytes(text['measured_bytes'])}) measured"
        if text["shortened_documents"]:
            line += f", {text['shortened_documents']} shortened"
        if bad:
            reasons = ", ".join(f"{count} {reason}" for reason, count in text["bad_rows"].items())
            line += f"; {bad} rows are no documents ({reasons})"
        out.print(line, markup=False)


def _print_rates(title: str, rows: list[dict[str, Any]]) -> None:
    print_table(
        title,
        (
            "vocabulary",
            "bytes/token",
            "tokens/char",
            "unknown",
            "byte tokens",
            "per English word",
            "per Han char",
            "MB/s",
            "texts that differ",
        ),
        [
            (
                row["vocabulary"],
                _number(row["bytes_per_token"], 3),
                _number(row["tokens_per_character"], 3),
                _share(row["unknown_share"]),
                _share(row["byte_share"]),
                _number(row["pieces_per_english_word"], 3),
                _number(row["pieces_per_han_character"], 3),
                _number(row["megabytes_per_second"], 1),
                f"{row['differing_documents']:,} of {row['documents']:,}",
            )
            for row in rows
        ],
        fold=False,
    )


def _script(row: dict[str, Any], script: str) -> str:
    found = next((item for item in row["by_script"] if item["script"] == script), None)
    return "0" if found is None else f"{found['pieces']:,}, {found['used']:,}"
