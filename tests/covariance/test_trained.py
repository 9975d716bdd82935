"""A trained network's estimates: the pipeline's, in the table of errors, with their scale."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.covariance import ULA, CovarianceConfig, CovarianceNetwork, Simulation, trained

LINE = Simulation(ULA(8), sources=2, snr=10.0, snapshots=50, seed=4)


@pytest.fixture
def model():
    return CovarianceNetwork(CovarianceConfig(8, n_layer=1, n_head=2, d_model=16, rank=2), dtype="float64")


def test_the_estimate_is_that_of_the_pipeline(model):
    given = LINE.samples(trained.TESTED, 3)
    found = trained.estimate(model, given)
    np.testing.assert_allclose(np.trace(found.matrices["blend"], axis1=1, axis2=2).real, 8, rtol=1e-12)
    np.testing.assert_array_equal(found.vectors, model.vectors(given.snapshots))


def test_with_all_weight_on_the_sample_covariance_the_network_is_as_good_as_it(model):
    model.parameters()["blend"][...] = 40
    rows, (scale,) = trained.measure(model, LINE, [10.0], [50], 16)
    by_name = {row.estimate: row for row in rows}
    assert list(by_name) == ["network", "sample", "ledoit_wolf", "oas"]
    assert by_name["network"].rmse == pytest.approx(by_name["sample"].rmse, rel=1e-6)
    assert scale.beta == pytest.approx(1)
    assert scale.samp_norm == pytest.approx(scale.blend_norm)


def test_a_table_has_the_scale_of_each_cell(model):
    rows, scales = trained.measure(model, LINE, [0, 10], [2, 50], 3)
    assert [(each.snapshots, each.snr) for each in scales] == [(2, 0.0), (2, 10.0), (50, 0.0), (50, 10.0)]
    assert len(rows) == 16
    assert scales[0].beta < scales[-1].beta
    assert min(each.blend_smallest for each in scales) > 0
    text = trained.as_text(scales).splitlines()
    assert len(text) == 5
    assert "||R_blend||" in text[0]
