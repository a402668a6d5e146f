"""What a crawl has done and still has to do, in one SQLite file.

An address is queued once, whatever number of pages link to it. A page's end is one transaction: its state, its
links, and how far the WARC file is valid. So after a kill at any moment the file knows exactly which pages are
on disk; what was being fetched then is fetched again, and nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from haina.corpus.crawl.urls import origin_of

QUEUED, DONE, FAILED = 0, 1, 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS urls (
  id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, origin TEXT NOT NULL, depth INTEGER NOT NULL, hops INTEGER
  NOT NULL, via TEXT NOT NULL, state INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '', status INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS urls_to_do ON urls (state, origin, id);
CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS passed_over (reason TEXT PRIMARY KEY, links INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class Entry:
    """An address to fetch: how many links and redirects it is away from a seed, and from where."""

    id: int
    url: str
    origin: str
    depth: int
    hops: int
    via: str
    attempts: int


@dataclass(frozen=True)
class Link:
    """An address that was found."""

    url: str
    depth: int
    hops: int
    via: str


class Frontier:
    """The file; one process at a time."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=NORMAL")
        self.connection.executescript(_SCHEMA)
        self._taken: set[int] = set()

    def close(self) -> None:
        self.connection.close()

    def note(self, key: str) -> str:
        """A value that was kept, empty when there is none."""
        row = self.connection.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def keep(self, notes: dict[str, str]) -> None:
        """Keep values."""
        with self.connection:
            self._keep(notes)

    def _keep(self, notes: dict[str, str]) -> None:
        self.connection.executemany("REPLACE INTO notes VALUES (?, ?)", notes.items())

    def add(self, links: Iterable[Link]) -> list[str]:
        """Queue what is new; the origins that have something new."""
        with self.connection:
            return self._add(links)

    def _add(self, links: Iterable[Link]) -> list[str]:
        origins = []
        for link in links:
            origin = origin_of(link.url)
            cursor = self.connection.execute(
                "INSERT OR IGNORE INTO urls (url, origin, depth, hops, via) VALUES (?, ?, ?, ?, ?)",
                (link.url, origin, link.depth, link.hops, link.via),
            )
            if cursor.rowcount:
                origins.append(origin)
        return origins

    def origins(self) -> list[str]:
        """Origins with something queued, oldest first."""
        rows = self.connection.execute(
            "SELECT origin FROM urls WHERE state = ? GROUP BY origin ORDER BY MIN(id)", (QUEUED,)
        )
        return [str(row[0]) for row in rows]

    def take(self, origin: str) -> Entry | None:
        """The oldest queued address of an origin that nobody has taken; it is given out once in a process."""
        rows = self.connection.execute(
            "SELECT id, url, origin, depth, hops, via, attempts FROM urls"
            " WHERE state = ? AND origin = ? ORDER BY id LIMIT ?",
            (QUEUED, origin, len(self._taken) + 1),
        )
        for row in rows:
            if row[0] not in self._taken:
                self._taken.add(row[0])
                return Entry(*row)
        return None

    def put_back(self, entry: Entry) -> None:
        """An attempt failed and another one may be made."""
        self._taken.discard(entry.id)
        with self.connection:
            self.connection.execute("UPDATE urls SET attempts = attempts + 1 WHERE id = ?", (entry.id,))

    def done(
        self,
        entry: Entry,
        status: int,
        size: int,
        links: Iterable[Link],
        passed_over: dict[str, int],
        notes: dict[str, str],
        reason: str = "",
    ) -> list[str]:
        """A page is on disk; the origins that its links add something to."""
        self._taken.discard(entry.id)
        with self.connection:
            self.connection.execute(
                "UPDATE urls SET state = ?, status = ?, bytes = ?, reason = ? WHERE id = ?",
                (DONE, status, size, reason, entry.id),
            )
            self._pass_over(passed_over)
            self._keep(notes)
            return self._add(links)

    def failed(self, entry: Entry, reason: str, status: int = 0) -> None:
        """A page will not be had."""
        self._taken.discard(entry.id)
        with self.connection:
            self.connection.execute(
                "UPDATE urls SET state = ?, reason = ?, status = ? WHERE id = ?",
                (FAILED, reason, status, entry.id),
            )

    def retry_failed(self) -> int:
        """Queue again what could not be had; how many addresses that are."""
        with self.connection:
            return self.connection.execute(
                "UPDATE urls SET state = ?, reason = '', status = 0, attempts = 0 WHERE state = ?",
                (QUEUED, FAILED),
            ).rowcount

    def pass_over(self, counts: dict[str, int]) -> None:
        """Count links that are not followed."""
        with self.connection:
            self._pass_over(counts)

    def _pass_over(self, counts: dict[str, int]) -> None:
        self.connection.executemany(
            "INSERT INTO passed_over VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET links = links + excluded.links",
            counts.items(),
        )

    def pages(self) -> int:
        """Answers that are on disk."""
        return int(
            self.connection.execute("SELECT COUNT(*) FROM urls WHERE state = ?", (DONE,)).fetchone()[0]
        )

    def summary(self) -> dict[str, object]:
        """Counts of everything, for people and scripts."""
        run = self.connection.execute
        states = dict(run("SELECT state, COUNT(*) FROM urls GROUP BY state").fetchall())
        size = run("SELECT COALESCE(SUM(bytes), 0) FROM urls WHERE state = ?", (DONE,)).fetchone()[0]
        by_status = run(
            "SELECT status, COUNT(*) FROM urls WHERE state = ? GROUP BY status ORDER BY status", (DONE,)
        ).fetchall()
        not_fetched = run(
            "SELECT reason, COUNT(*) FROM urls WHERE state = ? GROUP BY reason ORDER BY reason", (FAILED,)
        ).fetchall()
        by_host = run(
            "SELECT origin, COUNT(*) FROM urls WHERE state = ? GROUP BY origin ORDER BY COUNT(*) DESC, origin",
            (DONE,),
        ).fetchall()
        links = run("SELECT reason, links FROM passed_over ORDER BY reason").fetchall()
        return {
            "pages": states.get(DONE, 0),
            "bytes": size,
            "by_status": {str(status): count for status, count in by_status},
            "by_host": dict(by_host),
            "not_fetched": dict(not_fetched),
            "links_not_followed": dict(links),
            "queued": states.get(QUEUED, 0),
        }
