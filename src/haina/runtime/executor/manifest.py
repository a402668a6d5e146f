"""The record of finished outputs: one line each, appended when the file is in place.

A line holds the output, its bytes, its checksum and the identity of the task that made it. A file without a line, or
unlike its line, is made again. Lines are written one by one, so a kill loses none; a torn last line is cut off.
On this machine they go to `manifest.jsonl`; in an object store, which cannot append, each is an object.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from haina.runtime.errors import os_errors_about
from haina.runtime.executor.locations import Location, local_path, write_file
from haina.runtime.files import fingerprint_bytes


@dataclass(frozen=True)
class Receipt:
    """A finished output.

    Attributes:
        output: its location. size: its bytes. checksum: XXH3 of its content. identity: of the task that made it.
        quarantined: why the task could not be done, when the file only stands for it; else empty.
    """

    output: str
    size: int
    checksum: str
    identity: str
    quarantined: str = ""


class Manifest:
    """The lines of one executor.

    Args:
        folder: where they are kept; None keeps them in memory, for as long as the executor lives.
    """

    def __init__(self, folder: Location | None) -> None:
        self.folder = folder
        self.lines: dict[str, Receipt] = {}
        self._file: IO[bytes] | None = None
        local = None if folder is None else local_path(folder)
        self._log = None if local is None else local / "manifest.jsonl"
        with os_errors_about(str(folder)):
            if self._log is not None:
                self._read_log(self._log)
            elif folder is not None:
                self._read_objects(folder)

    def _take(self, line: bytes) -> None:
        try:
            receipt = Receipt(**json.loads(line))
        except (ValueError, TypeError):  # damaged: the output is made again
            return
        self.lines[receipt.output] = receipt

    def _read_log(self, log: Path) -> None:
        if not log.exists():
            return
        data = log.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(log, whole)
        for line in data[:whole].splitlines():
            self._take(line)

    def _read_objects(self, folder: Location) -> None:
        if folder.exists():
            found = [item.path for item in folder.iterdir()]
            for line in folder.fs.cat(found).values() if found else ():
                self._take(line)

    def add(self, receipt: Receipt) -> None:
        """Record a finished output."""
        self.lines[receipt.output] = receipt
        if self.folder is None:
            return
        line = json.dumps(asdict(receipt), ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"
        if self._log is None:
            name = fingerprint_bytes(receipt.output.encode()) + ".json"
            write_file(self.folder / name, line)
            return
        with os_errors_about(self._log):
            if self._file is None:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._log.open("ab", buffering=0)
            self._file.write(line)

    def close(self) -> None:
        """Flush the lines to the disk."""
        if self._file is not None:
            with os_errors_about(str(self.folder)):
                os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
