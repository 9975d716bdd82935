"""The held-out losses of a log beside those of the training."""

from __future__ import annotations

import math

from loopos.health.explain import evaluations
from loopos.health.explain.logs import Log, Record


def log(*entries):
    return Log(records=[Record(line, f"entry {line}", dict(values)) for line, values in enumerate(entries, 1)])


def found(*entries):
    return [(each.cause, each.confidence) for each in evaluations.held_out(log(*entries))]


FALL = [{"step": i, "loss": 3 - 0.1 * i} for i in range(20)]


def beside(*evals, every=2):
    entries = [dict(entry) for entry in FALL]
    for i, value in enumerate(evals):
        entries[i * every] |= {"eval_loss": value}
    return entries


def test_a_rise_since_the_best_evaluation():
    rising = beside(2.9, 2.5, 2.3, 2.3, 2.5, 2.7, 3.0)
    assert found(*rising) == [("overfitting", "likely")]
    (only,) = evaluations.held_out(log(*rising))
    assert "rises since step 6, from 2.3, its best, to 3 at step 12" in only.says
    assert only.evidence == ("line 7: entry 7", "line 13: entry 13")
    assert found(*beside(2.9, 2.5, 2.8)) == [("overfitting", "possible")]
    assert found(*beside(2.9, 2.5, 2.4, 2.41)) == []


def test_a_held_out_loss_that_is_not_finite():
    assert found(*FALL, {"eval_loss": math.nan, "epoch": 1.9}) == [("eval-not-finite", "certain")]
    (only,) = evaluations.held_out(log(*FALL, {"eval_loss": math.nan}))
    assert "masked" in only.says
    assert "The training loss is finite, now 1.1" in only.says
    assert found({"step": 1, "loss": math.nan, "eval_loss": math.nan}) == []  # told by the training loss
    assert found(*FALL, {"step": 21, "loss": 0.0}, {"eval_loss": math.nan}) == []  # and by what stands for it


def test_a_held_out_loss_of_exactly_zero():
    assert found(*beside(0.0, 0.0, 0.0)) == [("eval-not-finite", "likely")]


def test_a_value_that_a_bar_repeats_is_one_evaluation():
    repeated = [entry | {"eval_loss": 2.4 if i < 10 else 2.9} for i, entry in enumerate(FALL)]
    assert found(*repeated) == [("overfitting", "possible")]
    constant = [entry | {"eval_loss": 4.0} for entry in FALL]
    assert found(*constant) == []


def test_another_set_on_the_same_line_is_left_out():
    both = []
    for i, entry in enumerate(FALL):
        both.append(Record(i, "", entry | {"eval_loss": 2.5 - i / 100}))
        both.append(Record(i, "", {"eval_loss": 9.0 + i}))
    assert list(evaluations.held_out(Log(records=both))) == []


def test_entries_may_share_a_line():
    """As those of a progress bar, or of a JSON file of one line."""
    rising = [Record(1, "", entry | {"eval_loss": 2 + abs(i - 5) / 10}) for i, entry in enumerate(FALL)]
    assert [each.cause for each in evaluations.held_out(Log(records=rising))] == ["overfitting"]


def test_training_losses_that_are_zero_from_the_start_are_no_comfort():
    (only,) = evaluations.held_out(log(*({"epoch": i, "loss": 0.0} for i in range(9)), {"eval_loss": math.nan}))
    assert "a NaN too, and shown as 0" in only.says


def test_of_two_runs_the_last_counts():
    """The held-out loss is up again because the weights are others, not because anything was learned by heart."""
    first = [Record(i, "", entry | {"eval_loss": 1.2 - i / 100}) for i, entry in enumerate(FALL)]
    second = [Record(i + 20, "", entry | {"eval_loss": 3 - i / 20}, run=1) for i, entry in enumerate(FALL)]
    assert list(evaluations.held_out(Log(records=[*first, *second]))) == []
