"""Ranks that are asked at once: what they answer, where they are pinned, and what is said when one ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from loopos.bench import team
from loopos.bench.process import LORA, PeerError
from loopos.bench.settings import TINY
from loopos.bench.team import Team

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
TWO = [[CORES[0]], [CORES[-1]]]
TINY_SETTING = TINY["tiny"].to_dict()


def test_one_rank_is_a_process_like_any_other():
    with Team("loopos", 1, 1, [CORES[:1]]) as one:
        assert one.engine.startswith("loopos ")
        (built,) = one.ask("prepare", setting=TINY_SETTING, seed=0)
        assert built["parameters"] == built["trained"] == TINY["tiny"].config.num_parameters()
        assert len(one.seconds("steps", count=3)) == 3
        assert one.peak_rss() >= one.rss > 1 << 20
        (process,) = one._processes
        assert os.sched_getaffinity(process.pid) == {CORES[0]}
    assert process.returncode == 0


def test_steps_can_be_cut_into_passes():
    with Team("loopos", 1, 1, [CORES[:1]]) as one:
        one.ask("prepare", setting=TINY_SETTING, seed=0)
        one.ask("cut", rows=1, passes=2)
        assert len(one.seconds("steps", count=2)) == 2
        one.ask("cut", rows=4, passes=1)  # more than a batch has: of several
        assert len(one.seconds("steps", count=5)) == 5


def test_an_adapter_is_what_is_trained():
    with Team("loopos", 1, 1, [CORES[:1]]) as one:
        (built,) = one.ask("prepare", setting=TINY_SETTING, seed=0, adapter=LORA)
        assert 0 < built["trained"] < built["parameters"]
        one.ask("steps", count=1)


def test_a_rank_that_fails_says_why_and_lives_on():
    with Team("loopos", 1, 1, [CORES[:1]]) as one:
        with pytest.raises(PeerError, match="no attribute 'dance'"):
            one.ask("dance")
        assert one.peak_rss() > 0


def test_a_rank_that_ends_is_told(monkeypatch):
    with Team("loopos", 1, 1, [CORES[:1]]) as one:
        os.kill(one._processes[0].pid, signal.SIGKILL)
        with pytest.raises(PeerError, match="a rank ended without a word"):
            one.ask("memory")
    monkeypatch.setitem(team.RANK_PEERS, "gone", team.RankPeer("no_such_program", (), False))
    with pytest.raises(PeerError, match=r"a rank ended: .*no_such_program"):
        Team("gone", 2, 1, TWO)


def test_a_rank_that_never_comes_is_told(monkeypatch):
    monkeypatch.setattr(team, "START", 0.0)
    monkeypatch.setattr(team, "mpiexec", lambda: None)
    with pytest.raises(PeerError, match="1 ranks did not start in 0 s"):
        Team("loopos", 1, 1, [CORES[:1]])


def test_what_is_not_installed_is_named(without, monkeypatch):
    without("mpi4py", "torch")
    with pytest.raises(PeerError, match="mpi4py is not installed"):
        Team("loopos", 2, 1, TWO)
    with pytest.raises(PeerError, match="torch is not installed"):
        Team("torch-ddp", 1, 1, TWO)


def test_without_mpiexec(monkeypatch):
    pytest.importorskip("mpi4py")
    monkeypatch.setattr(team, "mpiexec", lambda: None)
    with pytest.raises(PeerError, match="mpiexec is not installed"):
        Team("loopos", 2, 1, TWO)


def test_two_ranks_of_mpi_answer_in_their_order():
    pytest.importorskip("mpi4py")
    with Team("mpi", 2, 1, TWO) as two:
        assert "MPI" in two.engine
        assert [len(reply["seconds"]) for reply in two.ask("messages", size=8, count=3)] == [3, 3]
        assert len(two.seconds("sums", size=64, count=2)) == 2


@pytest.mark.reference
def test_ddp_has_the_losses_of_one_process():
    pytest.importorskip("torch")
    losses = {}
    for ranks, threads, cores in ((1, 1, [CORES[:1]]), (2, 1, TWO)):
        with Team("torch-ddp", ranks, threads, cores) as several:
            several.ask("prepare", setting=TINY_SETTING, seed=0)
            losses[ranks] = np.mean([reply["losses"] for reply in several.ask("steps", count=4)], axis=0)
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-5)


def test_nothing_is_left_in_the_temporary_folder():
    with Team("loopos", 1, 1, [CORES[:1]]) as one:
        folder = Path(one._folder.name)
        assert folder.exists()
    assert not folder.exists()
