"""Claim: training killed (SIGKILL) at random moments, also inside checkpointing, ends with the bytes of a whole run.

A small bilingual run with gradient accumulation, held-out evaluation, asynchronous checkpoints every few steps, a batch
that gives a NaN gradient and several in a row that lead to a rollback. First it runs undisturbed; then it is begun
again and again, its process group killed at random moments a few times, and left to end. Compared are all bytes:
parameters, optimizer and guards (checkpoints), metrics with every loss, quarantine, summary, model folder; and the
checksum of the batch that each step read, in every attempt.

A kill costs the time since the newest checkpoint and a new start. Attempts are forked from a process that has
imported everything, so the seconds lost hold no import; what a fresh process takes is measured beside.
Run: python benchmarks/kill_training.py [--kills 100] [--seed 0] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from haina.runtime.devices import describe_machine
from haina.runtime.files import fingerprint_tree
from haina.runtime.stage import StageContext
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards import LoaderSection, open_loader, write_arrays
from haina.train import TrainConfig, checkpoint, checkpoint_writer, loop, resume, run
from haina.train.step import Stepper

KILLS_A_JOB = 5
POISONED = {9, 20, 21, 22, 23}  # the second group is a rollback
MAIN = ("start", "resume", "step", "evaluation", "copy for a checkpoint", "rollback", "end")
WRITER = ("", "writing", "publishing")
ZH = (
    "海纳百川",
    "有容乃大",
    "学而时习之",
    "白日依山尽",
    "黄河入海流",
    "数据库",
    "图书馆",
    "气象台",
    "，",
    "。",
)
EN = (
    "the sea ",
    "takes in ",
    "a hundred ",
    "rivers, ",
    "to learn ",
    "and to practise ",
    "white sun. ",
    "library ",
)


def make_inputs(folder: Path) -> None:
    """A byte-level tokenizer and shards of made-up Chinese and English documents."""
    rng = random.Random(20261126)
    texts = {
        lang: ["".join(rng.choice(words) for _ in range(rng.randrange(4, 40))) for _ in range(300)]
        for lang, words in (("zh", ZH), ("en", EN))
    }
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for found in texts.values() for text in found], trainer)
    (folder / "tokenizer").mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer/tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps(names))
    opened = TokenizerFile(folder / "tokenizer")
    ids = {lang: [np.array([0, *opened.encode(text), 1]) for text in found] for lang, found in texts.items()}
    splits = {"train": [document for found in ids.values() for document in found[30:]]}
    splits |= {f"validation-{lang}": found[:30] for lang, found in ids.items()}
    facts = {"fingerprint": opened.fingerprint, "vocab_size": opened.vocab_size, "bos_id": 0, "eos_id": 1}
    write_arrays(folder / "shards", splits, facts, np.dtype("<u2"))


SMALL_MODEL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def configuration() -> TrainConfig:
    """Forty steps, a checkpoint every third."""
    return TrainConfig.model_validate(
        {
            "model": SMALL_MODEL,
            "sequence_length": 64,
            "micro_batch_size": 4,
            "gradient_accumulation": 2,
            "steps": 40,
            "warmup_steps": 5,
            "optimizer": "muon",
            "threads": 1,
            "precision": "fp32",
            "device": "cpu",
            "log_every": 1,
            "evaluate_every": 10,
            "validation_tokens": 1000,
            "checkpoint_every": 3,
            "guards": {"patience": 4, "window": 16},
        }
    )


class Marks:
    """A few bytes that the parent reads after the child is dead: what it was doing, and at which step."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(4))
        self.file = path.open("r+b")
        self.bytes = mmap.mmap(self.file.fileno(), 4)

    def reset(self) -> None:
        self.bytes[:] = bytes(4)

    def phase(self) -> str:
        writer = WRITER[self.bytes[1]]
        return MAIN[self.bytes[0]] + (f", checkpoint {writer}" if writer else "")

    @property
    def steps(self) -> tuple[int, int]:
        """Step that the attempt went on from, and the last one it began."""
        return self.bytes[2], self.bytes[3]


