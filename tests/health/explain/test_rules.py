"""Rules on entries that are not finite: each says what the entries bear, and nothing of a healthy log."""

from __future__ import annotations

import math

from loopos.health.explain import rules
from loopos.health.explain.explain import explain
from loopos.health.explain.logs import Log, Record


def log(*entries):
    return Log(records=[Record(line, f"entry {line}", dict(values)) for line, values in enumerate(entries, 1)])


HEALTHY = [{"step": step, "loss": 3.0 - step / 10, "grad_norm": 1.0} for step in range(1, 9)]
BAD = {"step": 9, "loss": math.nan, "grad_norm": math.nan}


def causes(rule, *entries):
    return [finding.cause for finding in rule(log(*entries))]


def test_a_healthy_log_gives_nothing():
    for rule in (rules.nonfinite_loss, rules.nonfinite_norm, rules.refused, rules.unequal_runs):
        assert causes(rule, *HEALTHY) == []


def test_what_came_before_the_first_bad_loss_decides():
    assert causes(rules.nonfinite_loss, BAD) == ["labels-masked", "first-forward"]
    assert causes(rules.nonfinite_loss, *HEALTHY, BAD) == ["data", "exp-overflow"]
    growing = [{"step": step, "loss": 2.0**step, "grad_norm": 1.0} for step in range(1, 9)]
    assert causes(rules.nonfinite_loss, *growing, BAD) == ["learning-rate-too-large"]


def test_a_norm_that_is_infinite_or_nan_beside_a_finite_loss():
    assert causes(rules.nonfinite_norm, {"loss": 1.0, "grad_norm": math.inf}) == ["norm-overflow"]
    assert causes(rules.nonfinite_norm, {"loss": 1.0, "grad_norm": math.nan}) == ["born-in-backward"]


def test_an_infinity_that_stands_for_no_limit_is_no_news():
    for name in ("best_val_loss", "best loss", "min_delta", "max_len", "early_stopping.best", "timeout"):
        assert causes(rules.nonfinite_norm, {name: math.inf}) == []
    assert causes(rules.nonfinite_norm, {"best_val_loss": math.nan}) == ["unknown"]
    assert causes(rules.nonfinite_norm, {"perplexity": math.inf}) == ["unknown"]
    assert causes(rules.nonfinite_norm, {"maximum_of": math.inf, "bestiary": math.inf}) == ["unknown"]


def test_a_message_is_no_entry_of_a_log():
    for text in ("Loss is nan, stopping training", "ValueError: the loss is nan", "AssertionError: loss=nan"):
        assert explain(text).causes == ("not-finite-reported",)
    assert "first-forward" in explain("loss: nan").causes
    log = "".join(f"step {i} loss {4 - 0.05 * i:.3f}\n" for i in range(20))
    assert explain(log + "step 20 loss nan\nLoss is nan, stopping training\n").causes[:2] == ("data", "exp-overflow")


def test_what_a_curve_without_fault_is_not_part_of_is_no_news():
    log = "".join(f"step {i} loss {4 - 0.05 * i:.3f}\n" for i in range(20))
    for line in ("temperature: inf", "fill_value=-inf", "resume: nan", "bleu: nan", "accuracy: nan", "ppl: inf"):
        assert explain(f"{line}\n{log}").causes == ("learning",)
        assert explain(f"{log}{line}\n").causes == ("learning",)
    assert explain(f"{log}residual_norm: nan\n").causes == ("learning", "unknown")
    assert explain(log.replace("\n", " acts: inf\n")).causes == ("learning", "unknown")
    assert explain("activations: nan\n").causes == ("unknown",)
