"""loopos bench ranks: who takes part, what a run holds, and what is refused before it begins."""

from __future__ import annotations

import json
import os

import pytest

from loopos.bench import namespaces, network, projection, ranks, suites, tables
from loopos.bench.ranks import Entrant
from loopos.cli import main

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
TWO_CORES = pytest.mark.skipif(CORES < 2, reason="each rank has a core of its own, and there is one")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(network, "SIZES", (8, 1 << 16))
    monkeypatch.setattr(network, "COUNT", 1)
    monkeypatch.setattr(network, "SMALL_COUNT", 1)
    monkeypatch.setattr(ranks, "POINTS_STEPS", 1)
    monkeypatch.setattr(ranks, "TURN", 0.001)


@pytest.fixture
def no_hosts(monkeypatch):
    monkeypatch.setattr(namespaces, "why_not", lambda: "not asked for")


def test_one_process_with_all_threads_and_ranks_with_one_each():
    assert ranks.entrants(["loopos", "loopos-fast", "loopos-wire", "loopos-zero", "torch-ddp"], 4) == [
        Entrant("loopos", 1, 4),
        Entrant("torch-ddp", 1, 4),
        Entrant("loopos", 4, 1),
        Entrant("loopos-fast", 4, 1),
        Entrant("loopos-wire", 4, 1),
        Entrant("loopos-zero", 4, 1),
        Entrant("torch-ddp", 4, 1),
    ]


def test_cores_of_ranks_and_of_one_process():
    assert ranks._cores(Entrant("loopos", 2, 1), [3, 5]) == [[3], [5]]
    assert ranks._cores(Entrant("loopos", 1, 2), [3, 5]) == [[3, 5]]


@TWO_CORES
def test_a_run(no_hosts, without):
    pytest.importorskip("mpi4py")
    without("torch")
    how = {
        "setting": "tiny",
        "peers": "loopos,loopos-fast,loopos-wire,loopos-zero",
        "threads": 2,
        "rounds": 1,
        "steps": 2,
    }
    result = suites.run("ranks", **how)
    assert json.loads(json.dumps(result)) == result
    (each,) = result["settings"]
    assert each["absent"] == []
    assert [(peer["peer"], peer["ranks"], peer["threads"]) for peer in each["peers"]] == [
        ("loopos", 1, 2),
        ("loopos", 2, 1),
        ("loopos-fast", 2, 1),
        ("loopos-wire", 2, 1),
        ("loopos-zero", 2, 1),
    ]
    one, two, fast, _, zero = each["peers"]
    assert "communication" in zero
    assert {checked.reduction for checked in projection.checks(result)} == set(projection.NAMES.values())
    assert one["losses"][0] == pytest.approx(two["losses"][0])  # they train the same model on the same batch
    assert two["losses"][0] == two["losses"][1]
    assert "communication" in two
    assert "communication" in fast
    assert "communication" not in one
    assert two["peak_rss"] > one["peak_rss"]
    assert each["rows"] == 1
    assert [point[:2] for point in each["compute"]["rank"]["points"]] == [[1, 1], [1, 2], [2, 1]]
    assert result["slow"] == {"absent": "no network namespaces here: not asked for"}
    assert "tiny" in tables.render(result)


@TWO_CORES
def test_over_a_slow_link(without, monkeypatch):
    pytest.importorskip("mpi4py")
    without("torch")
    if reason := namespaces.why_not():
        pytest.skip(f"no network namespaces here: {reason}")
    monkeypatch.setattr(network, "SIZES", (8, 1 << 22))  # more than passes at once
    how = {"setting": "tiny-lora", "peers": "loopos", "threads": 2, "rounds": 1, "steps": 2}
    result = suites.run("ranks", **how)
    (peer,) = result["slow"]["settings"][0]["peers"]
    assert peer["seconds"]["median"] > 0
    assert result["network"]["slow"]["link"]["bandwidth"] < 0.13e9  # 1 Gbit/s, and nothing goes around it
    assert {each.link for each in projection.checks(result)} == {"memory", "1 Gbit/s"}


@TWO_CORES
def test_what_is_not_installed_is_absent(without, no_hosts):
    without("mpi4py", "torch")
    result = suites.run("ranks", setting="tiny", threads=2, rounds=1, steps=1)
    (each,) = result["settings"]
    assert [(one["peer"], one["ranks"]) for one in each["peers"]] == [("loopos", 1)]
    reasons = {(one["peer"], one["ranks"]): one["reason"] for one in each["absent"]}
    assert reasons[("loopos", 2)] == reasons[("loopos-fast", 2)] == "mpi4py is not installed"
    assert reasons[("torch-ddp", 1)] == "torch is not installed"
    assert "absent: loopos, 2 x 1 (mpi4py is not installed)" in tables.render(result)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"threads": 1}, "threads of at least 2"),
        ({"threads": 1000}, f"threads must be at most {CORES} here"),
        ({"setting": "llama"}, "out of nano, baby, wide, gpt2, lora"),
        ({"peers": "jax"}, "out of loopos, loopos-fast, loopos-wire, loopos-zero, torch-ddp"),
    ],
)
def test_refused_before_anything_runs(arguments, says):
    with pytest.raises(ValueError, match=says):
        suites.run("ranks", **{"setting": "tiny"} | arguments)


@TWO_CORES
def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch):
    monkeypatch.setitem(ranks.TINY_HERE, "tiny", ranks.TINY_HERE["tiny"].resized("tiny", batch=3))
    with pytest.raises(ValueError, match="tiny has 3 sequences, which 2 ranks cannot share evenly"):
        suites.run("ranks", setting="tiny", threads=2)


def test_the_command_knows_it(capsys):
    assert main(["bench", "ranks", "--threads", "1"]) == 2
    assert "threads of at least 2" in capsys.readouterr().err
