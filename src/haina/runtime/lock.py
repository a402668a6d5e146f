"""One process at a time in a folder. The kernel lets go when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from haina.runtime.errors import HainaError, os_errors_about


@contextmanager
def exclusive(folder: Path, advice: str) -> Iterator[None]:
    """Hold `folder` (made when it is not there) for this process.

    Raises:
        HainaError: another process holds it; `advice` says what the user can do.
    """
    with os_errors_about(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode("utf-8", "replace").strip() or "another process"
            raise HainaError(f"{folder}: already being worked on by {holder}", advice) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
