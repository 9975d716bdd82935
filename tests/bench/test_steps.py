"""loopos bench steps: by turns, every figure from what was measured, and absent engines named."""

from __future__ import annotations

import json
import math

import pytest

from loopos import _core
from loopos.bench import steps, suites
from loopos.bench.settings import TINY, step_flops


def test_a_run_of_our_own_engine(thread_count):
    thread_count(1)
    result = suites.run("steps", setting="tiny,tiny-llama", peers="loopos", threads=2, rounds=2, steps=3)
    assert json.loads(json.dumps(result)) == result
    assert (result["suite"], result["format"], result["threads"], result["rounds"]) == ("steps", 1, 2, 2)
    assert _core.get_num_threads() == 1  # put back
    for each, setting in zip(result["settings"], TINY.values(), strict=True):
        assert each["flops"]["total"] == step_flops(setting).total
        assert each["setting"]["tokens"] == 16
        assert (each["absent"], each["ratio"]) == ([], None)
        (peer,) = each["peers"]
        assert (peer["peer"], peer["threads"], peer["steps"]) == ("loopos", 2, 6)
        assert abs(peer["first_loss"] - math.log(17)) < 0.1
        assert 0 < peer["seconds"]["min"] <= peer["seconds"]["median"] <= peer["seconds"]["max"]
        assert peer["tokens_per_second"] == pytest.approx(16 / peer["seconds"]["median"])
        assert peer["flops_per_second"] == pytest.approx(each["flops"]["total"] / peer["seconds"]["median"])
        peak = each["limits"][0]["flops_per_second"]["median"]
        assert peer["fraction_of_peak"] == pytest.approx(peer["flops_per_second"] / peak)
        assert peer["peak_rss"] >= peer["rss_before"]


def test_absent_engines_are_named_with_the_reason(without):
    without("torch", "jax")
    (each,) = suites.run("steps", setting="tiny", rounds=1, steps=1)["settings"]
    assert [peer["peer"] for peer in each["peers"]] == ["loopos"]
    assert {(lost["peer"], lost["reason"]) for lost in each["absent"]} == {
        ("torch", "torch is not installed"),
        ("torch-medium", "torch is not installed"),
        ("torch-autocast", "torch is not installed"),
        ("torch-compiled", "torch is not installed"),
        ("jax", "jax is not installed"),
    }


def test_engines_take_turns_and_one_that_fails_is_left_out(monkeypatch):
    calls = []

    class Fake:
        def __init__(self, name, threads):
            self.name, self.threads, self.engine, self.rss, self._turns = name, threads, name, 1, 0

        def ask(self, do, **arguments):
            if do == "prepare":
                return {"parameters": TINY["tiny"].config.num_parameters() + (self.name == "other model")}
            return {"peak_rss": 2}

        def turn(self, do, count):
            calls.append((self.name, count))
            self._turns += 1
            if self.name == "b" and self._turns == 3:
                raise steps.PeerError("lost")
            return {"seconds": [0.5 if self.name == "a" else 0.25] * count, "losses": [2.8] * count}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(steps, "Process", Fake)
    entrants = [steps.Entrant(name, 1) for name in ("a", "b", "other model", "torch", "loopos")]
    result = steps.compare(TINY["tiny"], entrants, rounds=3, steps=4, report=lambda text: None)
    warm = [(name, 2) for name in ("a", "b", "torch", "loopos")]
    assert calls[:4] == warm
    assert [name for name, _ in calls[4:]] == ["a", "b", "torch", "loopos"] * 2 + ["a", "torch", "loopos"]
    assert {count for _, count in calls[4:]} == {4}
    assert [peer["peer"] for peer in result["peers"]] == ["a", "torch", "loopos"]
    assert [lost["peer"] for lost in result["absent"]] == ["other model", "b"]
    assert "parameters instead of" in result["absent"][0]["reason"]
    assert result["peers"][0]["steps"] == 12


def test_an_engine_that_may_not_fit_beside_the_others_is_left_out(monkeypatch):
    """In one process less than the largest so far has taken, the next may have the system end any of them."""
    monkeypatch.setattr(steps._core, "available_bytes", lambda: 1 << 20)
    how = {"setting": "tiny", "peers": "loopos,torch", "rounds": 1, "steps": 1}
    (each,) = suites.run("steps", **how)["settings"]
    assert [peer["peer"] for peer in each["peers"]] == ["loopos"]
    assert each["peers"][0]["steps"] == 1
    assert "1 MiB are left beside the others, of which one has taken " in each["absent"][0]["reason"]


def test_the_ratio_is_that_of_the_better_torch_with_most_threads():
    def peer(name, seconds, threads=2):
        return {"peer": name, "threads": threads, "seconds": {"median": seconds}}

    ours = [peer("loopos", 2.0), peer("loopos", 1.0, threads=1)]
    assert steps.ratio([*ours, peer("torch", 4.0), peer("torch-compiled", 3.0), peer("jax", 1.0)]) == 1.5
    assert steps.ratio([*ours, peer("torch", 4.0)]) == 2.0
    assert steps.ratio(ours) is None
    assert steps.ratio([peer("torch", 4.0)]) is None
    assert steps.ratio([]) is None


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"suite": "speed"}, "suite must be one of"),
        ({"setting": "big"}, "setting must be names"),
        ({"peers": "tensorflow"}, "peers must be names"),
        ({"rounds": 0}, "rounds must be an integer of at least 1, got 0"),
        ({"steps": -1}, "steps must be an integer of at least 1, got -1"),
        ({"threads": 0}, "threads must be an integer of at least 1, got 0"),
        ({"threads": 5000}, "threads must be at most 1024"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(bad, said):
    with pytest.raises(ValueError, match=said):
        suites.run(**({"suite": "steps", "setting": "tiny"} | bad))
