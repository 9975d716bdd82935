"""Engines in processes of their own: absent, failing and dying ones are named, with the reason."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from loopos.bench import process
from loopos.bench.process import Peer, PeerError, Process, chosen
from loopos.bench.settings import TINY


def test_an_engine_answers_and_ends():
    with Process("loopos", threads=1) as ours:
        assert ours.engine.startswith("loopos ")
        assert ours.ask("prepare", setting=TINY["tiny"].to_dict(), seed=0)["parameters"] > 0
        reply = ours.ask("steps", count=3)
        assert len(reply["seconds"]) == len(reply["losses"]) == 3
        assert ours.ask("memory")["peak_rss"] >= ours.rss > 1 << 20
        running = ours._process
    assert running.returncode == 0


def test_an_engine_that_is_not_installed_is_named(without):
    without("torch")
    with pytest.raises(PeerError, match="torch is not installed"):
        Process("torch", threads=1)


def test_an_engine_that_fails_says_why_and_lives_on():
    with Process("loopos", threads=1) as ours:
        with pytest.raises(PeerError, match="no attribute 'load_everything'"):
            ours.ask("load_everything")
        bad = TINY["tiny"].to_dict()
        bad["config"]["n_head"] = 3
        with pytest.raises(PeerError, match="ValueError: ModelConfig: n_head must divide d_model"):
            ours.ask("prepare", setting=bad, seed=0)
        assert ours.ask("memory")["peak_rss"] > 0


def test_an_engine_that_dies_leaves_its_last_words(monkeypatch):
    monkeypatch.setitem(process.PEERS, "gone", Peer("no_such_program", "loopos"))
    with pytest.raises(PeerError, match=r"ended with exit code 1: .*no_such_program"):
        Process("gone", threads=1)
    ours = Process("loopos", threads=1)
    ours._process.kill()
    with pytest.raises(PeerError, match="ended by signal 9"):
        ours.ask("memory")
    with pytest.raises(PeerError, match="ended by signal 9"):
        ours.ask("memory")
    ours.close()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")
@pytest.mark.unsanitized("a sanitizer brings an allocator of its own")
def test_memory_is_kept_between_calls():
    """Else a call with a large result waits for the system to clear its pages again."""
    with Process("loopos", threads=1, keep_memory=True) as ours:
        ours.ask("operation", name="softmax", backward=False, arrays=[["x", [6000, 4096]]], options={})
        ours.ask("calls", count=3)
        before = page_faults(ours)
        ours.ask("calls", count=5)  # 96 MB each
        assert page_faults(ours) - before < 100


def page_faults(engine: Process) -> int:
    return int(Path(f"/proc/{engine._process.pid}/stat").read_text().rsplit(")", 1)[1].split()[7])


def test_names_of_engines():
    assert chosen(None, ("a", "b")) == ["a", "b"]
    assert chosen("b,a,b", ("a", "b")) == ["b", "a"]
    with pytest.raises(ValueError, match="peers must be names with commas between, out of a, b, got 'c'"):
        chosen("a,c", ("a", "b"))
