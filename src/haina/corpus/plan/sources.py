"""How much of a source becomes corpus: pages, bytes and shares.

Comes in: the name of a source in `sources.yaml`, or the folder of a corpus that `haina curate` made from a sample of
one's own pages. Goes out: means per page and what each step leaves. A sample of one's own is the better guide by far.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from haina.runtime.errors import HainaError
from haina.runtime.files import read_json


@dataclass(frozen=True)
class Yield:
    """Means over the pages of a source.

    Attributes:
        name, said: what it is, and where the figures are from.
        compressed_bytes_per_page: as stored.
        html_bytes_per_page: markup of a page, 0 for text.
        text_bytes_per_page: UTF-8 of a page in a kept language.
        share_in_languages: of pages, those that hold text in a kept language.
        share_after_filters: of these, what bounds and quality leave.
        share_after_duplicates: of these, what is no duplicate.
    """

    name: str
    said: str
    compressed_bytes_per_page: float
    html_bytes_per_page: float
    text_bytes_per_page: float
    share_in_languages: float
    share_after_filters: float
    share_after_duplicates: float

    @property
    def share_kept(self) -> float:
        """Of pages, those that become documents."""
        return self.share_in_languages * self.share_after_filters * self.share_after_duplicates


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    text = resources.files("haina.corpus.plan").joinpath("sources.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found


def source_names() -> list[str]:
    """Names of the shipped sources."""
    return sorted(_shipped())


def read_yield(source: str) -> Yield:
    """The figures of a shipped source, or of a corpus folder.

    Raises:
        HainaError: it is neither, or the sample is too small to say anything.
    """
    if source in _shipped():
        row = dict(_shipped()[source])
        return Yield(name=str(row.pop("title")), said=" ".join(str(row.pop("said")).split()), **row)
    summary = Path(source) / "summary.json"
    if not summary.is_file():
        raise HainaError(
            f"--source {source}: no such source, and no folder of a corpus",
            f"name one of {', '.join(source_names())}, or what `haina curate` wrote for a sample of your pages",
        )
    return _from_sample(source, read_json(summary))


def _from_sample(source: str, summary: dict[str, Any]) -> Yield:
    try:
        funnel = {step["step"]: int(step["remaining"]) for step in summary["funnel"]}
        pages, kept = funnel["pages"], int(summary["documents"])
        in_languages, filtered = funnel["language"], funnel["quality"]
        text_bytes, bytes_read = float(summary["text_bytes"]), float(summary["bytes_read"])
    except (KeyError, TypeError, ValueError) as error:
        raise HainaError(
            f"{source}/summary.json: not the summary of a corpus ({error!r})",
            "name the output of `haina curate`",
        ) from error
    if min(pages, in_languages, filtered, kept) < 1:
        raise HainaError(f"{source}: no documents came out of this sample", "take a larger one")
    return Yield(
        name=f"like the {pages:,} pages of {source}",
        said=f"{source}/summary.json",
        compressed_bytes_per_page=bytes_read / pages,
        html_bytes_per_page=bytes_read / pages,
        text_bytes_per_page=text_bytes / kept,
        share_in_languages=in_languages / pages,
        share_after_filters=filtered / in_languages,
        share_after_duplicates=kept / filtered,
    )
