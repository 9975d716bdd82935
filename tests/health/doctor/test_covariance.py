"""The doctor on a network of snapshots: a sound one, and each fault found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from snapshots import network, small

import loopos
from loopos.covariance import ULA, CovarianceNetwork, Simulation
from loopos.run.covariance import CovarianceLoss

LINE = Simulation(ULA(5), sources=2, snr=5.0, snapshots=6, seed=4)
RUN = {"max_steps": 20, "batch_size": 4, "warmup_steps": 5, "learning_rate": 1e-3}


def test_a_sound_network_passes_every_check_and_keeps_its_bits():
    model = network("float32")
    before = {name: view.copy() for name, view in model.parameters().items()}
    report = loopos.doctor(model, LINE, **RUN)
    assert report.ok, str(report)
    assert [check.name for check in report.checks] == [
        "train and evaluation",
        "positive definite",
        "floors",
        "scale",
        "conjugation",
        "convention of the data",
        "gradient reaches",
        "gradcheck",
        "scheduler before optimizer",
    ]
    assert "the first of the schedule, 0.0002" in str(report["scheduler before optimizer"])
    for name, view in model.parameters().items():
        np.testing.assert_array_equal(view, before[name])
    assert len(loopos.doctor(small(), LINE, quick=True, **RUN).checks) == 7


def test_the_pipeline_that_failed_is_found():
    config = small(prediction="unconstrained", normalize=("blend",), limit=None, learn_beta=False)
    model = CovarianceNetwork(config)
    model.parameters()["factor.bias"][...] = -np.concatenate([np.eye(5).ravel(), np.zeros(25)]).astype("float32")
    given = LINE.samples(0, 16)
    report = loopos.doctor(model, replace(given, snapshots=1e-6 * given.snapshots), quick=True, **RUN)
    assert {check.name for check in report.failures} >= {"positive definite", "floors", "scale"}
    assert "4 floors" in report["floors"].measured


def test_data_of_the_opposite_convention_are_found():
    given = LINE.samples(0, 16)
    report = loopos.doctor(network("float32"), replace(given, snapshots=given.snapshots.conj()), quick=True, **RUN)
    assert report["convention of the data"].verdict == "warn"
    assert report.ok


@pytest.mark.parametrize("wrong", ["samp", "gradient"])
def test_two_paths_and_a_wrong_gradient_are_found(monkeypatch, wrong):
    made = CovarianceLoss.result

    def result(self, *given):
        found = made(self, *given)
        if wrong == "samp":
            result.calls += 1
            return replace(found, matrices={**found.matrices, "samp": found.matrices["samp"] * result.calls})
        return replace(found, dloaded=1.001 * found.dloaded)

    result.calls = 0
    monkeypatch.setattr(CovarianceLoss, "result", result)
    report = loopos.doctor(network("float32"), LINE, **RUN)
    assert report["train and evaluation" if wrong == "samp" else "gradcheck"].verdict == "fail"
