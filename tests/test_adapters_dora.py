"""DoRA in the core: low-rank parts whose rows have lengths of their own. What it shares with LoRA is in
test_adapters_core.py."""

from __future__ import annotations

import numpy as np
import pytest
from low_rank_parts import SIZE, adapt, batch, merged, model_of, parts_of
from variants import LLAMA, VARIANTS

import loopos

ALL = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


@ALL
@pytest.mark.parametrize("rows", [8, 1])
def test_every_gradient(options, rows):
    """From that of the merged weight, G, which is the model's own and proven: with the lengths c as constants,
    dA = scale B^T gain G, dB = scale gain G A^T, and the magnitude's is the row's product with G over c."""
    ids, targets = batch(rows, 33)
    for dtype, limit in (("float64", 1e-10), ("float32", 2e-4)):
        model = model_of(options, dtype)
        parts = adapt(model, dora=True)
        found = model.loss_and_grads(ids, targets)[1]
        other, gains = merged(model, parts)
        exact, own = other.loss_and_grads(ids, targets)[1], model.parameters()
        assert sum(name.endswith("lora_magnitude") for name in found) == sum(part["dora"] for part in parts)
        for part in parts:
            name, rows_of = part["name"], slice(part["first"], part["first"] + part["rows"])
            gradient = exact[part["projection"] + ".weight"][rows_of]
            a, b = (own[f"{name}.lora_{m}"].astype(np.float64) for m in "AB")
            scaled = part["scale"] * gradient * gains[name][:, None]
            want = {"A": b.T @ scaled, "B": scaled @ a.T}
            if part["dora"]:
                row = other.parameters()[part["projection"] + ".weight"][rows_of]
                want["magnitude"] = np.sum(gradient * row, 1) / own[f"{name}.lora_magnitude"]
            for kind, value in want.items():
                got = found[f"{name}.lora_{kind}"]
                assert np.linalg.norm(got - value) <= limit * np.linalg.norm(value), (name, kind)
                assert np.any(value), (name, kind)


def test_a_birth_in_the_scale_of_rows_is_told():
    model, (ids, targets) = model_of(), batch(2, 12)
    adapt(model, dora=True)
    magnitude = model.parameters()["blocks.1.mlp.down_proj.lora_magnitude"]
    kept = magnitude[3]
    for value, tensor, cause in (
        (3e38, "blocks.1.mlp.down_proj.gain", "product overflow"),
        (np.nan, None, "weight not"),
    ):
        magnitude[3] = value
        with pytest.raises(loopos.NonFiniteError) as caught:
            model.loss_and_grads(ids, targets)
        birth = caught.value.birth
        assert (birth.layer, birth.tensor) == (1, tensor or "blocks.1.mlp.down_proj.lora_magnitude")
        assert birth.index[-1] == 3
        assert birth.cause.startswith(cause), birth.cause
    magnitude[3] = kept
    assert np.isfinite(model.loss(ids, targets))


def test_lengths_follow_what_changes():
    """A, B, magnitudes at once; the weight when the adapter is switched on again."""
    model, ids = model_of(dtype="float64"), batch(2, 12)[0]
    parts = adapt(model, dora=True)
    for name in ("A", "B", "magnitude"):
        model.forward(ids)
        model.parameters()[f"blocks.0.mlp.down_proj.lora_{name}"][...] *= 1.5
        np.testing.assert_allclose(model.forward(ids), merged(model, parts)[0].forward(ids), rtol=0, atol=1e-12)
    model.parameters()["blocks.0.mlp.down_proj.weight"][...] *= -2
    model._core.adapter_enabled(True)
    np.testing.assert_allclose(model.forward(ids), merged(model, parts)[0].forward(ids), rtol=0, atol=1e-12)


def test_it_begins_without_a_change():
    ids = batch(2, 12)[0]
    for weights, limit in ((None, 1e-12), ("int8", 1e-5)):
        model = loopos.Model(
            loopos.ModelConfig(**SIZE, **LLAMA), seed=1, dtype="float32" if weights else "float64", weights=weights
        )
        before = model.forward(ids)
        model._core.add_adapter(parts_of(model, dora=True))
        np.testing.assert_allclose(model.forward(ids), before, rtol=0, atol=limit)
