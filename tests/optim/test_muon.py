"""Muon against torch.optim.Muon, whose Newton-Schulz runs in bfloat16: tightly against torch's own source with the cast
taken out, and against the stock rule as closely as bfloat16 allows."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from optimizers import draw

from loopos import Model, ModelConfig, NonFiniteError, optim

SHAPES = {"wide": (12, 40), "tall": (40, 12), "square": (24, 24), "row": (1, 9), "column": (9, 1)}
OPTIONS = {
    "stock": {},
    "plain": {"nesterov": False, "weight_decay": 0.0, "momentum": 0.8},
    "rms": {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 3},
    "unscaled": {"adjust_lr_fn": "original", "ns_steps": 0},
}


@pytest.fixture
def torch(thread_count):
    """On one thread each: matrices as small as these are not worth waking another."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    thread_count(1)
    yield torch
    torch.set_num_threads(before)


@pytest.fixture
def exact_torch(torch, monkeypatch):
    """torch.optim.Muon with Newton-Schulz in the parameter's dtype."""
    module = torch.optim._muon
    source = inspect.getsource(module._zeropower_via_newtonschulz)
    assert source.count("grad.bfloat16()") == 1
    names = dict(vars(module))
    exec(source.replace("grad.bfloat16()", "grad.clone()"), names)
    monkeypatch.setattr(module, "_zeropower_via_newtonschulz", names["_zeropower_via_newtonschulz"])
    return torch


def both(torch, dtype, steps, options, lr=0.01):
    """(ours, torch's, the start) after the same gradients."""
    start = draw(0, dtype, SHAPES)
    params = {name: p.copy() for name, p in start.items()}
    theirs = [torch.nn.Parameter(torch.tensor(p)) for p in params.values()]
    ours, other = optim.Muon(params, lr, **options), torch.optim.Muon(theirs, lr, **options)
    rng = np.random.default_rng(1)
    for _ in range(steps):
        grads = {n: (rng.standard_normal(s) + 0.1 * start[n]).astype(dtype) for n, s in SHAPES.items()}
        for t, g in zip(theirs, grads.values(), strict=True):
            t.grad = torch.tensor(g)
        ours.step(grads)
        other.step()
    return params, dict(zip(SHAPES, (t.detach().numpy() for t in theirs), strict=True)), start


def apart(a, b, start):
    """The largest distance of a tensor of two runs over the way it went."""
    return max(float(np.linalg.norm(a[n] - b[n]) / np.linalg.norm(b[n] - start[n])) for n in b)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("options", "dtype", "gate"), [*((name, np.float64, 1e-13) for name in OPTIONS), ("stock", np.float32, 5e-6)]
)
def test_a_thousand_steps_follow_torch(options, dtype, gate, exact_torch):
    """Float64 leaves rounding alone; in float32 the rounding of a thousand steps, as a random walk."""
    ours, theirs, start = both(exact_torch, dtype, 1000, OPTIONS[options])
    assert apart(ours, theirs, start) <= gate


@pytest.mark.reference
def test_a_rule_off_by_a_thousandth_is_noticed(exact_torch, monkeypatch):
    monkeypatch.setattr(exact_torch.optim._muon, "_adjust_lr", lambda lr, fn, shape: 1.001 * lr)
    ours, theirs, start = both(exact_torch, np.float64, 20, {})
    assert apart(ours, theirs, start) > 1e-4


@pytest.mark.reference
def test_a_thousand_steps_follow_stock_torch_as_closely_as_bfloat16_allows(torch):
    """A number of bfloat16 has 8 bits: each is off by up to 0.4 %, and the single singular value of a row wholly so."""
    ours, theirs, start = both(torch, np.float32, 1000, {})
    assert apart(ours, theirs, start) <= 0.02


@pytest.mark.parametrize("shape", [(6, 6), (5, 30), (30, 5)])
def test_the_step_is_nearly_orthogonal_and_keeps_the_directions(shape):
    """Singular vectors stay, singular values come near 1: that is what Newton-Schulz is for."""
    g = np.random.default_rng(0).standard_normal(shape)
    params = {"w": np.zeros(shape)}
    optim.Muon(params, 1.0, weight_decay=0, adjust_lr_fn="original").step({"w": g})
    step = -params["w"] / np.sqrt(max(1, shape[0] / shape[1]))
    u, _, v = np.linalg.svd(g, full_matrices=False)
    values = u.T @ step @ v.T
    assert np.abs(values - np.diag(np.diag(values))).max() < 1e-12
    assert 0.6 < np.diag(values).min() <= np.diag(values).max() < 1.21


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_zero_gradient_leaves_decay_alone(dtype):
    params = {"w": np.array([[1, -2], [3, 4]], dtype)}
    want = params["w"] * dtype(1 - 0.5 * 0.25)
    optim.Muon(params, 0.5, weight_decay=0.25).step({"w": np.zeros((2, 2), dtype)})
    assert params["w"].tobytes() == want.tobytes()
    with pytest.raises(NonFiniteError, match="0") as caught:
        optim.Muon(params, 0.5, eps=0).step({"w": np.zeros((2, 2), dtype)})
    assert (caught.value.birth.phase, caught.value.birth.op, caught.value.birth.cause_class) == (
        "update",
        "muon",
        "0/0",
    )
    assert params["w"].tobytes() == want.tobytes()


@pytest.mark.parametrize(("dtype", "sizes"), [(np.float32, (1e-30, 1e30, 1e38)), (np.float64, (1e-200, 1e200, 1e307))])
def test_the_size_of_the_gradient_does_not_matter(dtype, sizes):
    """The norm is finite where its square, or itself, leaves the range; below eps the step is smaller, as torch's."""
    g, steps = np.random.default_rng(0).uniform(-1, 1, (20, 30)), []
    for size in (1.0, *sizes):
        params = {"w": np.zeros((20, 30), dtype)}
        optim.Muon(params, 1.0, weight_decay=0, eps=1e-300).step({"w": (g * size).astype(dtype)})
        steps.append(params["w"])
    for step in steps[1:]:
        np.testing.assert_allclose(step, steps[0], rtol=0, atol=1e-4 if dtype is np.float32 else 1e-12)


def test_tensors_that_are_no_matrices_and_options_out_of_range():
    w = np.ones((2, 2), np.float32)
    for shape in ((3,), (), (2, 2, 2)):
        with pytest.raises(ValueError, match="Muon: params must be matrices; 'b' has shape"):
            optim.Muon({"w": w, "b": np.ones(shape, np.float32)})
    with pytest.raises(ValueError, match="must be matrices"):
        optim.Muon(Model(ModelConfig(7, 4, 1, 1, 4)))
    for name, bad in (("momentum", 1.0), ("momentum", -0.1), ("eps", -1.0), ("ns_steps", 100), ("ns_steps", -1)):
        with pytest.raises(ValueError, match=f"Muon: {name} must be"):
            optim.Muon({"w": w}, **{name: bad})
    with pytest.raises(ValueError, match="adjust_lr_fn"):
        optim.Muon({"w": w}, adjust_lr_fn="fastest")
    for name, bad in (("ns_steps", 2.5), ("ns_steps", True), ("nesterov", 1), ("momentum", "0.9"), ("eps", None)):
        with pytest.raises(TypeError, match=name):
            optim.Muon({"w": w}, **{name: bad})
