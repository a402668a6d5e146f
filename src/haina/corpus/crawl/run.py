"""A crawl as a plain function call.

Comes in: options and a folder. Goes out: a summary, with WARC files in the folder. The worker runs as a child
process and stops by itself when this one is gone; Ctrl-C lets it finish what it is writing.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from haina.corpus.crawl.options import CrawlOptions
from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import write_json, write_text
from haina.runtime.progress import Reporter, SilentProgress

_PATIENCE_SECONDS = 15


def crawl(options: CrawlOptions, out: Path, reporter: Reporter | None = None) -> dict[str, Any]:
    """Crawl into a folder, or go on with the crawl that is there.

    Args:
        options: seeds, scope, limits. A folder that has been crawled with other seeds gets these besides; with other
            options, what could not be had under the old ones is tried again.
        out: folder for `crawl-NNNNN.warc.gz`, `crawl.sqlite`, `crawl.log` and `summary.json`.
        reporter: shows pages and bytes.

    Returns:
        pages, bytes, by_status, by_host, not_fetched (by reason), links_not_followed (by reason), queued.

    Raises:
        HainaError: the folder is in use or cannot be written, or the worker broke down.
        KeyboardInterrupt: after the worker has stopped; the same call goes on.
    """
    from haina.corpus.crawl.frontier import Frontier
    from haina.corpus.crawl.worker import FRONTIER_FILE, LOG_FILE, OPTIONS_FILE

    reporter = reporter or SilentProgress()
    with os_errors_about(out):
        out.mkdir(parents=True, exist_ok=True)
    if (out / FRONTIER_FILE).exists() and _differ(out / OPTIONS_FILE, options):
        frontier = Frontier(out / FRONTIER_FILE)
        try:
            frontier.retry_failed()
        finally:
            frontier.close()
    write_text(out / OPTIONS_FILE, options.model_dump_json(indent=2) + "\n")
    worker = subprocess.Popen(
        [sys.executable, "-m", "haina.corpus.crawl.worker", str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Ctrl-C on the terminal is for this process, which then tells the worker.
        start_new_session=True,
    )
    try:
        _watch(worker, reporter)
    except BaseException:
        _stop(worker)
        raise
    if worker.returncode != 0:
        assert worker.stderr is not None
        lines = worker.stderr.read().decode("utf-8", "replace").strip().splitlines()
        said = next((line for line in reversed(lines) if line.strip()), f"exit code {worker.returncode}")
        raise HainaError(f"{out}: the crawl broke down: {said[-300:]}", f"see {out / LOG_FILE}")
    frontier = Frontier(out / FRONTIER_FILE)
    try:
        summary = dict(frontier.summary())
    finally:
        frontier.close()
    write_json(out / "summary.json", summary)
    return summary


def _differ(path: Path, options: CrawlOptions) -> bool:
    """Whether a crawl was begun with other options than these, its seeds aside."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    now = options.model_dump(mode="json")
    return any(before.get(name) != value for name, value in now.items() if name != "seeds")


def _watch(worker: subprocess.Popen[bytes], reporter: Reporter) -> None:
    assert worker.stdout is not None
    pages = 0
    with reporter.task("crawling", None, "pages") as task:
        for line in worker.stdout:
            try:
                told = json.loads(line)
            except ValueError:
                continue
            task.advance(told["pages"] - pages, f"{told['bytes'] / 1e6:.1f} MB")
            pages = told["pages"]
    worker.wait()


def _stop(worker: subprocess.Popen[bytes]) -> None:
    """Ask the worker to stop, and make it when it does not."""
    if worker.poll() is None:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
