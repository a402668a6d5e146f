"""WARC 1.1 files that are appended to: a gzip member a record, a new file when one is full.

Comes in: requests and their answers. Goes out: `crawl-00000.warc.gz` and so on, each beginning with a warcinfo
record, and how far the last one is valid. On resume whatever stands behind that is cut off: it belongs to
pages that were being written when the crawl was killed, and those are fetched again.
Format: WARC 1.1 (ISO 28500:2017), annex D for the compression.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

NAME = "crawl-{:05d}.warc.gz"


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, as messages; `truncated` says why the answer breaks off (WARC 1.1, 5.13)."""

    url: str
    request: bytes
    response: bytes
    payload: bytes
    ip: str
    fields: dict[str, str]
    truncated: str = ""


def _digest(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def record(kind: str, fields: dict[str, str], block: bytes) -> bytes:
    """One record as a gzip member."""
    head = {
        "WARC-Type": kind,
        **fields,
        "WARC-Block-Digest": _digest(block),
        "Content-Length": str(len(block)),
    }
    # A line end within a value would begin another field.
    lines = "".join(f"{name}: {' '.join(value.split())}\r\n" for name, value in head.items())
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(f"WARC/1.1\r\n{lines}\r\n".encode() + block + b"\r\n\r\n") + packer.flush()


def _identity() -> str:
    return f"<urn:uuid:{uuid4()}>"


class WarcFiles:
    """The files of a crawl.

    Args:
        folder: where they lie.
        index: number of the last file.
        size: its valid bytes; 0 to begin it.
        limit: bytes after which the next is begun.
        about: what the warcinfo record says.
    """

    def __init__(self, folder: Path, index: int, size: int, limit: int, about: dict[str, str]) -> None:
        self.folder = folder
        self.index = index
        self.limit = limit
        self.about = about
        self.cut = self._cut_back(size)
        self._file = self._open()

    @property
    def path(self) -> Path:
        """The file that is written to."""
        return self.folder / NAME.format(self.index)

    def _cut_back(self, size: int) -> int:
        """Cut off what is not valid; how many bytes that was."""
        cut = 0
        for later in sorted(self.folder.glob("crawl-*.warc.gz")):
            if later.name > self.path.name:
                cut += later.stat().st_size
                later.unlink()
        if self.path.exists() and self.path.stat().st_size > size:
            cut += self.path.stat().st_size - size
            os.truncate(self.path, size)
        return cut

    def _open(self) -> int:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if os.fstat(descriptor).st_size == 0:
            block = "".join(f"{name}: {value}\r\n" for name, value in self.about.items()).encode()
            fields = {
                "WARC-Record-ID": _identity(),
                "WARC-Date": _now(),
                "WARC-Filename": self.path.name,
                "Content-Type": "application/warc-fields",
            }
            _write(descriptor, record("warcinfo", fields, block))
        return descriptor

    def append(self, exchange: Exchange) -> tuple[int, int]:
        """Write request, response and metadata records; (file number, its valid bytes) from now on."""
        if os.fstat(self._file).st_size >= self.limit:
            self.close()
            self.index += 1
            self._file = self._open()
        response_id, date = _identity(), _now()
        common = {"WARC-Date": date, "WARC-Target-URI": exchange.url}
        about = "".join(f"{name}: {' '.join(value.split())}\r\n" for name, value in exchange.fields.items())
        data = record(
            "request",
            {
                "WARC-Record-ID": _identity(), **common, "WARC-Concurrent-To": response_id,
                "Content-Type": "application/http; msgtype=request",
            },
            exchange.request,
        )  # fmt: skip
        data += record(
            "response",
            {
                "WARC-Record-ID": response_id, **common, "WARC-IP-Address": exchange.ip,
                "WARC-Payload-Digest": _digest(exchange.payload),
                **({"WARC-Truncated": exchange.truncated} if exchange.truncated else {}),
                "Content-Type": "application/http; msgtype=response",
            },
            exchange.response,
        )  # fmt: skip
        data += record(
            "metadata",
            {
                "WARC-Record-ID": _identity(), **common, "WARC-Refers-To": response_id,
                "Content-Type": "application/warc-fields",
            },
            about.encode(),
        )  # fmt: skip
        _write(self._file, data)
        return self.index, os.fstat(self._file).st_size

    def close(self) -> None:
        os.fsync(self._file)
        os.close(self._file)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
