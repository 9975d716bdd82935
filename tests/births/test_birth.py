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


ALIKE = pytest.mark.unsanitized("the pass of nan, with another number")


@pytest.mark.parametrize("bad", [np.nan, *(pytest.param(bad, marks=ALIKE) for bad in (np.inf, -np.inf))])
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
        assert birth.cause_class == "weight not finite"
        assert birth.advice


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
    assert "overflow" in birth.cause_class


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


def huge_scores(sign, place=(1, 4), n_head=4):
    """A model and a batch in which one query times its own key is sign * 3e41; nothing else is large."""
    config = loopos.ModelConfig(
        vocab_size=31, context_length=16, n_layer=2, n_head=n_head, d_model=32, norm="rmsnorm", bias=False, d_ff=48
    )
    model = loopos.Model(config, seed=1)
    weights, rng = model.parameters(), np.random.default_rng(0)
    ids, targets = rng.integers(8, 31, (2, 6)), rng.integers(8, 31, (2, 6))
    ids[place] = 7
    weights["tok_embed.weight"][:, 3] = weights["pos_embed.weight"][:, 3] = 0
    weights["tok_embed.weight"][7] = np.eye(32)[3]
    weights["blocks.0.attn.o_proj.weight"][3] = weights["blocks.0.mlp.down_proj.weight"][3] = 0
    qkv = weights["blocks.1.attn.qkv_proj.weight"]
    qkv[[0, 32]] = 0
    qkv[0, 3], qkv[32, 3] = 1e20, sign * 1e20
    return model, ids, targets


@pytest.mark.parametrize("place", [(1, 4), (1, 0)])  # among other keys, and the only one
@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_that_overflows_is_no_mask(sign, place):
    birth = birth_of(*huge_scores(sign, place))
    row, token = place
    assert (birth.phase, birth.layer, birth.op, birth.tensor) == ("forward", 1, "attention", "blocks.1.attn.scores")
    assert birth.index == (row, 0, token, token)
    assert birth.place == f"row {row}, head 0, query token {token}, key token {token}"
    assert birth.value == sign * np.inf
    assert birth.cause_class == "product overflow"
    assert birth.operands["q"]["value"] * birth.operands["k"]["value"] == pytest.approx(sign * 3.1e41, rel=0.05)


def test_a_number_that_leaves_the_range_and_is_not_used_is_told():
    """A query times a key after it, which it does not see, overflows: nothing that the step keeps is touched."""
    model, ids, targets = huge_scores(0, place=(1, 1))
    weights = model.parameters()
    ids[1, 4] = 6
    for name in ("tok_embed", "pos_embed"):
        weights[f"{name}.weight"][:, 5] = 0
    weights["tok_embed.weight"][6] = np.eye(32)[5]
    for name in ("attn.o_proj", "mlp.down_proj"):
        weights[f"blocks.0.{name}.weight"][5] = 0
    weights["blocks.1.attn.qkv_proj.weight"][32, 5] = 1e20
    with pytest.warns(RuntimeWarning, match="overflow in computing blocks.1.attn.y .op attention.* was used. loopos"):
        loss, _ = model.loss_and_grads(ids, targets)
    assert np.isfinite(loss)


def test_the_message_says_where_why_and_what_to_do(family, batch):
    model = loopos.Model(family, seed=1)
    model.parameters()["blocks.1.attn.qkv_proj.weight"][...] = 3e38
    with pytest.raises(loopos.NonFiniteError) as error:
        model.loss_and_grads(*batch(family))
    said, birth = str(error.value), error.value.birth
    for part in (birth.tensor, birth.place, birth.cause, birth.advice):
        assert part
        assert part in said
    x, weight = birth.operands["x"], birth.operands["weight"]
    assert x["count"] == weight["count"] == 32
    assert abs(x["value"] * weight["value"]) > 3.4e38
    assert loopos.explain(error.value).causes[0] == "product-overflow"
    assert loopos.explain(said).causes[0] == "product-overflow"


def test_the_ledger_ends_with_the_birth(family, batch):
    model = loopos.Model(family, seed=1)
    model.parameters()["blocks.1.attn.qkv_proj.weight"][...] = 3e38
    with pytest.raises(loopos.NonFiniteError) as error:
        model.loss_and_grads(*batch(family))
    ledger = error.value.ledger
    assert 20 < len(ledger) <= 64
    assert ledger[-1]["tensor"] == error.value.birth.tensor
    assert ledger[-1]["nonfinite"] > 0
    assert all(frame["nonfinite"] == 0 for frame in ledger[:-1])
