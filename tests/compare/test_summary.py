"""The table, from outcomes that are made up and from trials that were made."""

from __future__ import annotations

import json

import pytest
from comparisons import finished, small_task

from loopos.compare.summary import Spread, at_time, summarise
from loopos.compare.trial import CRASHED, ENDED, Outcome, Trial


def table(tmp_path, outcomes, chosen=None):
    """outcomes: by optimizer, a list with one for each seed."""
    trials = {Trial(name, 0.1, 1337 + i, 10): each for name, of in outcomes.items() for i, each in enumerate(of)}
    chosen = chosen or {name: (0.1, "given") for name in outcomes}
    return summarise(small_task("x"), chosen, trials, tmp_path)


def test_rows_come_in_the_order_of_their_losses_and_the_ended_last(tmp_path):
    ended = Outcome(ENDED, 4, start="ab", nonfinite=1, born="NaN born in the update", said="step 5, all of it")
    found = table(
        tmp_path,
        {
            "sgd": [finished(2.0), ended],
            "adam": [finished(3.0), finished(3.1)],
            "lion": [finished(1.0), finished(1.1)],
            "muon": [finished(1.0), Outcome(CRASHED, 0, said="killed")],
        },
    )
    assert [row.optimizer for row in found.rows] == ["lion", "adam", "sgd", "muon"]
    says = {row.optimizer: row.verdict.says for row in found.rows}
    assert says["lion"] == "best"
    assert says["adam"].startswith("worse than lion by 2.0000")
    assert says["sgd"] == "ended at step 5: NaN born in the update (1 of 2 seeds; seed 1338)"
    assert says["muon"] == "crashed: killed (1 of 2 seeds; seed 1338)"
    sgd = found.rows[2]
    assert (sgd.finished, sgd.seeds, sgd.nonfinite) == (1, 2, 1)
    assert sgd.births == {"sgd-0.1-seed1338": "step 5, all of it"}
    assert "sgd-0.1-seed1338: step 5, all of it" in str(found)


def test_another_start_means_no_verdict(tmp_path):
    found = table(tmp_path, {"sgd": [finished(2.0)], "adam": [finished(3.0, start="other")]})
    assert not found.same
    assert {row.verdict.kind for row in found.rows} == {"not judged"}
    assert "NOT COMPARABLE: adam-0.1-seed1337 began with other weights than sgd-0.1-seed1337" in str(found)


def test_no_rate_and_a_loss_that_is_not_finite(tmp_path):
    outcomes = {"sgd": [finished(3.0, eval_loss=None, loss=None)], "adam": [], "lion": [finished(2.0)]}
    chosen = {"sgd": (0.1, "given"), "adam": (None, "sweep of 8"), "lion": (0.1, "usual")}
    found = table(tmp_path, outcomes, chosen)
    kinds = {row.optimizer: row.verdict.kind for row in found.rows}
    assert kinds == {"lion": "one seed", "sgd": "not judged", "adam": "no rate"}
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["optimizers"][0]["optimizer"] == "lion"


def test_a_number_over_seeds():
    assert Spread.of([1.0, 2.0, 3.0]) == Spread(3, 2.0, 1.0)
    assert str(Spread.of([1.0, 2.0, 3.0])) == "2.0000 ± 1"
    assert Spread.of([0.5, 0.52]).shown(".1%") == "51.0% ± 1.4%"
    assert Spread.of([0.5]).shown(".1%") == "50.0%"
    assert Spread.of([1.5]) == Spread(1, 1.5, None)
    assert Spread.of([1.0, None]) is None  # a mean over fewer seeds would be compared with one over all
    assert Spread.of([]) is None


def test_the_loss_at_a_time_lies_between_two_evaluations():
    outcome = finished(2.0)  # 3.0 after 1 second, 2.0 after 2
    assert at_time(outcome, 0.5) is None
    assert at_time(outcome, 1.0) == 3.0
    assert at_time(outcome, 1.25) == pytest.approx(2.75)
    assert at_time(outcome, 9.0) == 2.0


def test_equal_time_is_that_of_the_fastest_trial(tmp_path):
    slow = finished(1.0, seconds=8.0, curves={"eval_loss": [[5, 1.5, 3.0], [6, 2.5, 2.0], [10, 8.0, 1.0]]})
    found = table(tmp_path, {"sgd": [finished(2.0)], "muon": [slow]})
    assert found.equal_time == 2.0
    by = {row.optimizer: row.at_equal_time.mean for row in found.rows}
    assert by == {"sgd": 2.0, "muon": 2.5}
    assert "held-out at 2 s" in found.cells()[0]


def test_the_table_of_trials_that_were_made(done):
    _, _, summary = done
    assert [row.optimizer for row in summary.rows] == ["adamw", "sgd"]
    assert summary.rows[0].verdict.says == "the only one that finished"
    assert summary.rows[1].verdict.kind == "ended"
    assert summary.same
    assert summary.same.trials == 4
    assert set(summary.same.seeds) == {1337, 1338}
    told = summary.to_dict()
    assert len(told["trials"]) == 4
    assert told["alike"]["same"]
    rows = summary.cells()
    assert rows[0][:3] == ["optimizer", "rate", "from"]
    assert rows[1][1:3] == ["0.003", "given"]
