"""How far weights move in a step: measured, and judged."""

import math

import numpy as np
import pytest

from loopos import _core
from loopos.monitor import movement
from loopos.monitor.course import CLIMBS, FALLS, STANDS
from loopos.monitor.movement import CLIMBING, LOOKS, MOVED, Movement, UpdateRatios


def judged(values, first=100, every=10, ahead=1.0, judge=None, course=STANDS):
    """Of a run whose losses are not known."""
    judge = Movement({}) if judge is None else judge
    steps = range(first, first + every * len(values), every)
    return [
        alarm
        for step, value in zip(steps, values, strict=True)
        for alarm in judge.judge(step, value, ahead, course=lambda: course)
    ]


def test_weights_that_move_far_in_most_looks_are_told_once():
    """And again when the median was below half of the least bound in between."""
    far, calm, less = ([share * MOVED] * LOOKS for share in (1.1, 0.1, 0.2))
    assert judged(far[1:]) == []
    assert judged([0.9 * MOVED] * 40) == []
    assert judged([MOVED / 2, 2 * MOVED] * 20) != []  # the median is above
    assert judged([0.001, 0.001, 0.9] * 20) == []
    assert len(judged(far + far + less + far)) == 1
    found = judged(far + far + calm + far)
    assert [alarm.name for alarm in found] == ["moved", "moved"]
    assert found[0].step == 100 + 10 * (LOOKS - 1)
    assert f"the median of {LOOKS} looks is 1.1 times that at which most such runs" in found[0].sentence
    assert found[0].expected == f"at most {MOVED:.2g}, most often near 1e-3"


def test_while_the_loss_falls_no_movement_is_too_far():
    assert judged([0.9] * 40, course=FALLS) == []
    judge = Movement({})
    assert judged([0.9] * 40, course=FALLS, judge=judge) == []
    (found,) = judged([0.9], first=500, judge=judge)  # it does not any more
    assert "too far: a step moves the weights by 0.9 of their size, and the loss stands; the median" in found.sentence


def test_once_the_loss_climbs_back_less_is_too_far():
    (found,) = judged([1.1 * CLIMBING] * 40, course=CLIMBS)
    assert found.step == 100 + 10 * (LOOKS - 1)
    assert f"and the loss climbs back; the median of {LOOKS} looks is 1.1 times that at which" in found.sentence
    assert found.expected == f"at most {CLIMBING:.2g}, most often near 1e-3"
    assert judged([0.9 * CLIMBING] * 40, course=CLIMBS) == judged([1.1 * CLIMBING] * 40) == []


def test_a_calm_run_is_not_asked_where_its_loss_goes():
    judge = Movement({})
    for step in range(100, 500, 10):
        judge.judge(step, 0.9 * CLIMBING, course=lambda: pytest.fail("it was asked"))


def test_young_weights_may_move_far():
    """What only grows moves by 1 / t of itself in step t; in a warm-up by twice that."""
    assert judged([1.9 / step for step in range(2, 20)], first=2, every=1) == []
    assert [alarm.step for alarm in judged([2.1 / step for step in range(3, 24)], first=3, every=1)] == [3 + LOOKS - 1]


def test_while_the_rate_rises_less_is_too_far():
    """By the cube root of what it has yet to rise."""
    assert judged([1.05 * MOVED / 2] * LOOKS, ahead=8.0)[0].step == 100 + 10 * (LOOKS - 1)
    assert judged([0.95 * MOVED / 2] * LOOKS, ahead=8.0) == []
    (found,) = judged([1.05 * MOVED / 2] * LOOKS, ahead=8.0)
    assert "of their size while the rate has yet to rise 8 times, and the loss stands; the median" in found.sentence
    assert found.expected == f"at most {MOVED / 2:.2g}, most often near 1e-3"


def test_an_update_that_rewrites_the_weights_is_told_at_once():
    found = judged([1.1, 1.2])
    assert [(alarm.step, alarm.value) for alarm in found] == [(100, 1.1)]
    assert "weights rewritten: a step moves the weights by 1.1 of their size" in found[0].sentence
    assert judged([0.9] * 3) == []
    assert len(judged([1.1] + [1.1] * LOOKS)) == 1  # and not also as too far


def rewritten(losses, moved=(3.0,)):
    """Findings of a run, looked at in every step, whose first steps moved the weights by that many times their size."""
    judge, found = Movement({}), []
    for step, loss in enumerate(losses, 1):
        found += judge.held(step, loss)
        found += judge.judge(step, [*moved, 0.001, 0.001, 0.001, 0.001][step - 1], loss=loss)
    return found


