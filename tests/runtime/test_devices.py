"""What the machine is: parsing, limits, measured rates, checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime import devices
from haina.runtime.devices import Gpu, Machine, describe_machine, diagnose, parse_cpuinfo

SAPPHIRE = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8480+
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse2 fma avx avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8

processor\t: 1
physical id\t: 0
core id\t\t: 0

processor\t: 2
physical id\t: 1
core id\t\t: 0
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd sve bf16 i8mm\nCPU implementer\t: 0x41\n"
SMALL = Machine(
    cpu="old",
    physical_cores=1,
    logical_cores=1,
    memory_total=2 << 30,
    memory_available=1 << 30,
    instruction_sets=(),
    gpus=(),
    os="",
    python="CPython 3.11",
    torch="2.13.0",
    disk_free=1 << 30,
    packages={},
)


def test_cpuinfo_of_two_sockets() -> None:
    model, sets, cores = parse_cpuinfo(SAPPHIRE)
    assert model == "Intel(R) Xeon(R) Platinum 8480+"
    assert sets == ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx")
    assert cores == 2


def test_cpuinfo_of_arm() -> None:
    assert parse_cpuinfo(ARM) == ("", ("neon", "sve", "arm_bf16", "arm_i8mm"), 0)


def test_flags_are_whole_words() -> None:
    assert parse_cpuinfo("flags : xavx2 fma4 avx512fx")[1] == ()


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_cpuinfo_is_read(text: str) -> None:
    model, sets, cores = parse_cpuinfo(text)
    assert set(sets) <= set(devices.INSTRUCTION_SETS)
    assert cores >= 0
    assert model == model.strip()


def files(monkeypatch: pytest.MonkeyPatch, texts: dict[str, str]) -> None:
    monkeypatch.setattr(devices, "_read", lambda path: texts.get(path, ""))


def test_the_tightest_control_group_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    group = {
        "/proc/self/cgroup": "0::/outer/inner\n",
        "/sys/fs/cgroup/outer/inner/memory.max": "max\n",
        "/sys/fs/cgroup/outer/memory.max": "3221225472\n",
        "/sys/fs/cgroup/memory.max": "8589934592\n",
        "/sys/fs/cgroup/outer/inner/cpu.max": "max 100000\n",
        "/sys/fs/cgroup/outer/cpu.max": "50000 100000\n",
    }
    files(monkeypatch, group)
    assert devices.memory_limit() == 3 << 30
    assert devices.cpu_quota() == 0.5
    assert devices.logical_cores() == 1
    assert devices.physical_cores() == 1


def test_control_groups_of_version_one(monkeypatch: pytest.MonkeyPatch) -> None:
    group = {
        "/proc/self/cgroup": "4:memory:/docker/abc\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    files(monkeypatch, group)
    assert devices.memory_limit() == 2 << 30
    assert devices.cpu_quota() == 1.5


@pytest.mark.parametrize("unlimited", ["", "max", "-1", "9223372036854771712", "0", "二"])
def test_no_limit(monkeypatch: pytest.MonkeyPatch, unlimited: str) -> None:
    names = ("memory.max", "memory/memory.limit_in_bytes", "cpu.max", "cpu/cpu.cfs_quota_us")
    files(monkeypatch, {f"/sys/fs/cgroup/{name}": unlimited for name in names})
    assert devices.memory_limit() is None
    assert devices.cpu_quota() is None


def test_this_machine(tmp_path: Path) -> None:
    machine = describe_machine(tmp_path / "not" / "yet" / "there")
    assert 1 <= machine.physical_cores <= machine.logical_cores
    assert 0 < machine.memory_available <= machine.memory_total
    assert machine.disk_free > 0
    assert machine.cpu
    assert machine.torch.startswith("2.")
    assert machine.packages["haina"] != "absent"
    assert json.loads(json.dumps(machine.as_dict())) == machine.as_dict()


def test_a_small_machine_is_told_what_it_lacks(tmp_path: Path) -> None:
    checks = {check.name: check for check in diagnose(tmp_path, SMALL)}
    verdict = checks["fits quickstart"]
    assert verdict.ok is False
    assert verdict.value == "not as it is: cores, memory, free disk, instruction sets"
    for name in ("cores", "memory", "free disk", "instruction sets"):
        assert checks[name].ok is False
        assert checks[name].advice


def test_a_large_machine_fits(tmp_path: Path) -> None:
    large = Machine(
        **{
            **SMALL.__dict__,
            "physical_cores": 64,
            "memory_available": 1 << 40,
            "disk_free": 1 << 40,
            "instruction_sets": ("avx2", "avx512_bf16"),
            "gpus": (Gpu("NVIDIA H100", 80 << 30, "9.0"),),
        }
    )
    checks = {check.name: check for check in diagnose(tmp_path, large)}
    assert checks["fits quickstart"] == devices.Check("fits quickstart", "yes", True)
    assert checks["GPU"].value == "NVIDIA H100 80 GiB"
    assert checks["bfloat16"].advice == ""


def test_tools_that_are_absent_are_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    checks = {check.name: check for check in diagnose(tmp_path, SMALL)}
    assert checks["C++ compiler"].value == checks["apt-get"].value == "none"
    assert checks["C++ compiler"].ok is None  # not needed: it must not fail the verdict


def test_the_hub_is_never_contacted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("doctor opened a connection")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HF_ENDPOINT", "https://hf-mirror.example")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    hub = next(check for check in diagnose(tmp_path, SMALL) if check.name == "model hub")
    assert hub.value.startswith("https://hf-mirror.example")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub = next(check for check in diagnose(tmp_path, SMALL) if check.name == "model hub")
    assert "switched off" in hub.value
