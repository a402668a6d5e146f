"""Opens any vocabulary: tokenizer.json, SentencePiece models, GGUF files, tiktoken files, and folders of them.

`open_vocabulary(path)` looks at what a file holds, not at how it is called. sentencepiece, tiktoken and gguf are
asked for only when a file needs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer.vocabularies.vocabulary import PieceKind, Vocabulary, flatten

__all__ = ["PieceKind", "Vocabulary", "find_file", "flatten", "open_vocabularies", "open_vocabulary"]

# Files that a folder's vocabulary stands in, best first.
IN_FOLDERS = ("tokenizer.json", "*.model", "*.tiktoken", "*.gguf")
LOOKED_AT = 4096  # bytes at the start of a file that tell its form


def find_file(path: Path) -> Path:
    """The vocabulary file that `path` is or that lies in the folder.

    Raises:
        HainaError: there is none, or a folder has several of the same form.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise HainaError(f"{path}: no such file or folder", "check the path")
    for pattern in IN_FOLDERS:
        found = sorted(path.glob(pattern))
        if len(found) > 1:
            raise HainaError(
                f"{path}: {len(found)} vocabularies in it ({', '.join(file.name for file in found[:4])})",
                "name one of the files",
            )
        if found:
            return found[0]
    raise HainaError(f"{path}: no vocabulary in it", f"looked for {', '.join(IN_FOLDERS)}")


def _form(path: Path) -> str:
    """`gguf`, `json`, `tiktoken` or `sentencepiece`, by what the file holds."""
    with os_errors_about(path), path.open("rb") as file:
        start = file.read(LOOKED_AT)
    if not start:
        raise HainaError(f"{path}: the file is empty", "restore the file")
    if start.startswith(b"GGUF"):
        return "gguf"
    if start.lstrip()[:1] == b"{":
        return "json"
    fields = start.split(b"\n", 1)[0].split()
    if path.suffix == ".tiktoken" or (len(fields) == 2 and fields[1].isdigit() and fields[0].isascii()):
        return "tiktoken"
    return "sentencepiece"


def default_name(path: Path) -> str:
    """The name of a vocabulary in tables: its folder's for `tokenizer.json` and `tokenizer.model`, else the file's."""
    file = path.resolve()
    return file.parent.name if file.stem == "tokenizer" else file.stem


def open_vocabulary(path: Path, name: str | None = None, pattern: str | None = None) -> Vocabulary:
    """Open a vocabulary file or folder.

    Args:
        path: the file, or a folder that holds one.
        name: what it is called in tables; by default taken from the path.
        pattern: for tiktoken files, where text is cut: a known name or a regular expression.

    Raises:
        HainaError: no vocabulary, a damaged one, or one that needs a package that is not installed.
    """
    file = find_file(path)
    name = name or default_name(file)
    form = _form(file)
    if form == "json":
        from haina.tokenizer.vocabularies import tokenizer_json

        if file.name == "tokenizer.json":
            return tokenizer_json.from_tokenizer_file(TokenizerFile(file.parent), name)
        return tokenizer_json.open_json(file, name)
    if form == "gguf":
        from haina.tokenizer.vocabularies.gguf_file import open_gguf

        return open_gguf(file, name)
    if form == "tiktoken":
        from haina.tokenizer.vocabularies.tiktoken_ranks import open_tiktoken

        return open_tiktoken(file, name, pattern)
    from haina.tokenizer.vocabularies.sentencepiece_model import open_sentencepiece

    return open_sentencepiece(file, name)


def open_vocabularies(given: Sequence[str], patterns: Mapping[str, str]) -> list[Vocabulary]:
    """Open every `PATH` or `NAME=PATH`; names that would be equal get a number.

    Args:
        given: as typed after `--with`.
        patterns: name or file stem of a tiktoken file -> its pattern.

    Raises:
        HainaError: as `open_vocabulary`, or a pattern for a file that is not there.
    """
    opened: list[Vocabulary] = []
    unused = set(patterns)
    taken: set[str] = set()
    for item in given:
        label, _, rest = item.partition("=")
        named = bool(rest) and not Path(item).exists()
        file = find_file(Path(rest if named else item))
        name = label if named else default_name(file)
        pattern = patterns.get(name, patterns.get(file.stem))
        unused -= {name, file.stem}
        free = name
        number = 2
        while free in taken:
            free, number = f"{name} ({number})", number + 1
        taken.add(free)
        opened.append(open_vocabulary(file, free, pattern))
    if unused:
        raise HainaError(
            f"--pattern {sorted(unused)[0]}: no vocabulary of that name",
            f"the names are {', '.join(sorted(taken))}",
        )
    return opened
