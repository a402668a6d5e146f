"""Files elsewhere than on this machine: the same job in a store behind fsspec."""

from __future__ import annotations

import errno
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.runtime import executor_tasks as tasks

from haina.runtime.errors import HainaError
from haina.runtime.executor import (
    DamagedFile,
    LocalExecutor,
    broadcast,
    exists,
    iter_exchange,
    local_copy,
    local_path,
    size,
)
from haina.runtime.executor.locations import checksum, new_file

upath = pytest.importorskip("upath")


@pytest.fixture
def store() -> Any:
    """An empty folder of the object store that lives in this process."""
    return upath.UPath(f"memory://bucket-{uuid.uuid4().hex}/job")


def test_a_whole_job_in_a_store_gives_the_same_bytes(tmp_path: Path, store: Any) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    expected = tasks.run_job(LocalExecutor(1), tmp_path / "here", 4, 3, 50)
    for _ in range(2):
        executor = LocalExecutor(1, state=store / "state")
        assert tasks.run_job(executor, tmp_path / "there", 4, 3, 50, files=store) == expected
    assert tasks.repeated(tmp_path / "there") == (0, 4 + 4 + 3)
    (store / "words" / "1.txt").unlink()
    data = (store / "exchange" / "2.x").read_bytes()
    (store / "exchange" / "2.x").write_bytes(data[:-1])
    executor = LocalExecutor(1, state=store / "state")
    assert tasks.run_job(executor, tmp_path / "there", 4, 3, 50, files=store) == expected
    assert tasks.repeated(tmp_path / "there") == (2, 4 + 4 + 3)
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["units.log"]


def test_a_file_on_this_machine_may_be_an_address(tmp_path: Path) -> None:
    place = upath.UPath(f"file://{tmp_path}/files")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    expected = tasks.run_job(LocalExecutor(1), tmp_path / "a", 2, 2, 20)
    assert tasks.run_job(LocalExecutor(1), tmp_path / "b", 2, 2, 20, files=place) == expected
    assert local_path(place / "words" / "0.txt") == tmp_path / "files" / "words" / "0.txt"
    assert local_path(tmp_path) == tmp_path


def test_reading_and_asking(store: Any, tmp_path: Path) -> None:
    place = store / "海.txt"
    assert (size(place), exists(place)) == (None, False)
    with pytest.raises(DamagedFile, match="no such file"), local_copy(place):
        pass
    with pytest.raises(DamagedFile, match="no such file"):
        list(iter_exchange([place], 0))
    assert broadcast("词表".encode(), place) == place
    assert broadcast(b"other", place).read_bytes() == b"other"
    (tmp_path / "x").write_bytes(b"other")
    assert checksum(place) == checksum(tmp_path / "x")
    with local_copy(place) as copy:
        assert copy.read_bytes() == b"other"
    assert not copy.exists()
    with local_copy(tmp_path / "x") as same:
        assert same == tmp_path / "x"


def test_nothing_of_a_failed_write_is_visible(store: Any, tmp_path: Path) -> None:
    def fail(place: Any) -> None:
        with new_file(place) as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    for place in (store / "x", tmp_path / "x"):
        with pytest.raises(ZeroDivisionError):
            fail(place)
        assert not exists(place)
    assert not list(tmp_path.iterdir())


def test_a_full_store_is_named(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(store.fs), "put_file", full)
    with pytest.raises(HainaError, match=r"job/x: no space left"), new_file(store / "x") as temporary:
        temporary.write_bytes(b"whole")


def test_words_without_a_number_are_understood(tmp_path: Path) -> None:
    """Arrow passes the text of a full disk on, not always its number; other such errors are about damaged data."""
    with pytest.raises(HainaError, match="x: no space left"), new_file(tmp_path / "x"):
        raise OSError("Error writing bytes to file. Detail: [errno 28] No space left on device")
    with pytest.raises(OSError, match="magic bytes"), new_file(tmp_path / "x"):
        raise OSError("Parquet magic bytes not found")
