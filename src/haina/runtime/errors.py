"""Errors for the person at the keyboard.

A `HainaError` names the thing that is wrong and what to do about it; the command line prints it as one line
and exits with code 2. Anything else that escapes is a fault of ours: code 3.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXIT_USER_ERROR = 2
EXIT_INTERNAL_FAULT = 3
EXIT_INTERRUPTED = 130


class HainaError(Exception):
    """Something the user can mend.

    Args:
        message: names the thing and what is wrong with it, in one line.
        hint: what to do, in one line; printed after the message.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


def from_os_error(error: OSError, path: Path | str | None = None) -> HainaError:
    """The one-line form of an operating-system error about `path`."""
    name = str(path if path is not None else (error.filename or "file"))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HainaError(
            f"{name}: no space left on the disk",
            "free some space and run the same command again; finished work is kept",
        )
    if error.errno == errno.ENOENT:
        return HainaError(f"{name}: no such file or folder", "check the path")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return HainaError(
            f"{name}: not permitted ({error.strerror})", "check the owner and mode of the file and its folder"
        )
    return HainaError(f"{name}: {error.strerror or error}", "check the path and the disk")


@contextmanager
def os_errors_about(path: Path | str) -> Iterator[None]:
    """Turn an `OSError` raised inside into a `HainaError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, path) from error
