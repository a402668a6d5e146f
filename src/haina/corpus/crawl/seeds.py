"""Seeds from the command line: addresses, and files with one address a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from haina.runtime.errors import HainaError, os_errors_about


def read_seeds(words: Sequence[str]) -> tuple[str, ...]:
    """Each word that holds `://` as it is; of any other, as a file, the lines that are neither blank nor begin
    with `#`.

    Raises:
        HainaError: a file is not there, or there is no seed at all.
    """
    seeds: list[str] = []
    for word in words:
        if "://" in word:
            seeds.append(word)
            continue
        path = Path(word)
        if not path.is_file():
            raise HainaError(f"{word}: neither an address nor a file", "write https://... in full")
        with os_errors_about(path):
            lines = path.read_bytes().decode("utf-8-sig", "replace").splitlines()
        seeds += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not seeds:
        raise HainaError(f"{', '.join(words)}: no address", "put one address a line")
    return tuple(dict.fromkeys(seeds))
