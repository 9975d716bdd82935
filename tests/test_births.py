"""The first gate: a step that meets a number that is not finite names where it was born and changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

import loopos


def birth_of(model, ids, targets):
    before = model.state_dict()
    with pytest.raises(loopos.NonFiniteError) as error:
        model.loss_and_grads(ids, targets)
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value.view(np.uint32), before[name].view(np.uint32))
    return error.value.birth


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_is_its_own_birth(family, batch, bad):
    for name in loopos.Model(family).parameters():
        model = loopos.Model(family, seed=1)
        view = model.parameters()[name]
        index = tuple(int(n) // 2 for n in view.shape)
        if name in ("tok_embed.weight", "pos_embed.weight"):
            index = (int(batch(family)[0][0, 1]) if name == "tok_embed.weight" else 1, 3)
        view[index] = bad
        birth = birth_of(model, *batch(family))
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        assert (birth.phase, birth.tensor, birth.index) == ("forward", name, index)
        assert birth.layer == (numbers[0] if numbers else None)
        assert birth.step is None
        assert np.array_equal(birth.value, bad, equal_nan=True)
        assert birth.cause


def test_of_two_bad_weights_the_first_in_execution_order_is_named(family, batch):
    model = loopos.Model(family, seed=1)
    names = list(model.parameters())
    for name in (names[-1], names[5]):
        model.parameters()[name].flat[0] = np.nan
    assert birth_of(model, *batch(family)).tensor == names[5]


def test_an_overflow_is_born_in_the_op_whose_output_is_first_not_finite(family, batch):
    model = loopos.Model(family, seed=1)
    model.parameters()["blocks.1.attn.qkv_proj.weight"][...] = 3e38
    birth = birth_of(model, *batch(family))
    assert (birth.phase, birth.layer, birth.op) == ("forward", 1, "linear")
    assert "qkv_proj" in birth.tensor
    assert "overflow" in birth.cause or np.isnan(birth.value)


def test_an_activation_that_a_later_op_hides_is_still_reported(batch):
    config = loopos.ModelConfig(vocab_size=31, context_length=16, n_layer=2, n_head=4, d_model=32, activation="relu")
    model = loopos.Model(config, seed=1)
    # Rows of the up projection that overflow to -inf: relu turns them into 0 and the loss stays finite.
    model.parameters()["blocks.0.mlp.up_proj.bias"][3] = -3e38
    model.parameters()["blocks.0.mlp_norm.bias"][:] = 1.0
    model.parameters()["blocks.0.mlp.up_proj.weight"][3, :] = -3e37
    birth = birth_of(model, *batch(config))
    assert (birth.layer, birth.op, birth.value) == (0, "linear", -np.inf)
    assert birth.index[-1] == 3


def test_a_gradient_that_overflows_is_born_in_the_backward_pass():
    config = loopos.ModelConfig(vocab_size=31, context_length=16, n_layer=1, n_head=4, d_model=32, tie_embeddings=False)
    model = loopos.Model(config, seed=1)
    weights = model.parameters()
    # A huge head behind a tiny norm weight: logits of ordinary size, but the norm weight's gradient is the sum over
    # many equal rows of numbers near the largest float.
    weights["pos_embed.weight"][...] = 0
    weights["final_norm.weight"][...] = 1e-38
    weights["lm_head.weight"][...] = -3e38
    weights["lm_head.weight"][5] = 3e38
    ids = np.zeros((2, 16), np.int64)
    assert np.isfinite(model.forward(ids)).all()
    birth = birth_of(model, ids, np.full_like(ids, 5))
    assert (birth.phase, birth.layer, birth.op, birth.tensor) == ("backward", None, "layer_norm", "final_norm.weight")
    assert np.isinf(birth.value)


def test_ops_and_forward_return_what_they_compute(family, batch):
    model = loopos.Model(family, seed=1)
    model.parameters()["blocks.0.attn_norm.weight"][0] = np.nan
    ids, targets = batch(family)
    assert np.isnan(model.forward(ids)).all()
    assert np.isnan(model.loss(ids, targets))
    with pytest.raises(loopos.NonFiniteError, match="no token can be chosen"):
        model.generate(ids, 2)


def test_healthy_steps_raise_no_alarm(family, batch):
    model = loopos.Model(family, seed=1)
    ids, targets = batch(family)
    for scale in (1.0, 4.0, 16.0):
        for view in model.parameters().values():
            view *= scale
        *_, healthy = model._core.accumulate(ids, targets, scale=0.01)
        assert healthy
    mask = np.full_like(targets, -100)
    assert model._core.accumulate(ids, mask, scale=1.0)[2]


def test_the_processes_floating_point_flags_are_left_alone(family, batch):
    model = loopos.Model(family, seed=1)
    model.parameters()["blocks.0.attn.qkv_proj.weight"][...] = 3e38
    with np.errstate(all="raise"):
        with pytest.raises(loopos.NonFiniteError):
            model.loss_and_grads(*batch(family))
        assert np.float32(1) + np.float32(1) == 2
