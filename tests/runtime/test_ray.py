"""The same job on Ray: the same bytes as here, a lost worker and a lost machine included."""

from __future__ import annotations

import builtins
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime import executor_tasks as tasks

from haina.runtime.errors import HainaError
from haina.runtime.executor import LocalExecutor, executor_from
from haina.runtime.executor.ray_backend import RayExecutor

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's workers take over the search path; nothing is sent anywhere."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@pytest.fixture(scope="module")
def small_cluster() -> Iterator[Any]:
    """Two cores and little memory, on this machine."""
    ray = pytest.importorskip("ray")
    import os
    import sys

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    sys.path.insert(0, str(ROOT))
    ray.init(num_cpus=2, object_store_memory=80 << 20, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()
    sys.path.remove(str(ROOT))


def test_ray_gives_the_same_bytes_and_survives_a_lost_worker(tmp_path: Path, small_cluster: Any) -> None:
    local, remote = tmp_path / "local", tmp_path / "remote"
    local.mkdir()
    remote.mkdir()
    expected = tasks.run_job(LocalExecutor(1), local, 6, 3, 60)
    executor = RayExecutor(workers=2, state=remote / "state")
    assert tasks.run_job(executor, remote, 6, 3, 60) == expected
    (remote / "files" / "exchange" / "2.x").write_bytes(b"cut")
    executor = RayExecutor(workers=2, state=remote / "state")
    assert tasks.run_job(executor, remote, 6, 3, 60) == expected
    assert tasks.repeated(remote) == (1, 6 + 6 + 3)
    words = ["甲", "!乙", "丙"]
    outputs = [tmp_path / f"out-{number}" for number in range(3)]
    executor.map(tasks.die_once, [(str(tmp_path), word) for word in words], outputs, description="water")
    assert [path.read_text(encoding="utf-8") for path in outputs] == words
    with pytest.raises(HainaError, match="sea: too salty"):
        executor.map(tasks.fail_on_sea, ["a", "sea"], [tmp_path / "a", tmp_path / "b"], description="x")
    items, outputs = [["海"], ["江", "河", "毒", "泊"]], [tmp_path / "c", tmp_path / "d"]
    executor.map(tasks.too_large, items, outputs, description="water", recovery=tasks.RECOVERY)
    assert outputs[1].read_text(encoding="utf-8").startswith("江\n河\n[毒: ")
    assert [Path(item.output).name for item in executor.quarantined] == ["d"]


@pytest.mark.slow
def test_a_machine_that_is_lost_costs_its_tasks_only(tmp_path: Path) -> None:
    """Three raylets; one is killed in the middle of the exchange and another in the middle of the reduction."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    ray.shutdown()
    local, remote = tmp_path / "local", tmp_path / "remote"
    local.mkdir()
    remote.mkdir()
    expected = tasks.run_job(LocalExecutor(1), local, 40, 20, 3_000)
    machine = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**machine, "include_dashboard": False})
    lost = [cluster.add_node(**machine) for _ in range(2)]
    killed = []

    def kill() -> None:
        for node, unit in zip(lost, ("spread", "reduce"), strict=True):
            while (
                not (remote / "units.log").exists()
                or (remote / "units.log").read_text().count(f"end {unit}") < 3
            ):
                time.sleep(0.05)
            cluster.remove_node(node, allow_graceful=False)
            killed.append((remote / "units.log").read_text().count("end "))

    try:
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        with RayExecutor(cluster.address, state=remote / "state") as executor:
            assert tasks.run_job(executor, remote, 40, 20, 3_000) == expected
        thread.join(10)
        assert len(killed) == 2
        assert killed[0] < 80 < killed[1] < 100
        again, units = tasks.repeated(remote)
        assert units == 100
        assert again <= 5
        assert not list(remote.rglob("*.partial"))
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_without_ray_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return load(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(HainaError, match=r"ray is not installed; pip install 'haina\[ray\]'"):
        executor_from("ray")


def test_the_command_line_chooses(tmp_path: Path) -> None:
    local = executor_from("local", 3, state=tmp_path)
    assert isinstance(local, LocalExecutor)
    assert (local.workers, local.state) == (3, tmp_path)
    with pytest.raises(HainaError, match="add --executor ray"):
        executor_from("local", 1, "auto")
    with pytest.raises(HainaError, match="spark: no such executor"):
        executor_from("spark")  # type: ignore[arg-type]
