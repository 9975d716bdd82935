"""A run with an adapter: the base keeps its bits, checkpoints hold the adapter alone, and a resume is exact."""

from __future__ import annotations

import json

import numpy as np
import pytest
from adapters import IDS, base

import loopos
from loopos import CheckpointError, LoRA, Model, NonFiniteError
from loopos.adapters.kept import kept
from loopos.files.run_folder import load_checkpoint

TEXT = np.resize(np.random.default_rng(0).permutation(23), 4000)
SETTINGS = dict(max_steps=6, batch_size=2, learning_rate=1e-2, log_every=1, progress=False)
SPECS = {"plain": LoRA(2), "dropout": LoRA(2, dropout=0.2, rslora=True), "dora": LoRA(2, dora=True)}


@pytest.fixture
def folder(tmp_path):
    base().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def bits(views):
    return {name: view.tobytes() for name, view in views.items()}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("weights", [None, "bfloat16", "int8", "int4"])
def test_a_run_goes_on_from_its_adapter_bit_for_bit(folder, tmp_path, spec, weights):
    whole, plain = (Model.from_pretrained(folder, weights=weights) for _ in range(2))
    result = loopos.train(whole, TEXT, adapter=spec, output_dir=tmp_path / "whole", save_every=2, **SETTINGS)
    assert whole.adapter == spec
    for name, view in plain.parameters().items():
        assert whole.parameters()[name].tobytes() == view.tobytes(), name
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert all(view.any() for view in whole.adapter_parameters().values())

    checkpoint = tmp_path / "whole" / "step-00000004"
    size = sum(path.stat().st_size for path in checkpoint.iterdir() if path.suffix == ".safetensors")
    numbers = sum(view.size for view in whole.adapter_parameters().values())
    assert size < 3 * 4 * numbers + 60_000  # values and two moments, and headers

    again = Model.from_pretrained(folder, weights=weights)
    more = loopos.train(again, TEXT, adapter=spec, resume=checkpoint, output_dir=tmp_path / "again", **SETTINGS)
    assert bits(again.parameters()) == bits(whole.parameters())
    assert more.history[-1]["loss"] == result.history[-1]["loss"]

    opened = Model.from_pretrained(tmp_path / "whole")
    assert (opened.adapter, opened.weights) == (spec, whole.weights)
    assert opened.forward(IDS).tobytes() == whole.forward(IDS).tobytes()
    on = loopos.train(opened, TEXT, resume=checkpoint, output_dir=tmp_path / "third", **SETTINGS)
    assert bits(on.model.parameters()) == bits(whole.parameters())


def test_another_base_is_told_so(folder, tmp_path):
    model = Model.from_pretrained(folder)
    loopos.train(model, TEXT, adapter=LoRA(2), output_dir=tmp_path / "run", **SETTINGS)
    other = base(seed=4)
    before = bits(other.parameters())
    with pytest.raises(ValueError, match=r"the model is not the base that the adapter in .* was trained on.*SHA-256"):
        loopos.train(other, TEXT, adapter=LoRA(2), resume=tmp_path / "run", **SETTINGS)
    assert other.adapter is None
    assert bits(other.parameters()) == before
    base(seed=4).save_pretrained(folder)
    with pytest.raises(ValueError, match="base is not the base that the adapter in"):
        Model.from_pretrained(tmp_path / "run")


def test_a_base_that_moved_is_named(folder, tmp_path):
    model = Model.from_pretrained(folder)
    loopos.train(model, TEXT, adapter=LoRA(2), output_dir=tmp_path / "run", **SETTINGS)
    moved = folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"its base was in .*/base, which is not there now.*base=FOLDER"):
        Model.from_pretrained(tmp_path / "run")
    opened = Model.from_pretrained(tmp_path / "run", base=moved)
    assert opened.forward(IDS).tobytes() == model.forward(IDS).tobytes()
    assert opened.folder == str(moved)
    with pytest.raises(ValueError, match="is a whole model and no adapter, so it takes no base"):
        Model.from_pretrained(moved, base=moved)


def test_a_base_from_no_folder_is_told_so(tmp_path):
    loopos.train(base(), TEXT, adapter=LoRA(2), output_dir=tmp_path / "run", **SETTINGS)
    with pytest.raises(FileNotFoundError, match="its base came from no folder"):
        Model.from_pretrained(tmp_path / "run")


def test_another_storage_of_the_base_is_opened_when_asked_for(folder, tmp_path):
    model = Model.from_pretrained(folder, weights="int8")
    loopos.train(model, TEXT, adapter=LoRA(2), output_dir=tmp_path / "run", **SETTINGS)
    opened = Model.from_pretrained(tmp_path / "run", weights="float32")
    assert opened.weights == "float32"
    assert bits(opened.adapter_parameters()) == bits(model.adapter_parameters())
    opened.merge_adapter()


