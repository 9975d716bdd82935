from contextlib import nullcontext

import numpy as np
import pytest

from loopos.errors import Birth, NonFiniteError
from loopos.run.policy import SNAPSHOT_EVERY, Policy, max_in_all

BIRTH = Birth(7, "backward", 0, "linear", "dx", (1,), float("nan"), "a test")


class Weights:
    """What Policy needs of a Model and of an optimizer."""

    def __init__(self):
        self.values, self.moments, self.count = np.zeros(3, np.float32), np.zeros(3, np.float32), 0

    lock = nullcontext()

    def parameters(self):
        return {"w": self.values}

    def state_dict(self):
        return {"momentum.w": self.moments, "count": self.count}

    def load_state_dict(self, state):
        assert set(state) == {"momentum.w", "count"}
        self.moments[...] = state["momentum.w"]
        self.count = state["count"]

    def update(self, value):
        self.values[...], self.moments[...], self.count = value, -value, value

    def facts(self):
        return self.values.tolist(), self.moments.tolist(), self.count


def after(value):
    return [value] * 3, [-value] * 3, value


def policy(kind, total=100, **kwargs):
    weights = Weights()
    return Policy(kind, total, weights, weights, **kwargs), weights


def test_budget():
    assert max_in_all(1) == 3
    assert max_in_all(300) == 3
    assert max_in_all(1000) == 10


def test_halt_raises_the_birth():
    halt, _ = policy("halt")
    with pytest.raises(NonFiniteError) as caught:
        halt.refused(BIRTH)
    assert caught.value.birth == BIRTH


@pytest.mark.parametrize("kind", ["skip", "rewind"])
def test_the_third_in_a_row_raises(kind):
    under, weights = policy(kind)
    under.refused(BIRTH)
    under.refused(BIRTH)
    under.accepted(3)
    under.refused(BIRTH)  # in a row means: with none accepted between
    weights.update(5)
    with pytest.raises(NonFiniteError, match="more than 3"):
        under.refused(BIRTH)  # the fourth of the run, though the second in a row
    assert weights.facts() == after(5)  # what raises touches nothing, not even for a rewind
    again, _ = policy(kind, total=10_000)
    again.refused(BIRTH)
    again.refused(BIRTH)
    with pytest.raises(NonFiniteError, match="3 updates in a row"):
        again.refused(BIRTH)


def test_skip_leaves_everything_alone():
    skip, weights = policy("skip")
    weights.update(4)
    skip.refused(BIRTH)
    assert weights.facts() == after(4)
    assert (skip.refused_in_all, skip.refused_in_a_row) == (1, 1)


def test_rewind_returns_to_the_last_snapshot():
    rewind, weights = policy("rewind")
    for step in range(1, SNAPSHOT_EVERY + 4):
        weights.update(step)
        rewind.accepted(step)
    rewind.refused(BIRTH)
    assert weights.facts() == after(SNAPSHOT_EVERY)
    weights.update(99)
    rewind.refused(BIRTH)  # the snapshot is a copy, not what was put back
    assert weights.facts() == after(SNAPSHOT_EVERY)


def test_rewind_before_the_first_snapshot_returns_to_the_start():
    rewind, weights = policy("rewind")
    weights.update(2)
    rewind.accepted(2)
    rewind.refused(BIRTH)
    assert weights.facts() == after(0)


def test_a_resumed_rewind_goes_where_the_uninterrupted_one_goes():
    rewind, weights = policy("rewind")
    for step in range(1, SNAPSHOT_EVERY + 6):
        weights.update(step)
        rewind.accepted(step)
    saved = rewind.state(SNAPSHOT_EVERY + 5)
    weights.update(0)
    resumed = Policy("rewind", 100, weights, weights, step=SNAPSHOT_EVERY + 5, saved=saved)
    resumed.refused(BIRTH)
    assert weights.facts() == after(SNAPSHOT_EVERY)


def test_counts_are_saved_and_snapshots_only_where_they_differ():
    rewind, weights = policy("rewind")
    weights.update(SNAPSHOT_EVERY)
    rewind.accepted(SNAPSHOT_EVERY)
    rewind.refused(BIRTH)
    counts, arrays = rewind.state(SNAPSHOT_EVERY)
    assert counts == {"refused_in_all": 1, "refused_in_a_row": 1, "rewinds": 1}
    assert arrays == {}
    assert set(rewind.state(SNAPSHOT_EVERY + 1).arrays) == {"weights.w", "moments.momentum.w"}
    skip = Policy("skip", 100, weights, weights, saved=rewind.state(SNAPSHOT_EVERY))
    assert (skip.refused_in_all, skip.refused_in_a_row) == (1, 1)


def test_each_rewind_halves_the_rate_down_to_an_eighth():
    rewind, weights = policy("rewind", total=10_000)
    seen = [rewind.rate_factor]
    for step in range(1, 6):
        rewind.refused(BIRTH)
        rewind.accepted(step)
        seen.append(rewind.rate_factor)
    assert seen == [1.0, 0.5, 0.25, 0.125, 0.125, 0.125]
    resumed = Policy("rewind", 10_000, weights, weights, saved=rewind.state(7))
    assert (resumed.rewinds, resumed.rate_factor) == (5, 0.125)
    skip, _ = policy("skip")
    skip.refused(BIRTH)
    assert skip.rate_factor == 1.0
