"""A log that begins anew holds several runs; one that goes on from a checkpoint holds one."""

from __future__ import annotations

import random

import pytest

from loopos.health.explain.explain import explain


def part(first, last, start=0, count=50, noise=0.01, line="iter {i}: loss {loss:.4f}\n"):
    rng = random.Random(start + count)
    losses = [first + (last - first) * i / (count - 1) + rng.gauss(0, noise) for i in range(count)]
    return "".join(line.format(i=start + i, epoch=(start + i) // 10, loss=loss) for i, loss in enumerate(losses))


def test_a_restart_without_the_weights():
    found = explain(part(4.0, 3.0) + part(10.8, 5.9))
    assert found.causes == ("restart", "learning")
    assert "the step goes back (from 49 to 0)" in found.findings[0].says
    assert [line.split(":")[0] for line in found.findings[0].evidence] == ["line 50", "line 51"]


def test_runs_of_several_seeds_in_one_file():
    found = explain(part(4.0, 1.0) * 3)
    assert found.causes == ("restart", "learning")
    assert "holds 3 runs: the step goes back 2 times" in found.findings[0].says


@pytest.mark.parametrize(
    "text",
    [
        part(4.0, 2.0) + part(2.2, 1.0, start=45),  # resumed from a checkpoint
        part(4.0, 2.0) + part(2.0, 1.0),  # a count within an epoch, of which no line tells
        "".join(part(4 - e, 3 - e, count=20, line=f"Epoch {e} " + "step {i} loss {loss:.4f}\n") for e in range(3)),
        "".join(f"Epoch {e}\n" + part(4 - e, 3 - e, count=20) for e in range(3)),
        "".join(f"step {i + (3 if i % 7 == 0 else 0)} loss {4 - i / 40:.3f}\n" for i in range(80)),  # two ranks
    ],
)
def test_a_log_that_goes_on_is_one_run(text):
    assert explain(text).causes == ("learning",)


def test_epochs_tell_where_no_steps_are_logged():
    lines = "{{'loss': {loss:.4f}, 'epoch': {i}}}\n"
    assert explain(part(4.0, 1.0, line=lines) + part(4.1, 1.2, line=lines)).causes == ("restart", "learning")


def test_an_evaluation_or_a_summary_is_no_restart():
    text = part(4.0, 2.0) + "step 0: val loss 2.3\n" + part(2.0, 1.5, start=50)
    assert explain(text).causes == ("learning",)


def test_the_jump_of_a_restart_is_no_divergence():
    found = explain(part(1.0, 0.3) + part(11.0, 8.0))
    assert found.causes == ("restart", "learning")


def test_a_run_that_was_begun_again_after_a_nan():
    text = part(4.0, 3.0) + "iter 50: loss nan\niter 51: loss nan\niter 52: loss nan\n" + part(3.5, 2.0, start=20)
    found = explain(text)
    assert found.causes[0] == "data"
    assert "restart" not in found.causes
    assert "learning" in found.causes


def test_a_restart_whose_count_goes_on():
    found = explain(part(4.0, 2.0) + part(10.8, 5.9, start=50))
    assert found.causes[0] == "restart"
    assert "the loss leaps from 1.983 to 10.81, where it began near 3.9" in found.findings[0].says
    assert [line.split(":")[0] for line in found.findings[0].evidence] == ["line 50", "line 51"]
    assert explain(part(4.0, 2.0) + part(4.0, 2.2, start=50)).causes[0] == "restart"


@pytest.mark.parametrize(
    "text",
    [
        part(4.0, 2.0) + part(5.0, 5.0, start=50, count=2) + part(2.0, 1.5, start=52),  # a spike
        part(4.0, 2.0) + part(2.7, 1.2, start=50),  # the rate was raised
        part(4.0, 2.0) + part(4.0, 4.0, start=50, noise=0.02),  # it diverged for good
        part(4.0, 2.0, noise=0.4),
        part(2.0, 1.9) + part(4.0, 2.0, start=50, count=5),
    ],
)
def test_a_leap_that_is_none(text):
    assert "restart" not in explain(text).causes