def _during(owner: Any, name: str, marks: Marks, place: int, value: int) -> None:
    """Mark calls of `owner.name`."""
    honest: Callable[..., Any] = getattr(owner, name)

    def marked(*arguments: Any, **more: Any) -> Any:
        before = marks.bytes[place]
        marks.bytes[place] = value
        try:
            return honest(*arguments, **more)
        finally:
            marks.bytes[place] = before

    setattr(owner, name, marked)


def instrument(marks: Marks, order: Path) -> None:
    """Hooks of this benchmark: marks, the order of the data, poisoned batches."""
    _during(resume.Checkpoints, "newest", marks, 0, MAIN.index("resume"))
    _during(loop, "evaluate", marks, 0, MAIN.index("evaluation"))
    _during(checkpoint_writer.CheckpointWriter, "_copied", marks, 0, MAIN.index("copy for a checkpoint"))
    _during(loop.Trainer, "_go_back", marks, 0, MAIN.index("rollback"))
    _during(checkpoint_writer, "save_checkpoint", marks, 1, WRITER.index("writing"))
    _during(checkpoint, "publish", marks, 1, WRITER.index("publishing"))
    gradients, train, step = Stepper.gradients, loop.Trainer._train, loop.Trainer._step

    def poisoned(self: Stepper, batch: Any) -> torch.Tensor:
        loss = gradients(self, batch)
        if batch.step in POISONED:
            gradient = next(self.model.parameters()).grad
            assert gradient is not None
            gradient.view(-1)[0] = float("nan")
        return loss

    def begun(self: loop.Trainer, *arguments: Any) -> Any:
        marks.bytes[2] = self.progress.step
        marks.bytes[0] = MAIN.index("step")
        result = train(self, *arguments)
        marks.bytes[0] = MAIN.index("end")
        return result

    def noted(self: loop.Trainer, batch: Any) -> None:
        marks.bytes[3] = self.progress.step + 1
        line = f"{len(self.progress.record.rollbacks)} {self.progress.step + 1} {zlib.crc32(batch.inputs)}\n"
        descriptor = os.open(order, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)
        step(self, batch)

    Stepper.gradients = poisoned  # type: ignore[method-assign]
    loop.Trainer._train = begun  # type: ignore[method-assign]
    loop.Trainer._step = noted  # type: ignore[method-assign]


def attempt(inputs: Path, work: Path) -> None:
    """The stage, in this process."""
    folders = {"tokenizer": inputs / "tokenizer", "shards": inputs / "shards"}
    run(configuration(), StageContext(work=work, inputs=folders, seed=7))


def forked(inputs: Path, work: Path, marks: Marks) -> int:
    """Begin an attempt in a process group of its own; returns its id."""
    marks.reset()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        instrument(marks, work.parent / f"{work.name}.order")
        attempt(inputs, work)
        status = 0
    finally:
        os._exit(status)


