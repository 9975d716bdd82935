"""Refused updates: the cause is the arithmetic that happened, and blames the factor that is too large."""

import math

import numpy as np
import pytest

import loopos
from loopos import optim


def refused(kind, gradient, weight=1.0, dtype=np.float32, steps=1, **options):
    """The birth of the update that ``kind`` refuses, the first of at most ``steps``; None when none is refused."""
    weights = {"w": np.full((2, 3), weight, dtype)}
    optimizer = getattr(optim, kind)(weights, **options)
    for _ in range(steps):
        try:
            optimizer.step({"w": np.full((2, 3), gradient, dtype)})
        except loopos.NonFiniteError as error:
            return error.birth
    return None


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
@pytest.mark.parametrize("gradient", [0.0, 0.1])
def test_a_rate_that_the_bias_correction_carries_out_of_range(kind, gradient):
    """3e38 / (1 - 0.9) is infinite in float32; times a step of 0 that is NaN (H10)."""
    birth = refused(kind, gradient, lr=3e38, weight_decay=0)
    assert birth.cause_class == "learning rate too large"
    assert "a rate of 3e+38 / 0.1 (1 - beta1^t) = 3e+39 is beyond 3.4e+38" in birth.cause
    assert ("infinity times a step of 0 is not a number" in birth.cause) == (gradient == 0)
    assert math.isnan(birth.value) == (gradient == 0)


@pytest.mark.parametrize(
    ("kind", "gradient", "weight", "options", "cause", "words"),
    [
        ("SGD", 10, 1, {"lr": 1e38}, "learning rate too large", "a rate of 1e+38 times a step of 10"),
        ("SGD", 3e38, 1, {"lr": 2.0}, "product overflow", "a rate of 2 times a step of 3e+38"),
        ("SGD", -1e30, 3.4e38, {"lr": 2e6}, "sum overflow", "added to the weight 3.4e+38"),
        ("SGD", -3e38, 3e38, {"lr": 1.0}, "sum overflow", "added to the weight 3e+38"),
        ("AdamW", -1, 3.4e38, {"lr": 1e37, "weight_decay": 0}, "sum overflow", "added to the weight"),
        ("AdamW", 1, 1e38, {"lr": 1e-3, "weight_decay": 1e4}, "weight decay too large", "1e+38 by -9"),
        ("AdamW", 1, 1e38, {"lr": 100, "weight_decay": 0.1}, "learning rate too large", "1e+38 by -9"),
        ("AdamW", 1, 1, {"lr": 1e-3, "weight_decay": 1e42}, "weight decay too large", "by -1e+39"),
        ("SGD", 1, 1e30, {"lr": 0.5, "weight_decay": 1e10}, "weight decay too large", "is 1e+40"),
        ("SGD", 1, 1e38, {"lr": 1.0, "weight_decay": 5.0}, "weight decay too large", "5e+38"),
        ("Adam", 1, 1e10, {"lr": 1e-3, "weight_decay": 1e12}, "weight decay too large", "the weight 1e+10 is 1e+22"),
        ("Adam", 1e21, 1, {"lr": 1e-3}, "product overflow", "the square of the gradient 1e+21"),
        ("Adam", 0, 1, {"lr": 1e-3, "eps": 0}, "0/0", "exp_avg 0"),
        ("Lion", 0.1, 1, {"lr": 1e39, "weight_decay": 0}, "learning rate too large", "is itself beyond"),
        ("Lion", 1, 1e38, {"lr": 1e-3, "weight_decay": 1e4}, "weight decay too large", "1e+38 by -9"),
        ("Muon", 1, 1e38, {"lr": 1e-3, "weight_decay": 1e4}, "weight decay too large", "1e+38 by -9"),
    ],
)  # fmt: skip
def test_the_larger_factor_is_to_blame(kind, gradient, weight, options, cause, words):
    birth = refused(kind, gradient, weight, **options)
    assert birth.cause_class == cause, birth.cause
    assert words in birth.cause
    assert birth.advice


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(60))
def test_no_claim_but_what_the_numbers_bear_out(dtype, seed):
    """At random places near the limit: the words never say that an update which was refused is in range, the rate is
    blamed only where it is above 1, the decay only where it is."""
    rng = np.random.default_rng(seed)
    top = 38 if dtype is np.float32 else 308
    kind = rng.choice(["SGD", "Adam", "AdamW"])
    options = {"lr": 10 ** rng.uniform(-4, top), "weight_decay": float(rng.choice([0, 0.1, 10 ** rng.uniform(0, top)]))}
    if kind == "SGD":
        options["momentum"] = float(rng.choice([0, 0.9]))
    gradient, weight = (float(10 ** rng.uniform(-3, top) * rng.choice([-1, 1])) for _ in range(2))
    birth = refused(kind, gradient, weight, dtype, steps=2, **options)
    if birth is None:
        return
    assert birth.cause_class != "unknown", birth.cause
    if birth.cause_class == "learning rate too large":
        assert options["lr"] > 1
    if birth.cause_class == "weight decay too large":
        assert options["weight_decay"] > 1
