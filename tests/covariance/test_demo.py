"""The failure from its own ingredients, what was said of it, and its repair."""

from __future__ import annotations

import json

import pytest

from loopos.covariance.demo import REPORTED, as_text, demonstrate


@pytest.fixture(scope="module")
def found():
    return demonstrate()


def test_the_failure_is_the_reported_one(found):
    case = found.cases["failure"]
    assert case.norms["pred"] == pytest.approx(REPORTED["pred"], rel=0.5)
    assert case.norms["samp"] == pytest.approx(REPORTED["samp"], rel=0.5)
    assert 1e12 < case.norms["blend"] < 1e13
    assert 1e24 < case.loss < 1e26
    assert case.finite
    assert case.gradient_in_float32 == float("inf") > case.gradient


def test_its_birth_is_a_trace_below_the_floor(found):
    case = found.cases["failure"]
    assert 8 <= case.floored <= 24  # about half of 32
    assert case.trace < 0
    assert case.factor == pytest.approx(144 / 1e-9)
    assert f"sample {case.sample} was {case.trace:.3g}, below the floor 1e-09" in case.first
    assert case.smallest["pred"] < -5
    assert "a factor of 1.44e+11" in found.refusal


def test_a_tiny_sample_covariance_beside_a_semidefinite_prediction_does_nothing(found):
    case = found.cases["semidefinite"]
    assert case.norms["samp"] < 1e-3
    assert case.traces["pred"] == pytest.approx(144, rel=1e-4)
    assert case.norms["blend"] < 144
    assert case.floored == 0
    assert case.first.startswith("||R_samp||")  # the ledger says that it is tiny, all the same


def test_its_fixes_hide_it(found):
    assert found.cases["fix 1"].floored == 0
    assert found.cases["fix 1"].norms["blend"] < 200
    assert found.cases["fix 1, trace below"].floored > 16
    assert found.cases["fix 1, trace below"].norms["blend"] > 1e12
    assert found.cases["fix 1 and 2"].norms["blend"] < 200
    assert found.cases["fix 1 and 2"].smallest["blend"] < -1  # no covariance


def test_the_repaired_pipeline(found):
    case = found.cases["repaired"]
    assert case.floored == 0
    assert case.first == ""
    assert 30 < case.norms["blend"] < 100
    assert 1 < case.loss < 2000
    assert case.smallest["blend"] > 0


def test_it_is_a_page_and_json(found):
    text = as_text(found)
    for said in ("as reported", "Its birth", "sign of a trace", "hides it", "no covariance", "refused"):
        assert said in text, said
    json.dumps(found.to_dict(), allow_nan=True)
