"""Messages and sums between two ranks: each size has its time, and what is missing is named."""

from __future__ import annotations

import os

import pytest

from loopos.bench import network

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(network, "SIZES", (8, 1 << 16, 1 << 18))
    monkeypatch.setattr(network, "COUNT", 1)
    monkeypatch.setattr(network, "SMALL_COUNT", 2)


def test_messages_and_sums_of_mpi(without):
    pytest.importorskip("mpi4py")
    without("torch")
    found = network.measure([[CORES[0]], [CORES[-1]]])
    assert [size for size, _ in found["mpi"]["messages"]] == [8, 1 << 16, 1 << 18]
    assert all(seconds > 0 for _, seconds in found["mpi"]["sums"])
    assert found["adding"] > 0
    assert found["link"]["latency"] == found["mpi"]["messages"][0][1]
    assert found["absent"] == [{"peer": "gloo", "reason": "torch is not installed"}]


@pytest.mark.reference
def test_sums_of_gloo(without):
    pytest.importorskip("torch")
    without("mpi4py")
    found = network.measure([[CORES[0]], [CORES[-1]]])
    assert [size for size, _ in found["gloo"]["sums"]] == [8, 1 << 16, 1 << 18]
    assert found["absent"] == [{"peer": "mpi", "reason": "mpi4py is not installed"}]


def test_without_mpi_there_is_no_link(without):
    without("mpi4py", "torch")
    found = network.measure([[CORES[0]], [CORES[-1]]])
    assert found["link"] is None
    assert [each["peer"] for each in found["absent"]] == ["mpi", "gloo"]


def test_small_messages_are_repeated_more_often():
    assert (network.counted(8), network.counted(1 << 20)) == (2, 1)
