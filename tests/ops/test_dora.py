"""dora: against numpy, by differences with the lengths held still, against peft, float against double on every
instruction set, deaf to thread count.

The instruction set is chosen once per process: `python test_dora.py` prints the errors of one.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from sweeps import POWERS

import loopos
from loopos import ops

# rows, in, out, rank
SHAPES = [(1, 1, 1, 1), (7, 5, 3, 2), (33, 70, 48, 8), (300, 65, 31, 5), (70, 300, 130, 16)]
SCALE = 0.7


def drawn(shape, dtype=np.float64, seed=0, scale=1.0):
    rows, ins, outs, rank = shape
    rng = np.random.default_rng(seed)
    sizes = ((rows, outs), (rows, ins), (outs, ins), (rank, ins), (outs, rank), (outs,))
    dy, x, weight, a, b, bias = (rng.standard_normal(s).astype(np.float32).astype(dtype) for s in sizes)
    magnitude = rng.uniform(0.5, 2, outs).astype(np.float32).astype(dtype)
    root = np.sqrt(ins).astype(dtype)
    return (scale * dy).astype(dtype), (scale * x).astype(dtype), weight / root, a / root, b, magnitude, bias


def expected(dy, x, weight, a, b, magnitude, bias):
    """y and the four gradients, in float64."""
    dy, x, weight, a, b, magnitude, bias = (v.astype(np.float64) for v in (dy, x, weight, a, b, magnitude, bias))
    merged = weight + SCALE * b @ a
    length = np.linalg.norm(merged, axis=1)
    z, dz = x @ merged.T, dy * magnitude / length
    return (
        z * magnitude / length + bias,
        dz @ merged,
        SCALE * b.T @ dz.T @ x,
        SCALE * dz.T @ x @ a.T,
        (dy * z).sum(0) / length,
    )


def computed(dy, *given):
    return ops.dora(*given, scale=SCALE), *ops.dora_backward(dy, *given[:-1], scale=SCALE)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_and_backward_against_numpy(shape):
    given = drawn(shape)
    kept = [v.copy() for v in given]
    for got, want in zip(computed(*given), expected(*given), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)
    for one, other in zip(given, kept, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_a_bias_and_axes_stay():
    _, x, weight, a, b, magnitude, _ = drawn((12, 5, 3, 2))
    y = ops.dora(x.reshape(3, 4, 5), weight, a, b, magnitude)
    np.testing.assert_array_equal(y.reshape(12, 3), ops.dora(x, weight, a, b, magnitude))
    length = np.linalg.norm(weight, axis=1)  # as an adapter begins: nothing changes
    np.testing.assert_allclose(ops.dora(x, weight, a, 0 * b, length), x @ weight.T, rtol=1e-13)


def test_gradients_by_differences(check_gradient):
    """Of the product with the lengths as they are at the start: that is what backward means by a constant."""
    _, x, weight, a, b, magnitude, bias = drawn((6, 5, 4, 3))
    length = np.linalg.norm(weight + SCALE * b @ a, axis=1)

    def still(x, a, b, magnitude):
        return x @ (weight + SCALE * b @ a).T * magnitude / length + bias

    def gradient(number, dy, **changed):
        given = {"x": x, "weight": weight, "a": a, "b": b, "magnitude": magnitude} | changed
        return ops.dora_backward(dy, **given, scale=SCALE)[number]

    check_gradient(
        lambda v: ops.dora(v, weight, a, b, magnitude, bias, scale=SCALE), lambda dy, v: gradient(0, dy, x=v), x
    )
    check_gradient(lambda v: still(x, v, b, magnitude), lambda dy, v: gradient(1, dy, a=v), a)
    check_gradient(lambda v: still(x, a, v, magnitude), lambda dy, v: gradient(2, dy, b=v), b)
    check_gradient(
        lambda v: ops.dora(x, weight, a, b, v, bias, scale=SCALE), lambda dy, v: gradient(3, dy, magnitude=v), magnitude
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_for_every_number_of_threads(dtype, check_threads):
    given = [drawn(shape, dtype) for shape in (*SHAPES[1:], (1100, 576, 192, 8), (1, 576, 192, 8))]
    check_threads(lambda: [part for each in given for part in computed(*each)])


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_nothing_and_extremes(rows):
    for outs, rank in ((0, 2), (3, 0)):
        given = drawn((rows, 4, outs, rank))
        for got, want in zip(computed(*given), expected(*given), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    for value in (1e4, 3e38, np.nan, np.inf):
        _, x, weight, a, b, magnitude, bias = drawn((4, 30, 6, 8), np.float32)
        weight[2, 3] = value
        with np.errstate(all="ignore"):
            y = ops.dora(x, weight, a, b, magnitude, bias)
        assert np.isfinite(np.delete(y, 2, 1)).all()
        assert np.isfinite(y[:, 2]).all() == (value == 1e4 or (value == 3e38 and np.isfinite(y[:, 2]).all()))
    _, x, weight, a, b, magnitude, bias = drawn((4, 30, 6, 8), np.float32)
    weight[1], b[1] = 0, 0
    with np.errstate(all="ignore"):
        assert np.isnan(ops.dora(x, weight, a, b, magnitude, bias)[:, 1]).all()  # a row of length 0 has no direction


def test_refusals():
    dy, x, weight, a, b, magnitude, bias = drawn((4, 5, 3, 2))
    with pytest.raises(ValueError, match=r"dora: weight must be \(O, I\)"):
        ops.dora(x, weight[:, 1:], a, b, magnitude)
    with pytest.raises(ValueError, match=r"dora: a must be \(R, I\)"):
        ops.dora(x, weight, a[:, 1:], b, magnitude)
    with pytest.raises(ValueError, match=r"dora: b must have shape \(3, 2\)"):
        ops.dora(x, weight, a, b[1:], magnitude)
    with pytest.raises(ValueError, match=r"dora: magnitude must have shape \(3,\)"):
        ops.dora(x, weight, a, b, magnitude[1:])
    with pytest.raises(ValueError, match=r"dora: bias must have shape \(3,\)"):
        ops.dora(x, weight, a, b, magnitude, bias[1:])
    with pytest.raises(ValueError, match="dora: scale must be finite"):
        ops.dora(x, weight, a, b, magnitude, scale=np.nan)
    with pytest.raises(ValueError, match="dora_backward: dy must have shape"):
        ops.dora_backward(dy[1:], x, weight, a, b, magnitude)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
def test_parity_with_peft():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    peft = pytest.importorskip("peft", reason="compares with peft")
    dy, x, weight, a, b, magnitude, bias = drawn((9, 30, 20, 4))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = torch.nn.Linear(30, 20, dtype=torch.float64)

        def forward(self, x):
            return self.lin(x)

    config = peft.LoraConfig(r=4, lora_alpha=4 * SCALE, target_modules=["lin"], use_dora=True)
    net = peft.get_peft_model(Net(), config, autocast_adapter_dtype=False).train()
    views = {name.split("lin.")[1]: p for name, p in net.named_parameters()}
    with torch.no_grad():
        for name, value in (
            ("base_layer.weight", weight),
            ("base_layer.bias", bias),
            ("lora_A.default.weight", a),
            ("lora_B.default.weight", b),
            ("lora_magnitude_vector.default.weight", magnitude),
        ):
            views[name].copy_(torch.from_numpy(value))
    tx = torch.tensor(x, requires_grad=True)
    ty = net(tx)
    ty.backward(torch.from_numpy(dy))
    trained = [views[f"lora_{name}.default.weight"].grad.numpy() for name in ("A", "B", "magnitude_vector")]
    got = computed(dy, x, weight, a, b, magnitude, bias)
    for ours, theirs in zip(got, (ty.detach().numpy(), tx.grad.numpy(), *trained), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def figures():
    """Worst relative error of float32 against float64 over input scales 2^0 to 2^9."""
    worst = 0.0
    for shape in SHAPES:
        for power in POWERS:
            given = drawn(shape, np.float32, seed=power, scale=2.0**power)
            for got, want in zip(computed(*given), expected(*given), strict=True):
                worst = max(worst, float(np.linalg.norm(got - want) / np.linalg.norm(want)))
    return {"isa": loopos._core.isa(), "worst": worst}


def test_float_against_double_on_every_instruction_set(measure):
    assert measure("test_dora.py")["worst"] < 2e-6  # three products, one after another


if __name__ == "__main__":
    print(json.dumps(figures()))
