"""Claim: the same bytes from 1, 2 and 8 workers and from Ray, killed at random moments or not; a kill repeats <= 5 %.

The job groups Chinese and English sentences by their opening: map writes documents, exchange sends one record a
sentence to the partition of its key, reduce sorts each partition on disk with little memory and writes groups with
counts and examples. It runs undisturbed with 1, 2 and 8 workers and on Ray; then it is killed (SIGKILL of the whole
process group) at random moments, several times a job, and runs to its end; last, two of three Ray machines are
killed while it runs.

Repeated work: units of work (a unit is a task) that had come to their end and were done again, over all units. What
is in flight when the kill comes is not among them. Run: python benchmarks/executor_kill.py [--kills 100] [--no-ray]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from haina.runtime.executor import Buckets, Executor, executor_from, iter_blocks

PARTS, PARTITIONS, SENTENCES = 60, 60, 400
UNITS = 2 * PARTS + PARTITIONS
SORT_MEMORY = 64 << 10  # far less than a partition: every reduction spills and merges
KILLS_A_JOB = 4
RECORD = np.dtype([("key", "<u8"), ("content", "<u8"), ("document", "<u4"), ("place", "<u4")])

ZH = (
    ("我们", "这座城市", "研究小组", "图书馆", "一位老工程师", "数据库", "气象台", "新的版本"),
    ("昨天重新整理了", "每天都会检查", "正在学习怎样处理", "终于找到了", "负责保存", "不应该删除"),
    ("古代诗歌的手稿", "很长的中文文档", "城市交通的地图", "历史上的天气记录", "工程项目的预算"),
    ("，所以大家都很满意。", "，但是问题还没有解决。", "；如果出现错误，请查看日志。", "。"),
)
EN = (
    ("The city", "Our program", "A research group", "The library", "An old engineer", "The database"),
    (
        " has arranged ",
        " checks every day ",
        " is learning to handle ",
        " finally found ",
        " must never delete ",
    ),
    ("the manuscripts of old poems", "long documents", "maps of the traffic", "records of the weather"),
    (", so that everyone is content.", ", but the problem is not solved.", "; look at the log.", "."),
)


def _log(folder: str, unit: str, event: str) -> None:
    descriptor = os.open(Path(folder) / "units.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{event} {unit}\n".encode())
    os.close(descriptor)


def write_sentences(item: tuple[str, int], output: Path) -> None:
    """Task: sentences of a seed, half of them Chinese, one a line."""
    folder, seed = item
    _log(folder, f"map-{seed}", "start")
    rng = random.Random(seed)
    lines = []
    for number in range(SENTENCES):
        parts = ZH if number % 2 else EN
        lines.append("".join(rng.choice(part) for part in parts) + f" {rng.randrange(1000)}\n")
    output.write_text("".join(lines), encoding="utf-8")
    _log(folder, f"map-{seed}", "end")


def send_records(item: tuple[str, Path, int], buckets: Buckets) -> None:
    """Task: a record of each sentence to the partition of its opening."""
    folder, source, document = item
    _log(folder, f"exchange-{document}", "start")
    for place, line in enumerate(source.read_text(encoding="utf-8").splitlines()):
        key = zlib.crc32(line[:6].encode())
        content = int.from_bytes(hashlib.blake2b(line.encode(), digest_size=8).digest(), "little")
        buckets.add(key % buckets.partitions, np.array([(key, content, document, place)], RECORD))
    _log(folder, f"exchange-{document}", "end")


def group_records(item: tuple[int, tuple[Path, ...], str], output: Path) -> None:
    """Task: the groups of a partition: key, sentences, different sentences, the first five places."""
    from haina.runtime.executor.external_sort import sort_records

    partition, files, folder = item
    _log(folder, f"reduce-{partition}", "start")
    groups: dict[int, list[Any]] = {}
    last = None
    blocks = iter_blocks(files, partition)
    for block in sort_records(blocks, RECORD, ["key", "content"], folder=output.parent, memory=SORT_MEMORY):
        for key, content, document, place in block.tolist():
            group = groups.setdefault(key, [0, 0, []])
            group[0] += 1
            group[1] += (key, content) != last
            if len(group[2]) < 5:
                group[2].append((document, place))
            last = (key, content)
    output.write_text("".join(f"{key}\t{group}\n" for key, group in groups.items()), encoding="utf-8")
    _log(folder, f"reduce-{partition}", "end")


def run(executor: Executor, folder: Path) -> None:
    """The whole job below `folder`."""
    files, name = folder / "files", str(folder)
    texts = [files / "texts" / f"{number:03d}.txt" for number in range(PARTS)]
    records = [files / "records" / f"{number:03d}.x" for number in range(PARTS)]
    groups = [files / "groups" / f"{number:03d}.tsv" for number in range(PARTITIONS)]
    executor.map(write_sentences, [(name, number) for number in range(PARTS)], texts, description="map")
    items = [(name, path, number) for number, path in enumerate(texts)]
    executor.exchange(send_records, items, records, partitions=PARTITIONS, description="exchange")
    executor.reduce(group_records, records, groups, description="reduce", argument=name)


def job(folder: str, kind: str, workers: str) -> None:
    """The job in a process of its own."""
    place = Path(folder)
    local = kind == "local"
    with executor_from("local" if local else "ray", int(workers), None, None, place / "state") as executor:
        print("begin", flush=True)
        run(executor, place)


def _start(folder: Path, kind: str, workers: int) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import executor_kill; executor_kill.job(*sys.argv[2:])"
    )
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", code, here, str(folder), kind, str(workers)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "begin\n":
        raise SystemExit("the job did not begin")
    return process


def _finish(process: subprocess.Popen[str]) -> None:
    process.communicate()
    if process.returncode:
        raise SystemExit("the job failed")


def _digest(folder: Path) -> str:
    """Names and contents of everything below `files/`; what a kill left over would show."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted((folder / "files").rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _repeated(folder: Path) -> int:
    lines = (folder / "units.log").read_text().split("\n")
    ends = [line for line in lines if line.startswith("end ")]
    return len(ends) - len(set(ends))


