"""What goes wrong: lost workers, damaged and missing files, full disks, killed parents. Nothing is lost silently."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime import executor_tasks as tasks

from haina.runtime.errors import HainaError
from haina.runtime.executor import LocalExecutor
from haina.runtime.executor.task import Call, Failed, execute, unpack
from haina.runtime.progress import SilentProgress

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned workers import the tasks by name and take over the parent's search path."""
    monkeypatch.syspath_prepend(str(ROOT))


class Says(SilentProgress):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def two() -> Iterator[LocalExecutor]:
    """Two workers for the whole module: starting them costs more than these tests."""
    sys.path.insert(0, str(ROOT))
    with LocalExecutor(2) as executor:
        yield executor
    sys.path.remove(str(ROOT))


# Lost workers -------------------------------------------------------------------------------------------------------


def test_a_killed_worker_costs_its_task_one_more_run_alone(tmp_path: Path, two: LocalExecutor) -> None:
    two.reporter = said = Says()
    words = ["甲", "!乙", "丙", "丁", "戊"]
    outputs = [tmp_path / f"out-{number}" for number in range(len(words))]
    two.map(tasks.beside, [(str(tmp_path), word) for word in words], outputs, description="water")
    assert [path.read_text(encoding="utf-8") for path in outputs] == ["甲", "", "丙", "丁", "戊"]
    assert len(said.lines) == 1
    assert (
        "out-1: its worker process was ended by SIGKILL, as the kernel does when memory runs" in said.lines[0]
    )
    assert not list(tmp_path.glob("*.partial"))


def test_without_a_recovery_a_second_loss_is_one_line(tmp_path: Path, two: LocalExecutor) -> None:
    outputs = [tmp_path / name for name in ("a", "b", "c")]
    items = [["a"], ["a", "b", "c"], ["c"]]
    with pytest.raises(HainaError, match=r"water: .*b: a worker process died twice: .*SIGKILL"):
        two.map(tasks.too_large, items, outputs, description="water")
    assert (tmp_path / "a").read_text() == "a\n"
    assert (tmp_path / "c").read_text() == "c\n"


