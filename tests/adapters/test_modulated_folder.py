"""A modulated adapter on a model: put on, taken off, copied, saved, kept in checkpoints, refused where it cannot be."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from adapters import IDS, base, stir

import loopos
from loopos import CheckpointError, LoRA, Model, Modulated, NonFiniteError, testing

TEXT = np.resize(np.random.default_rng(0).permutation(23), 4000)
SETTINGS = dict(max_steps=6, batch_size=2, learning_rate=1e-2, log_every=1, progress=False)
SPECS = {"gate": Modulated(2, "tanh", 0.5), "safe mode": Modulated(3, safe_mode=True)}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def modulated(spec, family="llama", **how):
    model = base(family, **how)
    model.add_adapter(spec, seed=1)
    stir(model.adapter_parameters(), seed=2)
    return model


def bits(views):
    return {name: view.tobytes() for name, view in views.items()}


@each_spec
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "phi3"])
def test_a_new_one_changes_next_to_nothing_learns_alone_and_comes_off_without_a_trace(family, spec):
    model, plain = base(family), base(family)
    before = model.forward(IDS)
    model.add_adapter(spec, seed=4)
    assert model.adapter == spec
    assert list(model.parameters(trainable=True)) == list(model.adapter_parameters())
    moved = np.abs(model.forward(IDS) - before).max()
    assert 0 < moved < 2e-3 * np.abs(before).max()
    _, gradients = model.loss_and_grads(IDS, IDS)
    assert list(gradients) == list(model.adapter_parameters())
    assert all(gradient.any() for gradient in gradients.values())
    model.remove_adapter()
    assert bits(model.parameters()) == bits(plain.parameters())
    assert model.forward(IDS).tobytes() == before.tobytes()


def test_the_gate_of_the_document_takes_a_quarter_from_the_start():
    model, moved = base(), {}
    before = model.forward(IDS)
    for gate in ("sigmoid", "document"):
        model.add_adapter(Modulated(2, gate))
        moved[gate] = np.abs(model.forward(IDS) - before).max()
        model.remove_adapter()
    assert moved["document"] > 100 * moved["sigmoid"]


@each_spec
def test_copies_and_pickles_are_independent(spec):
    model = modulated(spec)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.adapter == spec
        assert other.forward(IDS).tobytes() == model.forward(IDS).tobytes()
        stir(other.adapter_parameters(), seed=9)
        assert other.forward(IDS).tobytes() != model.forward(IDS).tobytes()


@each_spec
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_saved_is_loaded_bit_for_bit(spec, dtype, tmp_path):
    model, other = modulated(spec, dtype=dtype), base(dtype=dtype)
    model.save_adapter(tmp_path)
    other.load_adapter(tmp_path)
    assert other.adapter == spec
    assert bits(other.parameters()) == bits(model.parameters())
    assert list(other.parameters(trainable=True)) == list(other.adapter_parameters())
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["peft_type"] == "LOOPOS_MODULATED"  # no name that peft knows


def test_a_folder_of_another_model_or_one_that_is_damaged_is_refused(tmp_path):
    modulated(Modulated(2)).save_adapter(tmp_path)
    other = loopos.Model(loopos.ModelConfig(23, 12, 1, 2, 8))
    with pytest.raises(CheckpointError, match="the adapter belongs to another base"):
        other.load_adapter(tmp_path)
    assert other.adapter is None
    path = tmp_path / "adapter_config.json"
    settings = json.loads(path.read_text())
    for changed, words in (
        ({"version": 2}, "version 2; this LoopOS reads 1"),
        ({"gate": "relu"}, "Modulated: gate must be one of"),
        ({"more": 1}, "more"),
        ({"rank": 3}, "the adapter belongs to another base"),
    ):
        path.write_text(json.dumps(settings | changed))
        with pytest.raises(CheckpointError, match=words):
            base().load_adapter(tmp_path)


def test_what_it_cannot_be_is_said():
    model = modulated(Modulated(2))
    with pytest.raises(ValueError, match="merge_adapter: a modulated adapter has no place in the weights"):
        model.merge_adapter()
    with pytest.raises(ValueError, match=r"the model has an adapter already, Modulated.*; remove_adapter\(\) first"):
        model.add_adapter(LoRA(2))
    with pytest.raises(ValueError, match=r"no place; save_adapter\(folder\) writes it alone"):
        model.save_pretrained("nowhere")
    with pytest.raises(TypeError, match="spec must be a LoRA or a Modulated, got 'modulated'"):
        base().add_adapter("modulated")


@each_spec
@pytest.mark.parametrize("weights", [None, "bfloat16", "int8"])
def test_a_run_goes_on_from_its_adapter_bit_for_bit(tmp_path, spec, weights):
    base().save_pretrained(tmp_path / "base")
    whole, plain = (Model.from_pretrained(tmp_path / "base", weights=weights) for _ in range(2))
    result = loopos.train(whole, TEXT, adapter=spec, output_dir=tmp_path / "whole", save_every=2, **SETTINGS)
    for name, view in plain.parameters().items():
        assert whole.parameters()[name].tobytes() == view.tobytes(), name
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert all(view.any() for view in whole.adapter_parameters().values())
    checkpoint = tmp_path / "whole" / "step-00000004"
    again = Model.from_pretrained(tmp_path / "base", weights=weights)
    loopos.train(again, TEXT, adapter=spec, resume=checkpoint, output_dir=tmp_path / "again", **SETTINGS)
    assert bits(again.parameters()) == bits(whole.parameters())
    opened = Model.from_pretrained(tmp_path / "whole")
    assert (opened.adapter, opened.weights) == (spec, whole.weights)
    assert opened.forward(IDS).tobytes() == whole.forward(IDS).tobytes()
    with pytest.raises(ValueError, match="the adapter: "):
        loopos.train(base(), TEXT, adapter=Modulated(5), resume=checkpoint, **SETTINGS)


def put_on(spec, **how):
    model = base(**how)
    model.add_adapter(spec)
    return model


@each_spec
def test_a_step_that_is_not_finite_is_skipped_and_moves_nothing(spec, tmp_path):
    """Neither weights nor moments, which the checkpoints before and after it hold."""
    model = put_on(spec)
    settings = SETTINGS | {"max_steps": 3, "on_nonfinite": "skip", "save_every": 1, "output_dir": tmp_path}
    with testing.planted(model, "blocks.1.modulate.y", (0, 0, 0), np.nan, step=3):
        result = loopos.train(model, TEXT, **settings)
    assert result.history[-1]["nonfinite"] == 1
    assert np.isnan(result.history[-1]["loss"])
    before, after = (
        {path.name: path.read_bytes() for path in (tmp_path / f"step-0000000{step}").glob("*.safetensors")}
        for step in (2, 3)
    )
    assert len(before) == 2
    assert before == after


def test_the_budget_of_skipped_steps_ends_in_a_halt_that_names_the_modulation():
    model = put_on(Modulated(2))
    start = bits(model.adapter_parameters())
    with testing.planted(model, "blocks.1.modulate.y", (0, 0, 0), np.nan), pytest.raises(NonFiniteError) as caught:
        loopos.train(model, TEXT, **SETTINGS | {"on_nonfinite": "skip"})
    birth = caught.value.birth
    assert (birth.step, birth.layer, birth.op, birth.tensor) == (3, 1, "modulate", "blocks.1.modulate.y")
    assert bits(model.adapter_parameters()) == start


@each_spec
@pytest.mark.parametrize("weights", [None, "int8"])
def test_a_bundle_of_it_is_done_again(tmp_path, spec, weights):
    base().save_pretrained(tmp_path / "base")
    model = Model.from_pretrained(tmp_path / "base", weights=weights)
    model.add_adapter(spec)
    model.adapter_parameters()["blocks.0.modulate.A_proj"][...] = 1e38
    with pytest.raises(NonFiniteError):
        loopos.train(model, TEXT, output_dir=tmp_path / "run", **SETTINGS)
    (bundle,) = (tmp_path / "run" / "bundles").iterdir()
    report = loopos.replay(bundle)
    assert report.reproduced, str(report)
