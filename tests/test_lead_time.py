"""The benchmark of lead times: its runs stay what they are, and a loss has doubled when it has."""

import hashlib
import importlib
import math
import statistics
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_the_texts_do_not_change(module):
    """Else each change of a text would be a change of the record."""
    text = module("lead_text")
    assert hashlib.sha256(text.made_up().astype(np.uint8).tobytes()).hexdigest() == (
        "05139e78a9474df05826f6a253fb43d20e2b03ab2d1f1e67ec337b5147ccd5f0"
    )
    assert hashlib.sha256(text.readme().astype(np.uint8).tobytes()).hexdigest() == (
        "fd26064893ab11e9516438b52d54ef4ece5dbf0ec51b37e04ce519e50c01f8ae"
    )


def test_no_run_is_in_both_sets(module):
    sets = module("lead_sets")
    for run in sets.HELD_OUT:
        assert run["seed"] not in {each["seed"] for each in sets.TUNING}
        assert {name: run["config"].get(name) for name in ("d_model", "context_length")} != dict.fromkeys(
            ("d_model", "context_length")
        )
    assert len({run["name"] for run in sets.HELD_OUT}) == len(sets.HELD_OUT) == 36
    assert len(sets.TUNING) == 20


@pytest.mark.reference
def test_no_program_is_in_two_sets(module):
    pytest.importorskip("torch")
    sets = module("lead_torch")
    named = [{(run["name"], run["seed"]) for run in runs} for runs in (sets.TUNING, sets.DIVERGING, sets.FRESH)]
    assert [len(each) for each in named] == [29, 25, 25]
    assert len(set.union(*named)) == 79
    models = [{run["model"] for run in runs} for runs in (sets.TUNING, sets.DIVERGING + sets.FRESH)]
    assert not models[0] & models[1]


def test_a_loss_has_doubled_when_it_is_twice_the_lowest_median_so_far(module):
    lead = module("lead_time")
    rng = np.random.default_rng(0)
    for seed in range(20):
        values = list(2 + rng.random() + 0.3 * rng.standard_normal(60) + np.r_[np.zeros(30), 0.2 * np.arange(30)])
        losses, at = lead.Losses(), None
        for count in range(1, len(values) + 1):
            past = values[: count - 1]
            medians = [statistics.median(past[k : k + 16]) for k in range(0, len(past) - 15, 4)]
            if medians and values[count - 1] > 2 * min(medians) and at is None:
                at = count
            assert losses.add(values[count - 1]) == (at is not None), (seed, count)
        assert losses.at == at
    for bad in (math.inf, math.nan):
        losses = lead.Losses()
        assert not losses.add(3.0)
        assert losses.add(bad)
        assert losses.at == 2


def test_what_counts_as_told_in_time(module, capsys):
    lead = module("lead_time")

    class Watched:
        def __init__(self, at, first):
            self.losses, self.first, self.alarms = lead.Losses(), first, ["said"]
            self.losses.at = at

    pairs = [(100, 85), (100, 86), (100, None), (None, 3), (20, 5)]
    runs = [{"name": str(pair), "kind": "rate", "pair": pair} for pair in pairs]
    result = lead.diverging(runs, lambda run: Watched(*run["pair"]))
    assert (result["early"], result["diverged"]) == (2, 4)
    assert [run["lead"] for run in result["runs"]] == [15, 14, None, None, 15]
    result["healthy"] = {"runs": 1, "steps": 10000, "alarms": []}
    page = lead.render({"held_out": result})
    assert "At least 15 steps in 2 of 4 runs that diverge (50%). 0 findings in 10,000 steps of 1 healthy runs." in page
    assert "| (100, None) | 100 | - | - |" in page
    assert lead.render(None) == "Not measured yet."


@pytest.mark.parametrize("name", ["a width of 8", "a width of 16", "muon at 0.05"])
def test_runs_of_ours_that_come_out_well_do_not_move_too_far(module, name):
    lead, sets, text = module("lead_time"), module("lead_sets"), module("lead_text")
    assert len(sets.HEALTHY_FAR) == 3
    config, settings = sets.HEALTHY_FAR[name]
    watch = lead.train(text.readme(), config, 1, 160, False, **settings)
    assert statistics.median(watch.losses.values[-16:]) < 3.7 < 5 < watch.losses.values[0]
    assert [each for each in watch.alarms if each.startswith("moved")] == []
