"""Measurements of a moment: these tests ask what comes out, never how long it took."""

from __future__ import annotations

import pytest

from loopos.bench import generation, machine, ops, precisions, process, scaling, steps


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(machine, "SECONDS", 0.001)
    monkeypatch.setattr(machine, "SMALLEST", 1 << 16)
    monkeypatch.setattr(machine, "cache_bytes", lambda: 0)
    monkeypatch.setattr(process, "SETTLE", 0.0)
    monkeypatch.setattr(steps, "SETTLE", 0.0)
    monkeypatch.setattr(steps, "TURN", 0.001)
    monkeypatch.setattr(ops, "TURN", 0.0001)
    monkeypatch.setattr(scaling, "LENGTHS", (4, 8))
    monkeypatch.setattr(scaling, "LENGTH_TOKENS", 16)
    monkeypatch.setattr(scaling, "WIDTHS", (8, 16))
    monkeypatch.setattr(generation, "CONTEXT", 24)
    monkeypatch.setattr(precisions, "computed", lambda precision: "fma")  # the same engines on every machine
    monkeypatch.setattr(precisions, "why_not", lambda: "this processor has no AMX tiles")


@pytest.fixture
def without(monkeypatch):
    """without("torch", ...): these packages are not installed, as far as the benchmarks can see."""
    find = process.importlib.util.find_spec

    def hide(*names):
        monkeypatch.setattr(process.importlib.util, "find_spec", lambda name: None if name in names else find(name))

    return hide
