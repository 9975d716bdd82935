"""The monitor: silent on healthy runs, awake for planted faults, and neither blind nor frozen after a NaN."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import loopos
from loopos.monitor.monitor import Monitor


def healthy(seed, steps=400, vocab_size=256):
    """(numbers of each step) of a noisy descent with a warm-up."""
    rng = np.random.default_rng(seed)
    size, tail, pace = rng.choice([0.02, 0.08, 0.2]), rng.choice([0.1, 0.3, 0.5]), rng.choice([20, 150, 500])
    correlation, drift = rng.choice([0.0, 0.8]), 0.0
    uniform = math.log(vocab_size)
    for t in range(steps):
        drift = correlation * drift + rng.normal(0, size) * math.sqrt(1 - correlation**2)
        yield {
            "loss": uniform * (0.35 + 0.65 * math.exp(-t / pace)) + drift,
            "grad_norm": math.exp(rng.normal(0, tail)) * (1 + 8 * math.exp(-t / 30)),
            "learning_rate": 1e-3 * min(1, (t + 1) / 50),
            "update_ratio": {"blocks.0": 10 ** rng.normal(-3, 0.5), "head": 10 ** rng.normal(-2, 0.3)},
            "valid_tokens": 64,
        }


@pytest.mark.parametrize("seed", range(40))
def test_healthy_runs_raise_no_alarm(seed):
    monitor = Monitor(vocab_size=256)
    assert [found for t, numbers in enumerate(healthy(seed)) for found in monitor.observe(t, **numbers)] == []


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_real_run_raises_no_alarm(optimizer):
    config = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=1, n_head=2, d_model=16)
    rate = 3e-3 if optimizer == "adamw" else 0.3
    text = "to be or not to be, that is the question.\n" * 50
    history = loopos.train(
        config, text, max_steps=200, log_every=1, optimizer=optimizer, learning_rate=rate, progress=False
    ).history
    monitor = Monitor(vocab_size=256)
    assert len(history) == 200
    assert [found for entry in history for found in monitor.observe(**entry)] == []


def run(monitor, numbers, faults):
    """Findings over a healthy run in which ``faults[t]`` replaces some numbers."""
    found = []
    for t, each in enumerate(numbers):
        found += monitor.observe(t, **each | faults.get(t, {}))
    return found


@pytest.mark.parametrize(
    ("fault", "name", "says"),
    [
        ({"loss": 9.0}, "loss", "a spike"),
        ({"loss": math.nan}, "loss", "not finite"),
        ({"loss": None}, "loss", "not finite"),
        ({"loss": 1.7e25}, "loss", "far above ln V"),
        ({"loss": -1.0}, "loss", "negative"),
        ({"grad_norm": 5e4}, "grad_norm", "1000 times the median"),
        ({"grad_norm": 200.0}, "grad_norm", "a spike"),
        ({"grad_norm": math.inf}, "grad_norm", "not finite"),
        ({"update_ratio": {"head": math.nan}}, "update_ratio[head]", "not finite"),
    ],
)
def test_a_planted_number_is_found_at_its_step(fault, name, says):
    found = run(Monitor(vocab_size=256), healthy(3), {300: fault})
    assert [(each.step, each.name) for each in found] == [(300, name)]
    assert says in found[0].sentence
    assert found[0].expected


def test_a_nan_neither_enters_nor_blinds_nor_freezes():
    broken = {t: {"loss": math.nan, "grad_norm": math.inf} for t in range(100, 260)}  # more than a window
    monitor, clean = Monitor(vocab_size=256), Monitor(vocab_size=256)
    found = run(monitor, healthy(4, 300), broken | {290: {"loss": 9.0}})
    assert [each.step for each in found if each.name == "loss"] == [100, 290]  # one excursion, then another
    assert monitor.nonfinite == {"loss": 160, "grad_norm": 160}
    for t, numbers in enumerate(healthy(4, 100)):
        clean.observe(t, **numbers)
    for t in range(160):
        clean.observe(t, loss=math.nan)
    assert all(math.isfinite(value) for values in clean.state_dict()["values"].values() for value in values)


def test_good_news_is_no_alarm():
    assert run(Monitor(), healthy(3), {300: {"loss": 0.01, "grad_norm": 1e-6}}) == []


def test_a_window_without_spread_does_not_alarm_at_a_trifle():
    monitor = Monitor()
    assert [
        found for t in range(100) for found in monitor.observe(t, loss=4.17 if t < 99 else 4.18, grad_norm=1.0)
    ] == []
    assert len(monitor.observe(100, loss=4.9)) == 1


def test_a_high_first_loss_blames_the_start():
    found = Monitor(vocab_size=65).observe(1, loss=40.0)
    assert "initialisation" in found[0].sentence
    assert Monitor(vocab_size=65).observe(1, loss=math.log(65) + 0.5) == []


def test_what_was_learned_and_lost_is_said_once():
    monitor = Monitor(vocab_size=65)
    slow = [4.17 - t / 100 for t in range(200)] + [2.17 + t / 100 for t in range(300)]  # too slow for a spike
    found = [each for t, loss in enumerate(slow) for each in monitor.observe(t, loss=loss)]
    assert len(found) == 1
    assert "what was learned is lost" in found[0].sentence


def test_update_ratios_are_judged_by_the_median_of_many_steps():
    def over(value, rate=1e-3):
        monitor = Monitor()
        return [
            f for t in range(60) for f in monitor.observe(t, learning_rate=rate, update_ratio={"a": value, "b": 1e-3})
        ]

    assert [each.name for each in over(0.0)] == ["update_ratio[a]"]
    assert "do not move" in over(1e-9)[0].sentence
    assert "rewritten" in over(0.5)[0].sentence
    assert over(1e-2) == []
    # in the first look weights may be tiny, and be what they should in the next
    assert [(each.step, each.name) for each in over(1e15)] == [(1, "update_ratio[a]"), (31, "update_ratio[a]")]
    assert over(0.0, rate=0.0) == []  # nothing else is to be expected of a rate of 0


def test_a_ratio_that_wanders_about_its_bound_is_one_excursion():
    monitor, rng = Monitor(), np.random.default_rng(0)
    found = [f for t in range(2000) for f in monitor.observe(t, update_ratio=0.3 * math.exp(rng.normal(0, 0.3)))]
    assert len(found) == 1
    assert [f for t in range(100) for f in monitor.observe(t, update_ratio=1e-3)] == []
    assert len([f for t in range(100) for f in monitor.observe(t, update_ratio=0.9)]) == 1


def test_many_tensors_that_leave_their_bounds_at_once_are_one_finding():
    monitor = Monitor()
    ratios = {f"blocks.{n}": 0.5 for n in range(48)} | {"head": 1e-3}
    found = [each for t in range(60) for each in monitor.observe(t, learning_rate=1e-3, update_ratio=ratios)]
    assert [(each.step, each.name) for each in found] == [(31, "update_ratio[blocks.0]")]
    assert "47 more tensors" in found[0].sentence


def test_an_update_without_targets_says_nothing_of_the_loss():
    assert run(Monitor(vocab_size=256), healthy(3), {300: {"loss": 0.0, "grad_norm": 0.0, "valid_tokens": 0}}) == []


def test_the_state_is_plain_numbers_and_goes_on_where_it_was():
    faults = {150: {"loss": math.nan}, 350: {"loss": 9.0, "grad_norm": 5e4}}
    numbers = list(healthy(5))
    whole = run(Monitor(vocab_size=256), numbers, faults)
    first, second = Monitor(vocab_size=256), Monitor()
    found = run(first, numbers[:200], faults)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for t in range(200, 400):
        found += second.observe(t, **numbers[t] | faults.get(t, {}))
    assert found == whole
    assert second.nonfinite == {"loss": 1}


def test_a_band_that_was_left_before_a_restart_is_not_said_again():
    first, second = Monitor(vocab_size=65), Monitor()
    for t in range(8):
        assert first.observe(t, loss=4.0) == []
    assert len(first.observe(8, loss=50.0)) == 1
    assert first.observe(9, loss=50.0) == []
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert second.observe(10, loss=50.0) == first.observe(10, loss=50.0) == []


@pytest.mark.parametrize(
    "change",
    [
        {"window": 3},
        {"values": 5},
        {"values": {"loss": [math.nan]}},
        {"nonfinite": None},
        {"lowest": {"a": math.inf}},
        {"first": {"loss": math.nan}},
        {"first": 3},
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(change):
    monitor = Monitor()
    monitor.observe(1, loss=2.0)
    before = monitor.state_dict()
    with pytest.raises(ValueError, match="Monitor"):
        monitor.load_state_dict(before | change)
    assert monitor.state_dict() == before


def test_extreme_numbers_are_no_crash():
    monitor = Monitor(vocab_size=256)
    for t in range(200):
        extreme = [1e308, -1e308, 5e-324, 0.0, 1e-300][t % 5]
        numbers = {"loss": extreme, "grad_norm": abs(extreme), "update_ratio": extreme, "eval_loss": np.float32(t)}
        for found in monitor.observe(t, **numbers):
            assert str(found)
    assert json.loads(json.dumps(monitor.state_dict())) == monitor.state_dict()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="window"):
        Monitor(window=3)
    with pytest.raises(ValueError, match="vocab_size"):
        Monitor(vocab_size=1)
    with pytest.raises(TypeError, match="loss must be a number"):
        Monitor().observe(1, loss="2.0")


def test_the_way_back_from_far_out_is_no_second_excursion():
    def names(losses):
        monitor = Monitor(vocab_size=256)
        found = [each for t in range(60) for each in monitor.observe(t, loss=1.0 + t % 3 / 50, grad_norm=1.0)]
        assert found == []
        return [
            (f.step, f.sentence.split("(")[1].split(":")[0])
            for t, value in enumerate(losses)
            for f in monitor.observe(t, loss=value)
        ]

    assert names([80.0, 12.0, 3.0, 2.0, 1.0]) == [(0, "far above ln V")]
    assert names([12.0, 3.0, 1.0, 3.0]) == [(0, "far above its past"), (3, "a spike")]
    assert names([3.0, 12.0]) == [(0, "a spike"), (1, "far above its past")]  # worse than was said


class _Slow(Monitor):
    """Judges every number, the calm ones too."""

    def _is_calm(self, name, value):
        return False

    def _calm_ratios(self, step, ratios):
        return [], ratios


@pytest.mark.parametrize("seed", range(8))
def test_the_short_way_of_calm_numbers_says_and_remembers_the_same(seed):
    rng = np.random.default_rng(seed)
    short, slow = Monitor(vocab_size=50), _Slow(vocab_size=50)
    for step in range(1, 400):
        numbers = {"loss": float(3 + 0.1 * rng.standard_normal()), "grad_norm": float(np.exp(rng.standard_normal()))}
        level = 10.0 ** (-3 + 6 * np.sin(step / 40 + seed) ** 3)  # through both bounds and back
        ratios = {name: float(level * np.exp(rng.standard_normal())) for name in "abcd"}
        odd = rng.integers(0, 60)
        if odd < 5:
            ratios["bcdab"[odd]] = [math.nan, None, 0.0, 1e7, math.inf][odd]
        if odd == 5:
            numbers["loss"] = 1e6
        rest = {"learning_rate": 0.0 if odd == 6 else 1e-3, "valid_tokens": 0 if odd == 7 else 64}
        given = numbers | rest | {"update_ratio": ratios}
        assert short.observe(step, **given) == slow.observe(step, **given)
        assert short.state_dict() == slow.state_dict()
    assert slow.nonfinite


def watched_by_both(series, vocab_size):
    """How many of the (loss, norm) settle; what is found of each, and remembered, is asserted to be the same."""
    short, slow, settled = Monitor(vocab_size=vocab_size), _Slow(vocab_size=vocab_size), 0
    said = []
    for step, (loss, norm) in enumerate(series, 1):
        calm = short.settles(loss, norm)
        settled += calm
        numbers = {"loss": loss, "grad_norm": norm, "learning_rate": 1e-3, "valid_tokens": 64}
        found = [] if calm else short.observe(step, **numbers)
        assert found == slow.observe(step, **numbers), step
        said += found
        if step % 29 == 0:
            assert short.state_dict() == slow.state_dict()
    assert short.state_dict() == slow.state_dict()
    return settled, said


@pytest.mark.parametrize("vocab_size", [50, None])
@pytest.mark.parametrize("seed", range(12))
def test_numbers_that_settle_are_those_in_which_nothing_would_be_found(seed, vocab_size):
    rng = np.random.default_rng(seed)
    noise, level, drift = [1e-4, 0.02, 0.1][seed % 3], rng.choice([2.9, 3.9, 4.5]), rng.choice([0.0, 0.003])
    series = []
    for step in range(1, 600):
        loss = level - drift * step + noise * rng.standard_normal() + 2.0 * (300 < step % 400 < 340) * (seed % 2)
        norm = float(np.exp(0.5 * rng.standard_normal()))
        odd = rng.integers(0, 150)
        if odd < 6:
            norm = [20.0, 2000.0, 0.0, math.nan, math.inf, -1.0][odd]
        if 6 <= odd < 10:
            loss = [1e6, math.nan, -3.0, 1.3 * level][odd - 6]
        series.append((float(loss), norm))
    settled, said = watched_by_both(series, vocab_size)
    assert settled > 80
    assert said


@pytest.mark.parametrize("lower", range(60, 80))
def test_a_median_that_falls_meanwhile_takes_the_bounds_with_it(lower):
    calm = [(4.0, 1.0)] * 70
    for last, number in (((4.4, 1.0), (3.0, 1.0)), ((4.0, 5.0), (4.0, 0.01))):
        watched_by_both([*calm, *[number] * lower, last, last], None)


def test_what_was_learned_and_lost_settles_never():
    learned, uniform = [(3.0, 1.0)] * 40 + [(3.6, 1.0)] * 120, 3.912
    for first in range(1, 13):
        lost = [*learned[first:], *[(3.95, 1.0)] * 16]
        assert "was learned is lost" in str(watched_by_both(lost, 50)[1])
    for later in range(1, 6):
        told = watched_by_both([*learned, *[(3.95, 1.0)] * 9, *[(3.5, 1.0)] * later], 50)[1]
        assert "was learned is lost" in str(told)
    odd = [4.0, *[2.9] * 8, *[4.0] * 7, 3.2, *[4.0] * 6]  # the lowest median comes and goes within twelve steps
    assert 0.8 * uniform > 3.05
    assert "was learned is lost" in str(watched_by_both([*[(3.8, 1.0)] * 100, *[(x, 1.0) for x in odd]], 50)[1])
