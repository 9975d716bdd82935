"""An adapter on a model: what is trainable, what is refused, and that it comes off without a trace."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from adapters import IDS, adapted, base, some

import loopos
from loopos import LoRA, Modulated


def bits(views):
    return {name: view.tobytes() for name, view in views.items()}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "phi3"])
def test_a_new_adapter_changes_nothing_and_alone_is_trainable(family):
    model, plain = base(family), base(family)
    before = model.forward(IDS)
    model.add_adapter(LoRA(2, targets=some(family)), seed=4)
    assert model.adapter == LoRA(2, targets=some(family))
    assert model.forward(IDS).tobytes() == before.tobytes()
    own = list(model.adapter_parameters())
    assert list(model.parameters(trainable=True)) == own
    assert list(model.parameters()) == [*plain.parameters(), *own]
    _, gradients = model.loss_and_grads(IDS, IDS)
    assert list(gradients) == own
    assert all(gradients[name].any() == name.endswith("lora_B") for name in own)


def test_it_comes_off_without_a_trace():
    model, plain = base(), base()
    for each in (model, plain):
        each.freeze("blocks.0.*")
    model.add_adapter(LoRA(2))
    model.remove_adapter()
    assert model.adapter is None
    assert bits(model.parameters()) == bits(plain.parameters())
    assert list(model.parameters(trainable=True)) == list(plain.parameters(trainable=True))
    assert model.forward(IDS).tobytes() == plain.forward(IDS).tobytes()


def test_freezing_is_about_the_adapter_while_it_is_on():
    model = adapted(LoRA(2))
    frozen = model.freeze("blocks.0.*")
    assert frozen == [name for name in model.adapter_parameters() if name.startswith("blocks.0.")]
    assert list(model.parameters(trainable=True)) == [n for n in model.adapter_parameters() if n not in frozen]
    assert model.unfreeze() == list(model.adapter_parameters())
    assert list(model.parameters(trainable=True)) == list(model.adapter_parameters())
    with pytest.raises(ValueError, match=r"no parameter matches 'tok_embed.\*'; their names are blocks\.0\.attn"):
        model.unfreeze("tok_embed.*")


def test_the_seed_gives_the_first_values():
    one, same, other = (base() for _ in range(3))
    for model, seed in ((one, 7), (same, 7), (other, 8)):
        model.add_adapter(LoRA(2), seed=seed)
    assert bits(one.adapter_parameters()) == bits(same.adapter_parameters())
    assert bits(one.adapter_parameters()) != bits(other.adapter_parameters())


@pytest.mark.parametrize("spec", [LoRA(2), LoRA(2, dora=True)], ids=["lora", "dora"])
@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_one_of_their_own(make, spec):
    model = adapted(spec)
    twin = make(model)
    assert twin.adapter == model.adapter
    assert bits(twin.parameters()) == bits(model.parameters())
    assert list(twin.parameters(trainable=True)) == list(model.parameters(trainable=True))
    next(iter(twin.adapter_parameters().values()))[...] = 0
    assert bits(twin.adapter_parameters()) != bits(model.adapter_parameters())
    twin.remove_adapter()
    assert list(twin.parameters(trainable=True)) == list(base().parameters())


def test_what_cannot_be_is_refused_in_a_sentence(tmp_path):
    model = base()
    with pytest.raises(TypeError, match="spec must be a LoRA or a Modulated, got 8"):
        model.add_adapter(8)
    with pytest.raises(ValueError, match="this model has no c_attn; targets can be all-linear, attention, q_proj"):
        model.add_adapter(LoRA(targets=("c_attn",)))
    for seed in (-1, 2**64, 0.5):
        with pytest.raises((ValueError, TypeError), match="seed"):
            model.add_adapter(LoRA(), seed=seed)
    for method in (model.remove_adapter, model.merge_adapter, lambda: model.save_adapter(tmp_path)):
        with pytest.raises(ValueError, match="the model has no adapter"):
            method()
    model.add_adapter(LoRA(2))
    model.save_adapter(tmp_path / "adapter")
    for method in (lambda: model.add_adapter(LoRA(3)), lambda: model.load_adapter(tmp_path / "adapter")):
        with pytest.raises(ValueError, match=r"has an adapter already, LoRA\(rank=2.*remove_adapter\(\) first"):
            method()
    with pytest.raises(ValueError, match=r"save_pretrained: the model has an adapter.*merge_adapter\(\)"):
        model.save_pretrained(tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    pytest.importorskip("gguf", reason="the extra [gguf]")
    with pytest.raises(ValueError, match=r"gguf.write: the model has an adapter"):
        loopos.gguf.write(model, tmp_path / "model.gguf")


def test_while_a_run_trains_the_adapter_stays(tmp_path):
    said = []

    class Meddling(loopos.Callback):
        def on_step_end(self, info):
            for method in ("remove_adapter", "merge_adapter"):
                with pytest.raises(
                    RuntimeError, match=f"Model.{method}: loopos.train is training this model"
                ) as caught:
                    getattr(info["model"], method)()
                said.append(str(caught.value))

    model = base()
    settings = dict(max_steps=1, batch_size=2, progress=False, callbacks=[Meddling()])
    loopos.train(model, IDS.repeat(9), adapter=LoRA(2), **settings)
    assert len(said) == 2
    assert model.adapter == LoRA(2)


@pytest.mark.parametrize("spec", [LoRA(2), LoRA(2, dora=True), Modulated(2)], ids=["lora", "dora", "modulated"])
def test_one_that_gets_no_values_leaves_the_model_as_it_was(spec, tmp_path, monkeypatch):
    model = base()
    model.freeze("blocks.0.*")
    before, trainable, logits = bits(model.parameters()), list(model.parameters(trainable=True)), model.forward(IDS)
    adapted(spec).save_adapter(tmp_path)
    calls = []

    def full(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) > 1:
            raise MemoryError("no room")
        return philox(*arguments, **keywords)

    philox = np.random.Philox
    monkeypatch.setattr(np.random, "Philox", full)
    with pytest.raises(MemoryError, match="no room"):
        model.add_adapter(spec)
    monkeypatch.setattr(loopos.Model, "fill_adapter", lambda self, arrays: full())
    with pytest.raises(MemoryError, match="no room"):
        model.load_adapter(tmp_path)
    assert model.adapter is None
    assert bits(model.parameters()) == before
    assert list(model.parameters(trainable=True)) == trainable
    assert model.forward(IDS).tobytes() == logits.tobytes()


def test_matrices_of_another_adapter_are_not_filled_in():
    model, other = adapted(LoRA(2)), adapted(LoRA(3))
    before = bits(model.parameters())
    with pytest.raises(ValueError, match="not the matrices of LoRA"):
        model.fill_adapter(other.adapter_parameters())
    assert bits(model.parameters()) == before


@pytest.mark.parametrize("weights", ["bfloat16", "int8", "int4"])
def test_a_base_that_is_stored_small_learns_through_an_adapter(weights):
    model = loopos.Model(base().config, weights=weights)
    with pytest.raises(ValueError, match="only adapters can be trained"):
        model.loss_and_grads(IDS, IDS)
    model.add_adapter(LoRA(2, dora=True))
    _, gradients = model.loss_and_grads(IDS, IDS)
    assert list(gradients) == list(model.adapter_parameters())
    norms = model.adapter_parameters()["blocks.0.attn.q_proj.lora_magnitude"]
    rows = model._core.load_stored("blocks.0.attn.qkv_proj.weight", 0, 16)
    np.testing.assert_allclose(norms, np.linalg.norm(rows.astype(np.float64), axis=1), rtol=1e-6)
    model.remove_adapter()
    with pytest.raises(ValueError, match="only adapters can be trained"):
        model.loss_and_grads(IDS, IDS)
