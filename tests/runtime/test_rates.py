"""Measured rates: medians, counts of operations, types that torch lacks."""

from __future__ import annotations

import pytest

from haina.runtime import rates
from haina.runtime.devices import describe_machine
from haina.runtime.errors import HainaError


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matmul_rates(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setitem(rates.MATMUL_SIZE, "cpu", 64)
    rate = rates.measure_matmul(dtype, seconds=0.01)
    assert 0 < rate.low <= rate.median <= rate.high
    assert rate.runs == rates.REPEATS


def test_matmul_rate_counts_two_operations_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_timed_rate", lambda once, amount, seconds: amount)
    monkeypatch.setitem(rates.MATMUL_SIZE, "cpu", 32)
    assert rates.measure_matmul("float32") == 2 * 32**3


def test_memory_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MEMORY_BLOCK", 1 << 20)
    found = rates.measure_memory(seconds=0.01)
    assert set(found) == {"read", "copy"}
    assert all(0 < rate.low <= rate.median <= rate.high for rate in found.values())


def test_timed_rate_is_the_median_of_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two readings for the single call, then two a run: runs take 1, 2, 4, 5 and 10 seconds of one call each.
    times = iter([0.0, 1.0, *(edge for length in (1, 10, 4, 2, 5) for edge in (0.0, float(length)))])
    monkeypatch.setattr(rates.time, "perf_counter", lambda: next(times))
    rate = rates._timed_rate(lambda: None, 20.0, seconds=0.1)
    assert (rate.median, rate.low, rate.high) == (5.0, 2.0, 20.0)


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(HainaError, match="float8: unknown"):
        rates.measure_matmul("float8")


def test_a_product_that_torch_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def absent(*_: object) -> None:
        raise NotImplementedError("'_int_mm' not implemented\nsecond line")

    monkeypatch.setattr(torch, "_int_mm", absent)
    monkeypatch.setitem(rates.MATMUL_SIZE, "cpu", 32)
    with pytest.raises(HainaError, match=r"int8 on cpu: not available") as caught:
        rates.measure_matmul("int8", seconds=0.01)
    assert "\n" not in str(caught.value)


def test_all_rates_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rates.MATMUL_SIZE, "cpu", 64)
    monkeypatch.setattr(rates, "MEMORY_BLOCK", 1 << 20)
    found = rates.measure_rates(describe_machine(), seconds=0.01)
    names = [rate.name for rate in found if rate.device == "cpu"]
    assert names[:2] == ["matmul float32", "matmul bfloat16"]
    assert names[-2:] == ["memory read", "memory copy"]
    assert all(0 < rate.low <= rate.median <= rate.high and rate.unit in ("FLOP/s", "B/s") for rate in found)
