"""The first operation that differs between two updates: each planted change is named by its place and both values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from loopos import testing
from loopos.health.replay.mismatch import first_mismatch
from loopos.health.replay.replay import Repeater

PLACES = [  # tensor, index, phase, op, layer
    ("embed.y", (3, 7, 2), "forward", "embedding", None),
    ("blocks.0.attn_norm.y", (0, 0, 0), "forward", "layer_norm", 0),
    ("blocks.1.attn.y", (2, 3, 7), "forward", "attention", 1),
    ("blocks.1.mlp.up_proj.y", (1, 4, 31), "forward", "linear", 1),
    ("loss", (2, 1), "forward", "cross_entropy", None),
    ("dlogits", (1, 2, 5), "backward", "cross_entropy", None),
    ("blocks.1.attn.dqkv", (0, 1, 9), "backward", "attention", 1),
    ("blocks.0.mlp.down_proj.weight", (7, 30), "backward", "linear", 0),
    ("tok_embed.weight", (31, 0), "backward", "embedding", None),
]


def test_the_same_update_has_none(bundled):
    bundle = bundled()
    assert first_mismatch(Repeater(bundle), Repeater(bundle)) is None


def test_the_tap_brings_every_tensor_of_the_trace(bundled):
    """In whole, in the order of the ledger, and with the numbers of the step itself."""
    repeater, shown = Repeater(bundled(grad_accum=1)), {}

    def tap(micro, place, shape, first, elements):
        key = (micro, place["phase"], place["op"], place["tensor"])
        shown.setdefault(key, []).append((place, shape, first, elements))

    repeater.trace(tap)
    ledger = repeater.model._core.ledger()
    assert [key[1:] for key in shown] == [(f["phase"], f["op"], f["tensor"]) for f in ledger]
    for pieces, frame in zip(shown.values(), ledger, strict=True):
        elements = np.concatenate([elements for *_, elements in pieces])
        assert pieces[0][1] == frame["shape"]
        assert (float(elements.min()), float(elements.max())) == (frame["min"], frame["max"])
        scores = frame["tensor"].endswith(".scores")
        assert elements.size == np.prod(frame["shape"]) * ((9 / 16) if scores else 1)  # a causal query sees 4.5 of 8
    repeater.update()
    for name, gradient in repeater.model._core.gradients().items():
        last = [pieces for key, pieces in shown.items() if (key[1], key[3]) == ("backward", name)][-1]
        assert np.array_equal(last[0][3].reshape(gradient.shape), gradient)


def test_what_a_tap_raises_comes_through_and_nothing_stays(bundled):
    repeater = Repeater(bundled())

    def tap(*_):
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        repeater.trace(tap)
    assert first_mismatch(repeater, Repeater(bundled())) is None


@pytest.mark.parametrize(("tensor", "index", "phase", "op", "layer"), PLACES)
@pytest.mark.parametrize("value", [0.3125, np.nan])
def test_a_planted_number_is_named_exactly(bundled, tensor, index, phase, op, layer, value):
    bundle = bundled()
    a, b = Repeater(bundle), Repeater(bundle)
    with testing.planted(b.model, tensor, index, value, phase=phase, micro_batch=1):
        found = first_mismatch(a, b)
    place = (found.phase, found.layer, found.op, found.tensor, found.index, found.micro_batch)
    assert place == (phase, layer, op, tensor, index, 1)
    assert np.array_equal(found.b, value, equal_nan=True)
    assert found.a != value
    for part in (f"op {op} ({phase} pass", f"{tensor}{list(index)} = {found.a!r} in A, {value!r} in B"):
        assert part in str(found)
    mirrored = first_mismatch(b, a)  # the fault is gone
    assert mirrored is None


def test_a_score_of_one_head_is_named_by_what_it_is_made_of(bundled):
    """One unit in the last place of a key's weight: the product of queries and keys is shown row by row."""
    bundle = bundled(dropout=0.0)
    weights = {name: array.copy() for name, array in bundle.weights.items()}
    weights["blocks.1.attn.qkv_proj.weight"][12, 3] += 1.0  # keys begin at 8, the second head's at 12
    found = first_mismatch(Repeater(bundle), Repeater(dataclasses.replace(bundle, weights=weights)))
    assert (found.op, found.tensor, found.index) == ("linear", "blocks.1.attn.qkv_proj.y", (0, 0, 12))


@pytest.mark.parametrize(
    ("changed", "because"),
    [
        ({"weight_decay": 0.5}, "weight_decay is 0.1 in A, 0.5 in B"),
        ({"max_grad_norm": 1e-3}, "what clipping multiplies the gradient by is "),
        ({"betas": (0.5, 0.95)}, "betas is (0.9, 0.95) in A, (0.5, 0.95) in B"),
    ],
)
def test_a_setting_of_the_optimizer_is_in_the_update(bundled, changed, because):
    bundle = bundled()
    other = dataclasses.replace(bundle, settings=dataclasses.replace(bundle.settings, **changed))
    found = first_mismatch(Repeater(bundle), Repeater(other))
    assert (found.phase, found.op, found.micro_batch) == ("update", "adamw", None)
    assert [text.startswith(because) for text in found.because] == [True]


def test_so_are_the_rate_and_a_moment(bundled):
    bundle = bundled()
    found = first_mismatch(Repeater(bundle), Repeater(dataclasses.replace(bundle, learning_rate=0.02)))
    assert found.because == ("the learning rate is 0.01 in A, 0.02 in B",)
    name = "blocks.0.mlp.up_proj.weight"
    moments = {key: array.copy() for key, array in bundle.moments.items()}
    moments[f"exp_avg.{name}"][2, 1] = 0.25
    found = first_mismatch(Repeater(bundle), Repeater(dataclasses.replace(bundle, moments=moments)))
    assert (found.tensor, found.index, found.layer, found.because) == (name, (2, 1), 0, ())


def test_another_dropout_is_in_the_forward_pass(bundled):
    bundle = bundled()
    other = dataclasses.replace(bundle, settings=dataclasses.replace(bundle.settings, seed=12))
    found = first_mismatch(Repeater(bundle), Repeater(other))
    assert (found.phase, found.layer) == ("forward", None)
