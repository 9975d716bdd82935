"""What a gradient check reports: as text, as a truth value, as an error that travels between processes."""

import math
import pickle

import numpy as np
import pytest

from loopos.gradients.report import GradcheckError, GradcheckReport, GradcheckResult, unusable

GOOD = GradcheckResult("x", True, 1e-9)
BAD = GradcheckResult("w", False, 0.5, "the gradient is wrong", (1, 2), 3.0, 6.0)


def test_a_report_is_true_when_every_part_passed_and_never_when_there_is_none():
    assert GradcheckReport((GOOD,), 1e-6)
    assert not GradcheckReport((GOOD, BAD), 1e-6)
    assert not GradcheckReport((), 1e-6)
    assert GradcheckReport((), 1e-6).max_error == math.inf


def test_the_text_names_the_worst_element():
    assert str(GradcheckReport((GOOD, BAD), 1e-6, "a note")).splitlines() == [
        "gradcheck FAILED: largest relative error 5.0e-01, allowed 1e-06 (a note)",
        "  ok   x: relative error 1.0e-09",
        "  FAIL w: relative error 5.0e-01; worst at [1, 2]: gradient 3, difference 6; the gradient is wrong",
    ]


def test_the_error_keeps_its_report():
    error = pickle.loads(pickle.dumps(GradcheckError(GradcheckReport((BAD,), 1e-6))))
    assert error.report.results == (BAD,)


@pytest.mark.parametrize(
    ("gradient", "says"),
    [
        (np.zeros((2, 2), np.float32), "float32 (2, 2), expected float64 (2, 2)"),
        (np.zeros((2, 3)), "float64 (2, 3), expected float64 (2, 2)"),
        (np.array([[0.0, np.nan], [0.0, 0.0]]), "nan at [0, 1]"),
    ],
)
def test_what_cannot_be_compared(gradient, says):
    assert says in unusable("x", gradient, (2, 2)).reason
    assert unusable("x", np.zeros((2, 2)), (2, 2)) is None
