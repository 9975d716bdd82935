"""The doctor and the machine: facts are measured here, and what is done with bad ones is tried with planted ones."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.health.doctor import check_machine as machine
from loopos.health.doctor.report import FAIL, OK, WARN


def test_more_threads_than_cores_is_remarkable():
    assert machine.threads(2, (2.0, "affinity")).verdict == OK
    assert machine.threads(2, (1.5, "quota")).verdict == OK
    check = machine.threads(8, (2.0, "the control group's quota"))
    assert check.verdict == WARN
    assert "set_num_threads(2)" in check.advice


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": ""}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_container_is_read(files, cores, tmp_path):
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert machine.cgroup_quota(tmp_path) == cores
    number, why = machine.usable_cores(tmp_path)
    if cores == 0.5:
        assert (number, why) == (0.5, "the control group's quota")


def test_arithmetic_is_whole_here():
    facts = machine.python_arithmetic() | machine.core_arithmetic()
    assert len(facts) == 8
    assert all(facts.values()), facts


def test_a_flushed_denormal_is_seen(monkeypatch):
    monkeypatch.setattr(machine, "TINY", "0.0")  # what 5e-324 is where denormals are flushed
    facts = machine.python_arithmetic()
    check = machine.arithmetic("process", facts, WARN, "leave that library out")
    assert check.verdict == WARN
    assert "5e-324 is not 0" in check.measured


def test_a_core_without_nan_is_seen(monkeypatch):
    monkeypatch.setattr(machine.ops, "matmul", lambda a, b: np.zeros((1, 1), np.float32))
    check = machine.arithmetic("arithmetic", machine.core_arithmetic(), FAIL, "build it without")
    assert check.verdict == FAIL
    for fact in ("an overflow is inf", "inf - inf is NaN", "1e-40 is not 0"):
        assert fact in check.measured


def test_the_build():
    info = {"build_type": "Release"}
    assert machine.build(info, "avx2", ["baseline", "avx2"]).verdict == OK
    assert "LOOPOS_ISA" in machine.build(info, "baseline", ["baseline", "avx2"]).advice
    assert "unoptimised" in machine.build({"build_type": "Debug"}, "avx2", ["baseline", "avx2"]).advice


def test_weights_are_finite_and_alive():
    sound = {"a": np.ones((3, 4), np.float32), "empty": np.zeros((0, 4), np.float32), "bias": np.zeros(4, np.float32)}
    assert machine.weights(sound).verdict == OK
    broken = sound | {"b": np.array([[1, np.inf], [np.nan, 2]], np.float32)}
    check = machine.weights(broken)
    assert check.verdict == FAIL
    assert check.measured.startswith("2 not finite, the first b[0, 1] = inf")
    dying = sound | {"b": np.full(50, 1e-40, np.float32)}
    assert machine.weights(dying).verdict == WARN
    large = {"a": np.full(4, 3e38, np.float32), "b": np.full(4, -3e38, np.float32)}
    assert machine.weights(large).verdict == OK  # their sum is not in float32