def test_a_resume_with_another_adapter_or_none_is_refused(folder, tmp_path):
    loopos.train(Model.from_pretrained(folder), TEXT, adapter=LoRA(2), output_dir=tmp_path / "run", **SETTINGS)
    for spec in (None, LoRA(3), LoRA(2, targets=("q_proj",))):
        with pytest.raises(ValueError, match=r"not the run that .* was saved from; the adapter: "):
            loopos.train(Model.from_pretrained(folder), TEXT, adapter=spec, resume=tmp_path / "run", **SETTINGS)
    loopos.train(base(), TEXT, output_dir=tmp_path / "whole", **SETTINGS)
    with pytest.raises(ValueError, match=r"the adapter: .* here, None"):
        loopos.train(base(), TEXT, adapter=LoRA(2), resume=tmp_path / "whole", **SETTINGS)


def test_an_adapter_that_cannot_be_put_on_leaves_the_model_alone(tmp_path):
    model = base()
    before = bits(model.parameters())
    for adapter, error, says in (
        ("lora", TypeError, "adapter must be a loopos.LoRA"),
        (LoRA(targets=("c_attn",)), ValueError, "has no c_attn"),
    ):
        with pytest.raises(error, match=says):
            loopos.train(model, TEXT, adapter=adapter, **SETTINGS)
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="taken"):
        loopos.train(model, TEXT, adapter=LoRA(2), output_dir=tmp_path / "taken", **SETTINGS)
    with pytest.raises(MemoryError):
        loopos.train(model, TEXT, adapter=LoRA(2), **SETTINGS | {"batch_size": 10**9})
    assert model.adapter is None
    assert bits(model.parameters()) == before
    model.add_adapter(LoRA(3))
    with pytest.raises(ValueError, match="the model has another adapter"):
        loopos.train(model, TEXT, adapter=LoRA(2), **SETTINGS)


def test_the_adapter_of_the_model_is_trained_without_being_asked_for():
    model = base()
    model.add_adapter(LoRA(2), seed=SETTINGS.get("seed", 1337))
    loopos.train(model, TEXT, **SETTINGS)
    asked = base()
    loopos.train(asked, TEXT, adapter=LoRA(2), **SETTINGS)
    assert bits(model.parameters()) == bits(asked.parameters())


def test_rewind_brings_back_the_adapter(tmp_path):
    """Poisoned in the fifth step: what was learned since the snapshot is undone, the base is what it was."""

    class Poison(loopos.Callback):
        def on_step_end(self, info):
            if info["step"] == 4:
                next(iter(info["model"].adapter_parameters().values()))[0, 0] = np.inf

    model, plain = base(), base()
    settings = SETTINGS | {"on_nonfinite": "rewind", "callbacks": [Poison()], "output_dir": tmp_path}
    result = loopos.train(model, TEXT, adapter=LoRA(2), **settings)
    kept_names = {n for n in load_checkpoint(tmp_path).optimizer if n.startswith("snapshot.weights.")}
    assert kept_names == {f"snapshot.weights.{name}" for name in model.adapter_parameters()}  # and no copy of the base
    assert result.history[-1]["nonfinite"] == 1
    assert np.isfinite(result.history[-1]["loss"])
    for name, view in plain.parameters().items():
        assert model.parameters()[name].tobytes() == view.tobytes()


def test_a_description_that_cannot_be_read_is_the_checkpoints_fault(folder, tmp_path):
    loopos.train(Model.from_pretrained(folder), TEXT, adapter=LoRA(2), output_dir=tmp_path / "run", **SETTINGS)
    checkpoint = load_checkpoint(tmp_path / "run")
    state = json.loads(json.dumps(checkpoint.state))
    for damaged in ({"adapter": {"kind": "lora", "rank": -1}}, {"adapter": {"kind": "other"}}, {"base": None}):
        checkpoint.state.clear()
        checkpoint.state.update(state | damaged)
        with pytest.raises(CheckpointError, match="does not describe its adapter"):
            kept(checkpoint)


def test_a_halt_says_what_went_wrong_in_the_adapter(tmp_path):
    model = base()
    model.add_adapter(LoRA(2))
    model.parameters()["blocks.1.attn.o_proj.lora_B"][3, 1] = np.inf
    with pytest.raises(NonFiniteError) as caught:
        loopos.train(model, TEXT, output_dir=tmp_path / "run", **SETTINGS)
    assert caught.value.birth.tensor == "blocks.1.attn.o_proj.lora_B"
