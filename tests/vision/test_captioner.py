"""Captioner: logits, loss and gradients against differences and PyTorch; the cache; dtypes, threads, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import captioner, pictures, shaken, texts, worst_difference

import loopos
from loopos import ModelConfig, _core, ops
from loopos.testing import planted
from loopos.vision import Captioner, CaptionerConfig, VisionConfig
from loopos.vision.config import FUSIONS

POST = ModelConfig(11, 7, 2, 2, 12, norm="rmsnorm", norm_placement="both")
ROPE = ModelConfig(
    11, 7, 2, 4, 12, n_kv_head=2, position="rope", head_dim=4, norm="rmsnorm", activation="swiglu", bias=False,
    tie_embeddings=False,
)  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize(("batch", "time"), [(3, 5), (1, 7), (2, 1)])
def test_logits_loss_and_gradients_are_pytorchs(fusion, class_token, batch, time):
    import torch
    import torch_pictures

    model = captioner(fusion=fusion, class_token=class_token)
    images, (ids, targets) = pictures(batch), texts(batch, time)
    weights = {name: torch.tensor(view, requires_grad=True) for name, view in model.parameters().items()}
    logits = torch_pictures.caption(weights, model.config, torch.tensor(model.pixels(images)), torch.tensor(ids))
    want = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten())
    want.backward()
    loss, grads = model.loss_and_grads(images, ids, targets)
    np.testing.assert_allclose(model.forward(images, ids), logits.detach().numpy(), rtol=1e-11, atol=1e-12)
    assert loss == pytest.approx(want.item(), rel=1e-12) == model.loss(images, ids, targets)
    assert list(grads) == list(weights)
    for name, gradient in grads.items():
        np.testing.assert_allclose(gradient, weights[name].grad.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)
        assert np.abs(gradient).max() > 0, name


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("decoder", [None, ROPE, POST])
def test_gradients_are_differences_and_a_planted_error_is_found(decoder, fusion):
    model, images, (ids, targets) = captioner(decoder=decoder, fusion=fusion), pictures(), texts()
    _, grads = model.loss_and_grads(images, ids, targets)
    loss = lambda: model.loss(images, ids, targets)  # noqa: E731
    assert worst_difference(model, loss, grads) < 1e-6
    wrong = {name: gradient * 1.001 for name, gradient in grads.items()}
    assert worst_difference(model, loss, wrong) > 1e-4


def test_losses_are_those_of_the_tokens():
    model, images, (ids, targets) = captioner(), pictures(), texts()
    losses = model.losses(images, ids, targets)
    assert losses.shape == ids.shape
    assert (losses[targets == -100] == 0).all()
    assert losses.sum() / (targets != -100).sum() == pytest.approx(model.loss(images, ids, targets), rel=1e-12)
    assert model.hidden(images, ids).shape == (3, 5, 12)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_token_sees_the_whole_picture_and_none_that_follows(fusion):
    model, images, (ids, _) = captioner(fusion=fusion), pictures(), texts()
    before = model.forward(images, ids)
    other = images.copy()
    other[:, -1, -1, -1] += 0.5  # of the last patch
    assert (model.forward(other, ids) != before).any(axis=-1).all()
    later = ids.copy()
    later[:, 3] = (later[:, 3] + 1) % 11
    after = model.forward(images, later)
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    assert (after[:, 3:] != before[:, 3:]).any(axis=-1).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_rows_of_a_picture_see_each_other_in_both_directions(fusion):
    """Where patches have no positions a picture is a set of them: in another order it gives the same logits, which a
    prefix whose rows see only those before them would not."""
    model, images, (ids, _) = captioner(fusion=fusion), pictures(), texts()
    turned = images.reshape(3, 2, 4, 3, 4, 2)[:, ::-1, :, ::-1].reshape(images.shape)  # the last patch first
    assert np.abs(model.forward(turned, ids) - model.forward(images, ids)).max() > 1e-3
    positions = model.parameters()["encoder.pos_embed.weight"]
    positions[:] = positions[:1]
    np.testing.assert_allclose(model.forward(turned, ids), model.forward(images, ids), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_caption_of_a_batch_in_parts_is_of_its_own_picture(fusion):
    """Passes of float32 over many short rows go through the blocks in parts, of which all but the first begin at a
    later picture."""
    config = CaptionerConfig(VisionConfig(24, 8, 2, 2, 16), ModelConfig(13, 9, 2, 2, 16), fusion)
    model, wide = shaken(Captioner(config)), Captioner(config, dtype="float64")
    wide.load_state_dict({name: view.astype(np.float64) for name, view in model.parameters().items()})
    rng, count = np.random.default_rng(0), 64
    images, ids = rng.random((count, 24, 24, 3), np.float32), rng.integers(0, 13, (count, 8))
    logits, (_, grads) = model.forward(images, ids), model.loss_and_grads(images, ids, ids)
    want, (_, right) = (
        wide.forward(images.astype(np.float64), ids),
        wide.loss_and_grads(images.astype(np.float64), ids, ids),
    )
    assert np.abs(logits - want).max() <= 1e-5 * np.abs(want).max()
    for name, gradient in grads.items():
        assert np.linalg.norm(gradient - right[name]) <= 2e-5 * np.linalg.norm(right[name]), name
    alone = [wide.forward(images[i : i + 1].astype(np.float64), ids[i : i + 1])[0] for i in (0, 1, 31, 62, 63)]
    np.testing.assert_allclose(want[[0, 1, 31, 62, 63]], alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("decoder", [None, ROPE])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_cache_gives_what_a_full_pass_gives(decoder, dtype, fusion):
    model, images, (ids, _) = captioner(dtype, decoder, fusion), pictures(dtype=dtype), texts()
    want, tolerance = model.forward(images, ids), {"rtol": 1e-5 if dtype == "float32" else 1e-12, "atol": 1e-6}
    model.begin(images)
    for t in range(5):
        np.testing.assert_allclose(model.next_logits(ids[:, t : t + 1]), want[:, t], **tolerance)
    model.rewind(1)
    np.testing.assert_allclose(model.next_logits(ids[:, 1:4]), want[:, 3], **tolerance)
    model.forward(images[:1], ids[:1])  # of another picture: what generation has seen stays
    rows = np.array([2, 0, 0])
    model.reorder(rows)
    np.testing.assert_allclose(model.next_logits(ids[rows, 4:]), want[rows, 4], **tolerance)
    model.begin(images[:1], copies=3)
    np.testing.assert_allclose(
        model.next_logits(ids[:, :2]), model.forward(np.repeat(images[:1], 3, 0), ids)[:, 1], **tolerance
    )
    model.reorder(rows)  # all of one picture
    np.testing.assert_allclose(
        model.next_logits(ids[rows, 2:]), model.forward(np.repeat(images[:1], 3, 0), ids[rows])[:, 4], **tolerance
    )
    model.begin(images, 3)
    model.next_logits(ids[:, :2])
    model._core.extend_generation(7)
    np.testing.assert_allclose(model.next_logits(ids[:, 2:]), want[:, 4], **tolerance)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_as_many_tokens_at_once_as_a_picture_has_rows(fusion):
    """The pass over them has the shape of the one over the picture, and other memory."""
    model, images, (ids, _) = captioner(fusion=fusion), pictures(), texts(time=6)
    assert model.config.encoder.rows == 6
    want = captioner(fusion=fusion).forward(images, ids)[:, -1]
    model.begin(images)
    np.testing.assert_allclose(model.next_logits(ids), want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_as_many_tokens_at_once_as_the_pass_before_had_rows_and_tokens(fusion):
    """The plan of the pass over six rows and a token has room for the token alone, and this one has seven: it is
    another, though both go over seven rows."""
    model, images, (ids, _) = captioner(fusion=fusion), pictures(), texts(time=7)
    want = model.forward(images, ids)[:, -1]
    model.begin(images)
    model.forward(images, ids[:, :1])
    np.testing.assert_allclose(model.next_logits(ids), want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_float_agrees_with_double(fusion):
    small, wide = captioner("float32", fusion=fusion), captioner("float64", fusion=fusion)
    wide.load_state_dict({name: view.astype(np.float64) for name, view in small.parameters().items()})
    images, (ids, targets) = pictures(dtype="float32"), texts()
    _, grads = small.loss_and_grads(images, ids, targets)
    _, want = wide.loss_and_grads(images.astype(np.float64), ids, targets)
    for name, gradient in grads.items():
        assert np.linalg.norm(gradient - want[name]) <= 2e-5 * np.linalg.norm(want[name]), name


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("width", [16, 192])  # in parts, and as a whole
def test_bits_do_not_depend_on_threads(width, fusion):
    config = CaptionerConfig(VisionConfig(24, 8, 2, 2, width), ModelConfig(13, 9, 2, 2, width), fusion)
    model = shaken(Captioner(config))
    rng = np.random.default_rng(0)
    images, ids = rng.random((9, 24, 24, 3), np.float32), rng.integers(0, 13, (9, 8))
    before, found = loopos.get_num_threads(), []
    try:
        for threads in (1, *[2] * 30, 5):  # parts that disturb each other do so now and then
            loopos.set_num_threads(threads)
            loss, grads = model.loss_and_grads(images, ids, ids)
            found.append((loss, model.forward(images, ids).tobytes(), [g.tobytes() for g in grads.values()]))
    finally:
        loopos.set_num_threads(before)
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_dropout_acts_in_training_steps_alone_and_its_gradient_is_a_difference(fusion):
    decoder, (ids, targets) = ModelConfig(11, 7, 2, 2, 12, dropout=0.3), texts()
    model = captioner(decoder=decoder, fusion=fusion, dropout=0.2)
    images = model.pixels(pictures())
    keywords = {"scale": 1.0, "step": 3, "seed": 5, "images": images}
    total, _, healthy = model._core.accumulate(ids, targets, **keywords)
    assert healthy
    assert total != model._core.loss(ids, targets, images=images)[0]
    grads = {name: view.copy() for name, view in model._core.gradients().items()}
    loss = lambda: model._core.accumulate(ids, targets, **keywords)[0]  # noqa: E731
    assert worst_difference(model, loss, grads, per_tensor=1) < 1e-6


@pytest.mark.parametrize(("pictures_drop", "tokens_drop"), [(0.5, 0.0), (0.0, 0.5)])
def test_each_side_has_a_dropout_of_its_own(pictures_drop, tokens_drop):
    decoder = ModelConfig(11, 7, 1, 2, 12, dropout=tokens_drop)
    config = CaptionerConfig(VisionConfig((8, 12), 4, 1, 2, 8, channels=2, dropout=pictures_drop), decoder)
    model, images, (ids, targets) = shaken(Captioner(config, dtype="float64")), pictures(), texts()
    model._core.accumulate(ids, targets, scale=1.0, step=3, seed=5, images=model.pixels(images))
    grads = model._core.gradients()
    assert (grads["encoder.pos_embed.weight"] == 0).any() == (pictures_drop > 0)
    assert (grads["decoder.pos_embed.weight"][4] == 0).any() == (tokens_drop > 0)


def test_the_workspace_of_training_has_room_for_the_dropout_of_pictures():
    with_it, without = (captioner(dropout=p)._core.workspace_bytes(3, 5, True) for p in (0.2, 0.0))
    assert with_it > without


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_batch_in_groups_gives_the_sum_of_its_captions(fusion):
    vision = VisionConfig(64, 4, 6, 2, 128, d_ff=1024)  # of which 98 MB hold a few pictures alone
    model = Captioner(CaptionerConfig(vision, ModelConfig(13, 9, 1, 2, 128), fusion))
    rng, count = np.random.default_rng(0), 8
    images, ids = rng.random((count, 64, 64, 3), np.float32), rng.integers(0, 13, (count, 6))
    targets = rng.integers(0, 13, (count, 6))
    assert model._core.workspace_bytes(count, 6, True) < (count - 1) * model._core.workspace_bytes(1, 6, True)
    loss, grads = model.loss_and_grads(images, ids, targets)
    parts = [model.loss_and_grads(images[i : i + 1], ids[i : i + 1], targets[i : i + 1]) for i in range(count)]
    assert loss == pytest.approx(np.mean([part[0] for part in parts]), rel=1e-6)
    for name, gradient in grads.items():
        want = np.mean([part[1][name] for part in parts], axis=0)
        size = np.mean([np.linalg.norm(part[1][name]) for part in parts])  # the sum may be far smaller
        assert np.linalg.norm(gradient - want) <= 1e-5 * size, name


@pytest.mark.parametrize("fusion", FUSIONS)
def test_frozen_pictures_are_not_gone_through_backward(fusion):
    model, images, (ids, targets) = captioner(fusion=fusion), pictures(), texts()
    _, every = model.loss_and_grads(images, ids, targets)
    model.freeze("encoder.*")
    _, some = model.loss_and_grads(images, ids, targets)
    assert list(some) == [name for name in every if name.startswith("decoder.")]
    for name, gradient in some.items():
        np.testing.assert_array_equal(gradient, every[name], err_msg=name)
    model.unfreeze("encoder.projection.*")
    model.freeze("decoder.*")
    _, few = model.loss_and_grads(images, ids, targets)
    assert list(few) == ["encoder.projection.weight", "encoder.projection.bias"]
    np.testing.assert_allclose(few["encoder.projection.weight"], every["encoder.projection.weight"], rtol=1e-12)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradients_add_up_over_micro_batches(fusion):
    model, images, (ids, targets) = captioner(fusion=fusion), pictures(), texts()
    pixels, counts = model.pixels(images), (targets != -100).sum()
    for row in range(3):
        one = slice(row, row + 1)
        model._core.accumulate(ids[one], targets[one], images=pixels[one], scale=1 / counts, add=row > 0)
    summed = {name: view.copy() for name, view in model._core.gradients().items()}
    _, grads = model.loss_and_grads(images, ids, targets)
    for name, gradient in grads.items():
        np.testing.assert_allclose(summed[name], gradient, rtol=1e-10, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_birth_says_on_which_side_it_was(side):
    model, images, (ids, targets) = captioner(), pictures(), texts()
    model.parameters()[f"{side}.blocks.1.attn.qkv_proj.weight"][0, 0] = np.inf
    with pytest.raises(loopos.NonFiniteError) as caught:
        model.loss_and_grads(images, ids, targets)
    birth = caught.value.birth
    assert (birth.layer, birth.tensor) == (1, f"{side}.blocks.1.attn.qkv_proj.weight")
    model = captioner("float32")
    model.parameters()[f"{side}.blocks.1.attn.qkv_proj.weight"][...] = 1e37
    with pytest.raises(loopos.NonFiniteError) as caught:
        model.loss_and_grads(images.astype(np.float32), ids, targets)
    assert caught.value.birth.tensor.startswith(f"{side}.blocks.1.")


@pytest.mark.parametrize(
    ("tensor", "index", "phase"),
    [
        ("y", (1, 2, 5), "forward"),
        ("q_proj.y", (1, 2, 5), "forward"),
        ("dq", (1, 2, 5), "backward"),
        ("dkv", (1, 3, 7), "backward"),  # of a key
        ("dkv", (1, 3, 20), "backward"),  # of a value
    ],
)
def test_a_birth_in_cross_attention_has_its_place(tensor, index, phase):
    model, images, (ids, targets) = captioner("float32", fusion="cross"), pictures(dtype="float32"), texts()
    name = f"decoder.blocks.1.cross.{tensor}"
    with planted(model, name, index, np.nan, phase=phase), pytest.raises(loopos.NonFiniteError) as caught:
        model.loss_and_grads(images, ids, targets)
    birth = caught.value.birth
    op = "linear" if "proj" in tensor else "attention"
    assert (birth.phase, birth.layer, birth.op, birth.tensor, birth.index) == (phase, 1, op, name, index)
    assert birth.cause_class == "unknown"  # the operands give another number


def test_a_score_of_cross_attention_that_overflows_is_a_birth():
    model, images, (ids, targets) = captioner("float32", fusion="cross"), pictures(dtype="float32"), texts()
    model.parameters()["decoder.blocks.0.cross.q_proj.bias"][0] = 1e20
    model.parameters()["encoder.projection.bias"][0] = -1e20
    with pytest.raises(loopos.NonFiniteError) as caught:
        model.loss_and_grads(images, ids, targets)
    birth = caught.value.birth
    assert (birth.layer, birth.tensor, birth.index) == (0, "decoder.blocks.0.cross.scores", (0, 0, 0, 0))
    assert birth.cause_class == "product overflow"


@pytest.mark.parametrize("precision", ["float32", "bf16x3", "bf16"])
def test_cross_attention_is_that_of_the_ops_in_every_precision(precision):
    config = CaptionerConfig(VisionConfig(64, 8, 1, 2, 64), ModelConfig(11, 64, 2, 2, 64), "cross")  # large enough
    model, rng, seen = shaken(Captioner(config)), np.random.default_rng(0), {}
    images, ids = rng.random((2, 64, 64, 3), np.float32), rng.integers(0, 11, (2, 64))
    model._core.precision = precision

    def tap(place, shape, first, x):
        if x.size == np.prod(shape):  # scores come row by row
            seen[place["phase"], place["tensor"]] = x.reshape(shape)

    model._core.trace(ids, ids, scale=1.0, images=model.pixels(images), tap=tap)
    heads = lambda x: x.reshape(*x.shape[:2], 2, -1).transpose(0, 2, 1, 3)  # noqa: E731
    name = "decoder.blocks.1.cross"
    keys, values = np.split(seen["forward", "encoder.projection.y"][..., 128:], 2, -1)  # of the second block
    q, k, v = heads(seen["forward", f"{name}.q_proj.y"]), heads(keys), heads(values)
    y, lse = ops.attention(q, k, v, precision=precision)
    np.testing.assert_array_equal(heads(seen["forward", f"{name}.y"]), y)
    dy = heads(seen["backward", f"{name}.o_proj.dx"])
    dq, *dkv = ops.attention_backward(dy, q, k, v, y, lse, precision=precision)
    np.testing.assert_array_equal(heads(seen["backward", f"{name}.dq"]), dq)
    for got, want in zip(np.split(seen["backward", f"{name}.dkv"], 2, -1), dkv, strict=True):
        np.testing.assert_array_equal(heads(got), want)
    plain, _ = ops.attention(q, k, v)
    assert np.array_equal(plain, y) == (_core.products(precision) == _core.products("float32"))


def test_refusals():
    model, images, (ids, targets) = captioner(), pictures(), texts()
    with pytest.raises(ValueError, match=r"images must have shape .* \(2, 8, 12, 2\), got \(3, 8, 12, 2\)"):
        model.loss(images, ids[:2], targets[:2])
    with pytest.raises(ValueError, match="1 to 7 positions"):
        model.forward(images, np.zeros((3, 8), np.int64))
    with pytest.raises(TypeError, match="images"):
        model._core.forward(ids)
    with pytest.raises(ValueError, match="share a row"):
        model._core.forward(ids, documents=np.zeros_like(ids), images=model.pixels(images))
    with pytest.raises(ValueError, match="takes tokens alone"):
        loopos.Model(ModelConfig(11, 7, 1, 1, 4))._core.forward(ids, images=np.zeros((3, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="need a picture each"):
        model._core.start_generation(4, 7, None, model.pixels(images))
    model.begin(images)
    with pytest.raises(IndexError, match="from 0 to 2, got 3"):
        model.reorder(np.array([0, 3, 1]))
    with pytest.raises(ValueError, match=r"rows must have shape"):
        model.reorder(np.array([0, 1]))
