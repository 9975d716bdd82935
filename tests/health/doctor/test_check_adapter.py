"""The doctor and adapters: a gate that is not 1 at the start, an added part that is large there, one that never learns,
a base that moves."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos import LoRA, Modulated
from loopos.health.doctor.check_adapter import check_adapter
from loopos.health.doctor.check_gradient import reach

LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False}


def adapted(config, spec, **changes):
    model = loopos.Model(config(**changes), seed=1)
    model.add_adapter(spec)
    return model


def found(patient):
    return {check.name: check for check in check_adapter(patient)}


@pytest.mark.parametrize("family", [{}, LLAMA, {**LLAMA, "norm_placement": "post"}, {"parallel_residual": True}])
@pytest.mark.parametrize("spec", [Modulated(4), Modulated(4, "tanh"), Modulated(4, safe_mode=True)])
def test_a_sound_one_passes(spec, family, config, patient):
    checks = found(patient(adapted(config, spec, **family)))
    assert list(checks) == ["gate", "added part", "adapter loss", "base"]
    assert {check.verdict for check in checks.values()} == {"ok"}, list(map(str, checks.values()))
    if not spec.safe_mode:
        assert "1 at 0 with slope" in checks["gate"].measured
        assert "given 1.000 of their input" in checks["gate"].measured


@pytest.mark.parametrize("family", [{}, LLAMA, {**LLAMA, "norm_placement": "post"}, {"parallel_residual": True}])
def test_the_gate_of_the_document_is_refused_with_the_growth(family, config, patient):
    checks = found(patient(adapted(config, Modulated(4, "document"), n_layer=8, **family)))
    gate = checks.pop("gate")
    assert gate.verdict == "fail"
    assert gate.measured.startswith("0.75 at 0 with slope 0.125, from 0.5 to 1; ")
    assert gate.measured.endswith("given 0.750 of their input, 0.75^8 = 1.0e-01 over 8 blocks that multiply up")
    assert "gate='document' takes from every block before anything is learned" in gate.advice
    assert {check.verdict for check in checks.values()} == {"ok"}


def test_a_large_beginning_is_remarkable(config, patient):
    model = adapted(config, Modulated(4))
    model.parameters()["blocks.1.modulate.B_add"][...] = 1e5
    check = found(patient(model))["added part"]
    assert check.verdict == "warn"
    assert "block 1, blocks.1.modulate.B_add has rms 1e+05" in check.measured
    assert "of standard deviation 0.001" in check.advice


def test_one_that_can_never_learn_is_found(config, patient):
    model = adapted(config, Modulated(4))
    for view in model.adapter_parameters().values():
        view[...] = 0
    check = reach(patient(model))
    assert check.verdict == "fail"
    assert "nothing depends on blocks.0.modulate.A_proj" in check.advice


@pytest.mark.parametrize("spec", [Modulated(4), LoRA(2)])
def test_a_base_that_moves_is_named(spec, config, patient):
    def trainer(model, data, **settings):
        result = loopos.train(model, data, **settings)
        model.parameters()["blocks.1.mlp_norm.weight"][3] += 1e-3
        return result

    model = adapted(config, spec)
    before = model.parameters()["blocks.1.mlp_norm.weight"].copy()
    check = found(patient(model, trainer=trainer))["base"]
    assert check.verdict == "fail"
    assert "tensors move: blocks.1.mlp_norm.weight" in check.measured
    np.testing.assert_array_equal(model.parameters()["blocks.1.mlp_norm.weight"], before)


def test_a_model_without_an_adapter_is_not_asked(config, patient):
    assert found(patient()) == {}
    assert list(found(patient(adapted(config, LoRA(2))))) == ["adapter loss", "base"]


def test_doctor_refuses_it_in_its_report(config):
    ids = np.random.default_rng(0).integers(0, 256, 2000)
    model = adapted(config, Modulated(4, "document"))
    report = loopos.doctor(model, ids, quick=True, batch_size=2, learning_rate=1e-3)
    assert not report.ok
    assert [check.name for check in report.checks if check.verdict == "fail"] == ["gate"]
