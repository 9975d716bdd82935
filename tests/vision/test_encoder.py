"""ImageEncoder: rows, classes and gradients against differences and PyTorch; dtypes, threads, groups, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import classifier, pictures, shaken, worst_difference

import loopos
from loopos.vision import ImageEncoder, VisionConfig

LABELS = np.array([0, 2, 1])
KINDS = [{"class_token": True}, {"class_token": False}, {"class_token": True, "pool": "mean"}]


def in_torch(model, images, labels):
    """(logits, loss, gradients by name) of the same model in PyTorch."""
    import torch
    import torch_pictures

    weights = {name: torch.tensor(view, requires_grad=True) for name, view in model.parameters().items()}
    logits = torch_pictures.classify(weights, model.config, torch.tensor(model.pixels(images)))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
    loss.backward()
    return logits.detach().numpy(), loss.item(), {name: w.grad.numpy() for name, w in weights.items()}


@pytest.mark.reference
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_loss_and_gradients_are_pytorchs(kind, batch):
    model, images, labels = classifier(**kind), pictures(batch), LABELS[:batch]
    logits, loss, gradients = in_torch(model, images, labels)
    got, grads = model.loss_and_grads(images, labels)
    np.testing.assert_allclose(model.logits(images), logits, rtol=1e-11, atol=1e-12)
    assert got == pytest.approx(loss, rel=1e-12) == model.loss(images, labels)
    assert list(grads) == list(gradients)
    for name, gradient in grads.items():
        np.testing.assert_allclose(gradient, gradients[name], rtol=1e-9, atol=1e-12, err_msg=name)
        assert np.abs(gradient).max() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_differences_and_a_planted_error_is_found(kind):
    model, images = classifier(**kind), pictures()
    _, grads = model.loss_and_grads(images, LABELS)
    loss = lambda: model.loss(images, LABELS)  # noqa: E731
    assert worst_difference(model, loss, grads) < 1e-6
    wrong = {name: gradient * 1.001 for name, gradient in grads.items()}
    assert worst_difference(model, loss, wrong) > 1e-4


@pytest.mark.reference
def test_rows_are_pytorchs():
    import torch
    import torch_pictures

    config = VisionConfig((8, 12), 4, 2, 2, 8, channels=2)
    model, images = shaken(ImageEncoder(config, dtype="float64")), pictures()
    weights = {name: torch.tensor(view) for name, view in model.parameters().items()}
    want = torch_pictures.encode(weights, config, torch.tensor(model.pixels(images))).numpy()
    assert want.shape == (3, config.rows, 8)
    np.testing.assert_allclose(model.forward(images), want, rtol=1e-11, atol=1e-12)


def test_float_agrees_with_double():
    small, wide = classifier("float32", class_token=True), classifier("float64", class_token=True)
    wide.load_state_dict({name: view.astype(np.float64) for name, view in small.parameters().items()})
    images = pictures(dtype="float32")
    np.testing.assert_allclose(small.logits(images), wide.logits(images.astype(np.float64)), rtol=2e-5, atol=2e-6)
    _, grads = small.loss_and_grads(images, LABELS)
    _, want = wide.loss_and_grads(images.astype(np.float64), LABELS)
    for name, gradient in grads.items():
        assert np.linalg.norm(gradient - want[name]) <= 1e-5 * np.linalg.norm(want[name]), name


# In parts, which disturb each other, if at all, now and then: so with many, and often; and as a whole.
@pytest.mark.parametrize(("width", "count", "times"), [(8, 99, 30), (192, 12, 2)])
def test_bits_do_not_depend_on_threads(width, count, times):
    model = shaken(ImageEncoder(VisionConfig(24, 8, 2, 2, width, num_classes=4, class_token=True)))
    images, labels = np.random.default_rng(0).random((count, 24, 24, 3), np.float32), np.arange(count) % 4
    before, found = loopos.get_num_threads(), []
    try:
        for threads in (1, *[2] * times, 5):
            loopos.set_num_threads(threads)
            loss, grads = model.loss_and_grads(images, labels)
            found.append((loss, model.logits(images).tobytes(), [g.tobytes() for g in grads.values()]))
    finally:
        loopos.set_num_threads(before)
    assert all(each == found[0] for each in found)


def test_a_batch_in_groups_gives_the_sum_of_its_pictures():
    config = VisionConfig(64, 4, 6, 2, 128, d_ff=1024, num_classes=3)  # of which 98 MB hold a few pictures alone
    model = ImageEncoder(config)
    images = np.random.default_rng(0).random((12, 64, 64, 3), np.float32)
    labels = np.arange(12) // 5  # another pattern in each group
    assert model._core.workspace_bytes(12, 1, True) < 11 * model._core.workspace_bytes(1, 1, True)
    loss, grads = model.loss_and_grads(images, labels)
    parts = [model.loss_and_grads(images[i : i + 1], labels[i : i + 1]) for i in range(12)]
    assert loss == pytest.approx(np.mean([part[0] for part in parts]), rel=1e-6)
    for name, gradient in grads.items():
        want = np.mean([part[1][name] for part in parts], axis=0)
        size = np.mean([np.linalg.norm(part[1][name]) for part in parts])  # the sum may be far smaller
        assert np.linalg.norm(gradient - want) <= 1e-5 * size, name


def test_what_is_held_counts_gradients():
    model = classifier()
    gradients = sum(view.nbytes for view in model._core.gradients().values())
    assert gradients <= model._core.held_bytes()
    model.loss_and_grads(pictures(), LABELS)
    assert model._core.held_bytes() >= gradients + model._core.workspace_bytes(3, 1, True)


def test_no_pictures_and_labels_that_do_not_count():
    model = classifier()
    assert model.forward(pictures(0)).shape == (0, model.config.rows, 8)
    assert model.logits(pictures(0)).shape == (0, 3)
    assert model.loss(pictures(), np.array([-100] * 3)) == 0.0
    loss, grads = model.loss_and_grads(pictures(), np.array([1, -100, -100]))
    assert loss == pytest.approx(model.loss(pictures(1), np.array([1])), rel=1e-12)
    assert np.abs(grads["patch.weight"]).max() > 0


def test_what_is_frozen_has_no_gradient_and_the_rest_keeps_its_own():
    model, images = classifier(class_token=True), pictures()
    _, every = model.loss_and_grads(images, LABELS)
    model.freeze("blocks.0.*")
    model.freeze("patch.*")
    _, some = model.loss_and_grads(images, LABELS)
    assert list(some) == [n for n in every if not n.startswith(("blocks.0.", "patch."))]
    for name, gradient in some.items():
        np.testing.assert_array_equal(gradient, every[name], err_msg=name)


def test_a_step_of_an_optimizer_moves_every_weight():
    model, images = classifier(class_token=True), pictures()
    before = model.state_dict()
    loss, grads = model.loss_and_grads(images, LABELS)
    loopos.optim.SGD(model, 0.01).step(grads)
    assert model.loss(images, LABELS) < loss
    assert all((before[name] != view).any() for name, view in model.parameters().items())


def test_a_birth_names_its_place():
    model = classifier(class_token=True)
    model.parameters()["blocks.1.mlp.up_proj.weight"][0, 0] = np.nan
    with pytest.raises(loopos.NonFiniteError) as caught:
        model.loss_and_grads(pictures(), LABELS)
    birth = caught.value.birth
    assert (birth.phase, birth.layer, birth.tensor) == ("forward", 1, "blocks.1.mlp.up_proj.weight")
    model = classifier("float32")
    model.parameters()["patch.weight"][...] = 3e38
    with pytest.raises(loopos.NonFiniteError) as caught:
        model.loss_and_grads(pictures(dtype="float32"), LABELS)
    assert (caught.value.birth.op, caught.value.birth.tensor, caught.value.birth.layer) == ("linear", "patch.y", None)


def test_refusals():
    model = classifier()
    with pytest.raises(ValueError, match="no classes"):
        ImageEncoder(VisionConfig(8, 4, 1, 1, 4)).logits(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(IndexError, match="3"):
        model.loss(pictures(), np.array([0, 3, 1]))
    with pytest.raises(ValueError, match="targets must have"):
        model.loss(pictures(), np.array([0, 1]))
    with pytest.raises(TypeError, match="VisionConfig"):
        ImageEncoder(loopos.ModelConfig(8, 8, 1, 1, 4))
    with pytest.raises(MemoryError, match="bytes are"):
        ImageEncoder(VisionConfig(64, 8, 4, 4, 4 << 20))


def test_positions_begin_as_large_as_a_patch_is():
    """0.02, as of tokens, is lost beside a patch's own row: an encoder then takes hundreds of updates to tell patches
    apart."""
    weights = ImageEncoder(VisionConfig(64, 4, 1, 2, 64), seed=1).parameters()
    assert np.std(weights["pos_embed.weight"]) == pytest.approx(0.3, rel=0.02)
    assert np.std(weights["patch.weight"]) == pytest.approx(0.02, rel=0.05)
