"""The table of estimates: each column is what its description says, for predictions and for what stands beside them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from loopos.covariance import (
    ULA,
    URA,
    CalibrationErrors,
    Samples,
    Simulation,
    direction_bound,
    direction_errors,
    evaluate,
    oas,
    rmspe,
    root_music,
    sample_covariance,
    subspacenet,
    sweep,
    table,
)

LINE = Simulation(ULA(6), sources=2, snapshots=50, snr=5.0)
SAMPLES = LINE.samples(0, 12)


def test_the_sample_covariance_by_hand():
    (row,) = evaluate(SAMPLES, baselines=("sample",))
    found = [root_music(sample_covariance(rows), SAMPLES.array, 2) for rows in SAMPLES.snapshots]
    errors = np.concatenate([direction_errors(a, b) for a, b in zip(found, SAMPLES.directions, strict=True)])
    assert row.rmse == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert row.rmspe == pytest.approx(np.mean([rmspe(a, b) for a, b in zip(found, SAMPLES.directions, strict=True)]))
    assert row.outliers == np.mean(np.abs(errors) > SAMPLES.array.beamwidth / 2)
    bounds = [direction_bound(SAMPLES.array, each, 10**0.5, 50) for each in SAMPLES.directions]
    assert row.bound == pytest.approx(np.sqrt(np.mean(np.square(bounds))))
    assert (row.estimate, row.snr, row.snapshots, row.samples) == ("sample", 5.0, 50, 12)
    assert row.finder == "root_music"


def test_the_truth_has_no_error_and_shrinkage_leaves_directions_alone():
    rows = {row.estimate: row for row in evaluate(SAMPLES, baselines=("true", "sample", "ledoit_wolf", "oas"))}
    assert rows["true"].rmse < 1e-10
    assert rows["true"].distance == 0
    assert rows["true"].counted == 1
    for name in ("ledoit_wolf", "oas"):
        assert rows[name].rmse == pytest.approx(rows["sample"].rmse, rel=1e-6)
        assert rows[name].distance < rows["sample"].distance
    wanted = oas(sample_covariance(SAMPLES.snapshots), 50).covariance
    assert rows["oas"].distance == pytest.approx(evaluate(SAMPLES, wanted, baselines=())[0].distance)


def test_predictions_come_first_in_any_scale():
    rows = evaluate(SAMPLES, {"mine": 1e-6 * SAMPLES.covariance, "other": np.eye(6) + 0 * SAMPLES.covariance})
    assert [row.estimate for row in rows] == ["mine", "other", "sample", "ledoit_wolf", "oas"]
    assert rows[0].rmse < 1e-10
    assert rows[0].distance < 1e-12
    assert rows[1].counted == 0
    assert evaluate(SAMPLES, SAMPLES.covariance.astype(np.complex64))[0].estimate == "predicted"


def test_an_outlier_is_more_than_half_a_beamwidth_off():
    array, true = ULA(6), np.array([[0.1], [0.1], [0.1]])
    samples = Samples(array, None, true, np.array([1, 1, 1]))
    steering = array.steering(true + array.beamwidth * np.array([[0.2], [0.45], [0.7]]))
    (row,) = evaluate(samples, steering @ np.swapaxes(steering, 1, 2).conj(), baselines=())
    assert row.outliers == pytest.approx(1 / 3)


def test_an_indefinite_prediction_is_judged_all_the_same():
    indefinite = SAMPLES.covariance - 5 * np.eye(6)
    (row,) = evaluate(SAMPLES, indefinite, baselines=())
    assert row.rmse < 1e-10
    assert row.counted is None
    (row,) = evaluate(SAMPLES, SAMPLES.covariance - 1e4 * np.eye(6), baselines=())
    assert row.distance is None


def test_few_snapshots_are_counted_by_random_matrices_alone():
    few = replace(LINE, array=ULA(12), snapshots=8).samples(0, 6)
    assert [row.counted is None for row in evaluate(few)] == [True, False, False]
    assert evaluate(few, criterion="random_matrix", baselines=("sample",))[0].counted is not None


def test_a_plane_is_found_by_music_and_by_esprit():
    samples = Simulation(URA(4, 4), sources=(1, 2), snapshots=60, snr=15.0).samples(0, 4)
    for finder in (None, "esprit"):
        (row,) = evaluate(samples, finder=finder, baselines=("sample",))
        assert row.finder == (finder or "music")
        assert row.rmspe is None
        assert 0.4 < row.rmse / row.bound < 2


def test_smoothing_is_for_coherent_sources_of_the_baselines():
    samples = Simulation(ULA(8), sources=2, correlation=1.0, snr=20.0).samples(0, 20)
    plain, smooth = (evaluate(samples, baselines=("sample",), smoothing=size)[0] for size in (False, True))
    assert smooth.rmse < plain.rmse / 3
    assert smooth.counted > 0.8 > plain.counted
    assert smooth.distance is None
    assert evaluate(samples, baselines=("sample",), smoothing=6)[0] == smooth


def test_the_published_figure_of_root_music_in_subspacenets_setting():
    """0.369 rad in the score file of their repository, from its own code: 300 samples, deviation about 0.01."""
    (row,) = evaluate(subspacenet().samples(0, 150), baselines=("sample",))
    assert row.rmspe == pytest.approx(0.369, abs=0.04)


def test_the_bound_is_that_of_the_array_that_measured_and_ends_at_a_guess():
    sick = replace(LINE, errors=CalibrationErrors(gain=3.0, position=0.1)).samples(0, 3)
    (row,) = evaluate(sick, baselines=("sample",))
    bounds = [direction_bound(a, d, 10**0.5, 50) for a, d in zip(sick.arrays, sick.directions, strict=True)]
    assert row.bound == pytest.approx(np.sqrt(np.mean(np.square(bounds))))
    (row,) = evaluate(replace(LINE, snr=-100.0).samples(0, 3), baselines=("sample",))
    assert row.bound == pytest.approx(math.pi / math.sqrt(12))


def test_a_sweep_has_a_row_for_each_and_calls_the_prediction_with_the_samples():
    seen = []

    def predict(samples):
        seen.append((samples.snr[0], samples.snapshots.shape))
        return samples.covariance

    rows = sweep(LINE, predict, snr=(0, 10), snapshots=(9, 20), count=3, first=5, baselines=("sample",))
    assert seen == [(0, (3, 9, 6)), (10, (3, 9, 6)), (0, (3, 20, 6)), (10, (3, 20, 6))]
    assert [(row.snapshots, row.snr, row.estimate) for row in rows[1:4]] == [
        (9, 0, "sample"),
        (9, 10, "predicted"),
        (9, 10, "sample"),
    ]
    text = table(rows)
    assert len(text.splitlines()) == 9
    assert "RMSE deg" in text


def test_covariances_without_snapshots():
    bare = Samples(SAMPLES.array, None, SAMPLES.directions, SAMPLES.sources, measured=SAMPLES.covariance)
    (row,) = evaluate(bare, baselines=("sample",))
    assert row.rmse < 1e-10
    assert (row.counted, row.bound, row.distance, row.snr, row.snapshots) == (None, None, None, None, 0)
    assert " - " in table([row])
    with pytest.raises(ValueError, match=r"'ledoit_wolf' is made of snapshots, and these samples have none"):
        evaluate(bare)
    with pytest.raises(ValueError, match="the true covariance of these samples is not known"):
        evaluate(bare, baselines=("true",))


BROKEN = SAMPLES.covariance.copy()
BROKEN[[3, 7], 0, 1] = np.nan


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda: evaluate(SAMPLES, SAMPLES.covariance[:3]),
            ValueError,
            r"'predicted' must have the shape \(12, 6, 6\)",
        ),
        (lambda: evaluate(SAMPLES, {"x": BROKEN}), ValueError, r"'x' is not finite in sample 3 \(2 of 12 are not\)"),
        (lambda: evaluate(SAMPLES, finder="capon"), ValueError, r"finder must be one of 'music', 'root_music'"),
        (
            lambda: evaluate(SAMPLES, baselines=("best",)),
            ValueError,
            r"baselines must be one of 'sample', 'ledoit_wolf'",
        ),
        (lambda: evaluate(SAMPLES.snapshots), TypeError, r"samples must be Samples"),
    ],
)
def test_bad_input_is_refused(call, error, sentence):
    with pytest.raises(error, match=f"evaluate: {sentence}"):
        call()
