"""What a user names as input: local files, folders and patterns, or addresses such as `s3://bucket/crawl/`.

Comes in: names. Goes out: a description that changes when their content does, for fingerprints.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from haina.runtime import files
from haina.runtime.errors import HainaError


def page_inputs(inputs: Sequence[str]) -> tuple[Path | str, ...]:
    """Inputs that hold pages: local files and folders as paths, patterns and addresses as they are.

    Those that are remote or match nothing are found out when they are listed.

    Raises:
        HainaError: a local path is not there.
    """
    from haina.corpus.locations import is_address, is_pattern

    found: list[Path | str] = []
    for name in inputs:
        if is_address(name) or (is_pattern(name) and not Path(name).exists()):
            found.append(name)
            continue
        if not Path(name).exists():
            raise HainaError(f"{name}: no such file or folder", "check the path of the input")
        found.append(Path(name))
    return tuple(found)


def describe_source(source: Path | str) -> str:
    """What tells one state of an input from another: content for local files, names, sizes and marks of change for
    remote ones."""
    from haina.corpus.locations import describe, is_address, local_matches

    if isinstance(source, str) and is_address(source):
        return f"{source}:{files.fingerprint_bytes(describe(source).encode())}"
    paths = local_matches(source) if isinstance(source, str) else [source]
    return ";".join(f"{path.name}:{files.fingerprint_tree(path)}" for path in paths)
