"""`haina sample`: a folder of real Chinese and English pages, from whatever this machine can reach.

In: a folder to make and a source. Out: the folder with the pages, `LICENSES.json` (folder -> licence, read by
the corpus stage), `SOURCES.json` (what was fetched, in which version) and `SAMPLE.json`, which stands there
only when all is complete. Pages are gathered under another name and the folder appears in one move, so a
killed fetch leaves no half sample behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from haina.corpus.sample_debian import fetch_debian
from haina.corpus.sample_files import Fetched, Fetcher
from haina.corpus.sample_local import fetch_local
from haina.corpus.sample_wikipedia import fetch_wikipedia
from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import PARTIAL_SUFFIX, fsync_path, read_json, remove, write_json
from haina.runtime.progress import Reporter, SilentProgress

MARKER = "SAMPLE.json"
# In the order in which `auto` tries them: pages, articles, then whatever is here.
FETCHERS: Mapping[str, Fetcher] = {"debian": fetch_debian, "wikipedia": fetch_wikipedia, "local": fetch_local}
SOURCES = ("auto", *FETCHERS)


@dataclass(frozen=True)
class SampleReport:
    """What a sample folder holds.

    Attributes:
        source: `debian`, `wikipedia` or `local`.
        files, bytes: pages, licences and lists not counted.
        note: one line for the reader.
        fetched: False when the folder was complete already and nothing was fetched.
    """

    source: str
    files: int
    bytes: int
    note: str
    fetched: bool = True


def fetch_sample(
    folder: Path,
    source: str = "auto",
    reporter: Reporter | None = None,
    fetchers: Mapping[str, Fetcher] = FETCHERS,
) -> SampleReport:
    """Make `folder`, or say what is in it when it is complete already.

    Args:
        folder: must not exist, be empty, or hold a sample.
        source: one of `fetchers`, or `auto` for the first of them that works; a failure is told in one line.
        reporter: progress.
        fetchers: how each source is fetched.

    Raises:
        HainaError: an unknown source, a folder with something else in it, or nothing could be fetched.
    """
    reporter = reporter or SilentProgress()
    if source != "auto" and source not in fetchers:
        raise HainaError(f"sample source {source!r}", f"choose one of {', '.join(('auto', *fetchers))}")
    folder = folder.resolve()
    present = _present(folder, source)
    if present is not None:
        return present
    partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
    reasons = []
    for name in fetchers if source == "auto" else (source,):
        remove(partial)
        with os_errors_about(partial):
            partial.mkdir(parents=True)
        try:
            fetched = fetchers[name](partial, reporter)
            return _publish(partial, folder, name, fetched)
        except HainaError as error:
            if source != "auto":
                raise
            reasons.append(error.message)
            reporter.say(f"  {error.message}; trying the next source")
        finally:
            remove(partial)
    raise HainaError(
        f"no sample could be fetched: {'; '.join(reasons)}", "give `--input` your own pages instead"
    )


def _present(folder: Path, source: str) -> SampleReport | None:
    """The report of a complete sample, None where one can be made."""
    with os_errors_about(folder):
        if folder.exists() and not folder.is_dir():
            raise HainaError(f"{folder}: is a file", "name a new folder")
        if not folder.exists() or not any(folder.iterdir()):
            return None
    if not (folder / MARKER).is_file():
        raise HainaError(f"{folder}: holds something else than a sample", "name a new or empty folder")
    marker = read_json(folder / MARKER)
    try:
        report = SampleReport(
            marker["source"], marker["files"], marker["bytes"], marker["note"], fetched=False
        )
    except (KeyError, TypeError) as error:
        raise HainaError(
            f"{folder / MARKER}: not written by `haina sample`", "name a new or empty folder"
        ) from error
    if source not in ("auto", report.source):
        raise HainaError(
            f"{folder}: holds a {report.source} sample", f"delete it or name another folder for {source}"
        )
    return report


def _publish(partial: Path, folder: Path, source: str, fetched: Fetched) -> SampleReport:
    collections = sorted(fetched.collections, key=lambda collection: collection.name)
    report = SampleReport(
        source,
        sum(collection.files for collection in collections),
        sum(collection.bytes for collection in collections),
        fetched.note,
    )
    if not report.files:
        raise HainaError(f"{source}: gave no pages", "choose another source")
    write_json(partial / "LICENSES.json", {collection.name: collection.license for collection in collections})
    write_json(
        partial / "SOURCES.json", {"source": source, "collections": [asdict(item) for item in collections]}
    )
    marker: dict[str, Any] = {
        "source": source,
        "files": report.files,
        "bytes": report.bytes,
        "note": report.note,
    }
    write_json(partial / MARKER, marker)
    with os_errors_about(folder):
        if folder.exists():
            folder.rmdir()  # it was empty; a file that came since then makes this fail, and stays
        partial.rename(folder)
        fsync_path(folder.parent)
    return report
