"""SIGKILL of the whole job at random moments, inside every primitive; then it goes on to the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.runtime import executor_tasks as tasks

from haina.runtime.executor import LocalExecutor

ROOT = Path(__file__).parents[2]
PARTS, PARTITIONS = 40, 20


def start(folder: Path, kind: str, workers: int, words: int) -> subprocess.Popen[str]:
    """The job in a process group of its own; returns when it has begun."""
    folder.mkdir(exist_ok=True)
    code = "import sys; sys.path.insert(0, sys.argv[1]); from tests.runtime.executor_tasks import main; main(*sys.argv[2:])"
    arguments = [str(ROOT), str(folder), kind, str(workers), str(PARTS), str(PARTITIONS), str(words)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    return process


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=250)
    assert process.returncode == 0, errors


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / "files").rglob("*"))
        if path.is_file()
    }


def undisturbed(folder: Path, words: int) -> dict[str, bytes]:
    folder.mkdir()
    tasks.run_job(LocalExecutor(1), folder, PARTS, PARTITIONS, words)
    return files_of(folder)


def killed(folder: Path, units: int) -> str:
    """Kill when this many units have been done; says in which primitive that was."""
    process = start(folder, "local", 2, 200)
    log = folder / "units.log"
    while process.poll() is None and (not log.exists() or log.read_text().count("end ") < units):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return log.read_text().split("start ")[-1].split("-")[0]


def test_killed_in_each_primitive_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    expected = undisturbed(tmp_path / "whole", 200)
    folder = tmp_path / "killed"
    where = [killed(folder, units) for units in (PARTS // 2, PARTS + PARTS // 2, 2 * PARTS + PARTITIONS // 2)]
    assert where == ["collect", "spread", "reduce"]
    finish(start(folder, "local", 2, 200))
    assert files_of(folder) == expected
    again, units = tasks.repeated(folder)
    assert units == 2 * PARTS + PARTITIONS
    lines = (folder / "state" / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == len({json.loads(line)["output"] for line in lines}) == units
    assert again <= 3 * 2  # a finished task whose file or line was not yet in place: one a worker and kill


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "workers", "kills"), [("local", 1, 10), ("local", 2, 30), ("local", 8, 10), ("ray", 2, 2)]
)
def test_killed_at_random_moments_it_goes_on(tmp_path: Path, kind: str, workers: int, kills: int) -> None:
    rng = random.Random(f"{kind} {workers}")
    sys.path.insert(0, str(ROOT))
    expected = undisturbed(tmp_path / "whole", 2_000)
    begin = time.monotonic()
    finish(start(tmp_path / "timed", kind, workers, 2_000))
    seconds = time.monotonic() - begin
    assert files_of(tmp_path / "timed") == expected
    done, again, units = 0, 0, 0
    while done < kills:
        folder = tmp_path / f"killed-{done}"
        process = start(folder, kind, workers, 2_000)
        try:
            process.wait(rng.random() * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            done += 1
        process.communicate()
        finish(start(folder, kind, workers, 2_000))
        assert files_of(folder) == expected
        repeats, size = tasks.repeated(folder)
        again, units = again + repeats, units + size
    assert again <= 0.05 * units