def test_weights_that_are_rewritten_to_lower_losses_are_in_order():
    """The first step of LBFGS, or of a regression on large targets."""
    assert rewritten([9.0, 2.0, 1.0, 3.0]) == rewritten([9.0, 2.0, 2.0, 2.0], moved=(3.0, 2.0)) == []
    for losses, at in (
        ([9.0, 9.1, 3.0], 2),
        ([9.0, 4.0, 5.0], 3),
        ([9.0, math.nan, 3.0], 2),
        ([9.0, 2.0, math.inf], 3),
    ):
        (found,) = rewritten(losses)
        assert (found.step, found.value) == (at, 3.0)
        assert "weights rewritten: a step moves the weights by 3 of their size, and the loss does not" in found.sentence
    assert [each.step for each in rewritten([math.nan, 2.0])] == [1]  # nobody knows what it was


def test_a_warm_up_whose_first_step_rewrites_the_weights_is_told_at_once():
    """The rate will be higher: whether the loss falls once more says little."""
    assert [each.step for each in Movement({}).judge(1, 3.0, ahead=400.0, loss=9.0)] == [1]


def test_a_step_that_is_not_looked_at_still_tells_what_the_one_before_did():
    weights = {"a": np.ones((4, 4))}
    judge, found = Movement(weights), []
    for step, loss in ((10, 9.0), (11, 9.5)):
        judge.before(step, measured=False)
        weights["a"] *= 4 if step == 10 else 1.001
        found += judge.after(step, None, 1.0, loss)
    assert [each.step for each in found] == [11]


def test_weights_that_are_rewritten_before_a_step_that_is_refused_are_told():
    judge = Movement({})
    judge.judge(1, 3.0, loss=9.0)
    assert judge.held(2, 8.0) == []
    again = Movement({}, judge.state())
    for each in (judge, again):
        assert [(found.step, found.value) for found in each.held(3)] == [(3, 3.0)]
        assert each.held(4) == []


def test_a_warm_up_that_leads_there_is_told_in_the_second_look():
    found = judged([0.011, 0.011], first=1, every=1, ahead=100.0)
    assert [alarm.step for alarm in found] == [2]
    assert "at the highest rate, 100 times that of this step, a step moves the weights by 1.1 of" in found[0].sentence
    assert found[0].expected == "at most 0.01, most often near 1e-3"
    assert judged([0.011, 0.009, 0.011], first=1, every=1, ahead=100.0) == []


def test_it_looks_at_some_steps_and_at_all_after_one_that_moved_far():
    weights = {"a": np.ones((4, 4))}
    judge, seen = Movement(weights), []
    for step in range(1, 61):
        judge.before(step, measured=False)
        weights["a"] *= 1.06 if step in (20, 25) else 1.001
        if judge.looks(step):
            seen.append(step)
        assert judge.after(step, None, 1.0) == []
    assert seen == [1, 10, *range(20, 38), 40, 50, 60]


def moved_by(shares, embedding):
    """What all move by when four layers grow by these shares, behind an embedding that stays."""
    weights = {"embedding": np.full((40, 40), float(embedding))} | {
        str(n): np.full((4, 4), 0.5) for n in range(len(shares))
    }
    ratios = UpdateRatios(weights)
    ratios.remember()
    for n, share in enumerate(shares):
        weights[str(n)] *= 1 + share
    ratios.measure()
    return ratios.moved


def test_a_tensor_that_is_much_larger_than_the_others_hides_nothing():
    """All together moved by what three of five tensors exceed, where that is more."""
    assert moved_by([0, 0.1, 0.1, 0.1], embedding=50) < 0.01  # three of five are not more than three of five
    assert moved_by([0.1, 0.1, 0.1, 0.1], embedding=50) == pytest.approx(0.1, rel=1e-9)
    assert moved_by([0.3, 0.1, 0.2, 0.4], embedding=50) == pytest.approx(0.1, rel=1e-9)  # and not the largest
    assert moved_by([0.3, 0.1, 0.2, 0.4], embedding=0) > 0.2  # all together are more


def test_tensors_that_begin_at_zero_are_young_and_say_little():
    """Half of LoRA's: what is added in each step is as large as all there is."""
    weights = {name: np.full((4, 4), 0.0 if name in "bdfh" else 1.0) for name in "abcdefgh"}
    ratios, judge = UpdateRatios(weights), Movement({})
    for step in range(1, 40):
        ratios.remember()
        for view in weights.values():
            view += 1e-3
        ratios.measure()
        assert judge.judge(step, ratios.moved, 1.0) == []
        assert ratios.moved < 0.002


def test_what_is_measured_for_the_log_is_not_measured_again():
    weights = {"a": np.ones((4, 4))}
    judge = Movement(weights)
    judge.before(1, measured=True)
    weights["a"] *= 3
    assert judge.after(1, 0.01, 1.0) == []
    judge.before(2, measured=False)
    assert judge.after(2, 5.0, 1.0) == []  # it does not look
    judge.before(10, measured=False)
    weights["a"] *= 3
    assert [alarm.value for alarm in judge.after(10, None, 1.0)] == [2.0]


def test_weights_that_are_all_zero_or_not_finite_say_nothing():
    for start, end in ((0.0, 1.0), (math.nan, 1.0), (1.0, math.inf), (1e300, 2e300)):
        weights = {"a": np.full((4, 4), start)}
        judge = Movement(weights)
        judge.before(1, measured=False)
        weights["a"][...] = end
        assert judge.after(1, None, 1.0) == []


