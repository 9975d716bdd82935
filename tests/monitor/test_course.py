"""Where a loss goes: it falls, it stands, or it climbs back."""

import numpy as np
import pytest

from loopos.monitor.course import CLIMBS, FALLS, FEWEST, LOST, RISEN, STANDS, course
from loopos.monitor.monitor import Monitor
from loopos.monitor.window import LATEST, Window


def goes(values, first=None, lowest=None):
    """As a monitor would have remembered it."""
    medians = [np.median(values[at : at + LATEST]) for at in range(len(values) - LATEST + 1)]
    first = values[0] if first is None else first
    return course(Window(128, values), first, min(medians, default=np.inf) if lowest is None else lowest)


def test_a_loss_falls_when_its_median_is_below_that_of_as_many_before():
    noise = np.random.default_rng(0).normal(0, 0.1, 40)
    assert goes(list(5 - 0.05 * np.arange(40) + noise)) == FALLS
    assert goes([9.0] * 8 + [2.0] * 40) == STANDS
    assert goes([2.0] * 20 + [1.9] * 12) == FALLS  # most of the last are lower
    assert goes([2.0] * 25 + [1.9] * 7) == STANDS
    assert goes([2.0] * 60) == STANDS


def test_of_a_young_run_the_halves_are_compared_and_of_the_first_steps_nothing_is_said():
    assert goes([5.0] * (FEWEST - 1)) == FALLS
    assert goes([5.0] * FEWEST) == STANDS
    assert goes([5.0, 4.9, 4.0, 4.1]) == FALLS
    assert goes([4.0, 4.1, 5.0, 4.9]) == STANDS  # nothing was learned yet that could be lost


@pytest.mark.parametrize(("start", "low"), [(5.5, 1.2), (5.5, 4.0), (1e-3, 1e-4), (0.5, -3.0)])
def test_a_loss_climbs_back_when_enough_of_what_was_learned_is_lost(start, low):
    """And when it is a quarter above its lowest, in case little was learned."""
    most = max(LOST * (start - low), RISEN * abs(low))
    for share, said in ((0.9, STANDS), (1.1, CLIMBS)):
        values = list(np.linspace(start, low, 20)) + [low] * 20 + [low + share * most] * 20
        assert goes(values) == (said if low + most < start else STANDS), share


def test_a_loss_that_never_fell_or_whose_start_is_not_known_does_not_climb_back():
    assert goes([-2.0] * 40 + [0.0] * 20) == STANDS
    values = [5.0] + [1.0] * 30 + [2.0] * 20
    assert goes(values) == CLIMBS
    assert course(Window(128, values), None, 1.0) == STANDS


def test_a_monitor_knows_it_whether_or_not_it_looked():
    """Values that were put off count, the same over a checkpoint, and a checkpoint of before has no first loss."""
    values = [5.0] + [1.0] * 60 + [1.05] * 4 + [2.0] * 20
    one, other = Monitor(), Monitor()
    assert one.course() == STANDS
    seen = []
    for step, loss in enumerate(values, 1):
        one.observe(step, loss=loss, grad_norm=1.0)
        if not other.settles(loss, 1.0):
            other.observe(step, loss=loss, grad_norm=1.0)
        if step % 7 == 0:
            assert other.course() == one.course()
        seen.append(one.course())
        if step == 70:
            again = Monitor()
            again.load_state_dict(one.state_dict())
            one = again
    assert (seen[0], seen[50], seen[-1]) == (FALLS, STANDS, CLIMBS)
    old = one.state_dict()
    del old["first"]
    one.load_state_dict(old)
    assert one.course() == STANDS