@pytest.mark.parametrize("task", [tasks.too_large, tasks.no_memory])
def test_an_item_too_large_for_the_memory_is_split(tmp_path: Path, two: LocalExecutor, task) -> None:
    two.reporter = said = Says()
    items = [["海"], list("江河湖泊溪泉潭"), ["sea"]]
    outputs = [tmp_path / name for name in ("a", "b", "c")]
    two.map(task, items, outputs, description="water", recovery=tasks.RECOVERY)
    assert [path.read_text(encoding="utf-8") for path in outputs] == [
        "".join(f"{word}\n" for word in item) for item in items
    ]
    assert any("it is split in 2" in line for line in said.lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    assert not two.quarantined


def test_what_cannot_be_split_is_quarantined_and_counted(tmp_path: Path) -> None:
    """With one worker, too: a step with a recovery gets a process that may die."""
    items = [["海"], ["江", "河", "毒", "泊"], ["sea"]]
    outputs = [tmp_path / name for name in ("a", "b", "c")]
    said = Says()
    for name in ("b.piece-0", "b.piece-1.piece-0.01234567.partial"):
        (tmp_path / name).write_text("left by a killed run")
    for _ in range(2):
        with LocalExecutor(1, said, tmp_path / "state") as executor:
            executor.map(tasks.too_large, items, outputs, description="water", recovery=tasks.RECOVERY)
            found = executor.quarantined
        assert [Path(item.output).name for item in found] == ["b"]
        assert "SIGKILL" in found[-1].reason
    whole = "江\n河\n[毒: its worker process was ended by SIGKILL]\n泊\n"
    assert (tmp_path / "b").read_text(encoding="utf-8") == whole
    assert any("1 of 3 parts" in line and "quarantined" in line for line in said.lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "state"]


def test_a_worker_that_dies_between_tasks_costs_nothing(tmp_path: Path, two: LocalExecutor) -> None:
    two.reporter = said = Says()
    for name in ("a", "b"):
        items = [(str(tmp_path), f"{name}{number}") for number in range(2)]
        outputs = [tmp_path / f"{name}{number}" for number in range(2)]
        two.map(tasks.die_once, items, outputs, description="water")
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a0", "a1", "b0", "b1"]
    assert not said.lines


def test_workers_stay_between_calls_and_end_with_the_executor(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    executor = LocalExecutor(2)
    for name in ("a", "b"):
        outputs = [tmp_path / f"{name}{number}" for number in range(4)]
        executor.map(tasks.who, list(range(4)), outputs, description="who")
    assert len({path.read_text() for path in tmp_path.iterdir()} | {"0"}) <= 3
    started = set(multiprocessing.active_children()) - before
    assert 1 <= len(started) <= 2
    del executor
    gc.collect()
    assert not set(multiprocessing.active_children()) & started


def test_a_worker_with_other_code_says_so(tmp_path: Path) -> None:
    call = Call("file", tasks.write_text, (str(tmp_path), "a", "x"), tmp_path / "a", "identity", code="other")
    outcome = unpack(execute(pickle.dumps(call)))
    assert isinstance(outcome, Failed)
    assert "a worker has another version of haina" in str(outcome.error)
    assert not (tmp_path / "a").exists()


def test_an_error_of_a_task_keeps_its_words_and_place(tmp_path: Path, two: LocalExecutor) -> None:
    with pytest.raises(HainaError) as caught:
        two.map(tasks.fail_on_sea, ["sea", "sea"], [tmp_path / "a", tmp_path / "b"], description="x")
    assert (caught.value.message, caught.value.hint) == ("sea: too salty", "take fresh water")
    with pytest.raises(ZeroDivisionError, match="in the worker") as fault:
        two.map(tasks.fail_on_sea, ["bug", "bug"], [tmp_path / "a", tmp_path / "b"], description="x")
    assert "executor_tasks.py" in str(fault.value.__cause__)
    assert not list(tmp_path.iterdir())


# Damaged files ------------------------------------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["missing", "cut", "changed"])
@pytest.mark.parametrize("name", ["words/1.txt", "exchange/1.x", "counts/1.json"])
def test_a_finished_file_is_checked_named_and_made_again(tmp_path: Path, name: str, how: str) -> None:
    def job() -> tuple[dict[str, bytes], list[str]]:
        said = Says()
        return tasks.run_job(LocalExecutor(1, said, tmp_path / "state"), tmp_path, 3, 2, 40), said.lines

    whole, _ = job()
    damage(tmp_path / "files" / name, how)
    again, said = job()
    assert again == whole
    assert len(said) == 1
    assert name in said[0]
    assert ("missing" if how == "missing" else "damaged") in said[0]
    assert tasks.repeated(tmp_path) == (1, 3 + 3 + 2)
    assert job() == (whole, [])
    assert tasks.repeated(tmp_path) == (1, 3 + 3 + 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_input_found_by_a_reader_is_followed_back(tmp_path: Path, workers: int) -> None:
    """The exchange file is cut after it was made, and the words it came from are gone too."""
    said = Says()
    with LocalExecutor(workers, said, tmp_path / "state") as executor:
        folder = tmp_path / "files"
        words, exchanged = [folder / "0.txt", folder / "1.txt"], [folder / "0.x", folder / "1.x"]
        executor.map(tasks.collect, [(str(tmp_path), n, 50) for n in (0, 1)], words, description="a")
        items = [(str(tmp_path), path, n) for n, path in enumerate(words)]
        executor.exchange(tasks.spread, items, exchanged, partitions=2, description="b")
        before = exchanged[1].read_bytes()
        damage(exchanged[1], "changed")
        words[1].unlink()
        executor.reduce(
            tasks.count_words,
            exchanged,
            [folder / "a", folder / "b"],
            description="c",
            argument=(str(tmp_path), 1 << 20),
        )
    assert exchanged[1].read_bytes() == before
    assert sorted({line.split(": ")[1].split(" ")[0].rstrip(";") for line in said.lines}) == [
        "damaged",
        "missing",
    ]
    assert {Path(line.split(":")[0]).name for line in said.lines} == {"1.x", "1.txt"}
    assert tasks.repeated(tmp_path)[0] <= 2 + 1  # the other reducer may have finished before


@pytest.mark.parametrize("name", ["cut", "gone"])
def test_a_reader_that_knows_nothing_of_it_is_helped(tmp_path: Path, name: str) -> None:
    said = Says()
    executor = LocalExecutor(1, said)
    source = tmp_path / "source"
    executor.map(tasks.write_text, [(str(tmp_path), "w", "海纳百川。")], [source], description="a")
    executor.map(
        tasks.damage_input_then_copy, [(str(tmp_path), name, source)], [tmp_path / "copy"], description="b"
    )
    assert (tmp_path / "copy").read_text(encoding="utf-8") == "海纳百川。"
    assert len(said.lines) == 1
    assert str(source) in said.lines[0]


def test_many_readers_of_one_damaged_file_need_it_made_once(tmp_path: Path) -> None:
    """Readers that met the damage while another one's finding was being mended try again, however many they are."""
    said = Says()
    with LocalExecutor(6, said) as executor:
        files = [tmp_path / "0.txt", tmp_path / "0.x"]
        executor.map(tasks.collect, [(str(tmp_path), 0, 50)], files[:1], description="a")
        items = [(str(tmp_path), files[0], 0)]
        executor.exchange(tasks.spread, items, files[1:], partitions=12, description="b")
        damage(files[1], "changed")
        outputs = [tmp_path / f"{number}.json" for number in range(12)]
        executor.reduce(tasks.all_read, files[1:], outputs, description="c")
    assert len({path.read_bytes() for path in outputs}) == 1
    assert len(said.lines) == 1
    assert tasks.repeated(tmp_path) == (1, 2)


def test_a_file_that_is_damaged_again_and_again_ends_the_job(tmp_path: Path) -> None:
    executor = LocalExecutor(1)
    source = tmp_path / "source"
    executor.map(tasks.write_text, [(str(tmp_path), "w", "海纳百川。")], [source], description="a")
    with pytest.raises(HainaError, match=r"source: found damaged 4 times .*check the disk"):
        executor.map(tasks.always_damaged, [(str(tmp_path), "x", source)], [tmp_path / "c"], description="b")


def test_what_nothing_can_rebuild_is_an_error(tmp_path: Path) -> None:
    """The user's own file is gone: nobody made it."""
    source = tmp_path / "given.txt"
    source.write_text("海纳百川。", encoding="utf-8")
    executor = LocalExecutor(1, state=tmp_path / "state")
    middle, last = tmp_path / "middle", tmp_path / "last"
    first_item, second_item = (str(tmp_path), "m", source), (str(tmp_path), "l", middle)
    executor.map(tasks.copy_text, [first_item], [middle], description="a")
    source.unlink()
    middle.unlink()
    with pytest.raises(HainaError, match=r"given\.txt: no such file"):
        executor.map(tasks.copy_text, [second_item], [last], description="b")


# Identities ---------------------------------------------------------------------------------------------------------


def test_other_settings_are_other_work_and_reach_the_readers(tmp_path: Path) -> None:
    def job(text: str) -> str:
        executor = LocalExecutor(1, state=tmp_path / "state")
        executor.map(tasks.write_text, [(str(tmp_path), "a", text)], [tmp_path / "a"], description="a")
        item = (str(tmp_path), "b", tmp_path / "a")
        executor.map(tasks.copy_text, [item], [tmp_path / "b"], description="b")
        return (tmp_path / "b").read_text(encoding="utf-8")

    assert [job("江。"), job("江。"), job("河。")] == ["江。", "江。", "河。"]
    assert tasks.repeated(tmp_path) == (2, 2)


def test_a_torn_or_damaged_manifest_costs_work_not_truth(tmp_path: Path) -> None:
    def job() -> dict[str, bytes]:
        return tasks.run_job(LocalExecutor(1, state=tmp_path / "state"), tmp_path, 3, 2, 10)

    whole = job()
    log = tmp_path / "state" / "manifest.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) == 8
    log.write_bytes(b"".join([*lines[:3], lines[3].replace(b'"', b"'"), *lines[4:7], lines[7][:30]]))
    assert job() == whole
    assert tasks.repeated(tmp_path) == (2, 8)
    assert job() == whole
    assert tasks.repeated(tmp_path) == (2, 8)


# Killed parents, full disks -----------------------------------------------------------------------------------------

PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from haina.runtime.executor import LocalExecutor
from haina.runtime.executor.task import Call, Failed, execute, unpack
from tests.runtime import executor_tasks as tasks
folder = sys.argv[2]
try:
    LocalExecutor(2).map(tasks.sleep_long, [(folder, "a"), (folder, "b")], [Path(folder, n) for n in "xy"], description="z")
except KeyboardInterrupt:
    sys.exit(130)
"""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path: Path, end: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT, str(ROOT), str(tmp_path)]
    parent = subprocess.Popen(command, start_new_session=True)
    marks = [tmp_path / "pid-a", tmp_path / "pid-b"]
    deadline = time.monotonic() + 60
    while not all(mark.exists() and mark.read_text() for mark in marks) and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = [int(mark.read_text()) for mark in marks]
    # Ctrl-C reaches the whole group, SIGKILL only the parent.
    (os.killpg if end == signal.SIGINT else os.kill)(parent.pid, end)
    code = parent.wait(20)
    assert code == (130 if end == signal.SIGINT else -signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(worker) for worker in workers)
    assert not list(tmp_path.glob("*.partial")) or end == signal.SIGKILL


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("only root can mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_named_and_the_run_goes_on_later(
    tmp_path: Path, small_disk: Path, workers: int
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 << 20))
    outputs = [small_disk / "out" / str(number) for number in range(3)]
    items = [(str(tmp_path), number) for number in range(3)]

    def job() -> None:
        with LocalExecutor(workers, state=tmp_path / "state") as executor:
            executor.map(tasks.fill_disk, items, outputs, description="water")

    with pytest.raises(HainaError, match=r"small/out/\d: no space left on the disk; free some space"):
        job()
    assert not list(small_disk.rglob("*.partial"))
    finished = [path for path in outputs if path.exists()]
    assert all(path.stat().st_size == 1 << 20 for path in finished)
    ballast.unlink()
    job()
    assert all(path.stat().st_size == 1 << 20 for path in outputs)
    again, units = tasks.repeated(tmp_path)
    assert units == 3
    assert again <= workers - 1  # what the other worker had just written when this one failed