def _recorded_twice(folder: Path) -> int:
    """Outputs that were made again although the manifest had them."""
    lines = (folder / "state" / "manifest.jsonl").read_text().splitlines()
    return len(lines) - len({json.loads(line)["output"] for line in lines})


def _events(log: Path) -> int:
    """Starts and ends of units so far."""
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _undisturbed(root: Path, kind: str, workers: int) -> tuple[str, float]:
    folder = root / f"{kind}-{workers}"
    process = _start(folder, kind, workers)
    begin = time.perf_counter()
    _finish(process)
    return _digest(folder), time.perf_counter() - begin


def _killed(root: Path, workers: int, kills: int, expected: str) -> None:
    rng = random.Random(kills)
    done, jobs, same, repeated, recorded = 0, 0, 0, 0, 0
    where: dict[str, int] = {}
    while done < kills:
        folder = root / f"killed-{jobs}"
        for _ in range(min(KILLS_A_JOB, kills - done)):
            process = _start(folder, "local", workers)
            log = folder / "units.log"
            # Moments are drawn over the course of the work, so that every primitive gets its share on any machine.
            until = _events(log) + rng.random() * 4 * UNITS / (KILLS_A_JOB + 1)
            while process.poll() is None and _events(log) < until:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.02)
            if process.poll() is not None:
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            last = log.read_text().split(" ")[-1].split("-")[0] if log.exists() else "start"
            where[last] = where.get(last, 0) + 1
            done += 1
        _finish(_start(folder, "local", workers))
        jobs += 1
        same += _digest(folder) == expected
        repeated += _repeated(folder)
        recorded += _recorded_twice(folder)
    print(
        f"{done} kills of {jobs} jobs of {UNITS} units, in {where}: {same} of {jobs} jobs gave the same bytes; "
        f"finished work done again: {repeated} units, {repeated / done:.2f} a kill = "
        f"{100 * repeated / done / UNITS:.2f} % of a job a kill, {100 * repeated / (jobs * UNITS):.2f} % of all work "
        f"at {done / jobs:.1f} kills a job (target <= 5 %); "
        f"{recorded} of them were in the manifest",
        flush=True,
    )


def _lost_machines(root: Path, expected: str) -> None:
    from ray.cluster_utils import Cluster

    folder = root / "machines"
    folder.mkdir()
    machine = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**machine, "include_dashboard": False})
    others = [cluster.add_node(**machine) for _ in range(2)]
    log, seen = folder / "units.log", []

    def kill() -> None:
        for node, unit in zip(others, ("exchange", "reduce"), strict=True):
            while not log.exists() or log.read_text().count(f"end {unit}") < PARTS // 4:
                time.sleep(0.02)
            cluster.remove_node(node, allow_graceful=False)
            seen.append(unit)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    begin = time.perf_counter()
    # Ray tells at length what its lost machines last wrote.
    with Path(os.devnull).open("w") as null, redirect_stdout(null), redirect_stderr(null):
        with executor_from("ray", None, cluster.address, None, folder / "state") as executor:
            run(executor, folder)
        seconds = time.perf_counter() - begin
        thread.join(30)
        cluster.shutdown()
    print(
        f"three Ray machines, one killed in {' and one in '.join(seen)}: "
        f"{'the same bytes' if _digest(folder) == expected else 'OTHER BYTES'} after {seconds:.1f} s; "
        f"finished work done again: {_repeated(folder)} of {UNITS} units"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2, help="of the jobs that are killed")
    parser.add_argument("--no-ray", action="store_true")
    options = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    # Ray's workers import the tasks by the module's name.
    sys.path.insert(0, str(Path(__file__).parent))
    import executor_kill

    with tempfile.TemporaryDirectory(prefix="executor-kill-") as name:
        root = Path(name)
        runs = [("local", 1), ("local", 2), ("local", 8)] + [("ray", 2)] * (not options.no_ray)
        results = {run: executor_kill._undisturbed(root, *run) for run in runs}
        expected = results["local", 1][0]
        for (kind, workers), (digest, seconds) in results.items():
            verdict = "the same bytes" if digest == expected else "OTHER BYTES"
            print(f"{kind}, {workers} workers: {seconds:.1f} s, {digest}, {verdict}", flush=True)
        executor_kill._killed(root, options.workers, options.kills, expected)
        if not options.no_ray:
            executor_kill._lost_machines(root, expected)


if __name__ == "__main__":
    main()
