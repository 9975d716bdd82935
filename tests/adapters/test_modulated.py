"""Modulated as people write it: checks, the gate measured, the first values."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.adapters.modulated import Gate, Modulated, first_values, modulations_of
from loopos.choices import GATES


def test_defaults_are_those_of_the_contract():
    assert Modulated() == Modulated(rank=16, gate="sigmoid", additive_scale=0.1, safe_mode=False)
    assert Modulated.from_dict(Modulated(3, "tanh", 0.5, True).to_dict()) == Modulated(3, "tanh", 0.5, True)


@pytest.mark.parametrize(
    ("error", "changed", "words"),
    [
        (ValueError, {"rank": 0}, "Modulated: rank must be an integer of at least 1"),
        (TypeError, {"rank": 2.0}, "Modulated: rank"),
        (ValueError, {"gate": "relu"}, "Modulated: gate must be one of"),
        (ValueError, {"additive_scale": float("nan")}, "Modulated: additive_scale"),
        (TypeError, {"safe_mode": 1}, "Modulated: safe_mode"),
    ],
)
def test_refusals(error, changed, words):
    with pytest.raises(error, match=words):
        Modulated(**changed)


def test_gates_are_measured():
    found = {name: Gate.measure(name) for name in GATES}
    assert found["sigmoid"] == (1.0, 0.25, 0.5, 1.5)
    assert found["tanh"] == (1.0, 0.5, 0.5, 1.5)
    assert found["document"] == (0.75, 0.125, 0.5, 1.0)
    assert Modulated(gate="document").measured() == found["document"]
    assert Modulated(safe_mode=True).measured() == (1.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_first_values(dtype):
    def made(seed, spec=Modulated(rank=8)):  # noqa: B008 (frozen)
        parts = modulations_of(spec, 2)
        shapes = {"A_proj": (8, 512), "B_add": (512, 8), "B_mult": (512, 8)}
        views = {name: np.ones(shapes[name.rpartition(".")[2]], dtype) for p in parts for name in p.parameters}
        first_values(parts, views, seed)
        return views

    views = made(3)
    assert list(views)[:3] == [f"blocks.0.modulate.{kind}" for kind in ("A_proj", "B_add", "B_mult")]
    for layer in (0, 1):
        assert np.std(views[f"blocks.{layer}.modulate.A_proj"]) == pytest.approx(0.02, rel=0.05)
        assert np.std(views[f"blocks.{layer}.modulate.B_add"]) == pytest.approx(0.001, rel=0.05)
        assert not views[f"blocks.{layer}.modulate.B_mult"].any()
    again, other = made(3), made(4)
    for name, view in views.items():
        np.testing.assert_array_equal(view, again[name])
        assert not view.any() or (view != other[name]).any()
        np.testing.assert_array_equal(view, view.astype(np.float32))  # the same numbers for either dtype
    assert (views["blocks.0.modulate.A_proj"] != views["blocks.1.modulate.A_proj"]).any()
    assert len(made(3, Modulated(rank=8, safe_mode=True))) == 4
