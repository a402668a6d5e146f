"""The commit of a stage: whole or not at all, wherever it is interrupted."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from haina.recipe import run_folder
from haina.recipe.graph import STAGES, Stage
from haina.recipe.run_folder import RunFolder, code_fingerprint, fingerprint_of
from haina.runtime import files
from haina.runtime.errors import HainaError

TRAIN = next(stage for stage in STAGES if stage.name == "train")
RECORD: dict[str, Any] = {
    "fingerprint": "f",
    "records": {"in": 1, "out": 1, "dropped": 0, "unit": "windows"},
    "metrics": {},
}


def _produce(run: RunFolder, stage: Stage, text: str) -> None:
    work = run.work(stage, "f" + text)
    for name in stage.outputs:
        files.write_text(work / "out" / name / "a" / "文件.txt", text)


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("steps", range(6))
def test_commit_interrupted_anywhere_is_finished_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    run = RunFolder(tmp_path / "run")
    _produce(run, TRAIN, "old")
    run.commit(TRAIN, RECORD)
    _produce(run, TRAIN, "new")
    left = [steps]

    def dying(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if left[0] == 0:
                raise _Killed
            left[0] -= 1
            return function(*arguments)

        return call

    with monkeypatch.context() as patch:
        # Only the steps of the commit itself are counted, not what they are made of.
        steps_of_commit = {name: dying(getattr(files, name)) for name in ("publish", "write_json", "remove")}
        patch.setattr(run_folder, "files", SimpleNamespace(**{**vars(files), **steps_of_commit}))
        try:
            run.commit(TRAIN, RECORD)
        except _Killed:
            assert steps < 6
    again = RunFolder(tmp_path / "run")
    again.settle()
    if steps == 0:
        assert (again.path / "model" / "a" / "文件.txt").read_text(encoding="utf-8") == "old"
        assert again.work(TRAIN, "fnew").joinpath("out", "model").exists(), (
            "the finished output was thrown away"
        )
        return
    for name in TRAIN.outputs:
        assert (again.path / name / "a" / "文件.txt").read_text(encoding="utf-8") == "new"
    assert again.outputs_intact(TRAIN)
    assert not (again.path / ".work").exists()


def test_outputs_that_were_touched_are_not_intact(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    _produce(run, TRAIN, "x")
    run.commit(TRAIN, RECORD)
    assert run.outputs_intact(TRAIN)
    (tmp_path / "model" / "a" / "文件.txt").write_text("longer")
    assert not run.outputs_intact(TRAIN)
    shutil.rmtree(tmp_path / "model")
    assert not run.outputs_intact(TRAIN)


def test_work_of_another_fingerprint_is_not_reused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (run.work(TRAIN, "one") / "piece").write_text("1")
    assert (run.work(TRAIN, "one") / "piece").exists()
    assert not (run.work(TRAIN, "two") / "piece").exists()


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{half", encoding="utf-8")
    with pytest.raises(HainaError, match=r"manifest\.json: not valid JSON"):
        RunFolder(tmp_path).manifest()


def test_fingerprint_depends_on_all_that_decides() -> None:
    base = fingerprint_of(TRAIN, {"a": 1}, 0, {"shards": "s"})
    assert base == fingerprint_of(TRAIN, {"a": 1}, 0, {"shards": "s"})
    others = [
        fingerprint_of(TRAIN, {"a": 2}, 0, {"shards": "s"}),
        fingerprint_of(TRAIN, {"a": 1}, 1, {"shards": "s"}),
        fingerprint_of(TRAIN, {"a": 1}, 0, {"shards": "t"}),
    ]
    assert len({base, *others}) == 4
    assert code_fingerprint(("train",)) != code_fingerprint(("corpus",))