def wait(child: int, seconds: float) -> bool:
    """Whether the child ended well within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise SystemExit(f"the run failed with status {status}")
            return True
        time.sleep(0.001)
    return False


def order_of(path: Path) -> dict[tuple[str, str], set[str]]:
    """Checksums of the batches that (rollbacks, step) read, over all attempts."""
    found: dict[tuple[str, str], set[str]] = {}
    for line in path.read_text().splitlines(keepends=True):
        fields = line.split()
        # A kill may have cut the last one off.
        if line.endswith("\n") and len(fields) == 3:
            found.setdefault((fields[0], fields[1]), set()).add(fields[2])
    return found


def fresh_start(inputs: Path, work: Path) -> float:
    """Seconds from nothing to the end of an attempt of a finished run: imports, shards, reading the checkpoint."""
    started = time.monotonic()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import kill_training as k; from pathlib import Path; "
    )
    code += "k.attempt(Path(sys.argv[2]), Path(sys.argv[3]))"
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", code, here, str(inputs), str(work)], check=True)
    return time.monotonic() - started


def measure(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Everything, below `folder`."""
    make_inputs(folder)
    # Kernels are compiled, or read from numba's cache, once and before the clock starts.
    open_loader(folder / "shards", LoaderSection().with_sizes(64, 8, 0)).batch(0)
    marks = Marks(folder / "marks")
    runs = []
    for number in range(3):
        work = folder / f"whole-{number}"
        started = time.monotonic()
        wait(forked(folder, work, marks), 1e9)
        runs.append(time.monotonic() - started)
    whole, seconds = fingerprint_tree(folder / "whole-0/out"), statistics.median(runs)
    order = order_of(folder / "whole-0.order")
    summary = json.loads((folder / "whole-0/out/train/summary.json").read_text())
    chance, phases, jobs = random.Random(seed), Counter[str](), []
    while sum(job["kills"] for job in jobs) < kills:
        work = folder / f"killed-{len(jobs)}"
        job: dict[str, Any] = {"kills": 0, "repeated": []}
        wanted = min(KILLS_A_JOB, kills - sum(item["kills"] for item in jobs))
        started, reached = time.monotonic(), 0
        while True:
            child = forked(folder, work, marks)
            limit = chance.uniform(0.02, 0.9 * seconds) if job["kills"] < wanted else 1e9
            if wait(child, limit):
                break
            os.killpg(child, signal.SIGKILL) if os.getpgid(child) == child else os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            phases[marks.phase()] += 1
            begun, last = marks.steps
            job["repeated"].append(max(0, min(reached, last) - begun))
            reached = max(reached, last)
            job["kills"] += 1
        begun, _ = marks.steps
        job["repeated"].append(max(0, reached - begun))
        job["seconds"] = time.monotonic() - started
        found = order_of(work.parent / f"{work.name}.order")
        job["identical"] = fingerprint_tree(work / "out") == whole
        job["same order"] = found == order
        jobs.append(job)
        print(f"  {sum(item['kills'] for item in jobs)} kills", file=sys.stderr, flush=True)
    killed = sum(job["kills"] for job in jobs)
    return {
        "kills": killed,
        "jobs": len(jobs),
        "identical": sum(job["identical"] for job in jobs),
        "same_order_of_data": sum(job["same order"] for job in jobs),
        "undisturbed_runs_identical": len({fingerprint_tree(folder / f"whole-{n}/out") for n in range(3)})
        == 1,
        "kills_by_phase": dict(sorted(phases.items(), key=lambda item: (-item[1], item[0]))),
        "kills_while_a_checkpoint_was_made": sum(n for name, n in phases.items() if "checkpoint" in name),
        "seconds_of_an_undisturbed_run": round(seconds, 3),
        "seconds_lost_a_kill": round((sum(job["seconds"] for job in jobs) - len(jobs) * seconds) / killed, 3),
        "steps_repeated_a_kill": round(sum(sum(job["repeated"]) for job in jobs) / killed, 2),
        "seconds_of_a_fresh_start": round(fresh_start(folder, folder / "whole-0"), 2),
        "guards_in_each_run": {
            name: summary["guards"][name] for name in ("steps_skipped", "batches_quarantined")
        }
        | {"rollbacks": len(summary["guards"]["rollbacks"])},
        "steps": configuration().steps,
        "checkpoint_every": configuration().checkpoint_every,
        "machine": describe_machine(folder).as_dict(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.kills < 1:
        parser.error("--kills: at least 1")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.kills, arguments.seed)
    rows = [
        ("kills (SIGKILL of the process group)", result["kills"]),
        ("runs ended with the bytes of the undisturbed one", f"{result['identical']} of {result['jobs']}"),
        (
            "every step read the same batch in every attempt",
            f"{result['same_order_of_data']} of {result['jobs']}",
        ),
        ("kills while a checkpoint was made", result["kills_while_a_checkpoint_was_made"]),
        *((f"  in: {name}", number) for name, number in result["kills_by_phase"].items()),
        ("undisturbed run, s", result["seconds_of_an_undisturbed_run"]),
        ("lost a kill, s, without imports", result["seconds_lost_a_kill"]),
        ("steps repeated a kill", result["steps_repeated_a_kill"]),
        ("fresh process to the first step, s", result["seconds_of_a_fresh_start"]),
        ("guards in each run", json.dumps(result["guards_in_each_run"])),
    ]
    for name, value in rows:
        print(f"{name:<62} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    if result["identical"] < result["jobs"] or result["same_order_of_data"] < result["jobs"]:
        raise SystemExit("a killed run ended differently")


if __name__ == "__main__":
    main()
