"""Single operations: what is counted, and that both engines compute the same thing."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import _core, ops
from loopos.bench import operations
from loopos.bench.operations import make_arrays
from loopos.bench.precisions import PRECISIONS
from loopos.bench.settings import SETTINGS, TINY


def _counts(setting):
    return {(each.name, each.backward): (each.flops, each.numbers) for each in operations.of(setting)}


def test_counts_by_hand():
    counts = _counts(TINY["tiny"])  # 16 tokens, C 16, d_ff 64, V 17, two heads of width 8, T 8, B 2
    assert counts["linear (up)", False] == (2 * 16 * 16 * 64, 16 * 16 + 16 * 64 + 64 + 16 * 64)
    assert counts["linear (up)", True] == (4 * 16 * 16 * 64, 16 * 64 + 2 * (16 * 16 + 16 * 64 + 64))
    assert counts["linear (head)", False] == (2 * 16 * 16 * 17, 16 * 16 + 16 * 17 + 16 * 17)
    pairs = 2 * 2 * 36  # sequences, heads, pairs that the mask leaves
    assert counts["attention (causal)", False] == (2 * 2 * 8 * pairs, 4 * 16 * 16)  # reads q k v, writes y
    assert counts["attention (causal)", True] == (4 * 2 * 8 * pairs, 8 * 16 * 16)  # q k v y dy; dq dk dv
    assert counts["layer_norm", False] == (0, 2 * 256 + 2 * 16)
    assert counts["layer_norm", True] == (0, 3 * 256 + 16 + 2 * 16)
    assert counts["gelu", True] == (0, 3 * 16 * 64)
    assert counts["cross_entropy", True] == (0, 2 * 16 * 17)
    assert counts["AdamW step", False] == (0, 7 * 12 * 256)


def test_products_by_hand():
    found = {(each.name, each.backward): each for each in operations.products(TINY["tiny"])}
    names = [f"{made} ({layer})" for layer in ("qkv", "up", "down", "head") for made in ("y", "dx", "dw")]
    assert list(found) == [
        *((name, False) for name in names),
        ("attention (causal)", False),
        ("attention (causal)", True),
    ]
    shapes = [found[f"{made} (up)", False].shape for made in ("y", "dx", "dw")]
    assert shapes == ["16 × 16 × 64", "16 × 64 × 16", "64 × 16 × 16"]  # m, k, n of 16 tokens, C 16, d_ff 64
    assert {found[f"{made} (head)", False].flops for made in ("y", "dx", "dw")} == {2 * 16 * 16 * 17}


@pytest.mark.parametrize("setting", TINY.values(), ids=lambda setting: setting.name)
def test_the_products_one_by_one_are_those_of_the_layers(setting):
    whole, single = {}, {}
    for each in operations.of(setting):
        if each.name.startswith("linear"):
            whole[each.name[7:]] = whole.get(each.name[7:], 0) + each.flops
    for each in operations.products(setting):
        if not each.name.startswith("attention"):
            layer = each.name.partition(" ")[2]
            single[layer] = single.get(layer, 0) + each.flops
    assert single == whole


def test_what_the_products_are():
    """Of our engine, against numpy in float64."""
    from loopos.bench.peers import ours_operations

    formulas = {
        "y": lambda a: a["x"] @ a["weight"].T,
        "dx": lambda a: a["dy"] @ a["weight"],
        "dw": lambda a: a["dy"].T @ a["x"],
    }
    for each in operations.products(TINY["tiny"])[:12]:
        arrays = make_arrays(each.arrays)
        found = ours_operations.operation(each.name, False, arrays, each.options)()
        exact = formulas[each.name.split(" ")[0]]({name: array.astype(float) for name, array in arrays.items()})
        assert found.shape == exact.shape
        assert np.abs(found - exact).max() <= 2e-6 * np.abs(exact).max(), each


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_weight_gradient_alone_is_that_of_linear(precision):
    """To the bit, at a size that tiles are used for where there are any."""
    rng = np.random.default_rng(0)
    dy, x = (rng.standard_normal((512, n), dtype=np.float32) for n in (192, 256))
    weight = np.zeros((192, 256), np.float32)
    alone = _core.machine.weight_gradient(dy, x, precision=precision)
    assert np.array_equal(alone, ops.linear_backward(dy, x, weight, False, precision=precision)[1])
    plain = _core.machine.weight_gradient(dy, x)
    assert np.array_equal(alone, plain) == (_core.products(precision) == _core.products("float32"))


def test_a_weight_gradient_has_as_many_rows_of_each():
    with pytest.raises(ValueError, match=r"must have as many rows, got \(2, 3\) and \(4, 3\)"):
        _core.machine.weight_gradient(np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match="weight_gradient: precision"):
        _core.machine.weight_gradient(*[np.zeros((2, 3), np.float32)] * 2, precision="tf32")


def test_a_llama_has_its_own_operations():
    counts = _counts(TINY["tiny-llama"])
    assert {name for name, _ in counts} >= {"rms_norm", "swiglu", "rope"}
    assert not {name for name, _ in counts} & {"layer_norm", "gelu"}
    assert counts["linear (qkv)", False][0] == 2 * 16 * 16 * (16 + 2 * 8)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_a_step_is_made_of_these_products(setting):
    """The products of the operations, each as often as a step has it, are the step's arithmetic."""
    from loopos.bench.settings import step_flops

    config, total = setting.config, {}
    for each in operations.of(setting):
        total[each.name] = total.get(each.name, 0) + each.flops
    ups = 2 if config.activation == "swiglu" else 1
    out = 3 * 2 * setting.tokens * config.d_model**2  # the projection after attention, not measured by itself
    linear = total["linear (qkv)"] + out + ups * total["linear (up)"] + total["linear (down)"]
    assert config.n_layer * linear + total["linear (head)"] == step_flops(setting).linear
    assert config.n_layer * total["attention (causal)"] == step_flops(setting).attention


def test_arrays_are_the_same_in_every_process():
    made = make_arrays([["x", [3, 4]], ["ids", [5], 2]])
    again = make_arrays([["x", [3, 4]], ["ids", [5], 2]])
    assert made["x"].dtype == np.float32
    assert set(made["ids"]) <= {0, 1}
    assert all(np.array_equal(made[name], again[name]) for name in made)


def _results(value):
    """Every array of what a call returned, and numbers as arrays."""
    if isinstance(value, tuple | list):
        return [array for each in value for array in _results(each)]
    return [] if value is None else [np.asarray(value)]


@pytest.mark.reference
@pytest.mark.parametrize("setting", TINY.values(), ids=lambda setting: setting.name)
def test_both_engines_compute_the_same(setting):
    pytest.importorskip("torch")
    from loopos.bench.peers import ours_operations, torch_operations

    for each in operations.of(setting) + operations.products(setting):
        ours, theirs = make_arrays(each.arrays), make_arrays(each.arrays)
        first = ours_operations.operation(each.name, each.backward, ours, each.options)()
        second = torch_operations.operation(each.name, each.backward, theirs, dict(each.options))()
        if each.name == "AdamW step":
            first, second = ours["weight"], theirs["weight"]
            assert not np.array_equal(first, make_arrays(each.arrays)["weight"])
        pairs = list(zip(_results(first), _results(second), strict=False))  # ours also returns what its backward needs
        assert len(pairs) == len(_results(second)) >= 1, each
        for a, b in pairs:
            assert np.abs(a - b).max() <= 2e-6 * max(1.0, np.abs(b).max()), each
