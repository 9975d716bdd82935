"""The one test of all gradients: what is not finite is seen, what is only large is not."""

from __future__ import annotations

import math

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.finite import Norms, is_finite, parameters_of  # noqa: E402


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_one_element_is_seen(value, dtype):
    tensors = [torch.ones(7, dtype=dtype), torch.ones(33, 5, dtype=dtype)]
    assert Norms(tensors).bad == []
    tensors[1][32, 4] = value
    assert Norms(tensors).bad == [1]
    assert not is_finite(tensors[1])
    assert is_finite(tensors[0])


def test_large_is_not_infinite():
    large = [torch.full((10,), 3e38), torch.tensor([-3e38])]
    norms = Norms(large)
    assert norms.bad == []
    assert norms.total == pytest.approx(3e38 * math.sqrt(11), rel=1e-6)
    assert is_finite(large[0])
    assert Norms([torch.full((9,), 6e4, dtype=torch.float16)]).bad == []


def test_the_total_is_the_norm_of_all():
    tensors = [torch.arange(5.0), torch.ones(2, 3), torch.tensor([1 + 2j])]
    assert Norms(tensors).total == pytest.approx(math.sqrt(30 + 6 + 5), rel=1e-6)
    assert Norms([]).total == 0
    assert Norms([torch.zeros(0)]).bad == []


def test_sparse_gradients():
    table = torch.nn.Embedding(10, 3, sparse=True)
    table(torch.tensor([1, 4, 4])).sum().backward()
    assert Norms([table.weight.grad]).bad == []
    table.weight.grad = table.weight.grad * math.nan
    assert Norms([table.weight.grad]).bad == [0]


def test_integers_and_nothing_are_finite():
    assert is_finite(torch.tensor([1, 2]))
    assert is_finite(torch.zeros(0, 3))


def test_parameters_come_once():
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    both = [torch.optim.SGD([a, b]), torch.optim.SGD([b])]
    assert [id(each) for each in parameters_of(both)] == [id(a), id(b)]
