"""The class of a cause of an operation that makes one element of many numbers."""

from __future__ import annotations

import math

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from loopos.errors import CAUSES  # noqa: E402
from loopos.watch.causes import cause_of  # noqa: E402
from loopos.watch.elements import Found  # noqa: E402


def of(op, kind="elements", value=math.nan, dtype="float32", attributes=None, **operands):
    evidence = cause_of(op, Found((0,), value, operands, kind, attributes or {}, dtype))
    assert evidence.kind in CAUSES
    return evidence.kind


def row(*values):
    return np.array(values, float)


@pytest.mark.parametrize(("labels", "needed", "words"), [(2, 3, "needs 3 frames"), (2, 2, "probability 0")])
def test_an_alignment_that_cannot_be(labels, needed, words):
    counts = {"labels": float(labels), "needed": float(needed), "frames": 2.0}
    evidence = cause_of("_ctc_loss", Found((0,), math.inf, counts, "whole"))
    assert evidence.kind == "log 0"
    assert words in evidence.words
    assert of("_ctc_loss", "whole", math.nan, **counts) == "unknown"


ROWS = [
    ("sum", "row", {"self": row(2e38, 2e38)}, "sum overflow"),
    ("mean", "row", {"self": row()}, "0/0"),
    ("_softmax", "row", {"self": row(-math.inf, -math.inf)}, "all-masked row"),
    ("_softmax", "row", {"self": row(math.inf, 1)}, "inf - inf"),
    ("var", "row", {"self": row(1)}, "0/0"),
    ("var", "row", {"self": row(1e30, -1e30)}, "product overflow"),
    ("linalg_vector_norm", "row", {"self": row(1.5e19, 1.5e19)}, "sum overflow"),
    ("nll_loss_forward", "row", {"log-probability of the target": row()}, "0/0"),
    ("nll_loss_forward", "row", {"log-probability of the target": row(-1, -math.inf)}, "log 0"),
    ("native_layer_norm", "norm", {"input": row(1, 1), "channel": 0.0}, "0/0"),
    ("native_layer_norm", "norm", {"input": row(1, -1), "channel": 0.0, "weight": 4e38}, "product overflow"),
    ("amax", "row", {"self": row(-math.inf, -math.inf)}, "all-masked row"),
    ("amax", "row", {"self": row(1, 2)}, "unknown"),
    ("amax", "row", {"self": row(math.inf, math.inf)}, "unknown"),
    ("amin", "row", {"self": row(math.inf, math.inf)}, "all-masked row"),
    ("min", "row", {"self": row(-math.inf, -math.inf)}, "unknown"),
    ("nll_loss_forward", "row", {"log-probability of the target": row(-1, -2), "weight": row(0, 0)}, "0/0"),
    ("nll_loss_forward", "row", {"log-probability of the target": row(-1, -math.inf), "weight": row(0, 1)}, "log 0"),
    ("native_group_norm", "norm", {"input": row(1, 1), "channel": 0.0}, "0/0"),
    ("native_batch_norm", "norm", {"input": row(2e38, 2e38), "channel": 0.0}, "product overflow"),
    ("_weight_norm_interface", "row", {"v": row(0, 0), "g": 1.0, "v at the element": 0.0}, "0/0"),
    ("_weight_norm_interface", "row", {"v": row(1e-30, 0), "g": 1e30, "v at the element": 1e-30}, "unknown"),
    ("_weight_norm_interface", "row", {"v": row(1e30, 0), "g": 1.0, "v at the element": 1e30}, "product overflow"),
    ("_weight_norm_interface_backward", "whole", {"saved_v": {"count": 4, "value": 1.0}}, "unknown"),
    ("index_add", "row", {"self": row(0, 2e38, 2e38)}, "sum overflow"),
    ("linalg_inv_ex", "whole", {"A": {"count": 4, "value": 1.0}}, "x/0"),
    ("_fft_r2c", "whole", {"self": {"count": 4, "value": 1e38}}, "sum overflow"),
    ("mse_loss", "whole", {"self": {"count": 4, "value": 1e20}}, "product overflow"),
    ("mse_loss", "whole", {"self": {"count": 0}, "target": {"count": 0}}, "0/0"),
    ("soft_margin_loss", "whole", {"self": {"count": 4, "value": 100.0}}, "exp overflow"),
    ("native_batch_norm", "norm", {"x": 1.0, "running_mean": 0.0, "running_var": -1.0}, "negative root"),
    ("native_batch_norm", "norm", {"x": 1.0, "running_mean": 0.0, "running_var": 0.0}, "x/0"),
    ("native_batch_norm", "norm", {"x": 1.0, "running_mean": 1.0, "running_var": 0.0}, "0/0"),
    (
        "native_batch_norm",
        "norm",
        {"x": 1e30, "running_mean": 0.0, "running_var": 1e-30, "weight": 1.0, "bias": 0.0},
        "product overflow",
    ),
]


@pytest.mark.parametrize(("op", "kind", "operands", "cause"), ROWS)
def test_rows(op, kind, operands, cause):
    assert of(op, kind, **operands) == cause


def test_the_power_of_a_norm_is_its_own():
    values = row(1e15, 1e15)
    assert of("linalg_vector_norm", "row", attributes={"ord": 4}, self=values) == "product overflow"
    assert of("linalg_vector_norm", "row", attributes={"ord": 2}, self=row(1.5e19, 1.5e19)) == "sum overflow"


def test_a_determinant_of_0():
    assert of("_linalg_slogdet", "whole", -math.inf, A={"count": 9, "value": 1.0}) == "log 0"
    assert of("_linalg_slogdet", "whole", math.nan, A={"count": 9, "value": 1.0}) == "unknown"
