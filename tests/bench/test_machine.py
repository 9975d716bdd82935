"""The limits of the machine: positive numbers, and refusals of what cannot be measured."""

from __future__ import annotations

import json

import pytest

from loopos import _core
from loopos.bench import machine


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_rates_are_positive(threads, thread_count):
    thread_count(threads)
    assert _core.machine.multiply_add_rate(0.002) > 1e6
    assert _core.machine.memory_rate(100_003, 0.002) > 1e6  # no multiple of any vector or block
    assert _core.machine.memory_rate(1, 1e-9) > 0


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 61])
def test_a_length_that_is_none_is_refused(seconds):
    with pytest.raises(ValueError, match=r"multiply_add_rate: seconds must be above 0 and at most 60, got"):
        _core.machine.multiply_add_rate(seconds)
    with pytest.raises(ValueError, match="memory_rate: seconds must be"):
        _core.machine.memory_rate(10, seconds)


def test_arrays_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="memory_rate: numbers must be at least 1, got 0"):
        _core.machine.memory_rate(0, 0.1)
    with pytest.raises(MemoryError, match="three arrays needs"):
        _core.machine.memory_rate(2**61, 0.1)
    with pytest.raises(TypeError, match="numbers must be an integer"):
        _core.machine.memory_rate(1.5, 0.1)
    with pytest.raises(TypeError, match="seconds must be a float"):
        _core.machine.multiply_add_rate("1")


def test_limits_are_medians_of_what_was_measured(monkeypatch, thread_count):
    rates = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(_core.machine, "multiply_add_rate", lambda seconds: next(rates))
    limits = machine.Limits(2)
    for _ in range(3):
        limits.measure()
    result = limits.result()
    assert _core.get_num_threads() == 2
    assert result["flops_per_second"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert 0 < result["bytes_per_second"]["min"] <= result["bytes_per_second"]["max"]
    assert result["array_bytes"] == 1 << 16


def test_the_machine_is_described():
    about = machine.describe()
    assert about["cores"] >= 1
    assert about["isa"] == _core.isa()
    assert json.loads(json.dumps(about)) == about


def test_time_that_a_hypervisor_gave_to_others_is_told(monkeypatch, thread_count):
    line = "cpu  10 20 30 400 5 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
    assert machine.processor_times(line) == (10 + 20 + 30 + 6 + 7 + 8, 8)  # neither idle nor waiting for a disk
    assert machine.processor_times("") is None
    assert machine.processor_times("cpu  1 2 3 4\n") is None
    times = iter([(1000, 100), (1400, 200)])
    monkeypatch.setattr(machine, "processor_times", lambda: next(times))
    limits = machine.Limits(1)
    limits.measure()
    assert limits.result()["stolen"] == 0.25
    monkeypatch.setattr(machine, "processor_times", lambda: None)
    limits = machine.Limits(1)
    limits.measure()
    assert limits.result()["stolen"] is None
