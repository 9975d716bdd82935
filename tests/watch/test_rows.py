"""Rows of operands: computed from them alone, an element is the one that PyTorch gives."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.rows import ROWS  # noqa: E402

G = torch.Generator().manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=G, dtype=torch.float64)


def check_dot(name, given, output, index):
    kind, found = ROWS[name](given, output, index, None)
    assert kind == "dot"
    a, b = (value for value in found.values() if np.ndim(value))
    assert (a * b).sum() + found.get("plus", 0.0) == pytest.approx(float(output[index]), rel=1e-12)


def test_products():
    a, b, bias = drawn(2, 3, 4), drawn(2, 4, 5), drawn(5)
    check_dot("bmm", {"self": a, "mat2": b}, a @ b, (1, 2, 3))
    check_dot("mm", {"self": a[0], "mat2": b[0]}, a[0] @ b[0], (2, 4))
    given = {"self": bias, "mat1": a[0], "mat2": b[0], "beta": 0.5, "alpha": 2}
    check_dot("addmm", given, torch.addmm(bias, a[0], b[0], beta=0.5, alpha=2), (1, 3))
    check_dot("linear", {"input": a, "weight": b[0].T, "bias": bias}, a @ b[0] + bias, (1, 2, 3))
    check_dot("mv", {"self": a[0], "vec": b[0, :, 0]}, a[0] @ b[0, :, 0], (2,))
    check_dot("dot", {"self": a[0, 0], "tensor": b[0, :, 0]}, a[0, 0] @ b[0, :, 0], ())


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(groups):
    x, weight, bias = drawn(2, 4, 7, 6), drawn(6, 4 // groups, 3, 2), drawn(6)
    options = {"stride": [2, 1], "padding": [1, 1], "dilation": [1, 2], "groups": groups}
    output = torch.nn.functional.conv2d(x, weight, bias, **options)
    check_dot("convolution", {"input": x, "weight": weight, "bias": bias, **options}, output, (1, 4, 0, 3))
    check_dot(
        "convolution",
        {"input": x, "weight": weight, "bias": None, **options},
        output - bias[:, None, None],
        (0, 1, 2, 2),
    )


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, [1], [0, -1]])
def test_sums(dim, keepdim):
    x = drawn(3, 4, 5)
    given = {"self": x, "dim": dim, "keepdim": keepdim}
    output = x.sum(dim, keepdim=keepdim)
    index = tuple(size - 1 for size in output.shape)
    _, found = ROWS["sum"](given, output, index, None)
    assert found["self"].sum() == pytest.approx(float(output[index]), rel=1e-12)


def test_softmax_and_layer_norm():
    x, weight, bias = drawn(3, 4), drawn(4), drawn(4)
    _, found = ROWS["_softmax"]({"self": x, "dim": 0}, x.softmax(0), (2, 1), None)
    assert np.array_equal(found["self"], x[:, 1].numpy())
    given = {"input": x, "normalized_shape": [4], "weight": weight, "bias": bias, "eps": 0.0}
    output = torch.nn.functional.layer_norm(x, (4,), weight, bias, 0.0)
    _, found = ROWS["native_layer_norm"](given, output, (1, 2), 0)
    row = found["input"]
    assert found["channel"] == 2
    value = (row[2] - row.mean()) / row.std() * found["weight"] + found["bias"]
    assert value == pytest.approx(float(output[1, 2]), rel=1e-12)


def test_the_loss_of_labels():
    logs, target = drawn(4, 3).log_softmax(1), torch.tensor([0, -100, 2, 1])
    given = {"self": logs, "target": target, "reduction": 1, "ignore_index": -100}
    _, found = ROWS["nll_loss_forward"](given, torch.tensor(0.0), (), 0)
    assert found["count"] == 3
    assert found["log-probability of the target"].tolist() == [float(logs[0, 0]), float(logs[2, 2]), float(logs[3, 1])]


@pytest.mark.parametrize("flat", [False, True])
def test_what_an_alignment_needs(flat):
    targets = torch.tensor([[1, 1, 2, 0], [3, 3, 3, 1]])
    given = {"targets": torch.tensor([1, 1, 3, 3, 3, 1]) if flat else targets, "input_lengths": torch.tensor([9, 5])}
    given["target_lengths"] = [2, 4]
    for index, counts in (((0,), (2, 3, 9)), ((1,), (4, 6, 5))):
        _, found = ROWS["_ctc_loss"](given, torch.zeros(2), index, 0)
        assert (found["labels"], found["needed"], found["frames"]) == counts


def test_batch_norm_in_evaluation_mode():
    x, mean, variance, weight = drawn(2, 3, 4), drawn(3), drawn(3).square(), drawn(3)
    given = {"input": x, "weight": weight, "bias": None, "running_mean": mean, "running_var": variance}
    output = torch.nn.functional.batch_norm(x, mean, variance, weight, eps=0.0)
    _, found = ROWS["native_batch_norm"](given, output, (1, 2, 3), 0)
    value = (found["x"] - found["running_mean"]) / found["running_var"] ** 0.5 * found["weight"]
    assert value == pytest.approx(float(output[1, 2, 3]), rel=1e-12)


def test_norms_of_a_channel_and_a_group():
    x, weight, bias = drawn(2, 6, 4), drawn(6), drawn(6)
    given = {"input": x, "weight": weight, "bias": bias, "group": 3, "N": 2, "C": 6, "HxW": 4, "training": True}
    outputs = {
        "native_group_norm": torch.nn.functional.group_norm(x, 3, weight, bias, eps=0.0),
        "native_batch_norm": torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=1e-300),
    }
    for name, output in outputs.items():
        _, found = ROWS[name](given, output, (1, 3, 2), 0)
        row = found["input"]
        normed = (row - row.mean()) / row.std()
        value = normed[int(found["channel"])] * found["weight"] + found["bias"]
        assert value == pytest.approx(float(output[1, 3, 2]), rel=1e-9)
    _, found = ROWS["native_batch_norm"](given, x.mean((0, 2)), (3,), 1)
    assert found["input"].mean() == pytest.approx(float(x[:, 3].mean()), rel=1e-12)
    _, found = ROWS["native_group_norm"](given, drawn(2, 3), (1, 2), 1)
    assert found["input"].tolist() == x[1, 4:6].reshape(-1).tolist()


@pytest.mark.parametrize("dim", [0, 1])
def test_weight_norm(dim):
    v = drawn(3, 4)
    g = drawn(3, 1) if dim == 0 else drawn(1, 4)
    output = torch._weight_norm(v, g, dim)
    _, found = ROWS["_weight_norm_interface"]({"v": v, "g": g, "dim": dim}, output, (2, 1), 0)
    value = found["g"] * found["v at the element"] / (found["v"] ** 2).sum() ** 0.5
    assert value == pytest.approx(float(output[2, 1]), rel=1e-12)


@pytest.mark.parametrize("dim", [0, -1])
def test_what_is_added_up_by_index(dim):
    x, source, ids = drawn(3, 4), drawn(3, 4), torch.tensor([1, 1, 0, 1])[: 3 if dim == 0 else 4]
    output = torch.index_add(x, dim, ids, source, alpha=2)
    given = {"self": x, "dim": dim, "index": ids, "source": source, "alpha": 2}
    _, found = ROWS["index_add"](given, output, (1, 1), None)
    assert found["self"].sum() == pytest.approx(float(output[1, 1]), rel=1e-12)
    every = torch.randint(0, 3, (3, 4), generator=G)
    output = torch.scatter_add(x, dim, every, source)
    _, found = ROWS["scatter_add"]({"self": x, "dim": dim, "index": every, "src": source}, output, (1, 1), None)
    assert found["self"].sum() == pytest.approx(float(output[1, 1]), rel=1e-12)


def test_labels_of_pictures():
    logs, target = drawn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5), generator=G)
    target[0, 1] = -100
    classes = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)
    given = {"self": logs, "target": target, "weight": classes, "reduction": 1, "ignore_index": -100}
    output = torch.nn.functional.nll_loss(logs, target, classes)
    _, found = ROWS["nll_loss2d_forward"](given, output, (), 0)
    scored, weights = found["log-probability of the target"], found["weight"]
    assert found["count"] == 35
    assert -(scored * weights).sum() / weights.sum() == pytest.approx(float(output), rel=1e-12)
    _, found = ROWS["nll_loss2d_forward"](given | {"reduction": 0}, logs[:, 0], (1, 2, 3), 0)
    assert found["self"].tolist() == logs[1, :, 2, 3].tolist()


def test_the_gradient_of_a_table():
    gradient, ids = drawn(2, 3, 4), torch.tensor([[1, 0, 1], [2, 1, 0]])
    given = {"grad_output": gradient, "indices": ids, "num_weights": 3}
    _, found = ROWS["embedding_dense_backward"](given, torch.zeros(3, 4), (1, 2), None)
    assert found["grad_output"].tolist() == gradient[ids == 1][:, 2].tolist()