def test_it_goes_on_from_its_state():
    for count in range(1, LOOKS + 3):
        values = [1.1 * MOVED] * (LOOKS + 4)
        whole, first = Movement({}), Movement({})
        found = judged(values, judge=whole)
        head = judged(values[:count], judge=first)
        rest = Movement({}, first.state())
        assert head + judged(values[count:], first=100 + 10 * count, judge=rest) == found
        assert rest.state() == whole.state()
    led = Movement({})
    judged([0.02], judge=led, ahead=100.0)
    assert judged([0.02], judge=Movement({}, led.state()), ahead=100.0) != []


@pytest.mark.parametrize("saved", [None, 3, {}, {"values": "a", "until": None}, {"values": [math.nan], "raised": "x"}])
def test_what_is_no_state_is_passed_over(saved):
    assert Movement({}, saved).state() == Movement({}).state()


def test_the_ratio_is_rms_of_the_update_over_rms_of_the_weights():
    rng = np.random.default_rng(0)
    weights = {"a": rng.normal(size=(20, 30)), "b": np.zeros((3, 4)), "bias": np.ones(5), "none": np.ones((0, 4))}
    ratios = UpdateRatios(weights)
    ratios.remember()
    before = weights["a"].copy()
    weights["a"] += 1e-3 * rng.normal(size=(20, 30))
    weights["bias"] += 1
    expected = np.linalg.norm(weights["a"] - before) / np.linalg.norm(before)
    assert ratios.measure() == {"a": pytest.approx(expected, rel=1e-12)}
    assert UpdateRatios({}).measure() == {}


@pytest.mark.parametrize("shape", [(1024, 64), (512, 1000), (3, 20_001), (64, 16, 16)])
def test_a_sample_of_a_large_matrix_stands_for_all_of_its_columns(shape):
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    sample = movement._sample(array, movement.SAMPLED)
    assert sample.base is not None
    assert 0.8 * movement.SAMPLED <= sample.size <= 2 * movement.SAMPLED
    columns = np.unique(sample.astype(int) % shape[-1])
    assert len(columns) == min(shape[-1], sample.size)
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=shape).astype(np.float32)
    ratios = UpdateRatios({"a": matrix})
    ratios.remember()
    matrix *= np.float32(1 + 1e-3)
    assert ratios.measure()["a"] == pytest.approx(1e-3, rel=1e-3)


def test_huge_weights_are_no_warning():
    matrix = np.full((4, 4), 1e300)
    ratios = UpdateRatios({"a": matrix})
    ratios.remember()
    matrix *= 2
    assert math.isnan(ratios.measure()["a"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_are_copied_and_compared(dtype):
    rng = np.random.default_rng(2)
    whole = rng.normal(size=(3, 41)).astype(dtype)
    samples, before = [whole[0, ::3], whole[1, :0], whole[2], np.zeros(2, dtype)], np.empty(14 + 41 + 2)
    _core.copy_samples(samples, before)
    old = [sample.astype(float) for sample in samples]
    assert (before == np.concatenate(old)).all()
    whole *= dtype(1.001)
    whole[2, 0] += dtype(0.5)
    samples[3][:] = 1
    expected = [
        np.linalg.norm(sample.astype(float) - was) / np.linalg.norm(was) if was.any() else None
        for sample, was in zip(samples, old, strict=True)
    ]
    stand_for = [3.0, 1.0, 2.0, 5.0]
    parts = [
        np.sqrt(weight) * np.stack([sample.astype(float) - was, was])
        for sample, was, weight in zip(samples, old, stand_for, strict=True)
    ]
    difference, size = np.linalg.norm(np.concatenate(parts, axis=1), axis=1)
    ratios, of_all = _core.moved_samples(samples, before, stand_for)
    assert ratios == [n if n is None else pytest.approx(n, rel=1e-14) for n in expected]
    assert of_all == pytest.approx(difference / size, rel=1e-14)
    assert _core.moved_samples([], before, []) == ([], None)
    with pytest.raises(ValueError, match="stand_for must have a number for each sample"):
        _core.moved_samples(samples, before, [1.0])


CALLS = [_core.copy_samples, lambda samples, before: _core.moved_samples(samples, before, [1.0] * len(samples))]


@pytest.mark.parametrize(
    "samples", [[np.zeros((2, 2))], [np.zeros(5)], [np.zeros(3, int)], ["abc"]], ids=["2-D", "too many", "int", "text"]
)
def test_samples_that_do_not_fit_are_refused(samples):
    for call in CALLS:
        with pytest.raises(ValueError, match="samples must be"):
            call(samples, np.zeros(4))


def test_a_copy_that_does_not_lie_in_one_piece_is_refused():
    for call in CALLS:
        with pytest.raises(TypeError, match="incompatible function arguments"):
            call([np.zeros(3)], np.zeros(3)[::-1])
