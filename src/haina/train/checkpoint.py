"""The state of a run in, a folder that survives SIGKILL out, and back.

A checkpoint is `step-00000500/`: a torch.distributed.checkpoint directory (parameters and optimizer moments),
`metrics.jsonl` so far, `state.json` (counters, and size and checksum of every file) and, written last,
`COMMITTED`, which holds the checksum of `state.json`. It is made under a temporary name, flushed and
renamed: what has its final name is whole. Equal state gives equal bytes. Every file is checked before
anything of it is believed.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import StorageMeta

from haina.runtime.errors import HainaError, from_os_error, os_errors_about
from haina.runtime.files import (
    PARTIAL_SUFFIX,
    files_below,
    fingerprint_file,
    fsync_path,
    publish,
    read_json,
    remove,
    write_json,
    write_text,
)
from haina.train.optimizer import OptimizerParts

STATE_FILE, COMMITTED_FILE, METRICS_FILE = "state.json", "COMMITTED", "metrics.jsonl"


class _RepeatableWriter(FileSystemWriter):
    """FileSystemWriter without the random id and the absolute path that it puts into `.metadata`."""

    def storage_meta(self) -> StorageMeta | None:
        return StorageMeta()


def _single_process() -> None:
    """DCP warns at every call that there is no process group; here that is the intention. Filters belong to the whole
    process, and checkpoints are written in a thread: so the filter is set, and stays.
    """
    warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")


def tensors_of(
    model: torch.nn.Module, optimizer: OptimizerParts, guards: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """What a checkpoint holds, by name: `model.NAME`, `optimizer.NAME.exp_avg` and whatever else the optimizer keeps of
    a parameter, `guards.NAME`.
    """
    tensors: dict[str, Tensor] = {}
    state = optimizer.state
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach()
        for moment, value in sorted(state[parameter].items()):
            tensors[f"optimizer.{name}.{moment}"] = value
    for name, value in (guards or {}).items():
        tensors[f"guards.{name}"] = value
    return tensors


def checkpoint_path(folder: Path, step: int) -> Path:
    """Folder of the checkpoint after `step` optimizer steps."""
    return folder / f"step-{step:08d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(
        (path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()), key=step_of
    )


def step_of(path: Path) -> int:
    """Optimizer steps done when the checkpoint was made."""
    return int(path.name.removeprefix("step-"))


def _os_error_in(error: BaseException) -> OSError | None:
    """The OSError behind what torch.distributed.checkpoint has made of it."""
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if isinstance(current, OSError):
            return current
        if isinstance(current, CheckpointException):
            pending += [wrapped[0] for wrapped in current.failures.values()]
        if current is not None:
            pending += [current.__cause__, current.__context__]
    return None


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], metrics: str, counters: Mapping[str, Any]
) -> Path:
    """Write and commit one checkpoint.

    Args:
        folder: where checkpoints live.
        step: optimizer steps done.
        tensors: of `tensors_of`.
        metrics: text of `metrics.jsonl` so far.
        counters: JSON values to be given back on resume.

    Raises:
        HainaError: it cannot be written (a full disk, most often); earlier checkpoints are untouched.
    """
    target = checkpoint_path(folder, step)
    temporary = target.with_name(target.name + PARTIAL_SUFFIX)
    try:
        remove(temporary)
        temporary.mkdir(parents=True)
        writer = _RepeatableWriter(temporary, single_file_per_rank=True, thread_count=1)
        _single_process()
        dcp.save(dict(tensors), storage_writer=writer, no_dist=True)
        write_text(temporary / METRICS_FILE, metrics)
        files = {
            path.relative_to(temporary).as_posix(): {
                "bytes": path.stat().st_size,
                "blake2b": fingerprint_file(path),
            }
            for path in files_below(temporary)
        }
        write_json(temporary / STATE_FILE, {"step": step, **counters, "files": files})
        for path in files_below(temporary):
            fsync_path(path)
        write_text(temporary / COMMITTED_FILE, fingerprint_file(temporary / STATE_FILE) + "\n")
        fsync_path(temporary)
        publish(temporary, target)
    except (OSError, RuntimeError, HainaError, CheckpointException) as error:
        remove(temporary)
        cause = _os_error_in(error)
        if cause is not None:
            reason = from_os_error(cause, target).message
        elif isinstance(error, HainaError):
            reason = error.message
        else:
            raise
        kept = list_checkpoints(folder)
        last = f"the last good checkpoint is {kept[-1].name}" if kept else "there is no earlier checkpoint"
        raise HainaError(
            f"checkpoint cannot be written: {reason}; {last}", "free space and run the same command again"
        ) from error
    return target


def verify_checkpoint(path: Path) -> dict[str, Any]:
    """Check a checkpoint byte for byte and return its `state.json`.

    Raises:
        HainaError: it was never committed, or a file is missing, cut short or altered.
    """
    hint = "delete this folder; training goes on from the checkpoint before it"
    for name in (COMMITTED_FILE, STATE_FILE):
        if not (path / name).is_file():
            raise HainaError(f"checkpoint {path}: {name} is missing", hint)
    with os_errors_about(path):
        if (path / COMMITTED_FILE).read_bytes().strip() != fingerprint_file(path / STATE_FILE).encode():
            raise HainaError(f"checkpoint {path}: {STATE_FILE} is damaged", hint)
    state: dict[str, Any] = read_json(path / STATE_FILE)
    for name, expected in state["files"].items():
        file = path / name
        if not file.is_file():
            raise HainaError(f"checkpoint {path}: {name} is missing", hint)
        if file.stat().st_size != expected["bytes"] or fingerprint_file(file) != expected["blake2b"]:
            raise HainaError(f"checkpoint {path}: {name} is damaged", hint)
    return state


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any], list[str]] | None:
    """The newest whole checkpoint, its state, and one message for each damaged one that was passed over.

    Raises:
        HainaError: there are checkpoints, but every one is damaged.
    """
    complaints: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return path, verify_checkpoint(path), complaints
        except HainaError as error:
            complaints.append(error.message)
    if complaints:
        raise HainaError(
            "; ".join(complaints) + "; no checkpoint is whole", f"delete {folder} to train from the beginning"
        )
    return None


def load_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Read a verified checkpoint into `tensors`, in place.

    Raises:
        HainaError: it belongs to another model, or the disk fails.
    """
    _single_process()
    try:
        dcp.load(dict(tensors), checkpoint_id=path, no_dist=True)
    except (CheckpointException, RuntimeError, ValueError) as error:
        cause = _os_error_in(error)
        if cause is not None:
            raise from_os_error(cause, path) from error
        raise HainaError(
            f"checkpoint {path}: does not fit this model",
            "use the configuration it was made with, or delete it",
        ) from error


def prune(
    folder: Path,
    scheduled: Collection[int],
    keep: int,
    *,
    milestones: Collection[int] = (),
    horizon: int = 0,
) -> None:
    """Remove what is no longer needed: unfinished folders, all but the newest `keep` checkpoints of the schedule, and
    checkpoints of an interruption once a later one of the schedule exists. An interrupted run thus ends with the same
    folders as an undisturbed one.

    Args:
        folder: where checkpoints live; nothing may be in the making there.
        scheduled: steps of the schedule.
        keep: how many of them stay.
        milestones: steps whose checkpoints stay for good.
        horizon: one that is so many steps older than the newest stays too, to go back to.
    """
    for path in folder.glob("step-*" + PARTIAL_SUFFIX):
        remove(path)
    steps = [step_of(path) for path in list_checkpoints(folder)]
    regular = [step for step in steps if step in scheduled]
    newest = regular[-1] if regular else -1
    kept = {*regular[-keep:], *(step for step in steps if step in milestones)}
    kept |= set([step for step in regular if step <= newest - horizon][-1:])
    for step in steps:
        if step not in kept and not (step > newest and step not in scheduled):
            remove(checkpoint_path(folder, step))
