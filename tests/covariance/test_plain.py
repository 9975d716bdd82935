"""The Hermitian algebra of the pipeline: values by definition; its gradients are tested through the pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from snapshots import samples

from loopos.covariance import plain


def test_a_covariance_is_the_mean_of_outer_products_with_the_second_factor_conjugated():
    x = samples()
    want = np.mean([[np.outer(row, row.conj()) for row in one] for one in x], axis=1)
    np.testing.assert_allclose(plain.sample_covariance(x), want, atol=1e-15)
    want = [np.cov(one.T, ddof=0) for one in x]
    np.testing.assert_allclose(plain.sample_covariance(x, center=True), want, atol=1e-15)


def test_a_trace_below_the_floor_is_told_and_an_amplification_refused():
    r = np.stack([np.eye(3), -np.eye(3)]).astype(complex)
    y, info = plain.trace_normalize(r, floor=1e-2)
    assert (info.count, list(info.floored), list(info.factor)) == (1, [False, True], [1.0, 300.0])
    np.testing.assert_allclose(plain.trace(y), [3, -900])
    with pytest.raises(plain.AmplificationError, match=r"batch entry \(1,\): trace -3, floor 0.01, factor 300"):
        plain.trace_normalize(r, floor=1e-2, max_amplification=100)
