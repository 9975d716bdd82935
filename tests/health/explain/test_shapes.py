"""Numbers out of lines, in the spellings of many trainers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopos.health.explain.shapes import (
    DIGITS,
    MARK,
    cut,
    has_decimal_comma,
    number,
    numbers_of,
    places_of,
    plain,
    shape_of,
)


def values(line):
    """Of each entry: canonical values, and losses by the column they are in."""
    template, found = cut(plain(line))
    entries = shape_of(template).read(numbers_of(found))
    return [each | {name.label: value for name, value in losses.items()} for each, losses in entries]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,024", 1024.0),
        ("1,234,567.5", 1234567.5),
        ("0,693", 0.693),
        ("2,31", 2.31),
        ("1,7e-3", 1.7e-3),
        ("1.7 × 10^25", 1.7e25),
        ("-inf", -math.inf),
        ("1.#INF", math.inf),
        ("1e-3", 1e-3),
        ("4_000", 4000.0),
        ("10^-3", 1e-3),
    ],
)
def test_numbers(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["nan", "-nan(ind)", "1.#QNAN", "1.#IND"])
def test_what_is_not_a_number(text):
    assert math.isnan(number(text))


@pytest.mark.parametrize("text", ["1" * 100, "1__0", "abc", ""])
def test_what_is_none(text):
    assert number(text) is None


def test_a_comma_that_must_be_decimal_tells_of_the_others_in_its_line():
    assert numbers_of(["2,300", "0,001"]) == [2.3, 0.001]
    assert numbers_of(["2,300", "0.001"]) == [2300, 0.001]
    assert has_decimal_comma(["1,2345"])
    assert not has_decimal_comma(["1,234", "5.5"])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("step: 1 loss: 2.5 step: 2 loss: 2.25", [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.25}]),
        ("loss=2.5, nll_loss=1.5", [{"loss": 2.5, "nll loss": 1.5}]),
        ("loss: tensor(nan, device='cuda:0')", [{"loss": math.nan}]),
        ('"train_loss": "2.5", "train_gnorm": "inf"', [{"train loss": 2.5, "grad_norm": math.inf}]),
        ("Epoch [3/10], Step [40/600], Loss: 2.5", [{"epoch": 3, "step": 40, "loss": 2.5}]),
        ("loss 6.9 (6.95)", [{"loss": 6.9}]),
        ("lr=[9.6e-06, 9.5e-06], loss 2", [{"learning_rate": 9.6e-6, "loss": 2}]),
        ("iter 100/ 200: time 12.10ms, loss nan", [{"step": 100, "loss": math.nan}]),
        ("loss is nan at step 5", [{"loss": math.nan, "step": 5}]),
        ("**loss**: `2.5`", [{"loss": 2.5}]),
        ("| loss | 2.5 |", [{"loss": 2.5}]),
        ("loss -> 2.5", [{"loss": 2.5}]),
        ("loss: −2.5", [{"loss": -2.5}]),
        ("第3轮　ｌｏｓｓ：２．５，学习率：0.001", [{"loss": 2.5, "learning_rate": 0.001}]),
        ("step 12 345 loss 2.5".replace("12 345", "12\u202f345"), [{"step": 12345, "loss": 2.5}]),
        ("[val] loss 2.5", [{"held out loss": 2.5}]),
        ('"mode": "val", "epoch": 1, "loss": 2.5', [{"epoch": 1, "held out loss": 2.5}]),
        ("Train: loss 2.5 | Val: loss 2.75", [{"loss": 2.5, "held out loss": 2.75}]),
        ("loss train: 2.5, val: 2.75", [{"loss train": 2.5, "loss val": 2.75}]),
        ("Loss | train 2.5 | val 2.75", [{"loss train": 2.5, "loss val": 2.75}]),
        ("Loss: 2.5, Train: 0.51, Val: 0.43", [{"loss": 2.5}]),  # these are accuracies
        ("train_acc=0.5 val_acc=0.4 loss=2.5", [{"accuracy": 0.5, "loss": 2.5}]),
        ("step 5 | loss 2.5 | norm 0.5", [{"step": 5, "loss": 2.5, "grad_norm": 0.5}]),
        ('"loss": null, "eval_loss": null, "step": 5', [{"step": 5}]),
        (
            '"loss": null, "eval_loss": null, "nonfinite": 1',
            [{"loss": math.nan, "eval loss": math.nan, "nonfinite": 1}],
        ),
        (
            "number of skipped iterations: 3 | number of nan iterations: 1",
            [{"skipped_iterations": 3, "nan_iterations": 1}],
        ),
        ("training's logloss: 2.5 valid_1's logloss: 2.75", [{"training log loss": 2.5, "valid 1 log loss": 2.75}]),
        ("backbone=nan head=1.0", [{"backbone": math.nan}]),
        ("best_val_loss: inf", []),
        ("val_loss improved from inf to 2.5", []),
        ("Validation loss decreased (inf --> 2.5)", []),
        ("checkpoint-500 saved, took 3s", []),
        ("the nan bread", []),
        ("stop if loss < 2.5 or loss > 10", []),
        ("loss / 4 + loss * aux", []),
        ("loss => 2.5", [{"loss": 2.5}]),
        ("loss ~10^24", [{"loss": 1e24}]),
        ('WORDS = ("nan", "inf")', []),
        ("the norm is nan, its norm is nan", []),
        ("clip=1.0 max_grad_norm=1.0 eta: inf", []),
    ],
)
def test_what_the_numbers_of_a_line_stand_for(line, expected):
    assert values(line) == [pytest.approx(each, nan_ok=True) for each in expected]


def test_the_shape_holds_for_lines_that_differ_in_digits():
    first, second = cut("step 1 loss 2.5e-3"), cut("step 100 loss 1,024.5")
    assert first[0] == second[0] == f"step {MARK} loss {MARK}"
    ((values, losses),) = shape_of(first[0]).read(numbers_of(second[1]))
    assert values == {"step": 100.0}
    assert list(losses.values()) == [1024.5]


LINES = st.text(alphabet="05.,e-+_ x^|", max_size=24)


@given(LINES, st.randoms())
def test_places_hold_for_lines_that_differ_in_digits(line, rng):
    """Where places are given, other digits are found in them as they would be alone."""
    other = "".join(rng.choice("0123456789") if char.isdigit() else char for char in line)
    count = len(cut(line)[1])
    if (places := places_of(line, set(range(count)))) is not None:
        assert line.translate(DIGITS) == other.translate(DIGITS)
        assert [other[start:end] for start, end in places] == cut(other)[1]
        assert [float(other[start:end]) for start, end in places] == numbers_of(cut(other)[1])
        assert shape_of(cut(line)[0]) == shape_of(cut(other)[0])
    if (places := places_of(line, set())) is not None:
        assert len(places) == len(cut(other)[1])
        assert cut(line)[0] == cut(other)[0]


@pytest.mark.parametrize("line", ["lr_0 5", "top5: 3", "step 1,024", "0,693", "1.7 x 10^25", "1_000", "第1轮", "3d-05"])
def test_digits_that_mean_more_than_themselves_have_no_places(line):
    assert places_of(line, {0, 1}) is None


def test_a_time_of_day_is_no_hindrance():
    assert places_of("12:30:00,123 loss 2.5", {3}) == [(0, 0), (0, 0), (0, 0), (18, 21)]
    assert places_of("12:30:00,123 loss 2.5", {2}) is None


HOSTILE = [
    "1,234" * 2,
    ",234",
    "lr-",
    "a.",
    "a/",
    "loss ",
    "nan",
    "||",
    "1_0",
    "1e1",
    " 10^",
    "val ",
    "[",
    "{",
    "x norm",
    "=",
    "'s",
]


@pytest.mark.timeout(120)
@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=3))
def test_no_line_makes_a_pattern_explode(parts):
    """Of the length that explain looks at; a pattern of cubic time would take minutes for one."""
    template, found = cut(plain(("".join(parts) * 4096)[:4096]))
    shape_of(template).read(numbers_of(found))
