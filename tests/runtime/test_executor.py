"""Map, exchange, reduce, broadcast: the same bytes for any number of workers, interrupted or not."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from haina.runtime.errors import HainaError
from haina.runtime.executor import Buckets, LocalExecutor, broadcast, iter_exchange, read_exchange

WORDS = ["海", "纳", "百", "川", "river", "sea", "page", "河", "湖", "token"] * 3
PARTITIONS = 4


@pytest.fixture(autouse=True)
def importable_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned workers import this module by its name and take over the parent's search path."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


def write_word(item: Any, output: Path) -> None:
    folder, word = item
    (Path(folder) / "calls").mkdir(exist_ok=True)
    (Path(folder) / "calls" / f"{output.name}-{os.urandom(6).hex()}").touch()
    output.write_text(word * 3, encoding="utf-8")


def fail_on_sea(item: Any, output: Path) -> None:
    if item == "sea":
        output.write_bytes(b"half")
        raise HainaError("sea: too salty", "take fresh water")
    output.write_text(item, encoding="utf-8")


def die(item: Any, output: Path) -> None:
    os._exit(9)


def spread(words: Any, buckets: Buckets) -> None:
    for word in words:
        data = word.encode()
        buckets.add(zlib.crc32(data) % buckets.partitions, data)


def gather(item: Any, output: Path) -> None:
    partition, exchanged, joint = item
    words = [bytes(word) for word in iter_exchange(exchanged, partition)]
    output.write_bytes(joint.join(sorted(words)))


def whole_job(folder: Path, workers: int) -> dict[str, bytes]:
    run = LocalExecutor(workers)
    items = [WORDS[start::5] for start in range(5)]
    exchanged = [folder / f"exchange-{index}" for index in range(len(items))]
    reduced = [folder / f"reduced-{index}" for index in range(PARTITIONS)]
    run.exchange(spread, items, exchanged, partitions=PARTITIONS, description="spread")
    run.reduce(gather, exchanged, reduced, description="gather", argument=b"\n")
    return {path.name: path.read_bytes() for path in [*exchanged, *reduced]}


def test_the_bytes_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    runs = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        runs.append(whole_job(folder, workers))
    assert runs[0] == runs[1]
    words = b"\n".join(
        data for name, data in runs[0].items() if name.startswith("reduced") and data
    ).splitlines()
    assert sorted(words) == sorted(word.encode() for word in WORDS)


def test_work_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    items = [(str(tmp_path), word) for word in ("江", "river", "湖")]
    outputs = [tmp_path / f"part-{index}" for index in range(3)]
    LocalExecutor().map(write_word, items[1:2], outputs[1:2], description="words")
    (tmp_path / "part-2.0123abcd.partial").write_bytes(b"left by a killed run")
    for _ in range(2):
        LocalExecutor().map(write_word, items, outputs, description="words")
    assert [path.read_text(encoding="utf-8") for path in outputs] == ["江江江", "riverriverriver", "湖湖湖"]
    assert sorted(path.name[:6] for path in (tmp_path / "calls").iterdir()) == ["part-0", "part-1", "part-2"]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_words_and_the_finished_parts(tmp_path: Path, workers: int) -> None:
    outputs = [tmp_path / name for name in ("a", "b")]
    with pytest.raises(HainaError) as caught:
        LocalExecutor(workers).map(fail_on_sea, ["河", "sea"], outputs, description="water")
    assert (caught.value.message, caught.value.hint) == ("sea: too salty", "take fresh water")
    assert not (tmp_path / "b").exists()
    assert not list(tmp_path.glob("*.partial"))
    if workers == 1:
        assert (tmp_path / "a").read_text(encoding="utf-8") == "河"


def test_a_worker_that_dies_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match=r"water: .*: a worker process died twice"):
        LocalExecutor(2).map(die, [1, 2], [tmp_path / "a", tmp_path / "b"], description="water")


def test_items_and_outputs_must_match(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        LocalExecutor().map(fail_on_sea, ["a", "b"], [tmp_path / "a"], description="water")


def test_an_absent_exchange_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match="gone: no such file"):
        read_exchange([tmp_path / "gone"], 0)


def test_broadcast_is_written_once_and_never_stale(tmp_path: Path) -> None:
    path = broadcast("词表".encode(), tmp_path / "value")
    before = path.stat().st_mtime_ns
    assert broadcast("词表".encode(), path).stat().st_mtime_ns == before
    assert broadcast(b"other", path).read_bytes() == b"other"
