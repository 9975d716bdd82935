"""What logsumexp promises beyond the family's contract (test_softmax.py)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loopos import ops


def test_accuracy_over_a_real_vocabulary(measured):
    assert measured["vocabulary"]["logsumexp"] < 3e-7


@settings(max_examples=40)
@given(
    x=hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=st.floats(-300, 300, width=32))
)
def test_it_lies_between_the_maximum_and_the_maximum_plus_log_n(x):
    y, top = ops.logsumexp(x).astype(np.float64), x.max(-1).astype(np.float64)
    slack = 1e-6 * np.maximum(1, np.abs(top))
    assert (y >= top - slack).all()
    assert (y <= top + np.log(x.shape[-1]) + slack).all()


def test_one_row_takes_a_number():
    x = np.array([0.0, 1.0, 2.0])
    y = ops.logsumexp(x)
    assert y.shape == ()
    for dy in (2.0, np.float64(2), np.array(2.0)):
        np.testing.assert_allclose(ops.logsumexp_backward(dy, x), 2 * ops.softmax(x), rtol=1e-14)
    with pytest.raises(TypeError, match="logsumexp_backward: dy must be a float, got a str"):
        ops.logsumexp_backward("2", x)
