"""The pipeline: its matrices by definition, its gradients against differences and PyTorch, its scale."""

from __future__ import annotations

import numpy as np
import pytest
from snapshots import run, samples, small, truth, vectors

from loopos.covariance.pipeline import STAGES, pipeline
from loopos.errors import AmplificationError

KINDS = [
    {},
    {"normalize": ("snapshots", "pred", "samp", "blend"), "center": True},
    {"prediction": "unconstrained", "normalize": ("blend",), "limit": None},
]


LOSSES = ["frobenius", "subspace", {"stein": 0.3, "affine_invariant": 2.0}]
# what is unconstrained may be indefinite, and then has no logarithm
GIVEN = [(kind, loss) for kind in KINDS for loss in LOSSES if isinstance(loss, str) or "prediction" not in kind]


@pytest.mark.parametrize(("kind", "loss"), GIVEN)
def test_gradients_are_differences_and_a_planted_error_is_found(kind, loss):
    config = small(loss=loss, **kind)
    given, h = vectors(config), 1e-6
    dvectors, dlogit = run(config, given).backward()
    total = lambda v, logit=0.3: float(run(config, v, logit).losses.sum())  # noqa: E731
    rng = np.random.default_rng(2)
    for index in [tuple(rng.integers(n) for n in given.shape) for _ in range(8)]:
        for unit in (1, 1j):
            step = np.zeros_like(given)
            step[index] = unit * h
            want = (total(given + step) - total(given - step)) / (2 * h)
            got = (dvectors[index].conj() * unit).real
            assert abs(got - want) <= 1e-6 * max(1, abs(want))
    want = (total(given, 0.3 + h) - total(given, 0.3 - h)) / (2 * h)
    assert dlogit == pytest.approx(want, rel=1e-6)
    assert 1.001 * dlogit != pytest.approx(want, rel=1e-4)
    twice, other = run(config, given).backward(2.0)
    np.testing.assert_allclose(twice, 2 * dvectors)
    assert other == pytest.approx(2 * dlogit)


@pytest.mark.reference
@pytest.mark.parametrize("kind", KINDS)
def test_matrices_and_gradients_are_pytorchs(kind):
    torch = pytest.importorskip("torch")
    config = small(**kind)
    given, x = vectors(config), samples()
    v = torch.tensor(given, requires_grad=True)
    logit = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    beta, n, eye = torch.sigmoid(logit), config.elements, torch.eye(config.elements, dtype=torch.float64)

    def scaled(name, r):
        if name not in config.normalize:
            return r
        return r * (n / torch.diagonal(r, dim1=-2, dim2=-1).real.sum(-1).clamp_min(config.floor))[:, None, None]

    a = torch.tensor(x)
    if "snapshots" in config.normalize:
        a = a / (a.abs() ** 2).mean((1, 2)).sqrt()[:, None, None]
    a = a - a.mean(1, keepdim=True) if config.center else a
    samp = scaled("samp", torch.einsum("bln,blm->bnm", a, a.conj()) / (x.shape[1] - config.center))
    if config.prediction == "factor":
        pred = torch.einsum("brn,brm->bnm", v, v.conj()) + config.eps * eye
    else:
        pred = (v + v.mH) / 2
    blend = scaled("blend", (1 - beta) * scaled("pred", pred) + beta * samp.detach())
    t = torch.tensor(truth())
    t = t * (n / torch.diagonal(t, dim1=-2, dim2=-1).real.sum(-1))[:, None, None]
    loss = ((blend + config.loading * eye - t).abs() ** 2).sum()
    loss.backward()
    result = run(config, given)
    np.testing.assert_allclose(result.matrices["samp"], samp.numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(result.matrices["blend"], blend.detach().numpy(), rtol=1e-11, atol=1e-12)
    assert result.losses.sum() == pytest.approx(loss.item(), rel=1e-12)
    dvectors, dlogit = result.backward()
    np.testing.assert_allclose(dvectors, v.grad.numpy(), rtol=1e-9, atol=1e-9)
    assert dlogit == pytest.approx(logit.grad.item(), rel=1e-9)


def test_a_factor_is_semidefinite_and_its_trace_is_never_at_the_floor():
    config = small()
    for given in (vectors(config), 0 * vectors(config), 1e-12 * vectors(config), 1e9 * vectors(config)):
        result = run(config, given)
        assert result.traces["pred"].count == 0
        for name in STAGES:
            assert np.linalg.eigvalsh(result.matrices[name])[:, 0].min() > -1e-12
            np.testing.assert_allclose(np.trace(result.matrices[name], axis1=1, axis2=2).real, 5, rtol=2e-3)


def test_the_scale_of_the_snapshots_is_left_out_and_known():
    config = small()
    want = run(config, vectors(config))
    faint = run(config, vectors(config), snapshots=1e-9 * samples())
    np.testing.assert_allclose(faint.covariance, want.covariance, rtol=1e-12)
    np.testing.assert_allclose(faint.scale, 1e-9 * want.scale)
    power = want.scale**2 * np.trace(want.matrices["samp"], axis1=1, axis2=2).real
    np.testing.assert_allclose(power, (np.abs(samples()) ** 2).sum(axis=(1, 2)) / 4)


@pytest.mark.parametrize("scale", [1e-6, 1e-12, 1e9])
def test_the_scale_of_the_truth_makes_no_difference(scale):
    config, given = small(), vectors(small())
    want = pipeline(config, samples(), given, 0.5, truth())
    got = pipeline(config, samples(), given, 0.5, scale * truth())
    np.testing.assert_allclose(got.matrices["truth"], want.matrices["truth"], rtol=1e-12)
    np.testing.assert_allclose(np.trace(got.matrices["truth"], axis1=1, axis2=2).real, 5)
    with pytest.raises(AmplificationError, match=r"R_truth: .*the trace of r is 0"):
        pipeline(config, samples(), given, 0.5, 0 * truth())


def test_an_amplification_is_refused_and_without_a_truth_there_is_no_loss():
    config = small(prediction="unconstrained", normalize=("blend",), limit=1e6)
    given = vectors(config)
    given[1] -= 50 * np.eye(5)
    with pytest.raises(
        AmplificationError, match=r"R_blend: .*batch entry \(1,\): the trace of r is -.* a factor of 5e\+09"
    ):
        run(config, given)
    result = pipeline(small(), samples(), vectors(small()), 0.5)
    assert result.losses is None
    with pytest.raises(ValueError, match="without a truth there is no loss"):
        result.backward()
