"""An adapter folded into its base: in float64, rounded once, measured, all or nothing."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import IDS, adapted, base, some

import loopos
from loopos import LoRA
from loopos.adapters import merge

SPECS = {"plain": LoRA(3, 6), "some": LoRA(2, targets=some("llama")), "dora": LoRA(3, 6, dora=True)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_merged_model_does_what_both_did(spec, dtype):
    model = adapted(spec, dtype=dtype)
    before, own = model.forward(IDS), {n: v.copy() for n, v in model.adapter_parameters().items()}
    plain = base(dtype=dtype)
    done = model.merge_adapter()
    assert model.adapter is None
    assert list(model.parameters()) == list(plain.parameters()) == list(model.parameters(trainable=True))
    gate = 5e-6 if dtype == "float32" else 1e-13
    assert 0 < done.relative < gate
    assert np.abs(model.forward(IDS) - before).max() <= gate * np.abs(before).max()
    q = {n: v.astype(np.float64) for n, v in own.items() if ".0.attn.q_proj." in n}
    w = plain.parameters()["blocks.0.attn.qkv_proj.weight"][:16].astype(np.float64)
    want = w + spec.scale * q["blocks.0.attn.q_proj.lora_B"] @ q["blocks.0.attn.q_proj.lora_A"]
    if spec.dora:
        want *= q["blocks.0.attn.q_proj.lora_magnitude"][:, None] / np.linalg.norm(want, axis=1)[:, None]
    got = model.parameters()["blocks.0.attn.qkv_proj.weight"][:16]
    if dtype == "float32":
        assert got.tobytes() == want.astype(np.float32).tobytes()  # one rounding
    else:
        np.testing.assert_allclose(got, want, rtol=1e-14)


def test_what_no_adapter_stands_on_keeps_its_bits():
    model, plain = adapted(LoRA(2, targets=("v_proj",))), base()
    model.merge_adapter()
    for name, view in plain.parameters().items():
        same = model.parameters()[name].tobytes() == view.tobytes()
        assert same != name.endswith("qkv_proj.weight"), name
    rows = model.parameters()["blocks.1.attn.qkv_proj.weight"]
    np.testing.assert_array_equal(rows[:24], plain.parameters()["blocks.1.attn.qkv_proj.weight"][:24])


def test_above_the_limit_nothing_is_changed():
    model = adapted(LoRA(3, 6))
    before = {name: view.tobytes() for name, view in model.parameters().items()}
    logits = model.forward(IDS)
    with pytest.raises(ValueError, match=r"nothing was merged: logits differ by at most .* the limit is 0"):
        model.merge_adapter(limit=0)
    assert model.adapter == LoRA(3, 6)
    assert {name: view.tobytes() for name, view in model.parameters().items()} == before
    assert model.forward(IDS).tobytes() == logits.tobytes()
    assert model.merge_adapter().relative < 1e-5


def test_logits_that_are_not_finite_are_no_merge():
    model = adapted(LoRA(2, 2, targets=("down_proj",)))
    model.parameters()["blocks.1.mlp.down_proj.lora_B"][...] = np.nan
    with pytest.raises(ValueError, match="nothing was merged"):
        model.merge_adapter(limit=1)
    assert np.isfinite(model.parameters()["blocks.1.mlp.down_proj.weight"]).all()


@pytest.mark.parametrize("weights", ["bfloat16", "int8", "int4"])
def test_a_base_that_is_stored_small_is_not_merged(weights):
    model = loopos.Model(base().config, weights=weights)
    model.add_adapter(LoRA(2))
    before = model.forward(IDS)
    with pytest.raises(ValueError, match=rf"stored as {weights}.*open the base with weights='float32'"):
        model.merge_adapter()
    assert model.adapter == LoRA(2)
    assert model.forward(IDS).tobytes() == before.tobytes()


@pytest.mark.parametrize("limit", [-1, np.nan, "x", None])
def test_a_limit_is_a_number(limit):
    with pytest.raises((ValueError, TypeError), match="limit"):
        adapted(LoRA(2)).merge_adapter(limit=limit)


def test_the_probe_is_always_the_same_and_fits():
    config = base().config
    assert merge.probe(config).shape == (2, config.context_length)
    np.testing.assert_array_equal(merge.probe(config), merge.probe(config))
    assert str(merge.Merge(0.5, 2.0, 1e-4)) == "logits differ by at most 0.5, 0.25 of the largest"
