"""Chinese and English Wikipedia articles from the Hugging Face hub, streamed.

In: `wikimedia/wikipedia` on the hub. Out: one gzipped JSONL file a language with `url`, `title` and `text`.
Only as many row groups are read as the articles asked for need; a hub that cannot be reached is noticed
within seconds.
"""

from __future__ import annotations

import gzip
import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from haina.corpus.sample_files import Collection, Fetched, sample_settings, write_page
from haina.runtime.errors import HainaError
from haina.runtime.progress import Reporter


class FileSystem(Protocol):
    """The part of an fsspec file system that is used."""

    def glob(self, pattern: str) -> list[str]: ...

    def open(self, path: str, mode: str) -> Any: ...


def fetch_wikipedia(sample: Path, reporter: Reporter, filesystem: FileSystem | None = None) -> Fetched:
    """Write `wikipedia/<language>.jsonl.gz` below `sample`.

    Args:
        filesystem: where `datasets/...` is; the Hugging Face hub when None.

    Raises:
        HainaError: the hub cannot be reached or has no such files.
    """
    settings = sample_settings()["wikipedia"]
    files = filesystem if filesystem is not None else hub(settings)
    collections = []
    for language in settings["languages"]:
        collection = Collection(f"wikipedia/{language}", settings["snapshot"], settings["license"])
        packed = io.BytesIO()
        with (
            reporter.task(f"reading {language}.wikipedia.org", settings["articles"], "articles") as task,
            gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as output,
        ):
            count = 0
            for article in articles(files, settings, language):
                count += 1
                output.write((json.dumps(article, ensure_ascii=False) + "\n").encode("utf-8"))
                task.advance()
        write_page(sample, collection, "articles.jsonl.gz", packed.getvalue())
        if not count:
            raise HainaError(f"wikipedia: the hub holds no {language} articles", "choose another source")
        collections.append(collection)
    return Fetched(
        collections, f"the first {settings['articles']:,} articles of each language, {settings['snapshot']}"
    )


def hub(settings: dict[str, Any]) -> FileSystem:
    """The hub's file system, once the hub has answered."""
    from huggingface_hub import HfFileSystem, constants

    if constants.HF_HUB_OFFLINE:
        raise HainaError("wikipedia: HF_HUB_OFFLINE is set", "unset it or choose another source")
    probe(f"{constants.ENDPOINT}/api/datasets/{settings['dataset']}", settings["probe_seconds"])
    filesystem: FileSystem = HfFileSystem()
    return filesystem


def probe(url: str, seconds: float) -> None:
    """Return when `url` answers.

    Raises:
        HainaError: it does not within `seconds`, name look-up and proxies included.
    """
    result: list[str] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=seconds):
                result.append("")
        except (OSError, ValueError) as error:
            result.append(str(getattr(error, "reason", error)))

    # A look-up of a name has no time limit of its own, so it gets a thread that may be left behind.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    told = result[0] if result else f"no answer in {seconds:.0f} s"
    if told:
        raise HainaError(
            f"wikipedia: {url} cannot be reached ({told})", "check the network, HF_ENDPOINT and proxies"
        )


def articles(files: FileSystem, settings: dict[str, Any], language: str) -> Iterator[dict[str, str]]:
    """The first articles of a language, in the order of the snapshot.

    Raises:
        HainaError: the files are missing or cannot be read.
    """
    import pyarrow.parquet as pq

    pattern = f"datasets/{settings['dataset']}/{settings['snapshot']}.{language}/*.parquet"
    columns = ["url", "title", "text"]
    left = settings["articles"]
    try:
        for path in sorted(files.glob(pattern)):
            with files.open(path, "rb") as raw:
                parquet = pq.ParquetFile(raw)
                for group in range(parquet.num_row_groups):
                    for row in parquet.read_row_group(group, columns=columns).to_pylist()[:left]:
                        yield row
                        left -= 1
                    if left <= 0:
                        return
    except Exception as error:  # the hub client's errors share no base class with anything
        raise HainaError(
            f"wikipedia: {pattern}: {' '.join(str(error).split())[:200]}", "run the same command again"
        ) from error
