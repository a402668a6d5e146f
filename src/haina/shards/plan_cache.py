"""Packing plans kept in a folder: one process makes a plan, all others map it."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from haina.runtime.errors import os_errors_about
from haina.runtime.files import atomic_path, fingerprint_bytes
from haina.shards.loader_settings import LoaderSettings
from haina.shards.plan import PLAN_VERSION, PackPlan, read_plan
from haina.shards.planner import write_plan
from haina.shards.proportions import Proportions, document_places
from haina.shards.shard_set import ShardSet
from haina.shards.split_files import SplitFiles


def plan_identity(split: SplitFiles, settings: LoaderSettings, proportions: Proportions) -> dict[str, Any]:
    """What a plan depends on: JSON values."""
    return {
        "version": PLAN_VERSION,
        "shards": split.fingerprint,
        "packing": settings.packing,
        "sequence_length": settings.sequence_length,
        "by": proportions.by,
        "domains": list(proportions.names),
        "table": None if proportions.by is None else split.table_fingerprint(),
    }


def plan_for(
    split: SplitFiles, settings: LoaderSettings, proportions: Proportions, cache: Path | None
) -> PackPlan:
    """The plan from the cache, made if it is not there; without a cache made and held in memory.

    Raises:
        HainaError: the shards are damaged, or the plan in the cache is.
    """
    identity = plan_identity(split, settings, proportions)
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="haina-plan-") as name:
            _make(Path(name), split, proportions, identity)
            return read_plan(Path(name), identity, keep=True)
    key = fingerprint_bytes(json.dumps(identity, sort_keys=True).encode())[:16]
    folder = cache / f"pack-{key}"
    if not folder.exists():
        with _alone(cache):
            if not folder.exists():
                with atomic_path(folder) as temporary:
                    temporary.mkdir()
                    _make(temporary, split, proportions, identity)
    return read_plan(folder, identity)


def _make(folder: Path, split: SplitFiles, proportions: Proportions, identity: dict[str, Any]) -> None:
    shards = ShardSet.open(split.folder, split.name)
    places = document_places(split, proportions, len(shards))
    write_plan(folder, shards, places, proportions.names, identity)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Inside the block no other process makes a plan in `folder`; waits, asleep, until it is free."""
    with os_errors_about(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with os_errors_about(folder):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
