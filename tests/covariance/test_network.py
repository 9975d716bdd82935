"""CovarianceNetwork: its numbers and gradients against differences and PyTorch; order, threads, groups, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import shaken, worst_difference
from snapshots import POWERS, in_torch, network, quadratic, samples, small

import loopos
from loopos.covariance import CovarianceNetwork
from loopos.covariance.network import as_vectors, numbers_backward, root_power

KINDS = [{}, {"learn_beta": False}, {"prediction": "unconstrained"}, {"norm": "rmsnorm", "n_layer": 1}, POWERS]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_differences_and_a_planted_error_is_found(kind):
    model = network(**kind)
    given, loss = samples(elements=model.config.elements), quadratic(model)
    value, grads = model.value_and_grads(given, loss)
    again = lambda: loss(model.numbers(given))[0]  # noqa: E731
    assert value == pytest.approx(again(), rel=1e-13)
    assert list(grads) == list(model.parameters())
    assert ("blend" in grads) == model.config.learn_beta
    assert all(np.abs(gradient).max() > 0 for gradient in grads.values())
    assert worst_difference(model, again, grads) < 1e-6
    wrong = {name: gradient * 1.001 for name, gradient in grads.items()}
    assert worst_difference(model, again, wrong) > 1e-4


@pytest.mark.reference
@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("kind", [{}, {"prediction": "unconstrained"}, POWERS])
def test_numbers_and_gradients_are_pytorchs(kind, length):
    torch = pytest.importorskip("torch")
    model = network(**kind)
    given = samples(length=length, elements=model.config.elements)
    weights = {name: torch.tensor(view, requires_grad=True) for name, view in model.parameters().items()}
    numbers = in_torch(weights, model.config, torch.tensor(model.rows(given)))
    np.testing.assert_allclose(model.numbers(given), numbers.detach().numpy(), rtol=1e-11, atol=1e-12)
    each = np.random.default_rng(3).standard_normal(model.config.outputs)
    loss = (torch.tensor(each) * numbers + numbers**2 / 2).sum() * (1 + weights["blend"][0])
    loss.backward()
    value, grads = model.value_and_grads(given, quadratic(model))
    assert value == pytest.approx(loss.item(), rel=1e-12)
    for name, gradient in grads.items():
        np.testing.assert_allclose(gradient, weights[name].grad.numpy(), rtol=1e-9, atol=1e-11, err_msg=name)


def test_float_agrees_with_double():
    small_one, wide = network("float32"), network("float64")
    wide.load_state_dict({name: view.astype(np.float64) for name, view in small_one.parameters().items()})
    given = samples(dtype="complex64")
    np.testing.assert_allclose(small_one.numbers(given), wide.numbers(given), rtol=2e-5, atol=2e-6)
    _, grads = small_one.value_and_grads(given, quadratic(small_one))
    _, want = wide.value_and_grads(given, quadratic(wide))
    for name, gradient in grads.items():
        assert np.linalg.norm(gradient - want[name]) <= 1e-5 * np.linalg.norm(want[name]), name


def test_snapshots_can_be_exchanged_and_their_scale_is_not_read():
    model, given = network(), samples()
    want = model.numbers(given)
    np.testing.assert_allclose(model.numbers(given[:, [2, 0, 3, 1]]), want, rtol=1e-12)
    for scale in (1e-150, 3e-4, 1e150):
        np.testing.assert_allclose(model.numbers(scale * given), want, rtol=1e-12)
    assert np.abs(model.numbers(1j * given) - want).max() > 1e-3  # its phase is
    np.testing.assert_allclose(np.square(model.rows(given)).sum(axis=-1).mean(axis=1), 5, rtol=1e-13)


# In parts, which disturb each other, if at all, now and then: so with many, and often; and as a whole.
@pytest.mark.parametrize(
    ("width", "count", "times", "kind"), [(8, 99, 20, {}), (192, 12, 2, {}), (8, 99, 20, POWERS), (192, 12, 2, POWERS)]
)
def test_bits_do_not_depend_on_threads(width, count, times, kind):
    model = shaken(CovarianceNetwork(small(**kind, d_model=width)))
    given, want = samples(count, 7, model.config.elements, dtype="complex64"), None
    before = loopos.get_num_threads()
    try:
        for threads in (1, 2, 3, 8):
            loopos.set_num_threads(threads)
            for _ in range(times if threads > 1 else 1):
                value, grads = model.value_and_grads(given, quadratic(model))
                got = [model.numbers(given), np.float64(value), *grads.values()]
                want = want or got
                assert all(np.array_equal(a, b) for a, b in zip(want, got, strict=True))
    finally:
        loopos.set_num_threads(before)


@pytest.mark.unsanitized("minutes of large passes; those of a captioner, in groups, are looked at there")
@pytest.mark.parametrize("kind", [{}, {"prediction": "powers", "elements": 200, "shape": (10, 20), "points": 1}])
def test_a_large_batch_goes_in_groups_and_its_gradient_is_the_sum(kind):
    config = small(d_model=256, n_layer=3, dropout=0.0, **kind)
    model = shaken(CovarianceNetwork(config, dtype="float64"))
    given = samples(40, 200 if not kind else 2, config.elements)
    part = model._core.workspace_bytes(40, config.rows(200), True)
    assert part < model._core.workspace_bytes(20, config.rows(200), True) * 1.9  # it does not grow with the batch
    _, grads = model.value_and_grads(given, quadratic(model))
    sums = {name: np.zeros_like(g) for name, g in grads.items()}
    for first in range(0, 40, 8):
        for name, gradient in model.value_and_grads(given[first : first + 8], quadratic(model))[1].items():
            sums[name] += gradient
    for name, gradient in grads.items():
        np.testing.assert_allclose(gradient, sums[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_loss_that_is_not_finite_has_a_birth():
    model, given = network(), samples()
    with pytest.raises(loopos.NonFiniteError) as caught:
        model.value_and_grads(given, lambda y: (np.inf, np.zeros_like(y), 0.0))
    assert (caught.value.birth.op, caught.value.birth.tensor) == ("covariance", "loss")

    def bad(numbers):
        gradient = np.zeros_like(numbers)
        gradient[1, 3] = np.nan
        return 1.0, gradient, 0.0

    with pytest.raises(loopos.NonFiniteError) as caught:
        model.value_and_grads(given, bad)
    birth = caught.value.birth
    assert (birth.phase, birth.op, birth.tensor, birth.index) == ("backward", "covariance", "factor.dy", (1, 3))


def test_a_loss_may_not_call_the_model_and_has_three_results():
    model, given = network(), samples()
    with pytest.raises(RuntimeError, match="must not call the model"):
        model.value_and_grads(given, lambda y: (float(model.numbers(given).sum()), y, 0.0))
    with pytest.raises(TypeError, match="gradient of the blend"):
        model.value_and_grads(given, lambda y: (0.0, y))
    with pytest.raises(ValueError, match="gradient"):
        model.value_and_grads(given, lambda y: (0.0, y[:, :3], 0.0))


def test_snapshots_that_are_none():
    model = network()
    with pytest.raises(TypeError, match="complex64 or complex128, got float64"):
        model.numbers(samples().real)
    with pytest.raises(ValueError, match=r"\(B, L, 5\)"):
        model.numbers(samples(elements=4))
    with pytest.raises(ValueError, match="L at least 1"):
        model.numbers(samples(length=0))
    bad = samples()
    bad[2, 1, 0] = np.nan
    with pytest.raises(ValueError, match="sample 2 has a number that is not finite"):
        model.numbers(bad)
    bad[2] = 0
    with pytest.raises(ValueError, match="sample 2 are 0, so its covariance has no scale"):
        model.numbers(bad)
    assert model.numbers(samples(0)).shape == (0, 20)
    assert network(**POWERS).numbers(samples(0, elements=6)).shape == (0, 24)


def test_vectors_and_numbers_are_the_same_in_another_order():
    model, given = network(), samples()
    numbers = model.numbers(given)
    vectors = model.vectors(given)
    assert vectors.shape == (3, 2, 5)
    assert np.array_equal(numbers_backward(vectors, numbers, model.config), numbers)
    assert np.array_equal(as_vectors(numbers, model.config), vectors)
    assert root_power(np.full((1, 2, 3), 3e200 + 4e200j)) == pytest.approx(5e200)


def test_powers_are_of_directions_and_their_gradient_is_a_difference():
    config, h = small(**POWERS), 1e-6
    numbers = np.random.default_rng(4).standard_normal((2, config.outputs))
    vectors = as_vectors(numbers, config)
    gram = np.einsum("bgi,bgj->bij", vectors, vectors.conj())
    assert np.trace(gram, axis1=1, axis2=2).real == pytest.approx(6 * np.exp(numbers).mean(axis=1))
    weights = samples(2, config.rank, 6, seed=5)
    loss = lambda y: (weights.conj() * as_vectors(y, config)).sum().real  # noqa: E731
    got = numbers_backward(weights, numbers, config)
    for index in ((0, 0), (1, 7), (1, config.outputs - 1)):
        step = np.zeros_like(numbers)
        step[index] = h
        assert got[index] == pytest.approx((loss(numbers + step) - loss(numbers - step)) / (2 * h), rel=1e-7)


def test_beta_is_the_sigmoid_of_a_parameter():
    assert network(beta=0.25, learn_beta=False).beta() == 0.25
    model = CovarianceNetwork(small(beta=0.25), dtype="float64")
    assert model.beta() == pytest.approx(0.25, rel=1e-7)  # drawn as float32
    model.parameters()["blend"][...] = 0
    assert model.beta() == 0.5
    for logit, want in ((-1e4, 0.0), (1e4, 1.0), (-2.0, 1 / (1 + np.exp(2.0)))):
        model.parameters()["blend"][:] = logit
        assert model.beta() == pytest.approx(want)
