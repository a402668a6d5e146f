"""Which domains there are, and where their text lies.

Comes in: `DOMAIN=PATH` words, or corpora with a column that names the domain. Goes out: files with the domain of each,
and target weights that sum to one. Names and order do not depend on the order of the words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from haina.corpus.quality.rows import text_files
from haina.runtime.errors import HainaError


@dataclass(frozen=True)
class Origin:
    """A file of documents.

    Attributes:
        path: Parquet or JSONL with `text`.
        domain: of all its documents; empty where the column says it.
        name: last part of the path that the user gave.
    """

    path: Path
    domain: str
    name: str


def parse_origins(words: Sequence[str], by: str | None) -> list[Origin]:
    """Files of all inputs, sorted by domain and path.

    Args:
        words: `DOMAIN=PATH`, cut at the first `=`, a domain may be given again; with `by` paths alone.
        by: column that names the domain of a document, None for `DOMAIN=PATH`.

    Raises:
        HainaError: a word of the wrong form, a path without documents, a file given twice.
    """
    found: list[Origin] = []
    for word in words:
        domain, equals, place = word.partition("=")
        if by is not None:
            domain, place = "", word
        elif not equals or not domain.strip() or not place:
            raise HainaError(
                f"{word}: not of the form DOMAIN=PATH", "write zh-wiki=FILE, or name a column with --by"
            )
        path = Path(place)
        # A corpus output keeps what it dropped and cut beside its documents; only these are text to train on.
        inside = path / "documents"
        files = text_files([inside if inside.is_dir() else path])
        found += [Origin(file, domain.strip(), path.name) for file in files]
    if not found:
        raise HainaError(
            "no input was named", "give DOMAIN=PATH for each domain, or a corpus and --by COLUMN"
        )
    seen: set[Path] = set()
    for origin in found:
        if (real := origin.path.resolve()) in seen:
            raise HainaError(f"{origin.path}: named twice", "give every file to one domain")
        seen.add(real)
    return sorted(found, key=lambda origin: (origin.domain, str(origin.path)))


def target_weights(words: Sequence[str], names: Sequence[str]) -> tuple[dict[str, float], list[str]]:
    """Weight of each domain's held-out loss in the target, and notes about what was made of the words.

    Args:
        words: `DOMAIN=WEIGHT`; none for equal weights.
        names: all domains.

    Raises:
        HainaError: an unknown domain, one given twice, a weight that is no number from 0 up, all weights 0.
    """
    if not words:
        return dict.fromkeys(names, 1.0 / len(names)), []
    weights = dict.fromkeys(names, 0.0)
    given: set[str] = set()
    for word in words:
        name, equals, text = word.rpartition("=")
        try:
            weight = float(text)
        except ValueError:
            weight = -1.0
        if not equals or not 0.0 <= weight < float("inf"):
            raise HainaError(
                f"--target {word}: not of the form DOMAIN=WEIGHT with a weight from 0 up", "for example law=2"
            )
        if name not in weights:
            raise HainaError(f"--target {word}: no domain {name!r}", f"the domains are {', '.join(names)}")
        if name in given:
            raise HainaError(f"--target {word}: given twice", "give each domain once")
        given.add(name)
        weights[name] = weight
    total = sum(weights.values())
    if total <= 0.0:
        raise HainaError("--target: all weights are 0", "give at least one domain a weight above 0")
    notes = []
    if abs(total - 1.0) > 1e-6:
        notes.append(f"target weights sum to {total:g}; they were divided by it")
    if left := [name for name in names if name not in given]:
        notes.append(f"no target weight for {', '.join(left)}: their held-out loss does not count")
    return {name: weight / total for name, weight in weights.items()}, notes
