"""The scale ledger: its numbers by definition, and what it calls out of scale."""

from __future__ import annotations

import numpy as np
import pytest
from snapshots import SOURCES, run, samples, small, truth, vectors

from loopos.covariance import ledger
from loopos.covariance.pipeline import STAGES, pipeline


def test_its_numbers_are_those_of_the_matrices():
    result = run(small(), vectors(small()))
    found = ledger.scales(result)
    assert list(found) == list(STAGES)
    for name, scale in found.items():
        norms = np.linalg.norm(result.matrices[name], axis=(1, 2))
        values = np.linalg.eigvalsh(result.matrices[name][int(norms.argmax())])
        got = (scale.norm, scale.largest, scale.sample, scale.smallest)
        assert got == pytest.approx((norms.mean(), norms.max(), norms.argmax(), values[0]), abs=1e-13)
        if name == "samp":  # of rank 4 of 5
            assert scale.condition > 1e12
        else:
            assert scale.condition == pytest.approx(values[-1] / values[0])
    assert set(ledger.flat(found)) == {f"{n}_{q}" for n in STAGES for q in ledger.QUANTITIES}
    assert "pred_smallest" not in ledger.flat(ledger.scales(result, eigenvalues=False))


def test_a_sound_batch_has_no_alarm():
    assert ledger.alarms(run(small(), vectors(small()))) == []


def test_a_floor_a_jump_and_a_loss_are_told_with_their_sample():
    config = small(prediction="unconstrained", normalize=("blend",), limit=None)
    given = vectors(config)
    given[:2] += 20 * np.eye(5)
    given[2] -= 50 * np.eye(5)
    result = pipeline(config, 1e-3 * samples(), given, 0.5, truth(), SOURCES)
    found = ledger.alarms(result)
    assert {(alarm.name, alarm.sample) for alarm in found} == {("blend", 2), ("samp", 0), ("blend", 0), ("loss", 2)}
    assert "trace of R_blend of sample 2 was -" in str(found[0])
    assert "below the floor 1e-09, so it was multiplied by 5e+09" in str(found[0])
    assert "a jump of more than 1000" in " ".join(map(str, found))
    assert "matrices of one scale are not so far apart" in str(found[-1])


def test_training_and_evaluation_at_different_scales_are_told():
    sound = {"pred_norm": 65.1, "samp_norm": 46.6}
    assert ledger.apart(sound, sound) == []
    assert ledger.apart(sound, {}) == []
    (alarm,) = ledger.apart(sound | {"samp_norm": 2.85e-4}, sound)
    assert str(alarm).startswith("||R_samp|| is 0.000285 in training and 46.6 in evaluation")
